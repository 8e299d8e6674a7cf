"""Signatures as the settings want them: what the night signs, which keys count, and what a check finds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from flows.errors import PrerequisiteError
from registry.ledger import SignedHead
from registry.publishing.signing import SigningFailed, signed
from registry.publishing.trust import (
    FOLDER_STATEMENT,
    HEAD_STATEMENT,
    INSTALL,
    PublicKey,
    SigningNotInstalled,
    Untrusted,
    verified,
)

if TYPE_CHECKING:
    from flows.config.settings import Settings
    from flows.workspace import Workspace
    from registry.routers import KnownFolder, RouterRecord


def sign(settings: Settings, kind: str, facts: Mapping[str, Any], now: datetime) -> str | None:
    """Sign a statement with the key that the settings name; None when they name none.

    Raises
    ------
    PrerequisiteError
        The library is not installed, or the key cannot be used.
    """
    if settings.signing.private_key is None:
        return None
    try:
        return signed(kind, facts, settings.signing.private_key, now)
    except SigningNotInstalled:
        raise PrerequisiteError(
            "[signing] private_key is set, but the library model-signing is not installed.",
            unchanged="Nothing was signed.",
            hint=INSTALL,
        ) from None
    except SigningFailed as error:
        raise PrerequisiteError(
            f"[signing] private_key: {error}.", unchanged="Nothing was signed.", hint="Name the file of a usable key."
        ) from None


def sign_head(workspace: Workspace, now: datetime) -> str | None:
    """Sign the ledger's last event and keep that; return the signed statement, None without a key."""
    number, digest = workspace.registry.ledger.head()
    made = sign(workspace.settings, HEAD_STATEMENT, {"number": number, "hash": digest}, now)
    if made is not None:
        workspace.registry.signed_heads.keep(SignedHead(number, digest, now, made))
    return made


def require_signing(settings: Settings, now: datetime) -> None:
    """Refuse settings with which what is signed now would not be trusted.

    Raises
    ------
    PrerequisiteError
        The key cannot be used, or its public key is not listed or not in use today.
    """
    keys = trusted_keys(settings)
    trial = sign(settings, HEAD_STATEMENT, {"number": 0, "hash": ""}, now)
    if trial is None:
        if settings.signing.require:
            raise PrerequisiteError(
                "[signing] require is set, but no private key is: what the night makes would not be trusted.",
                unchanged="Nothing was called.",
                hint="Set [signing] private_key, or require = false.",
            )
        return
    try:
        verified(trial, keys, HEAD_STATEMENT)
    except Untrusted as error:
        raise PrerequisiteError(
            f"What [signing] private_key signs would not be trusted: {error}.",
            unchanged="Nothing was called.",
            hint="List its public key: [[signing_key]] file = FILE",
        ) from None


def trusted_keys(settings: Settings) -> tuple[PublicKey, ...]:
    """Read the public keys that the settings list.

    Raises
    ------
    PrerequisiteError
        One of them cannot be read.
    """
    keys = []
    for entry in settings.signing_key:
        try:
            key = PublicKey(entry.file.read_text(encoding="utf-8"), _midnight(entry.since), _midnight(entry.until))
            _ = key.fingerprint
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no public key as PEM"
            raise PrerequisiteError(
                f"The public key {entry.file} cannot be read: {reason}.", hint="Correct [[signing_key]] file."
            ) from None
        keys.append(key)
    return tuple(keys)


def problem_of_version(record: RouterRecord, known: KnownFolder | None, keys: tuple[PublicKey, ...]) -> str:
    """Return why no key vouches for a version's folder; empty when one does.

    Raises
    ------
    SigningNotInstalled
        Without the library.
    """
    try:
        facts = verified(None if known is None else known.signature, keys, FOLDER_STATEMENT)
    except Untrusted as error:
        return str(error)
    stated = (facts.get("digest"), facts.get("router"))
    return "" if known is not None and stated == (known.digest, record.digest) else "another version is signed"


def head_of(signature: str, keys: tuple[PublicKey, ...]) -> SignedHead:
    """Return the head that a key vouches for.

    Raises
    ------
    SigningNotInstalled
        Without the library.
    Untrusted
        If no key vouches for it.
    """
    facts = verified(signature, keys, HEAD_STATEMENT)
    signed_at = datetime.fromisoformat(facts["signed_at"])
    return SignedHead(int(facts["number"]), str(facts["hash"]), signed_at, signature)


def since_when(keys: tuple[PublicKey, ...]) -> datetime:
    """Return since when things are signed: the beginning of the first key, or of time when one has none."""
    return min(key.since or datetime.min.replace(tzinfo=UTC) for key in keys)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), UTC)
