import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

import sql
from registry.db.tables import VERSION_TABLE, metadata
from registry.errors import RegistryError, SchemaMismatch
from registry.store import Registry
from tests.postgres import break_in, driver_of, tables_of
from tests.registry.samples import NOW, start_night

HEAD = sql.migrations()[-1].revision

BREAKS_HALFWAY = '''
"""Breaks after its first table."""
import sqlalchemy as sa
from alembic import op
revision = "9001"
down_revision = "{head}"
def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    {second}
'''


@pytest.fixture
def own_migrations(tmp_path, monkeypatch) -> Path:
    """A copy of the migrations that a test may change."""
    folder = tmp_path / "migrations"
    shutil.copytree(sql.migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sql, "migrations_folder", lambda: folder)
    return folder


def test_a_fresh_registry_has_every_table_and_view(url):
    with Registry.open(url) as registry:
        status = registry.schema_status()
    assert status.is_current
    assert (status.current, status.head, status.pending) == (HEAD, HEAD, ())
    views = {"leaderboard", "spend", "coverage", "router_lineage"}
    assert tables_of(url) == set(metadata.tables) | views | {VERSION_TABLE}


def test_the_migrations_create_the_tables_of_the_code(registry):
    with registry._database.read() as unit:
        context = MigrationContext.configure(unit, opts={"compare_type": True, "version_table": VERSION_TABLE})
        differences = [one for one in compare_metadata(context, metadata) if one[0] != "remove_table"]
    assert differences == []


def test_the_migrations_create_the_constraints_of_the_code(registry, url, tmp_path, request):
    if url.startswith("sqlite"):
        direct = f"sqlite:///{tmp_path / 'direct.db'}"
    else:
        direct = request.getfixturevalue("empty_database")
    engine = create_engine(make_url(direct).set(drivername=driver_of(direct)), poolclass=NullPool)
    metadata.create_all(engine)

    def constraints(inspector):
        return {
            name: (
                sorted((check["name"], check["sqltext"]) for check in inspector.get_check_constraints(name)),
                sorted(str(unique["name"]) for unique in inspector.get_unique_constraints(name)),
                sorted(str(index["name"]) for index in inspector.get_indexes(name)),
                # Not by name: SQLAlchemy reads none of a key that SQLite was given with its column.
                sorted((key["constrained_columns"], key["referred_table"]) for key in inspector.get_foreign_keys(name)),
            )
            for name in metadata.tables
        }

    assert constraints(inspect(registry._database.engine)) == constraints(inspect(engine))
    engine.dispose()


def test_opening_again_writes_nothing(url):
    Registry.open(url).close()
    seen = []
    Registry.open(url, tracer=lambda statement, _: seen.append(statement.split()[0])).close()
    assert seen
    assert set(seen) <= {"BEGIN", "SET", "SELECT", "PRAGMA", "SHOW", "show"}


def test_f17_a_migration_that_fails_halfway_leaves_nothing_and_applies_later(url, own_migrations):
    with Registry.open(url) as registry:
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
    before = tables_of(url)
    file = own_migrations / "versions" / "9001_breaks.py"
    file.write_text(BREAKS_HALFWAY.format(head=HEAD, second='op.execute("INSERT INTO nowhere VALUES (1)")'))
    with pytest.raises(RegistryError, match="nowhere"):
        Registry.open(url)
    assert tables_of(url) == before
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().pending == ("9001",)
    file.write_text(BREAKS_HALFWAY.format(head=HEAD, second="pass"))
    with Registry.open(url) as registry:
        assert registry.schema_status().current == "9001"
        assert registry.ledger.count() == 1
    assert tables_of(url) == before | {"half"}


def test_a_first_migration_that_fails_leaves_an_empty_file(url, own_migrations):
    (own_migrations / "versions" / "9001_breaks.py").write_text(
        BREAKS_HALFWAY.format(head=HEAD, second='raise ValueError("halfway")')
    )
    with pytest.raises(ValueError, match="halfway"):
        Registry.open(url)
    assert tables_of(url) == set()


def test_a_migration_that_orphans_rows_is_rolled_back(url, own_migrations):
    with Registry.open(url) as registry:
        start_night(registry)
    (own_migrations / "versions" / "9001_orphans.py").write_text(
        BREAKS_HALFWAY.format(head=HEAD, second='op.execute("DELETE FROM run")')
    )
    before = tables_of(url)
    cause = "1 row without a parent" if url.startswith("sqlite") else "rule of the registry"
    with pytest.raises(RegistryError, match=cause):
        Registry.open(url)
    assert tables_of(url) == before
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().pending == ("9001",)


def test_f18_an_edited_migration_is_refused(url, own_migrations):
    Registry.open(url).close()
    first = sorted((own_migrations / "versions").glob("0001*.py"))[0]
    first.write_text(first.read_text() + "\n# a later thought\n")
    with pytest.raises(SchemaMismatch, match="was edited after it was applied"):
        Registry.open(url)
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().changed == (first.stem,)
        assert registry.ledger.count() == 0
        with pytest.raises(SchemaMismatch, match="was edited"):
            registry.ledger.append("test:row:added", "row", actor="t", now=NOW)


def test_f19_a_newer_registry_may_be_read_and_not_written(url):
    with Registry.open(url) as registry:
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
        with registry.unit() as unit:
            unit.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="has schema 9999") as caught:
        Registry.open(url)
    assert "install the newer version" in caught.value.hint
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().is_newer
        assert registry.ledger.count() == 1
        with pytest.raises(SchemaMismatch, match="has schema 9999"):
            registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
        with pytest.raises(SchemaMismatch, match="has schema 9999"):
            registry.migrate()


def test_f20_an_older_registry_reports_what_is_pending_and_migrates_on_request(url, own_migrations):
    Registry.open(url).close()
    (own_migrations / "versions" / "9001_adds.py").write_text(BREAKS_HALFWAY.format(head=HEAD, second="pass"))
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().pending == ("9001",)
        with pytest.raises(SchemaMismatch, match="lacks 1 migration,") as caught:
            registry.ledger.count()
        assert caught.value.hint == "uniroute db migrate"
        assert registry.migrate().is_current
        assert registry.ledger.count() == 0


def test_the_database_of_another_application_is_refused_and_left_alone(url):
    break_in(url, "CREATE TABLE run (uuid TEXT)")
    with pytest.raises(SchemaMismatch, match="belongs to another application"):
        Registry.open(url)
    assert tables_of(url) == {"run"}


def test_a_changed_view_is_renewed_and_a_dropped_one_disappears(url, monkeypatch):
    Registry.open(url).close()
    kept = [one for one in sql.views() if one.name != "coverage"]
    changed = [sql.SchemaFile(one.name, "SELECT 1 AS n") if one.name == "spend" else one for one in kept]
    monkeypatch.setattr(sql, "views", lambda: tuple(changed))
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().stale_views == ("spend",)
    with Registry.open(url) as registry, registry._database.read() as unit:
        assert unit.exec_driver_sql("SELECT n FROM spend").scalar() == 1
    assert "coverage" not in tables_of(url)


def test_the_ledger_is_guarded_by_the_database_itself(registry, night):
    registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
    for statement in ("UPDATE ledger SET actor = 'x'", "DELETE FROM ledger"):
        with pytest.raises(RegistryError, match="append-only"), registry.unit() as unit:
            unit.exec_driver_sql(statement)
    assert registry.ledger.count() == 1
