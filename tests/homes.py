"""Databases and home folders that take seconds to make: made once for all processes of a test run, copied by tests."""

import fcntl
import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest


def made_once(folders: pytest.TempPathFactory, worker: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` fills; the first process that wants it makes it, and the others wait.

    Nothing may be changed in it. MLflow's databases name files there, also when they were copied; see `copied_home`.
    """
    root = folders.getbasetemp() if worker == "master" else folders.getbasetemp().parent
    folder, made = root / f"shared-{name}", root / f"shared-{name}.made"
    with (root / f"shared-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def copied_home(made: Path, folder: Path) -> Path:
    """Copy a home folder with what is in its MLflow, so that also the files of versions may be changed."""
    shutil.copytree(made, folder)
    connection = sqlite3.connect(folder / "mlflow.db")
    with connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    moved = f"UPDATE {table} SET {column} = replace({column}, ?1, ?2) WHERE instr({column}, ?1) > 0"
                    connection.execute(moved, (str(made), str(folder)))
    connection.close()
    return folder


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Make a folder of a name once; see `made_once`."""
    return lambda name, make: made_once(tmp_path_factory, worker_id, name, make)


@pytest.fixture(scope="session")
def migrated(once: Once) -> Path:
    """An empty registry on SQLite."""
    from registry.store import Registry

    return once("registry", lambda folder: Registry.open(f"sqlite:///{folder / 'registry.db'}").close()) / "registry.db"


def read_migrations_once() -> None:
    """Let MLflow read its sixty migrations once in this process, and not for every database that is opened."""
    from mlflow.store.db import utils

    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)


@pytest.fixture(scope="session")
def template(once: Once) -> Path:
    """MLflow's database with nothing in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported.
        import mlflow.pyfunc
    read_migrations_once()

    def make(folder: Path) -> None:
        mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_registered_models()

    return once("mlflow", make) / "mlflow.db"


@pytest.fixture(scope="session")
def prefect_template(once: Once) -> Path:
    """Prefect's database with nothing in it; as ``home/prefect/prefect.db`` it saves a night half of its start."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        subprocess.run(command, env=clean | {"PREFECT_HOME": str(folder)}, check=True, capture_output=True)

    return once("prefect", make) / "prefect.db"


def with_prefect(home: Path, prefect_template: Path) -> Path:
    """Put Prefect's database into a home folder and return the folder."""
    (home / "prefect").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(prefect_template, home / "prefect" / "prefect.db")
    return home


@pytest.fixture(scope="session")
def served_template(once: Once, migrated: Path, template: Path) -> Path:
    """A home folder with two routers, published to MLflow and promoted."""
    from tests.fakes.served import served_home

    def make(folder: Path) -> None:
        with served_home(folder / "home", migrated, template):
            pass

    return once("served", make) / "home"


@pytest.fixture
def served(tmp_path: Path, served_template: Path) -> Iterator[object]:
    """A copy of that home folder, opened as a workspace, with an MLflow of its own."""
    from flows.config.settings import Settings
    from flows.workspace import Workspace

    home = copied_home(served_template, tmp_path / "home")
    with Workspace(Settings(home=home, embedder={"name": "hashing-256"})) as workspace:
        # Open like those of a night that is under way, before a test damages anything.
        assert workspace.publisher.aliases("uniroute") and workspace.registry.routers.list()
        yield workspace


@pytest.fixture(scope="session")
def answered_template(once: Once, migrated: Path, template: Path) -> Path:
    """A home folder after two nights with real evidence, whose second router waits for a decision."""
    from flows.config.sources import CONFIG_NAME
    from flows.workspace import Workspace
    from tests.fakes.nights import FIRST, SECOND, SETTINGS, Clock, answered_home, run_night, settings_of

    def make(folder: Path) -> None:
        clock = Clock(datetime(2024, 9, 1, 2, tzinfo=UTC))
        with answered_home(folder / "home", migrated, template) as workspace:
            run_night(workspace, FIRST, ("weak", "fair"), clock)
        clock.now += timedelta(days=30)
        (folder / CONFIG_NAME).write_text(SETTINGS.format(policy="review"))
        with Workspace(settings_of(folder / "home")) as workspace:
            run_night(workspace, SECOND, ("weak", "fair", "good"), clock)

    return once("answered", make) / "home"


@pytest.fixture(scope="session")
def contest_template(once: Once, migrated: Path, template: Path) -> Path:
    """A folder with settings and home: router version 1 serves, version 2 waits as promotion 2."""
    from tests.fakes.contest import prepare_contest

    return once("contest", lambda folder: prepare_contest(folder / "made", migrated, template)) / "made"


@pytest.fixture
def contest_folder(tmp_path: Path, contest_template: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(contest_template, tmp_path / "contest"))


@pytest.fixture
def contest(contest_folder: Path) -> Iterator[object]:
    """A copy of that folder, opened as a workspace."""
    from flows.config.loading import load_settings
    from flows.workspace import Workspace

    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        yield workspace
