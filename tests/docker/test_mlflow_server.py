"""MLflow's server with the command and environment of compose.yaml, on PostgreSQL: who gets in, and what they may."""

import base64
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.errors import PublishIncomplete
from registry.publishing import RouterPublisher
from tests.docker.conftest import PASSWORDS, Databases
from tests.docker.topology import DOCKER, ROOT, Container, command_of, environment_of
from tests.registry.publishing.samples import make_router, request_for
from tests.registry.publishing.test_processes import free_port, server

pytestmark = pytest.mark.slow

ADMIN, USER = "the admin's password %", "the password of nights %"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Served:
    """The server in place of the service `mlflow`."""

    url: str
    artifacts: Path

    def status(self, path: str, login: str = "", **headers: str) -> int:
        """Return the status of the answer to a path."""
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as found:
                return found.status
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code


@pytest.fixture(scope="module")
def served(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the command of compose.yaml, with another port, folder and database server, by the image's entrypoint."""
    container = Container(tmp_path_factory.mktemp("mlflow"))
    container.give(mlflow_db_password=PASSWORDS["mlflow"], mlflow_admin_password=ADMIN, mlflow_secret_key="of forms")
    at_compose = "mlflow@postgres:5432/mlflow"
    here = databases.found(f"postgresql://{at_compose}").removeprefix("postgresql://")
    for_users = databases.found(f"postgresql://{at_compose}_auth").removeprefix("postgresql://")
    config = container.folder / "basic-auth.ini"
    written = (DOCKER / "mlflow" / config.name).read_text(encoding="utf-8")
    config.write_text(written.replace(f"{at_compose}_auth", for_users.replace("%", "%%")), encoding="utf-8")
    port, artifacts = free_port(), container.folder / "artifacts"
    changes = {
        at_compose: here,
        "--artifacts-destination=/mlflow": f"--artifacts-destination={artifacts}",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "127.0.0.1:5000": f"127.0.0.1:{port}",
    }
    command = command_of("mlflow")
    for old, new in changes.items():
        assert sum(old in part for part in command) == 1
        command = [part.replace(old, new) for part in command]
    environment = container.environment | environment_of("mlflow") | {"MLFLOW_AUTH_CONFIG_PATH": str(config)}
    environment["PATH"] = f"{PROGRAMS}:{environment['PATH']}"
    url = f"http://127.0.0.1:{port}"
    program = (str(DOCKER / "entrypoint.sh"),)
    with server(command, environment, container.folder, f"{url}/health", program):
        yield Served(url, artifacts)


def make_user(served: Served, folder: Path, password: str) -> Container:
    """Run the service `mlflow-user` and return a container of the worker, with the user's password."""
    container, worker = Container(folder / "setup"), Container(folder / "worker")
    container.folder.mkdir(parents=True)
    worker.folder.mkdir(parents=True)
    container.give(mlflow_admin_password=ADMIN, mlflow_user_password=password)
    worker.give(mlflow_user_password=password)
    environment = environment_of("mlflow-user") | {"MLFLOW_TRACKING_URI": served.url}
    command = [DOCKER / "entrypoint.sh", *command_of("mlflow-user")]
    environment = container.environment | environment
    environment["PATH"] = f"{PROGRAMS}:{environment['PATH']}"
    made = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert password not in made.stdout + made.stderr
    subprocess.run([DOCKER / "entrypoint.sh", "true"], env=worker.environment, check=True)
    return worker


def test_the_server_requires_authentication(served: Served) -> None:
    assert served.status("/health") == 200
    assert [served.status(path) for path in ("/", SEARCH, "/api/2.0/mlflow-artifacts/artifacts")] == [401, 401, 401]
    assert [served.status(SEARCH, login) for login in ("admin:password1234", f"admin:{ADMIN}")] == [401, 200]
    assert served.status(SEARCH, f"admin:{ADMIN}", Host="elsewhere.example") == 403


def test_nights_publish_as_a_user_who_owns_what_it_makes_and_no_more(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user(served, tmp_path / "first", "a password that leaked")
    assert served.status(SEARCH, "uniroute:a password that leaked") == 200
    worker = make_user(served, tmp_path / "again", USER)
    assert served.status(SEARCH, "uniroute:a password that leaked") == 401
    monkeypatch.setenv("HOME", worker.environment["HOME"])
    router = make_router()
    publisher = RouterPublisher(served.url)
    published = publisher.publish(request_for(router, tmp_path))
    publisher.set_alias("uniroute", "champion", published.version)
    assert publisher.aliases("uniroute") == {"champion": published.version}
    assert publisher.download("uniroute", published.version, tmp_path / "back").digest == router.digest
    assert published.artifact_uri.startswith("mlflow-artifacts:/")
    assert any(path.is_file() for path in served.artifacts.rglob("*")), "through the server, into its folder"
    assert served.status("/api/2.0/mlflow/users/get?username=admin", f"uniroute:{USER}") == 403
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(PublishIncomplete, match="wants a user and a password"):
        RouterPublisher(served.url).aliases("uniroute")
