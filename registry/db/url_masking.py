"""URLs as they may be shown to people and written to logs: any database or server, with every secret masked.

SQLAlchemy is imported only when a URL is masked, so that importing this module is cheap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# Hiding too much of a query is harmless. PostgreSQL's sslkey is the path of a file.
_SECRET_OPTION = re.compile(r"(?i)^(?!sslkey$).*(?:passw|pwd|secret|token|auth|credential|key|sig)")
# Credentials wherever they stand, also of a URL inside another one: a password, or a token in place of the user name.
_PASSWORD_ANYWHERE = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+(?=@)")
_TOKEN_ANYWHERE = re.compile(r"(?i)(https?://)[^\s/:@\"',]+(?=@)")
_PASSWORD_AS_WRITTEN = re.compile(r"(?s)://[^/:@]*:([^@/?#]*)@")
_PASSWORD_OF_UNREADABLE = re.compile(r"(?s)://[^/:@]*:(.*)@")
_CREDENTIALS = re.compile(r"(?<=://)[^:/]*(?::[^@]*)?@")
_CREDENTIALS_OF_UNREADABLE = re.compile(r"(?s)(?<=://).*@")
MASK = "***"
"""What is shown in place of a secret."""
_SHORTEST_SECRET = 4
"""Shorter secrets are not searched for in texts: masking every `a` would garble them and reveal the secret."""


def mask_url(url: URL | str) -> str:
    """Return a URL as anyone may see it: passwords, tokens and access keys are replaced by ``***``.

    Parameters
    ----------
    url
        Of a database or of a server. A text that is not a URL is returned unchanged.
    """
    if isinstance(url, str):
        url = mask_credentials(url)
    parsed = _parsed(url)
    if parsed is None:
        credentials_masked = _CREDENTIALS_OF_UNREADABLE.sub(f"{MASK}@", str(url))
        return re.sub(r"\?.*", f"?{MASK}", credentials_masked) if "://" in credentials_masked else credentials_masked
    if not any(_secrets(parsed)):
        return url if isinstance(url, str) else url.render_as_string()
    query = {name: MASK if _SECRET_OPTION.search(name) else value for name, value in parsed.query.items()}
    masked = parsed.set(query=query, username=MASK if _is_token(parsed) else parsed.username)
    return masked.render_as_string(hide_password=True).replace("%2A%2A%2A", MASK)


def mask_credentials(text: str) -> str:
    """Mask the credentials of every URL in a text, however the URLs are joined or nested."""
    return _TOKEN_ANYWHERE.sub(rf"\g<1>{MASK}", _PASSWORD_ANYWHERE.sub(rf"\g<1>:{MASK}", text))


def mask_secrets(text: str, url: URL | str) -> str:
    """Mask every secret of a URL in a text that a driver or a client wrote."""
    parsed = _parsed(url)
    if isinstance(url, str):
        text = text.replace(url, mask_url(url))
        found = (_CREDENTIALS_OF_UNREADABLE if parsed is None else _CREDENTIALS).search(url)
        if found is not None and (parsed is None or parsed.password is not None or _is_token(parsed)):
            text = text.replace(found[0], f"{MASK}@")
    for spelling in secrets_of(url):
        if len(spelling) >= _SHORTEST_SECRET:
            text = text.replace(spelling, MASK)
    return text


def secrets_of(url: URL | str) -> frozenset[str]:
    """Return the secrets of a URL, each as it is and as it may be spelled in a URL.

    Of a URL that cannot be read, whatever may be its password: all up to the last @.
    """
    parsed = _parsed(url)
    secrets = set(_secrets(parsed)) if parsed is not None else set()
    found = (_PASSWORD_OF_UNREADABLE if parsed is None else _PASSWORD_AS_WRITTEN).search(str(url))
    written = {found[1]} - {"", MASK} if found is not None else set()
    secrets |= {unquote(one) for one in written}
    return frozenset(written) | frozenset(
        spelling for secret in secrets for spelling in (secret, quote(secret, safe=""), quote(secret, safe=" +"))
    )


def _parsed(url: URL | str) -> URL | None:
    """Parse any URL; None when it cannot be read with certainty, as one whose password holds an @."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    return None if "@" in (parsed.host or "") else parsed


def _is_token(url: URL) -> bool:
    """Whether the user name is itself the secret: servers accept tokens in its place, databases do not."""
    return bool(url.username) and not url.password and url.drivername in ("http", "https")


def _secrets(url: URL) -> Iterator[str]:
    """Yield what is secret in a URL; in one that is masked already there is nothing."""
    found = [str(url.password)] if url.password else []
    if _is_token(url):
        found.append(str(url.username))
    for name, value in url.query.items():
        if _SECRET_OPTION.search(name):
            found += [value] if isinstance(value, str) else value
    yield from (one for one in found if one != MASK)
