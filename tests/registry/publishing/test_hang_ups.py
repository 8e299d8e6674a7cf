"""A server of MLflow that hangs up on an upload keeps no file; one that is down, silent or unknown does not answer."""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from registry.errors import MlflowUnavailable, MlflowUnsuitable, PublishIncomplete
from registry.publishing.connection import asking

FULL = "did not keep a file: the disk of its artifacts may be full"
# One file fits into the buffers of a connection, the other is still being sent when the server hangs up.
SIZES = (600, 8_000_000)


def _head(connection: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read and (part := connection.recv(1000)):
        read += part
    return read


def _request(connection: socket.socket) -> None:
    head, _, body = _head(connection).partition(b"\r\n\r\n")
    missing = int(re.search(rb"(?i)content-length: (\d+)", head)[1]) - len(body)
    while missing > 0 and (part := connection.recv(1 << 16)):
        missing -= len(part)


def _some_of_the_file(connection: socket.socket) -> None:
    if _head(connection).endswith(b"\r\n\r\n"):
        connection.recv(1000)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_at_once(connection: socket.socket) -> None:
    reset(connection)


def close_at_once(connection: socket.socket) -> None:
    connection.close()


def reset_after_the_head(connection: socket.socket) -> None:
    _head(connection)
    reset(connection)


def close_after_the_head(connection: socket.socket) -> None:
    _head(connection)
    connection.close()


def reset_within_the_file(connection: socket.socket) -> None:
    _some_of_the_file(connection)
    reset(connection)


def close_within_the_file(connection: socket.socket) -> None:
    _some_of_the_file(connection)
    connection.close()


def reset_before_the_answer(connection: socket.socket) -> None:
    _request(connection)
    reset(connection)


def close_before_the_answer(connection: socket.socket) -> None:
    _request(connection)
    connection.close()


def fail_without_reading(connection: socket.socket) -> None:
    _head(connection)
    connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.close()


def close_within_the_status(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(b"HTTP/1.1 50")
    connection.close()


def close_within_the_answer(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{}")
    connection.close()


def close_within_a_chunk_of_the_answer(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{}")
    connection.close()


def reset_within_the_answer(connection: socket.socket) -> None:
    _request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{}")
    time.sleep(0.1)
    reset(connection)


HANG_UPS = [
    reset_at_once,
    close_at_once,
    reset_after_the_head,
    close_after_the_head,
    reset_within_the_file,
    close_within_the_file,
    reset_before_the_answer,
    close_before_the_answer,
    fail_without_reading,
    close_within_the_status,
    close_within_the_answer,
    close_within_a_chunk_of_the_answer,
    reset_within_the_answer,
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TIMEOUT": "1", "MAX_RETRIES": "0", "BACKOFF_FACTOR": "0", "BACKOFF_JITTER": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)


@contextmanager
def server(ends: Callable[[socket.socket], None]) -> Iterator[str]:
    """Take one connection after another and end each in one way; yield host and port."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                ends(connection)
            except OSError:
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def upload(url: str, folder: Path, size: int = SIZES[0]) -> PublishIncomplete:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    file = folder / "file"
    file.write_bytes(bytes(size))
    with pytest.raises(PublishIncomplete) as refused, asking(url, "nothing was published"):
        get_artifact_repository("mlflow-artifacts:/1/run/artifacts", tracking_uri=url).log_artifact(str(file))
    return refused.value


def ask(url: str) -> PublishIncomplete:
    from mlflow import MlflowClient

    with pytest.raises(PublishIncomplete) as refused, asking(url, "nothing was published"):
        MlflowClient(url).search_experiments()
    return refused.value


@pytest.mark.parametrize("ends", HANG_UPS, ids=lambda ends: ends.__name__)
def test_a_server_that_hangs_up_on_an_upload_may_have_a_full_disk(
    ends: Callable[[socket.socket], None], tmp_path: Path
) -> None:
    for size in SIZES:
        with server(ends) as address:
            error = upload(f"http://{address}", tmp_path, size)
        assert isinstance(error, MlflowUnavailable)
        assert FULL in error.message, (size, error.message)


def test_a_server_that_hangs_up_on_tls_is_not_one_that_is_not_trusted(tmp_path: Path) -> None:
    def close_within_the_handshake(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.close()

    with server(close_within_the_handshake) as address:
        assert FULL in upload(f"https://{address}", tmp_path).message
        assert "does not answer" in ask(f"https://{address}").message


def test_a_server_that_hangs_up_on_a_question_does_not_answer(tmp_path: Path) -> None:
    for ends in (reset_at_once, close_after_the_head, reset_before_the_answer, close_within_the_answer):
        with server(ends) as address:
            error = ask(f"http://{address}")
        assert isinstance(error, MlflowUnavailable)
        assert "does not answer" in error.message, (ends, error.message)


def test_an_upload_to_a_server_that_is_down_silent_or_unknown_says_so(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert f"{closed} does not answer (Connection refused)" in upload(closed, tmp_path).message
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for size in SIZES:
            error = upload(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, size)
            assert "does not answer" in error.message and "timed out" in error.message
    unknown = upload("http://nowhere.invalid", tmp_path)
    assert isinstance(unknown, MlflowUnsuitable) and "is not known" in unknown.message
