"""Whether MLflow answers at all, found out within seconds."""

import socket
import time
from collections.abc import Iterator

import pytest

from registry.publishing.probe import probe
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
        assert probe(server.base_url.removesuffix("/v1")) == ""


def test_a_server_that_fails_does_not_answer() -> None:
    with FakeEndpoint(choose=lambda _: "500") as server:
        assert "HTTP Error 500" in probe(server.base_url.removesuffix("/v1"))


def test_a_closed_port_is_reported_without_a_password(closed: str) -> None:
    for scheme in ("http", "postgresql+psycopg", "mysql"):
        said = probe(f"{scheme}://me:secret@{closed}/mlflow")
        assert said.startswith("MLflow does not answer at ")
        assert "secret" not in said


def test_a_server_that_hangs_costs_no_more_than_the_time_out(hanging: str) -> None:
    started_s = time.monotonic()
    assert "timed out" in probe(f"http://{hanging}", patience_s=0.2)
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("url", ["sqlite:////nowhere/mlflow.db", "file:///tmp/mlruns", "databricks"])
def test_a_store_that_only_opening_can_check_is_not_reported(url: str) -> None:
    assert probe(url) == ""


@pytest.mark.parametrize("url", ["http://[half/", "http://127.0.0.1:notaport/"])
def test_a_malformed_address_is_reported_and_does_not_raise(url: str) -> None:
    assert "does not answer" in probe(url)
