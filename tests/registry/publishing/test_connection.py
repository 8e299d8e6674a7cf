"""MLflow that is down, slow, wrong or out of room: one clear error, soon, without a password in it."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from registry.errors import PublishIncomplete
from registry.publishing import RouterPublisher
from tests.registry.publishing.samples import make_router, request_for


@pytest.fixture
def patient_in_seconds(monkeypatch, template):
    for name, value in {"TIMEOUT": "1", "MAX_RETRIES": "1", "BACKOFF_FACTOR": "0", "BACKOFF_JITTER": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


class Failing(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def failing_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def refused(publisher, tmp_path) -> PublishIncomplete:
    begun = time.monotonic()
    with pytest.raises(PublishIncomplete) as caught:
        publisher.publish(request_for(make_router(), tmp_path))
    assert time.monotonic() - begun < 30
    assert "\n" not in caught.value.message
    assert caught.value.unchanged
    assert "publish again" in caught.value.hint
    return caught.value


def test_no_server_at_the_address(patient_in_seconds, closed_port, tmp_path):
    error = refused(RouterPublisher(f"http://me:secret@127.0.0.1:{closed_port}"), tmp_path)
    assert f"MLflow at http://me:***@127.0.0.1:{closed_port} does not answer (Connection refused)" in error.message
    assert f"http://me:***@127.0.0.1:{closed_port}" in error.hint
    assert "secret" not in error.message + error.hint


def test_a_server_that_fails(patient_in_seconds, failing_server, tmp_path):
    assert "500" in refused(RouterPublisher(f"http://127.0.0.1:{failing_server}"), tmp_path).message


def test_a_server_that_never_answers(patient_in_seconds, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "timed out" in refused(RouterPublisher(address), tmp_path).message.lower()


def test_a_database_server_that_is_down_is_not_asked_for_minutes(closed_port, tmp_path, template):
    url = f"postgresql+psycopg://me:secret@127.0.0.1:{closed_port}/mlflow"
    error = refused(RouterPublisher(url, artifact_root=tmp_path), tmp_path)
    assert "MLflow could not be opened" in error.message
    assert "secret" not in error.message + error.hint


def test_a_file_that_is_not_a_database(tmp_path, template):
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"something else, and long enough")
    assert "is not an SQLite database" in refused(RouterPublisher(f"sqlite:///{file}"), tmp_path).message
    assert file.read_bytes() == b"something else, and long enough"


def test_artifacts_that_cannot_be_written(store, tmp_path):
    store.artifact_root.write_text("a file where the folder should be")
    refused(store.publisher(), tmp_path)
    store.artifact_root.unlink()
    assert store.publisher().publish(request_for(make_router(), tmp_path)).version == 1


def test_the_error_of_a_deleted_experiment_says_how_to_restore_it(store, tmp_path):
    publisher = store.publisher()
    publisher.publish(request_for(make_router(0), tmp_path))
    publisher.client.delete_experiment(publisher.client.get_experiment_by_name("uniroute-nights").experiment_id)
    with pytest.raises(PublishIncomplete, match="experiment uniroute-nights was deleted") as caught:
        publisher.publish(request_for(make_router(1), tmp_path, "second"))
    assert "mlflow experiments restore" in caught.value.hint
