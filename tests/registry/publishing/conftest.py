"""MLflow on a copied database per test: making its schema takes seconds, copying a file milliseconds."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.publishing import RouterPublisher


@dataclass(frozen=True)
class Store:
    """One MLflow without a server: a database and a folder of artifacts."""

    url: str
    artifact_root: Path

    def publisher(self, **changes: object) -> RouterPublisher:
        return RouterPublisher(self.url, artifact_root=self.artifact_root, **changes)


@pytest.fixture
def store(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty MLflow, and a working folder in which nothing must appear."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copyfile(template, folder / "mlflow.db")
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    yield Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    assert list(working.iterdir()) == []


@pytest.fixture
def tracking(store: Store) -> Store:
    """Point MLflow's fluent functions at the store, as a consumer's environment does."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(store.url)
    yield store
    mlflow.set_tracking_uri(before)
