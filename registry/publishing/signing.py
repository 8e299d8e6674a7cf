"""Statements on version folders and ledger heads, signed with a private key by `model-signing`, without a network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from registry.publishing.trust import STATED, SigningNotInstalled, statement


class SigningFailed(ValueError):
    """The private key is missing or cannot be used; the message says why and never quotes it."""


def signed(kind: str, facts: Mapping[str, Any], private_key: Path, signed_at: datetime) -> str:
    """Sign a statement.

    Parameters
    ----------
    kind
        `FOLDER_STATEMENT` or `HEAD_STATEMENT` of `registry.publishing.trust`.
    facts
        What is vouched for, as JSON.
    private_key
        File with the private key, of an elliptic curve, as PEM without a password.
    signed_at
        When, in UTC.

    Returns
    -------
    str
        The statement with its signature, as JSON.

    Raises
    ------
    SigningFailed
        When the key cannot be read or used.
    SigningNotInstalled
        Without the library.
    """
    try:
        from model_signing import hashing
        from model_signing import signing as library
    except ImportError:
        raise SigningNotInstalled from None
    text = statement(kind, facts, signed_at)
    with tempfile.TemporaryDirectory(prefix="uniroute-signing-") as scratch:
        folder, signature = Path(scratch) / STATED, Path(scratch) / "signature"
        folder.mkdir()
        (folder / STATED).write_text(text, encoding="utf-8")
        try:
            config = library.Config().use_elliptic_key_signer(private_key=private_key)
        except OSError as error:
            raise SigningFailed(f"the private key {private_key} cannot be read: {error.strerror}") from None
        except Exception as error:  # a damaged key makes the library fail in many ways, whose texts may quote it
            has_password = "password" in str(error).lower()
            reason = "it has a password" if has_password else "it is no PEM of a P-256, P-384 or P-521 key"
            raise SigningFailed(f"the private key {private_key} cannot be used: {reason}") from None
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
        config.sign(folder, signature)
        made = json.loads(signature.read_text(encoding="utf-8"))
    return json.dumps({"statement": text, "signature": made}, sort_keys=True, separators=(",", ":"))
