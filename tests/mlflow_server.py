"""A real MLflow server for the tests, with users and passwords and its rows on PostgreSQL: one for a test process."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil
import pytest
from sqlalchemy.engine import make_url

from tests.postgres import PostgresServer

USER, PASSWORD = "admin", "CANARY-correct-horse"
_START_UP_S = 240
_AUTH = """
[mlflow]
default_permission = READ
database_uri = {store}
admin_username = {user}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 3600
"""


@dataclass(frozen=True)
class MlflowServer:
    """A server that listens on loopback under one name only, and can pretend that its disk is full."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """Return the variables that log a client in."""
        return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Let no file of the server become larger than a few bytes; its rows are on PostgreSQL."""
        self._limit(100)
        try:
            yield
        finally:
            self._limit(resource.RLIM_INFINITY)

    def _limit(self, size_bytes: int) -> None:
        whole = psutil.Process(self.process.pid)
        for process in (whole, *whole.children(recursive=True)):
            hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))

    def files(self) -> list[Path]:
        """Return every file that was kept."""
        return [path for path in (self.folder / "artifacts").rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def mlflow_server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Start it once; tests use routers and experiments of their own."""
    pytest.importorskip("flask_wtf", reason="MLflow's basic auth needs the extra server")
    folder = tmp_path_factory.mktemp("mlflow-server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with postgres.database() as rows, postgres.database() as users:
        store, auth = (make_url(url).set(drivername="postgresql+psycopg") for url in (rows, users))
        said = _AUTH.format(user=USER, store=auth.render_as_string(hide_password=False).replace("%", "%%"))
        (folder / "auth.ini").write_text(said)
        process = _start(folder, store.render_as_string(hide_password=False), port)
        try:
            _wait(process, port)
            yield MlflowServer(port, folder, process)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait(30)


def _start(folder: Path, store: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    command += ["--app-name", "basic-auth", "--allowed-hosts", f"127.0.0.1:{port}"]
    surroundings = os.environ | {
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for tests",
    }
    # Nowhere: on a full disk a log would be the first thing that cannot be written.
    return subprocess.Popen(command, cwd=folder, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_UP_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "mlflow server ended at once"
        try:
            urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except HTTPError:
            return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("mlflow server did not start")
