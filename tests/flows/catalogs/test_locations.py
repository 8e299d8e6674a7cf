"""A document is read within limits of time and size, from where the settings say and nowhere else."""

import asyncio
import gzip
import os
import socket
import time
from pathlib import Path

import pytest

from flows.catalogs import open_catalog
from flows.catalogs.catalog import DocumentCatalog
from flows.errors import CatalogError, CatalogMalformed, CatalogUnavailable
from tests.flows.catalogs.conftest import DocumentServer, openrouter_document, openrouter_row, response

DOCUMENT = openrouter_document(openrouter_row())
KEY = "sk-CANARY-1234567890"


def at(location: str, **options: object) -> DocumentCatalog:
    return open_catalog(name="listed", kind="openrouter", location=location, endpoint="router", **options)


def test_a_document_is_fetched_over_http_without_a_key_unless_there_is_one(server: DocumentServer) -> None:
    fetch = at(server.serves(DOCUMENT, Content_Type="text/plain")).fetch()

    assert fetch.listings[0].llm_id == "maker/llm"
    (request,) = server.requests
    assert request.startswith("GET /api/v1/models HTTP/1.1\r\n")
    assert "accept-encoding: identity" in request.lower()
    assert "authorization" not in request.lower()


def test_a_key_is_sent_as_a_bearer_token_and_shown_nowhere(server: DocumentServer) -> None:
    catalog = at(server.serves(b"no", status="401 Unauthorized"), api_key=KEY)

    with pytest.raises(CatalogUnavailable) as error:
        catalog.fetch()

    assert f"authorization: bearer {KEY}".lower() in server.requests[0].lower()
    assert "HTTP 401" in error.value.message
    assert "key" in error.value.hint
    assert KEY not in repr(catalog) + str(vars(catalog)) + str(vars(catalog._location)) + str(error.value.__dict__)


def test_proxies_of_the_environment_are_not_used(server: DocumentServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert at(server.serves(DOCUMENT)).fetch().listings


def test_a_fetch_works_inside_a_running_event_loop(server: DocumentServer) -> None:
    catalog = at(server.serves(DOCUMENT))

    async def night() -> int:
        return len(catalog.fetch().listings)

    assert asyncio.run(night()) == 1


def test_a_redirect_is_not_followed_and_its_target_is_named(server: DocumentServer) -> None:
    target = "http://169.254.169.254/latest/meta-data?token=secret"

    with pytest.raises(CatalogUnavailable) as error:
        at(server.serves(b"", status="302 Found", Location=target), api_key=KEY).fetch()

    assert "HTTP 302 redirects to host 169.254.169.254" in error.value.message
    assert "secret" not in error.value.message
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["500 Oops", "503 Busy", "404 Not Found", "204 No Content", "429 Slow down"])
def test_an_answer_that_is_not_200_makes_the_catalog_unavailable(server: DocumentServer, status: str) -> None:
    with pytest.raises(CatalogUnavailable, match=f"HTTP {status[:3]}") as error:
        at(server.serves(b"" if status.startswith("204") else DOCUMENT, status=status)).fetch()

    assert error.value.unchanged == "the listings of the last night stay"


def test_a_page_of_html_is_malformed(server: DocumentServer) -> None:
    with pytest.raises(CatalogMalformed, match="HTML"):
        at(server.serves(b"<html>captive portal</html>", Content_Type="text/html")).fetch()


def test_the_query_of_a_location_is_not_shown(server: DocumentServer) -> None:
    with pytest.raises(CatalogMalformed) as error:
        at(server.serves(b"{}") + "?key=secret").fetch()

    assert "secret" not in error.value.message
    assert "/api/v1/models" in error.value.message


def test_a_document_that_declares_too_many_bytes_is_not_read(server: DocumentServer) -> None:
    server.parts = [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]

    with pytest.raises(CatalogMalformed, match="larger than 1000 bytes"):
        at(server.url, max_bytes=1000).fetch()


def test_an_endless_document_is_cut_off(server: DocumentServer) -> None:
    server.parts = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[b"400\r\n" + b" " * 1024 + b"\r\n"] * 64,
    ]
    server.hangs_after = True

    with pytest.raises(CatalogMalformed, match="larger than 20000 bytes"):
        at(server.url, max_bytes=20_000).fetch()


