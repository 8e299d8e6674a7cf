"""Whether MLflow answers at all, found out in seconds."""

import socket
import time
from collections.abc import Iterator

import pytest

from registry.publishing.probe import silence_of
from tests.fakes.endpoint import FakeEndpoint


@pytest.fixture
def hanging() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("status", ["401", "404"])
def test_a_server_that_refuses_is_alive(status: str) -> None:
    with FakeEndpoint(choose=lambda _: status) as server:
        assert silence_of(server.base_url.removesuffix("/v1")) == ""


def test_a_server_that_fails_is_silent() -> None:
    with FakeEndpoint(choose=lambda _: "500") as server:
        assert "HTTP Error 500" in silence_of(server.base_url.removesuffix("/v1"))


def test_a_closed_port_is_silent_and_no_password_is_told(closed: str) -> None:
    for scheme in ("http", "postgresql+psycopg", "mysql"):
        said = silence_of(f"{scheme}://me:secret@{closed}/mlflow")
        assert said.startswith("MLflow does not answer at ")
        assert "secret" not in said


def test_a_server_that_hangs_costs_no_more_than_the_patience(hanging: str) -> None:
    started_s = time.monotonic()
    assert "timed out" in silence_of(f"http://{hanging}", patience_s=0.2)
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("url", ["sqlite:////nowhere/mlflow.db", "file:///tmp/mlruns", "databricks"])
def test_what_only_opening_it_can_tell_is_not_silent(url: str) -> None:
    assert silence_of(url) == ""


@pytest.mark.parametrize("url", ["http://[half/", "http://127.0.0.1:notaport/"])
def test_a_malformed_address_is_silence_and_no_bug(url: str) -> None:
    assert "does not answer" in silence_of(url)
