"""A Prefect server that is configured and cannot be used: reported in seconds, on one line, with an exit code."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import prefect
import pytest

from flows.cli import main
from flows.cli.endings import exit_code_of
from flows.config.prefect_server import require_prefect
from flows.errors import FlowError
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import LLMS, TinyNight, answer

HERE = prefect.__version__
MAJOR, MINOR = (int(part) for part in HERE.split(".")[:2])

Name = Callable[[str], None]


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> Name:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    return lambda url: monkeypatch.setenv("PREFECT_API_URL", url)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def refusal() -> FlowError:
    with pytest.raises(FlowError) as caught:
        require_prefect()
    error = caught.value
    assert error.unchanged == "Nothing was started or changed."
    assert error.hint
    assert "secret" not in error.message + error.hint
    return error


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("version", [HERE, f"{MAJOR}.{MINOR}.999", f"{MAJOR}.{MINOR + 1}.0"])
def test_a_server_of_this_version_or_a_newer_one_is_used(name: Name, version: str) -> None:
    with FakeEndpoint(documents={"/api/admin/version": version}) as server:
        name(f"http://127.0.0.1:{server.port}/api")
        assert require_prefect() == version


@pytest.mark.parametrize("version", [f"{MAJOR - 1}.20.3", f"{MAJOR + 1}.0.0", f"{MAJOR}.{MINOR - 1}.9"])
def test_a_server_that_does_not_understand_this_client_is_refused(name: Name, version: str) -> None:
    with FakeEndpoint(documents={"/api/admin/version": version}) as server:
        name(f"http://127.0.0.1:{server.port}/api")
        error = refusal()
    assert f"is version {version}, which does not understand its client here, {HERE}" in error.message
    assert exit_code_of(error) == 78


@pytest.mark.parametrize("path", ["/api", ""])
@pytest.mark.parametrize("said", [{"hello": "world"}, "welcome", None])
def test_another_server_and_a_forgotten_api_are_reported(name: Name, path: str, said: object) -> None:
    documents = {} if said is None else {f"{path}/admin/version": said}
    with FakeEndpoint(documents=documents) as server:
        name(f"http://me:secret@127.0.0.1:{server.port}{path}")
        error = refusal()
    assert "is not the API of a Prefect server" in error.message
    assert "/api" in error.hint
    assert exit_code_of(error) == 78


@pytest.mark.parametrize(
    ("status", "credentials", "said", "code"),
    [
        ("401", None, "wants a user and a password", 77),
        ("401", "me:secret", "does not accept PREFECT_API_AUTH_STRING", 77),
        ("500", None, "fails with status 500", 75),
    ],
)
def test_refused_credentials_and_a_failing_server_are_told_apart(
    name: Name, monkeypatch: pytest.MonkeyPatch, status: str, credentials: str | None, said: str, code: int
) -> None:
    if credentials is not None:
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", credentials)
    with FakeEndpoint(choose=lambda _request: status) as server:
        name(f"http://127.0.0.1:{server.port}/api")
        error = refusal()
    assert said in error.message
    assert exit_code_of(error) == code


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        ("http://me:secret@127.0.0.1:{port}/api", "does not answer", 75),
        ("http://no.such.host.invalid/api", "is not known", 78),
        ("localhost:4200", "is not the API of a Prefect server", 78),
    ],
)
def test_a_url_where_no_server_answers(name: Name, closed_port: int, url: str, said: str, code: int) -> None:
    name(url.format(port=closed_port))
    error = refusal()
    assert said in error.message
    assert exit_code_of(error) == code


def test_https_where_http_is_spoken(name: Name) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        name(f"https://127.0.0.1:{server.server_port}/api")
        error = refusal()
        server.shutdown()
        serving.join()
    assert "does not speak https" in error.message
    assert exit_code_of(error) == 78


@pytest.mark.parametrize("words", [["night", "run"], ["night", "serve"], ["config", "validate", "--connect"]])
def test_commands_that_need_it_end_at_once_without_a_crash(
    name: Name,
    closed_port: int,
    words: list[str],
    tmp_path: Path,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name(f"http://me:secret@127.0.0.1:{closed_port}/api")
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        night = TinyNight.prepare(tmp_path / "night", endpoint, template)
        monkeypatch.setenv("UNIROUTE_HOME", str(night.folder / "home"))
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--config", str(night.folder / "uniroute.toml")])
        assert {prompt for _, prompt in endpoint.calls_per_prompt} <= {"/v1/models"}, "no LLM was asked anything"
    said = capsys.readouterr()
    assert stopped.value.code == 75
    assert f"Prefect's server at http://me:***@127.0.0.1:{closed_port}/api does not answer" in said.out + said.err
    assert "secret" not in said.out + said.err
    assert not list((night.folder / "home").glob("crash-*"))
