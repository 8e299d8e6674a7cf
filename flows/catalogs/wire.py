"""Fetch one document over HTTP: no redirects, no proxies from the environment, no compression, one deadline for all.

Imported when a URL is fetched, because the client takes a while to import.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx2

from flows.catalogs.documents import Fetched
from flows.urls import host_in_words

if TYPE_CHECKING:
    from pydantic import SecretStr


class FetchFailed(Exception):
    """A document could not be fetched.

    Attributes
    ----------
    reason
        Why, without anything the server sent.
    hint
        What to do about it; empty when the server sent a document that cannot be used.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


def fetch(url: str, api_key: SecretStr | None, *, timeout_s: float, max_bytes: int) -> Fetched:
    """Fetch a document.

    Parameters
    ----------
    url
        The document.
    api_key
        Sent as a bearer token; None sends none.
    timeout_s
        Deadline in seconds; the client's own timeouts restart with every byte.
    max_bytes
        Longest body that is read.

    Raises
    ------
    FetchFailed
        It does not answer in time, answers with an error, or with a document that is too large or compressed.
    """
    return asyncio.run(_fetch_in_time(url, api_key, timeout_s, max_bytes))


async def _fetch_in_time(url: str, api_key: SecretStr | None, timeout_s: float, max_bytes: int) -> Fetched:
    headers = {"accept": "application/json, text/plain", "accept-encoding": "identity", "user-agent": "uniroute"}
    if api_key is not None:
        headers["authorization"] = f"Bearer {api_key.get_secret_value()}"
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            _check(response, max_bytes)
            return Fetched(await _body(response, max_bytes), response.links.get("next", {}).get("url", ""))
    except TimeoutError:
        raise FetchFailed(f"no complete answer within {timeout_s:g} s", "try again later") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, UnicodeError) as error:
        # The exception's own text may quote what the server sent.
        raise FetchFailed(_cause(error), "check that it is up and that this machine reaches it") from None


def _check(response: httpx2.Response, max_bytes: int) -> None:
    status = response.status_code
    if 300 <= status < 400:
        where = host_in_words(response.headers.get("location", ""))
        raise FetchFailed(
            f"HTTP {status} redirects to {where}, and redirects are not followed",
            "set the location to the final address if you trust it",
        )
    if status in (401, 403):
        raise FetchFailed(f"HTTP {status}", "check the key of its endpoint")
    if status != 200:
        raise FetchFailed(f"HTTP {status}", "try again later, or check the location")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise FetchFailed("it came compressed, which was not asked for")
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 19 and int(length) > max_bytes:
        raise FetchFailed(f"it is larger than {max_bytes} bytes")


async def _body(response: httpx2.Response, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > max_bytes:
            raise FetchFailed(f"it is larger than {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _cause(error: Exception) -> str:
    if isinstance(error, httpx2.ConnectError):
        return "no connection"
    if isinstance(error, httpx2.ProtocolError):
        return "it broke off, or does not speak HTTP"
    return type(error).__name__
