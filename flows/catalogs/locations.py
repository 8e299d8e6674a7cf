"""Locations of catalog documents: a URL or a path, read within limits of time and size."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from flows.catalogs.documents import Fetched, malformed
from flows.errors import CatalogUnavailable, PrerequisiteError
from flows.urls import http_url, is_in_clear, is_same_origin

if TYPE_CHECKING:
    from pydantic import SecretStr

UNCHANGED = "the listings of the last night stay"


class Location:
    """Read the bytes of a catalog document.

    Parameters
    ----------
    subject
        What messages call it: ``catalog`` or ``endpoint`` and its name in the settings.
    location
        An ``http://`` or ``https://`` URL, or the path of a regular file.
    api_key
        Sent as a bearer token to the host of the URL and nowhere else.
    timeout_s
        Deadline from connecting to the last byte, in seconds.
    max_bytes
        Longest document that is read.
    allow_insecure
        Whether the key may be sent over plain ``http`` to another machine.

    Raises
    ------
    PrerequisiteError
        The location cannot be used: another scheme, a password in it, or a key that would travel in clear.
    """

    def __init__(
        self,
        subject: str,
        location: str,
        api_key: SecretStr | None,
        *,
        timeout_s: float,
        max_bytes: int,
        allow_insecure: bool,
    ) -> None:
        self._location = location
        self._api_key = api_key
        self.timeout_s = timeout_s
        self.max_bytes = max_bytes
        self._is_url = "://" in location or location.lower().startswith(("http:", "https:", "file:"))
        if self._is_url:
            must_be_safe = api_key is not None and not allow_insecure
            self.subject = f"{subject} at {_check_url(subject, location, must_be_safe=must_be_safe)}"
        else:
            if not location.strip() or "\0" in location:
                raise _refused(subject, "has no usable location")
            self.subject = f"{subject} at {location}"

    @property
    def is_url(self) -> bool:
        """Whether it is fetched from a server, which may split its list into pages."""
        return self._is_url

    def read(self) -> Fetched:
        """Read the document.

        Raises
        ------
        CatalogUnavailable
            It does not answer in time, or answers with an error.
        CatalogMalformed
            It is larger than allowed, or compressed.
        """
        if not self._is_url:
            return Fetched(self._read_file())
        return self._read_url(self._location, self.timeout_s, self.max_bytes)

    def read_page(self, query: Mapping[str, str], url: str, *, timeout_s: float, max_bytes: int) -> Fetched | None:
        """Read a further page of the document; None when its URL leads to another server, which is not asked.

        Parameters
        ----------
        query
            Parameters that are added to the URL of the document.
        url
            Where the document says that the page is, relative to its own URL; empty for its own URL.
        timeout_s, max_bytes
            What is left of the limits of the whole fetch.

        Raises
        ------
        CatalogUnavailable, CatalogMalformed
            As `read`.
        """
        import httpx2

        first = httpx2.URL(self._location)
        try:
            page = str(first.join(url) if url else first.copy_merge_params(dict(query)))
        except (httpx2.InvalidURL, ValueError):
            return None
        return self._read_url(page, timeout_s, max_bytes) if is_same_origin(page, self._location) else None

    def _read_file(self) -> bytes:
        path = Path(self._location)
        try:
            # A pipe or a device could hang the night or never end.
            if not path.is_file():
                reason = "there is no such file" if not path.exists() else "it is not a regular file"
                raise self._unavailable(reason, "check the location of the catalog in the settings")
            with path.open("rb") as file:
                body = file.read(self.max_bytes + 1)
        except OSError as error:
            raise self._unavailable(error.strerror or type(error).__name__, "check its permissions") from None
        if len(body) > self.max_bytes:
            raise malformed(self.subject, f"it is larger than {self.max_bytes} bytes")
        return body

    def _read_url(self, url: str, timeout_s: float, max_bytes: int) -> Fetched:
        from flows.catalogs.wire import FetchFailed, fetch

        limits = {"timeout_s": timeout_s, "max_bytes": max_bytes}
        try:
            # In a thread of its own, because the caller may already be inside an event loop.
            with ThreadPoolExecutor(1, thread_name_prefix="catalog") as pool:
                return pool.submit(fetch, url, self._api_key, **limits).result()
        except FetchFailed as failed:
            if not failed.hint:
                raise malformed(self.subject, failed.reason) from None
            raise self._unavailable(failed.reason, failed.hint) from None

    def _unavailable(self, reason: str, hint: str) -> CatalogUnavailable:
        return CatalogUnavailable(f"{self.subject} is unavailable: {reason}", unchanged=UNCHANGED, hint=hint)


def _check_url(subject: str, location: str, *, must_be_safe: bool) -> str:
    """Refuse what must not be fetched; return the URL as messages may show it."""
    url = http_url(location)
    if url is None:
        raise _refused(subject, "must be at an http:// or https:// URL, or at a path")
    if url.userinfo:
        raise _refused(subject, "has a user name or a password in its URL; name a key by api_key_env instead")
    if must_be_safe and is_in_clear(url):
        raise _refused(subject, "would send its key in clear; use https")
    # Without the query: it may hold a key.
    return str(url.copy_with(query=None, fragment=None))


def _refused(subject: str, reason: str) -> PrerequisiteError:
    return PrerequisiteError(
        f"{subject} {reason}", unchanged="nothing was fetched", hint="change its location in the settings"
    )
