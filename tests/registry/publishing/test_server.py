"""What may answer at the address of MLflow's server, and what the error says to do about it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest

from flows.cli.endings import exit_code_of
from registry.errors import PublishIncomplete
from registry.publishing import RouterPublisher
from registry.publishing.connection import server_version

WEB_PAGE = (200, "<html>Welcome</html>")
NO_PAGE = (404, "<html>Not found</html>")
AN_EXPERIMENT = (200, '{"experiment": {"experiment_id": "0", "name": "Default"}}')
NO_EXPERIMENT = (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No such experiment"}')
OF_PREFECT = (401, '{"exception_message": "Unauthorized"}')
NO_HOST = (403, "Invalid Host header - possible DNS rebinding attack detected")
OURS = mlflow.__version__

Answer = tuple[int, str]


@contextmanager
def answering(version: Answer, api: Answer = NO_PAGE) -> Iterator[str]:
    """Serve one answer at ``/version`` and another one everywhere else; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, said = version if self.path == "/version" else api
            body = said.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch, template):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)


def refused(ask: Callable[[], object]) -> PublishIncomplete:
    with pytest.raises(PublishIncomplete) as caught:
        ask()
    assert caught.value.unchanged and caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("version", "api"),
    [
        (WEB_PAGE, WEB_PAGE),
        (NO_PAGE, NO_PAGE),
        ((200, '{"hello": "world"}'), (200, '{"hello": "world"}')),
        (NO_PAGE, OF_PREFECT),
        ((200, ""), (200, "[]")),
    ],
)
def test_another_server_is_not_taken_for_an_mlflow_that_has_no_routers_yet(version, api):
    with answering(version, api) as url:
        error = refused(lambda: RouterPublisher(url).aliases("uniroute"))
    assert f"what answers at {url} is not an MLflow server" in error.message
    assert exit_code_of(error) == 78


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.22.4", "their major numbers must be the same"),
        ("4.0.0", "their major numbers must be the same"),
        ("3.16.0", "has known security holes"),
        ("3.16.1rc1", "has known security holes"),
    ],
)
def test_a_server_of_a_version_that_is_not_understood_or_not_safe_is_refused(version, said):
    with answering((200, version)) as url:
        error = refused(lambda: RouterPublisher(url.replace("//", "//me:secret@")).aliases("uniroute"))
    assert f"MLflow at {url.replace('//', '//me:***@')} is version {version}" in error.message
    assert said in error.message
    assert exit_code_of(error) == 78


@pytest.mark.parametrize("version", ["3.16.1", OURS, "3.99.0.dev0"])
def test_a_server_a_little_older_or_newer_than_the_client_is_used(version):
    with answering((200, version)) as url:
        assert server_version(url) == version


@pytest.mark.parametrize("api", [AN_EXPERIMENT, NO_EXPERIMENT])
def test_an_mlflow_that_does_not_state_its_version_is_used(api):
    with answering(NO_PAGE, api) as url:
        assert server_version(url) == ""


@pytest.mark.parametrize(
    ("answer", "said", "to_do", "code"),
    [
        ((401, "You are not authenticated."), "wants a user and a password", "MLFLOW_TRACKING_USERNAME", 77),
        ((403, "Permission denied"), "denies this to its user", "EDIT", 77),
        (NO_HOST, "may not be called 127.0.0.1:", "--allowed-hosts", 78),
        ((500, "Internal Server Error"), "does not answer", "Check that MLflow answers", 75),
        ((503, "Try later"), "does not answer", "Check that MLflow answers", 75),
    ],
)
@pytest.mark.parametrize("is_known_by_version", [True, False])
def test_an_error_of_access_says_what_to_do(answer, said, to_do, code, is_known_by_version):
    with answering(answer if is_known_by_version else (200, OURS), answer) as url:
        error = refused(lambda: RouterPublisher(url).aliases("uniroute"))
    assert said in error.message
    assert to_do in error.hint
    assert exit_code_of(error) == code


def test_a_wrong_password_is_distinguished_from_none():
    with answering((401, "You are not authenticated.")) as url:
        error = refused(lambda: server_version(url.replace("//", "//me:secret@")))
    assert "does not accept its user and password" in error.message
    assert exit_code_of(error) == 77


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://no.such.host.invalid:5000", "is not known"),
        ("http://127.0.0.1:notaport", "Invalid url"),
        ("https://127.0.0.1:{port}", "does not speak https"),
    ],
)
def test_an_impossible_address_is_an_error_of_settings(url, said):
    with answering((200, OURS)) as there:
        error = refused(lambda: server_version(url.format(port=there.rpartition(":")[2])))
    assert said in error.message
    assert "[mlflow] tracking_url" in error.hint
    assert exit_code_of(error) == 78
