"""A real registry in a temporary folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from registry.runs import Run
from registry.store import Registry
from tests.registry.samples import start_night

# Machines are shared: how long one example takes says nothing.
settings.register_profile("uniroute", deadline=None)
settings.load_profile("uniroute")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate once; every test starts from a copy."""
    file = tmp_path_factory.mktemp("migrated") / "registry.db"
    Registry.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Name a registry that does not exist yet."""
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def registry(url: str, tmp_path: Path, migrated: Path) -> Iterator[Registry]:
    shutil.copy(migrated, tmp_path / "registry.db")
    with Registry.open(url) as opened:
        yield opened


@pytest.fixture
def night(registry: Registry) -> Run:
    return start_night(registry)
