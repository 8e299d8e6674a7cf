"""A real registry in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.runs import Run
from registry.store import Registry
from tests.registry.samples import start_night


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    with Registry.open(url) as opened:
        yield opened


@pytest.fixture
def night(registry: Registry) -> Run:
    return start_night(registry)
