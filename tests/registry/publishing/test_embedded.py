"""MLflow's embedded database: whole or absent, and a half-made one that an earlier version left behind."""

import sqlite3
from pathlib import Path

import pytest

from registry.errors import MlflowUnsuitable
from registry.publishing.connection import open_client, sqlite_file
from registry.publishing.embedded import is_half_made, set_aside
from tests.registry.publishing.samples import half_made


def test_a_half_made_database_is_recognised_and_refused_with_its_remedy(tmp_path: Path) -> None:
    file = half_made(tmp_path / "mlflow.db")
    with pytest.raises(MlflowUnsuitable) as refused:
        open_client(f"sqlite:///{file}")
    assert "is half made" in refused.value.message
    assert "uniroute doctor --repair" in refused.value.hint


@pytest.mark.parametrize("change", ["DELETE FROM alembic_version", "UPDATE alembic_version SET version_num = 'older'"])
def test_only_a_database_without_any_experiment_is_half_made(tmp_path: Path, template: Path, change: str) -> None:
    """One of an older MLflow is to be upgraded, not made anew: it holds what was published."""
    file = tmp_path / "mlflow.db"
    file.write_bytes(template.read_bytes())
    assert not is_half_made(file)
    with sqlite3.connect(file) as connection:
        connection.execute(change)
    assert not is_half_made(file)
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM experiments")
    connection.close()
    assert is_half_made(file)


def test_a_database_with_all_migrations_needs_only_its_experiment(tmp_path: Path, template: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(template.read_bytes())
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM experiments")
    connection.close()
    assert not is_half_made(file)
    assert open_client(f"sqlite:///{file}").get_experiment("0").name == "Default"


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00 and no more"])
def test_what_is_not_mlflows_is_not_half_made(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mlflow.db"
    assert not is_half_made(file)
    file.write_bytes(content)
    assert not is_half_made(file)


def test_half_made_databases_are_moved_aside_and_never_over_each_other(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    for number in (1, 2):
        file.write_text(str(number))
        assert set_aside(file).read_text() == str(number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db.half-made-1", "mlflow.db.half-made-2"]


def test_the_file_of_an_sqlite_url_is_the_one_that_mlflow_opens(tmp_path: Path) -> None:
    for url, file in (
        (f"sqlite:///{tmp_path}/a%20b.db", tmp_path / "a%20b.db"),
        (f"sqlite:///{tmp_path}/a.db?timeout=30", tmp_path / "a.db"),
        ("sqlite:///:memory:", None),
        ("postgresql://ann@db/mlflow", None),
        ("http://mlflow:5000", None),
    ):
        assert sqlite_file(url) == file, url
