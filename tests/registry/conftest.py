"""A real registry on each database that it runs on: in a temporary folder, and on a PostgreSQL server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.runs import Run
from registry.store import Registry
from tests.postgres import empty
from tests.registry.samples import start_night

only_on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
only_on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Name the database under test; everything that uses a registry runs on both."""
    return request.param


@pytest.fixture
def url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name a registry that does not exist yet, or the one of the fixture `registry` when a test has both."""
    is_migrated = "registry" in request.fixturenames
    if backend == "sqlite":
        if is_migrated:
            shutil.copy(request.getfixturevalue("migrated"), tmp_path / "registry.db")
        yield f"sqlite:///{tmp_path / 'registry.db'}"
        return
    server = request.getfixturevalue("postgres")
    if is_migrated:
        kept = request.getfixturevalue("migrated_database")
        empty(server, kept)
        yield kept
    else:
        with server.database() as made:
            yield made


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    with Registry.open(url) as opened:
        yield opened


@pytest.fixture
def night(registry: Registry) -> Run:
    return start_night(registry)
