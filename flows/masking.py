"""Secrets in texts for people and logs: known ones, and whatever stands where a secret belongs, become a mask.

URLs are read by the types that connect to them, SQLAlchemy's and the HTTP client's, imported when a URL needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

MASK = "***"
_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://\S+")
_PARAMETER = re.compile(r"(?i)([?&][^=&#\s]*(?:key|token|secret|password|passwd|signature|sig)[^=&#\s]*=)[^&#\s]*")
# Of a URL that cannot be read, everything that could be a password: up to the last @.
_CREDENTIALS = re.compile(r"(://[^\s/:@]*:)\S*(?=@)")
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
    """Mask passwords and access keys in the URLs of a text, or in the URL that it is; all else stays as it is."""
    if "://" not in text:
        return text
    return _URL.sub(lambda found: _PARAMETER.sub(rf"\1{MASK}", _without_password(found[0])), text)


def passwords_in(url: str) -> frozenset[str]:
    """Return the password of a URL, as it is and as it may stand in a URL; empty when there is none to be read."""
    try:
        password = _password(url)
    except ValueError:
        return frozenset()
    return frozenset({password, quote(password, safe="")} if password else ())


def _without_password(url: str) -> str:
    if "@" not in url:
        return url
    try:
        if not _password(url):
            return url
    except ValueError:
        return _CREDENTIALS.sub(rf"\1{MASK}", url)
    if _is_http(url):
        import httpx2

        parsed = httpx2.URL(url)
        user = parsed.userinfo.partition(b":")[0]
        return str(parsed.copy_with(userinfo=user + b":" + MASK.encode()))
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


def _password(url: str) -> str:
    """Read the password of a URL; raises ValueError for one that cannot be read."""
    if _is_http(url):
        import httpx2

        try:
            return httpx2.URL(url).password
        except httpx2.InvalidURL as error:
            raise ValueError from error
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError from error
    if "@" in (parsed.host or ""):
        raise ValueError("an @ of the password is not percent-encoded: where the password ends is anybody's guess")
    return str(parsed.password or "")


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))
