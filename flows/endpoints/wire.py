"""The openai SDK over our own transport, which never reads more, waits longer or connects elsewhere than allowed.

Imported when an endpoint is opened, because the SDK takes a second to import.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx2
import openai

from flows.endpoints.failures import ResponseRefused
from flows.urls import host_in_words

if TYPE_CHECKING:
    from pydantic import SecretStr

    from flows.config.settings import EndpointSettings

_MAX_HEADER_BYTES = 32 * 2**10
_UNUSED_KEY: Final = "held-by-the-transport"


@dataclass(frozen=True)
class Reply:
    """A response within the limits, read completely.

    Parameters
    ----------
    status
        HTTP status, below 300 or from 400 on.
    retry_after
        That header, None when missing.
    body
        The bytes.
    """

    status: int
    retry_after: str | None
    body: bytes


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Pass on requests to one origin, with our headers only, and return responses that are within the limits.

    The key is added here and nowhere else: the SDK never sees it, and another origin never gets it.

    Parameters
    ----------
    inner
        What does the HTTP.
    base_url
        The only origin that may be asked.
    api_key
        Sent as a bearer token; None sends none.
    max_response_bytes
        Longest body that is read.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        base_url: httpx2.URL,
        api_key: SecretStr | None,
        max_response_bytes: int,
    ) -> None:
        self._inner = inner
        self._origin = (base_url.raw_scheme, base_url.raw_host, base_url.port)
        self._api_key = api_key
        self._max_response_bytes = max_response_bytes
        # The SDK would add a dozen headers that describe this machine, and whatever the OPENAI_* variables hold.
        self._headers = [
            (b"Host", base_url.netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"uniroute"),
        ]
        if api_key is not None:
            self._headers.append((b"Authorization", b"Bearer " + api_key.get_secret_value().encode()))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and read its response, or raise `ResponseRefused`."""
        url = request.url
        if (url.raw_scheme, url.raw_host, url.port) != self._origin:
            raise ResponseRefused("redirect", "the request left the configured host")
        length = request.headers["Content-Length"].encode()
        request.headers = httpx2.Headers([*self._headers, (b"Content-Length", length)])
        response = await self._inner.handle_async_request(request)
        try:
            self._check(response)
            body = await self._read(response)
        finally:
            await response.aclose()
        return httpx2.Response(response.status_code, headers=response.headers, content=body, request=request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    def _check(self, response: httpx2.Response) -> None:
        raw = response.headers.raw
        if sum(len(name) + len(value) for name, value in raw) > _MAX_HEADER_BYTES:
            raise ResponseRefused("too_large", f"headers of more than {_MAX_HEADER_BYTES} bytes")
        if 300 <= response.status_code < 400:
            raise ResponseRefused("redirect", f"HTTP {response.status_code} to {self._target(response)}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ResponseRefused("malformed", "a compressed body, which was not asked for")
        length = response.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and len(length) < 19 and int(length) > self._max_response_bytes:
            raise ResponseRefused("too_large", f"a body of more than {self._max_response_bytes} bytes")

    async def _read(self, response: httpx2.Response) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]
                size += len(chunk)
                if size > self._max_response_bytes:
                    raise ResponseRefused("too_large", f"a body of more than {self._max_response_bytes} bytes")
                chunks.append(chunk)
        except (httpx2.ProtocolError, httpx2.NetworkError):
            raise ResponseRefused("truncated", f"the connection ended after {size} bytes of the body") from None
        return b"".join(chunks)

    def _target(self, response: httpx2.Response) -> str:
        key = self._api_key.get_secret_value() if self._api_key is not None else ""
        return host_in_words(response.headers.get("Location", ""), key)


class Wire:
    """One client of the SDK for one endpoint.

    Parameters
    ----------
    settings
        Of the endpoint: its address, how many connections are kept, the longest body that is read, and the deadline of
        one exchange, which is kept here because the SDK's own timeouts start anew with every byte received.
    api_key
        See `BoundedTransport`.
    """

    def __init__(self, settings: EndpointSettings, api_key: SecretStr | None) -> None:
        self._timeout_s = settings.timeout_s
        limits = httpx2.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        transport = BoundedTransport(
            httpx2.AsyncHTTPTransport(trust_env=False, limits=limits),
            httpx2.URL(settings.base_url),
            api_key,
            settings.max_response_bytes,
        )
        self._client = openai.AsyncOpenAI(
            api_key=_UNUSED_KEY,
            base_url=settings.base_url,
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=None),
        )

    async def post(self, body: bytes) -> Reply:
        """Ask for one chat completion.

        Parameters
        ----------
        body
            The request as JSON.

        Returns
        -------
        Reply
            What the endpoint answered within the limits, errors included.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                # Casting to the response skips the SDK's parsing, which accepts almost anything and takes longer.
                response = await self._client.post("/chat/completions", content=body, cast_to=httpx2.Response)
        except TimeoutError:
            raise ResponseRefused("timeout", f"no complete response within {self._timeout_s:g} s") from None
        except openai.APIStatusError as error:
            response = error.response
        return Reply(
            status=response.status_code,
            retry_after=response.headers.get("Retry-After"),
            body=response.content,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()
