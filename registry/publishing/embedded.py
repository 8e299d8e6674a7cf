"""MLflow's embedded database: made beside its place and moved there whole, so that a kill never leaves half of one.

MLflow makes it by dozens of migrations, which SQLite commits one statement at a time. Killed between two of them, it
would begin again with the first, fail with a duplicate column, and never open the database again.
"""

from __future__ import annotations

import fcntl
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from registry.errors import MlflowUnsuitable

REPAIR = "uniroute doctor --repair"
_ARTIFACTS = "./mlruns"
"""Where MLflow's client puts the artifacts of its own default experiment, which no night uses."""


def make_if_missing(file: Path) -> None:
    """Make MLflow's database if there is none; other processes wait for the one that makes it.

    Parameters
    ----------
    file
        Its place. A process that is killed leaves nothing there; what it left beside is made anew by the next.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    if not _is_absent(file):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_absent(file):
            _make(file)


def require_whole(file: Path) -> None:
    """Refuse a half-made database: MLflow would fail at every use, each time with another table's name.

    Raises
    ------
    MlflowUnsuitable
        If an earlier version, or MLflow itself, was killed while it made the database in its place.
    """
    if is_half_made(file):
        raise MlflowUnsuitable(
            f"MLflow's database {file} is half made: a process was killed while it made it",
            unchanged="Nothing was ever published there; what is served and the registry are as they were.",
            hint=REPAIR,
        )


def is_half_made(file: Path) -> bool:
    """Whether a database has only some of MLflow's tables or columns, and nothing was ever kept in it.

    A database of an older MLflow also lacks columns, but has an experiment: MLflow adds its own when all else is made.

    Parameters
    ----------
    file
        An SQLite database; one that is missing, empty or of something else is not half made.
    """
    if _is_absent(file):
        return False
    try:
        applied = _applied_revisions(file)
    except sqlite3.DatabaseError:  # locked or damaged: MLflow itself says so
        return False
    if applied is None:
        return False
    from mlflow.store.db.utils import _get_latest_schema_revision

    return applied != [_get_latest_schema_revision()]


def _applied_revisions(file: Path) -> list[str] | None:
    """Return the revision of a database of MLflow in which nothing was kept yet; None for any other database."""
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables & {"experiments", "alembic_version"}:
            return None
        if "experiments" in tables and connection.execute("SELECT count(*) FROM experiments").fetchone() != (0,):
            return None
        if "alembic_version" not in tables:
            return []
        return [revision for (revision,) in connection.execute("SELECT version_num FROM alembic_version")]


def set_aside(file: Path) -> Path:
    """Move a half-made database out of the way, so that the next use of MLflow makes a whole one.

    Parameters
    ----------
    file
        The database.

    Returns
    -------
    Path
        Where it is now; nothing is deleted.
    """
    aside = next(
        place
        for number in range(1, 10_000)
        if not (place := file.with_name(f"{file.name}.half-made-{number}")).exists()
    )
    _remove_journal(file)
    return file.rename(aside)


def _is_absent(file: Path) -> bool:
    """Whether there is no database; SQLite makes an empty file when it is only opened."""
    return not file.exists() or file.stat().st_size == 0


def _make(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    making = file.with_name(f"{file.name}.making")
    _remove(making)
    store = SqlAlchemyStore(f"sqlite:///{making}", _ARTIFACTS)
    # MLflow keeps its connections for ever, and this one would know the database by a name that is gone.
    SqlAlchemyStore._engine_map.pop(store.db_uri, None)
    store.engine.dispose()
    _remove_journal(file)
    making.replace(file)


def _remove(database: Path) -> None:
    with suppress(FileNotFoundError):
        database.unlink()
    _remove_journal(database)


def _remove_journal(database: Path) -> None:
    """Remove the journal of a killed writer: SQLite would apply it to any database that takes this name."""
    with suppress(FileNotFoundError):
        database.with_name(f"{database.name}-journal").unlink()
