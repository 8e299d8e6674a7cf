"""A PostgreSQL that asks for passwords, with the databases that compose.yaml's servers find."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import make_url

from tests.docker.topology import DOCKER, Container
from tests.postgres import PostgresServer, a_server

PASSWORDS = {user: f"""{user}%@"'/$(x)?&#=""" for user in ("uniroute", "mlflow", "prefect")}
"""What a person might choose, and what is special to a shell, a URL, SQL and every file that passwords are in."""


@dataclass(frozen=True)
class Databases:
    """The server in place of the service `postgres`."""

    server: PostgresServer
    container: Container

    def make(self) -> subprocess.CompletedProcess[str]:
        """Run the script that the image runs on an empty volume."""
        script = DOCKER / "postgres" / "databases.sh"
        return subprocess.run([script], env=self._environment, capture_output=True, text=True)

    def program(self, name: str, *arguments: str, given: bytes = b"") -> bytes:
        """Run a program of PostgreSQL as the owner of the server, and give what it wrote."""
        command = [self._programs / name, "--username=postgres", *arguments]
        done = subprocess.run(command, env=self._environment, input=given, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        path = f"{self._programs}:{os.environ['PATH']}"
        return self.container.environment | {"PATH": path, "PGHOST": str(self.server.base.query["host"])}

    @property
    def _programs(self) -> Path:
        """The folder of the server's programs, `psql` among them."""
        assert self.server.folder is not None
        pid = (self.server.folder / "postmaster.pid").read_text(encoding="utf-8").split()[0]
        return Path(psutil.Process(int(pid)).exe()).parent

    def found(self, url: str) -> str:
        """Return a URL of compose.yaml with this server in place of the service."""
        here = make_url(url).set(host=None, port=None).set(query={"host": self.server.base.query["host"]})
        return here.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """A server of its own, because users and passwords belong to the whole server."""
    container = Container(tmp_path_factory.mktemp("postgres"))
    container.give(**{f"{user}_db_password": password for user, password in PASSWORDS.items()})
    with a_server(f"docker-{os.getpid()}") as server:
        assert server.folder is not None
        rules = server.folder / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n", encoding="utf-8")
        server.run("SELECT pg_reload_conf()")
        made = Databases(server, container)
        first = made.make()
        assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
        yield made
