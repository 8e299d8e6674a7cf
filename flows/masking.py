"""Secrets in texts for people and logs: known ones, and whatever stands where a secret belongs, become a mask."""

from __future__ import annotations

import re
from collections.abc import Iterable

from registry.db.url_masking import MASK, mask_credentials, mask_url

_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://\S+")
_PATTERNS = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[\w.~+/=-]{4,}"),
    re.compile(r"(?i)(\bx?-?(?:api[-_]?key|authorization|password)['\"]?\s*[:=]\s*['\"]?)[^\s'\",&]+"),
)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask secrets in a text.

    Parameters
    ----------
    text
        Any text; a message, a traceback.
    secrets
        Those that are known, in the order in which they are looked for.
    """
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = mask_urls(text)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def mask_urls(text: str) -> str:
    """Mask passwords, tokens and access keys in the URLs of a text, or in the URL that it is."""
    if "://" not in text:
        return text
    # SQLAlchemy's URL type reads them, and is imported only for a text that contains a URL.
    return _URL.sub(lambda found: mask_url(found[0]), mask_credentials(text))
