"""URLs that settings and servers name: whether they can be used, and what a connection to them would give away.

The URL type of the HTTP client reads them, so that what is checked is what is called; it is imported when it is needed.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

_LARGEST_PORT = 65535
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.\[\]:-]{1,253}")


def http_url(text: str) -> httpx2.URL | None:
    """Read an ``http://`` or ``https://`` URL; None for anything else, and for one without a usable host or port."""
    import httpx2

    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        return None
    is_usable = url.scheme in ("http", "https") and bool(url.host)
    return url if is_usable and (url.port is None or 0 < url.port <= _LARGEST_PORT) else None


def is_loopback(url: httpx2.URL) -> bool:
    """Whether a URL leads to this machine, so that nobody else sees what is sent there."""
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def is_in_clear(url: httpx2.URL) -> bool:
    """Whether others can read what is sent there: plain ``http`` to another machine."""
    return url.scheme == "http" and not is_loopback(url)


def is_same_origin(one: str, other: str) -> bool:
    """Whether two URLs have scheme, host and port in common, so that one key may be sent to both."""
    here, there = http_url(one), http_url(other)
    if here is None or there is None:
        return False
    return (here.scheme, here.host, here.port) == (there.scheme, there.host, there.port)


def host_in_words(location: str, secret: str = "") -> str:
    """Name the host of a URL that a server sent, in words that are safe to print.

    Parameters
    ----------
    location
        The URL, untrusted.
    secret
        A key that the server knows and might repeat as a host; empty for none.
    """
    import httpx2

    try:
        host = httpx2.URL(location).host
    except (httpx2.InvalidURL, ValueError):
        host = ""
    is_echo = bool(secret) and secret.casefold() in host.casefold()
    return f"host {host}" if _PLAIN_HOST.fullmatch(host) and not is_echo else "an unreadable place"
