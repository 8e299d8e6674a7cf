"""What the Prefect server reports about nights: asked over HTTP, and a server that misbehaves is one clear error."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flows.errors import FlowError
from flows.metrics.listed import Samples
from flows.metrics.prefect_figures import note_prefect

Answer = Callable[[str, Any], tuple[int, bytes]]


class Server(ThreadingHTTPServer):
    """A server on loopback that answers as a function says and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.credentials: set[str | None] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.credentials.add(self.headers["Authorization"])
        length = int(self.headers.get("Content-Length", 0))
        status, body = self.server.answer(self.path, json.loads(self.rfile.read(length)) if length else None)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def serving(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api/")
        yield server
        server.shutdown()


def values_of(samples: Samples) -> dict[str, float]:
    return {" ".join([name, *labels]): value for name, by in samples.values.items() for labels, value in by.items()}


def prefect(path: str, content: Any) -> tuple[int, bytes]:
    """Answer as Prefect's server does whose pool has a worker, with three late nights and a running one."""
    if path == "/api/deployments/name/night/nightly":
        return 200, b'{"work_pool_name": "nights"}'
    if path == "/api/work_pools/nights":
        return 200, b'{"name": "nights", "status": "READY"}'
    assert path == "/api/flow_runs/count"
    assert content["flows"] == {"name": {"any_": ["night"]}}
    return 200, b"3" if content["flow_runs"]["state"]["name"]["any_"] == ["Late"] else b"1"


@pytest.mark.parametrize(
    ("variable", "secret", "header"),
    [
        ("PREFECT_API_KEY", "key-1", "Bearer key-1"),
        ("PREFECT_API_AUTH_STRING", "ann:pw", f"Basic {base64.b64encode(b'ann:pw').decode()}"),
    ],
)
def test_nights_that_wait_and_run_are_counted_with_the_credentials_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, secret: str, header: str
) -> None:
    monkeypatch.setenv(variable, secret)
    samples = Samples()
    with serving(prefect, monkeypatch) as server:
        note_prefect(samples)
    assert values_of(samples) == {
        "prefect_up": 1,
        "prefect_nights_late": 3,
        "prefect_nights_running": 1,
        "prefect_pool_ready nights": 1,
    }
    assert server.credentials == {header}


def test_a_server_that_knows_no_deployment_is_up_without_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples()
    with serving(lambda path, _: (404, b"{}") if "deployments" in path else (200, b"0"), monkeypatch):
        note_prefect(samples)
    assert values_of(samples) == {"prefect_up": 1, "prefect_nights_late": 0, "prefect_nights_running": 0}


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (401, b"{}", "HTTP 401"),
        (500, b"<html>", "HTTP 500"),
        (200, b"<html>", "JSONDecodeError"),
        (200, b"[" + b" " * (2 << 20) + b"]", "JSONDecodeError"),
    ],
    ids=["credentials", "broken", "no JSON", "endless"],
)
def test_a_server_that_misbehaves_is_down(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, cause: str
) -> None:
    samples = Samples()
    with serving(lambda *_: (status, body), monkeypatch), pytest.raises(FlowError, match=cause) as caught:
        note_prefect(samples)
    assert (values_of(samples), caught.value.hint) == ({"prefect_up": 0}, "check PREFECT_API_URL")


def test_a_server_that_is_not_there_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    samples = Samples()
    with pytest.raises(FlowError, match="did not answer"):
        note_prefect(samples)
    assert values_of(samples) == {"prefect_up": 0}


def test_without_a_configured_server_there_are_no_figures_of_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    samples = Samples()
    note_prefect(samples)
    assert values_of(samples) == {}


@pytest.mark.parametrize("url", ["prefect.example:4200/api", "ftp://prefect.example/api", "http://", "http://[::1/api"])
def test_a_malformed_address_is_an_error_and_a_server_that_is_down(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    samples = Samples()
    with pytest.raises(FlowError, match="PREFECT_API_URL is not"):
        note_prefect(samples)
    assert values_of(samples) == {"prefect_up": 0}
