"""The ledger: append-only events, each hashed with the one before it, and the digests of what the nights wrote."""

from registry.ledger.events import GENESIS, Ledger, LedgerCheck, LedgerEvent, SignedHead, SignedHeads

__all__ = ["GENESIS", "Ledger", "LedgerCheck", "LedgerEvent", "SignedHead", "SignedHeads"]
