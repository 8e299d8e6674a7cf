"""What versions and ledger heads are compared with: pinned digests, and public keys that vouch for others.

Like `folder_check`, this file runs where uniroute is not installed. Signatures are those of `model-signing`, over a
short statement in JSON: a folder's digest or a ledger's head, and when it was signed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TRUST_FILE = "trust.json"
FOLDER_STATEMENT, HEAD_STATEMENT = "version folder", "ledger head"
STATED = "statement"
"""Name of the folder, and of the file in it, that is signed: `model-signing` signs folders."""

INSTALL = "pip install 'uniroute[signing]', or model-signing and pyopenssl alone"
_FORMAT = 1
_LONGEST = 20_000


class Untrusted(ValueError):
    """Nothing that is trusted vouches for this; the message says why."""


class SigningNotInstalled(RuntimeError):
    """A signature is to be made or checked, and the library for it is not installed."""

    def __init__(self) -> None:
        super().__init__(f"signatures need the library model-signing, which is not installed here: {INSTALL}")


@dataclass(frozen=True)
class PublicKey:
    """A public key, and when its holder signed with it.

    Attributes
    ----------
    pem
        The key, of an elliptic curve (P-256, P-384 or P-521).
    since, until
        Only what was signed at or after, before these moments counts; None for no limit.
    """

    pem: str
    since: datetime | None = None
    until: datetime | None = None

    @property
    def spelt(self) -> str:
        """The key in its one spelling, and nothing that may stand beside it in its file.

        Raises
        ------
        ValueError
            When it is no public key of one of those curves.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = serialization.load_pem_public_key(self.pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(
            key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
        ):
            raise ValueError("it is of another kind")
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_bytes(serialization.Encoding.PEM, kind).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the key in its one spelling, which a signature names.

        Raises
        ------
        ValueError
            As for `spelt`.
        """
        return hashlib.sha256(self.spelt.encode()).hexdigest()

    def covers(self, moment: datetime) -> bool:
        """Whether the key was in use at a moment."""
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


@dataclass(frozen=True)
class Trust:
    """What a client compares versions with.

    Attributes
    ----------
    digests
        Digests of the whole folders of versions that may serve.
    keys
        Public keys; every version that one of them vouches for may serve, too.
    """

    digests: tuple[str, ...] = ()
    keys: tuple[PublicKey, ...] = ()

    @classmethod
    def read(cls, file: Path) -> Trust | None:
        """Read what `written` wrote; None when there is no such file.

        Raises
        ------
        Untrusted
            When the file is there and cannot be read: it must not be taken for no file.
        """
        if not file.exists():
            return None
        try:
            stated = json.loads(file.read_text(encoding="utf-8"))
            if stated["format"] != _FORMAT:
                raise Untrusted(f"{file} has format {stated['format']}, this client reads {_FORMAT}")
            keys = tuple(PublicKey(one["pem"], _moment(one["since"]), _moment(one["until"])) for one in stated["keys"])
            return cls(tuple(stated["digests"]), keys)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Untrusted(f"{file} cannot be read: {error}") from None

    def written(self) -> str:
        """Return the text of the file that `read` reads."""
        keys = [{"pem": one.spelt, "since": _spelt(one.since), "until": _spelt(one.until)} for one in self.keys]
        content = {"format": _FORMAT, "digests": list(self.digests), "keys": keys}
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    def signed_folder(self, signed: str | None, router: str) -> str:
        """Return the digest of the folder that a trusted key vouches for.

        Parameters
        ----------
        signed
            The signed statement; None when there is none.
        router
            Digest of the router that the version is said to be.

        Raises
        ------
        Untrusted
            If no key vouches for it.
        """
        if not self.keys:
            raise Untrusted("it is not among the versions that were pinned: write the client again to let it serve")
        facts = verified(signed, self.keys, FOLDER_STATEMENT)
        if facts.get("router") != router:
            raise Untrusted(f"it is signed as router {facts.get('router')}")
        return str(facts.get("digest"))


def statement(kind: str, facts: Mapping[str, Any], signed_at: datetime) -> str:
    """Return the text that is signed: one spelling for the same facts.

    Parameters
    ----------
    kind
        `FOLDER_STATEMENT` or `HEAD_STATEMENT`.
    facts
        What is vouched for, as JSON.
    signed_at
        When, in UTC.
    """
    content = {"format": _FORMAT, "kind": kind, "signed_at": _spelt(signed_at), **facts}
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def verified(signed: str | None, keys: Sequence[PublicKey], kind: str) -> Mapping[str, Any]:
    """Return the facts of a signed statement after checking its signature.

    Parameters
    ----------
    signed
        The statement with its signature, from anywhere; None when there is none.
    keys
        The public keys that are trusted.
    kind
        The kind of the statement.

    Raises
    ------
    SigningNotInstalled
        Without the library.
    Untrusted
        If it is not signed, or not by one of the keys while that was in use, or states something else.
    """
    if not signed:
        raise Untrusted("it is not signed")
    key, text, bundle = _read(signed, keys)
    try:
        from model_signing import hashing, verifying
    except ImportError:
        raise SigningNotInstalled from None
    with tempfile.TemporaryDirectory(prefix="uniroute-signature-") as scratch:
        folder, signature, pem = Path(scratch) / STATED, Path(scratch) / "signature", Path(scratch) / "key.pem"
        folder.mkdir()
        (folder / STATED).write_text(text, encoding="utf-8")
        signature.write_text(bundle, encoding="utf-8")
        pem.write_text(key.pem, encoding="utf-8")
        checked = verifying.Config().use_elliptic_key_verifier(public_key=pem)
        # What counts is said here: by itself it takes from the signature what to leave out.
        checked.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
        try:
            checked.verify(folder, signature)
        except Exception as error:  # a bundle is foreign text, on which the library fails in many ways
            raise Untrusted(f"its signature does not hold: {type(error).__name__} {error}") from None
    facts = json.loads(text)
    if facts.get("kind") != kind or facts.get("format") != _FORMAT:
        raise Untrusted(f"what is signed is not a {kind}")
    if not key.covers(_moment(facts["signed_at"]) or datetime.max.replace(tzinfo=UTC)):
        raise Untrusted(f"it is signed at {facts['signed_at']}, when that key was not in use")
    return facts


def _read(signed: str, keys: Sequence[PublicKey]) -> tuple[PublicKey, str, str]:
    """Return key, statement and signature, all of which are foreign text but the key."""
    try:
        if len(signed) > _LONGEST:
            raise ValueError("too long")
        parts = json.loads(signed)
        text, bundle = parts["statement"], json.dumps(parts["signature"])
        hint = parts["signature"]["verificationMaterial"]["publicKey"]["hint"]
        if not isinstance(text, str) or not isinstance(json.loads(text), dict):
            raise ValueError("no statement")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Untrusted("its signature cannot be read") from None
    for key in keys:
        if key.fingerprint == hint:
            return key, text, bundle
    raise Untrusted(f"it is signed with a key that is not trusted ({str(hint)[:12]})")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _spelt(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")