def test_a_document_exactly_as_long_as_allowed_is_read(server: DocumentServer) -> None:
    assert at(server.serves(DOCUMENT), max_bytes=len(DOCUMENT)).fetch().listings


def test_a_compressed_document_is_refused_unread(server: DocumentServer) -> None:
    body = gzip.compress(b" " * 1_000_000)

    with pytest.raises(CatalogMalformed, match="compressed"):
        at(server.serves(body, Content_Encoding="gzip")).fetch()


@pytest.mark.parametrize(
    "parts",
    [[], [b"HTTP/1.1 200 OK\r\n"], [response(DOCUMENT)[:-5]]],
    ids=["nothing", "half a header", "half a body"],
)
def test_a_server_that_hangs_ends_at_the_deadline(server: DocumentServer, parts: list[bytes]) -> None:
    server.parts, server.hangs_after = parts, True
    started_s = time.monotonic()

    with pytest.raises(CatalogUnavailable, match=r"no complete answer within 0\.3 s"):
        at(server.url, timeout_s=0.3).fetch()

    assert time.monotonic() - started_s < 10


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", response(b" " * 9999)[:-9999]], ids=["head", "body"])
def test_a_server_that_sends_a_byte_now_and_then_ends_at_the_deadline(server: DocumentServer, head: bytes) -> None:
    server.parts, server.drip_s = [head + b"X: " + b"x" * 9999], 0.002
    started_s = time.monotonic()

    with pytest.raises(CatalogUnavailable, match=r"no complete answer within 0\.5 s"):
        at(server.url, timeout_s=0.5).fetch()

    assert time.monotonic() - started_s < 10
    assert server.requests


@pytest.mark.parametrize(
    "part",
    [b"", b"SSH-2.0-OpenSSH\r\n", response(DOCUMENT)[:-5], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz"],
)
def test_an_answer_that_breaks_off_makes_the_catalog_unavailable(server: DocumentServer, part: bytes) -> None:
    server.parts = [part]

    with pytest.raises(CatalogUnavailable, match="broke off"):
        at(server.url).fetch()


def test_a_server_that_is_not_there_makes_the_catalog_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        location = f"http://127.0.0.1:{unused.getsockname()[1]}/models"

        with pytest.raises(CatalogUnavailable, match="no connection"):
            at(location).fetch()


def test_a_host_that_does_not_exist_makes_the_catalog_unavailable() -> None:
    with pytest.raises(CatalogUnavailable):
        at("http://" + "a" * 70 + ".invalid/models").fetch()


def test_a_missing_file_or_one_that_is_not_regular_makes_the_catalog_unavailable(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(CatalogUnavailable, match="no such file"):
        at(str(tmp_path / "missing.json")).fetch()
    for place in (tmp_path, pipe, Path("/dev/zero")):
        with pytest.raises(CatalogUnavailable, match="not a regular file"):
            at(str(place)).fetch()


def test_a_file_that_is_too_large_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    path.write_bytes(DOCUMENT)

    assert at(str(path), max_bytes=len(DOCUMENT)).fetch().listings
    with pytest.raises(CatalogMalformed, match="larger than"):
        at(str(path), max_bytes=len(DOCUMENT) - 1).fetch()


def test_every_error_of_the_http_client_becomes_a_catalog_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2

    errors = [error for error in vars(httpx2).values() if isinstance(error, type) and issubclass(error, Exception)]
    errors = [error for error in errors if not issubclass(error, (httpx2.CookieConflict, httpx2.SSEError))]
    assert len(errors) > 20

    for kind in errors:
        error = kind.__new__(kind)
        Exception.__init__(error, "from the server: " + KEY)

        def stream(*_arguments: object, error: Exception = error, **_options: object) -> None:
            raise error

        monkeypatch.setattr(httpx2.AsyncClient, "stream", stream)
        with pytest.raises(CatalogError) as raised:
            at("https://host.example/models").fetch()
        assert KEY not in raised.value.message, kind
