import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from registry.db.database import Database, append_only
from registry.db.tables import lease, metadata
from registry.db.urls import parse_registry_url
from registry.errors import NotFound, RegistryBusy, RegistryCorrupt, RegistryError
from registry.store import Registry
from routing.errors import InvalidInput
from tests.registry.conftest import only_on_sqlite
from tests.registry.samples import NOW

ROOT = Path(__file__).resolve().parents[3]

APPEND = """
import sys
from datetime import UTC, datetime
from registry.store import Registry
with Registry.open(sys.argv[1]) as registry:
    for number in range(int(sys.argv[2])):
        registry.ledger.append("test:row:added", "row", actor="p", now=datetime.now(UTC))
"""


def in_child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env={**os.environ, "TZ": "Asia/Tokyo"},
    )


def test_f15_read_modify_write_of_four_processes_loses_nothing(url):
    """Each event reads the last one and writes the next; the file is fresh, so the four also race to create it."""
    children = [in_child(APPEND, url, "100") for _ in range(4)]
    assert [(child.communicate()[1], child.returncode) for child in children] == [(b"", 0)] * 4
    with Registry.open(url) as registry:
        check = registry.ledger.verify()
    assert (check.is_intact, check.n_events) == (True, 400)


def test_threads_write_and_read_at_once(registry):
    errors = []

    def write():
        try:
            for _ in range(25):
                registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
                registry.ledger.events(limit=3)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert registry.ledger.verify().n_events == 100


def test_f16_a_locked_database_is_busy_and_unchanged(registry, url):
    with Registry.open(url, busy_timeout_s=0.05) as impatient:
        with registry.unit():
            with pytest.raises(RegistryBusy, match="stayed locked longer than"):
                impatient.ledger.append("test:row:added", "row", actor="t", now=NOW)
            assert impatient.ledger.count() == 0, "readers do not wait for the writer"
        impatient.ledger.append("test:row:added", "row", actor="t", now=NOW)
        assert impatient.ledger.count() == 1


def test_a_unit_that_fails_leaves_nothing(registry):
    with pytest.raises(RuntimeError, match="stop"), registry.unit() as unit:
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW, unit=unit)
        raise RuntimeError("stop")
    assert registry.ledger.count() == 0


def test_a_unit_joins_several_repositories(registry):
    with registry.unit() as unit:
        registry.ledger.append("test:row:added", "one", actor="t", now=NOW, unit=unit)
        registry.ledger.append("test:row:added", "two", actor="t", now=NOW, unit=unit)
        assert [event.subject for event in registry.ledger.events(unit=unit)] == ["one", "two"]
        assert registry.ledger.count() == 0, "others see nothing before the commit"
    assert registry.ledger.count() == 2


def test_a_forgotten_unit_is_an_error_and_not_a_deadlock(registry):
    with registry.unit(), pytest.raises(RegistryError, match="already open in this thread"):
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW)


def test_f23_foreign_keys_are_enforced_on_every_connection(registry):
    with pytest.raises(RegistryError, match="rule of the registry"), registry.unit() as unit:
        unit.execute(lease.insert().values(name="x", number=1, run_id=4711))


def test_f24_what_validation_misses_the_table_refuses(registry):
    with pytest.raises(RegistryError, match="rule of the registry"), registry.unit() as unit:
        columns = "run_id, llm_id, purpose, calls, cost_picousd, reserved_picousd"
        unit.execute(text(f"INSERT INTO charge ({columns}) VALUES (1, 1, 'x', -1, 0, 0)"))


def test_values_refused_by_a_column_keep_their_error(registry):
    with pytest.raises(InvalidInput, match="no time zone"):
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW.replace(tzinfo=None))
    assert registry.ledger.count() == 0


@only_on_sqlite
@pytest.mark.parametrize("content", [b"this is not a database" * 200, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_f21_a_file_that_is_not_a_database_is_refused_and_left_alone(url, tmp_path, content):
    file = tmp_path / "registry.db"
    file.write_bytes(content)
    with pytest.raises(RegistryCorrupt) as caught:
        Registry.open(url)
    assert str(file) in caught.value.message
    assert caught.value.hint
    assert file.read_bytes() == content


@only_on_sqlite
def test_f09_a_full_disk_leaves_nothing_partial(registry, night):
    database = registry._database
    with pytest.raises(RegistryError, match="is full"), database.write() as unit:
        pages = unit.exec_driver_sql("PRAGMA page_count").scalar()
        unit.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for number in range(2000):
            registry.ledger.append("test:row:added", f"row {number}", actor="t", now=NOW, unit=unit)
    assert registry.ledger.count() == 0
    with database.read() as unit:
        assert unit.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


@only_on_sqlite
def test_a_missing_file_is_not_created_by_looking(url, tmp_path):
    with pytest.raises(NotFound, match="there is no registry at"):
        Registry.open(url, migrate=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://user@host/db", "cannot be read|not supported"),
        ("oracle://user@host/db", "not supported|cannot be read"),
        ("sqlite://", "cannot be kept in memory"),
        ("sqlite:///:memory:", "cannot be kept in memory"),
    ],
)
def test_urls_that_cannot_hold_a_registry_are_refused(url, said):
    with pytest.raises(RegistryError, match=said) as caught:
        Registry.open(url)
    assert caught.value.hint


def test_a_folder_is_not_a_registry(tmp_path):
    with pytest.raises(RegistryError, match="is a folder"):
        Registry.open(f"sqlite:///{tmp_path}")


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RegistryError, match="cannot be created"):
        Registry.open(f"sqlite:///{tmp_path / 'file' / 'registry.db'}")


def test_the_password_is_never_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(RegistryError, match=r"driver for .*psycopg") as caught:
        Registry.open("postgresql://night:s3cret@localhost/uniroute")
    assert "s3cret" not in caught.value.message
    assert caught.value.hint == "pip install psycopg"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://night:s3cret@host/db",
        "postgres://night:s3cret@host/db",
        "postgresql+asyncpg://host/db?user=night&password=s3cret&sslpassword=s3cret",
    ],
)
def test_every_postgresql_driver_becomes_the_installed_one(url):
    assert parse_registry_url(url).drivername == "postgresql+psycopg", "one driver is installed, whatever others use"


def test_the_tracer_sees_every_statement(url):
    seen = []
    with Registry.open(url, tracer=lambda statement, parameters: seen.append((statement, parameters))) as registry:
        seen.clear()
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
    first, *rest = [statement.split()[0] for statement, _ in seen]
    assert first in ("BEGIN", "SET")
    assert rest == ["SELECT", "INSERT", "INSERT"]
    assert any("test:row:added" in str(parameters) for _, parameters in seen)


def test_f13_a_forked_child_opens_its_own_connection(registry):
    registry.ledger.append("test:row:added", "parent", actor="t", now=NOW)
    child = os.fork()
    if child == 0:
        try:
            registry.ledger.append("test:row:added", "child", actor="t", now=NOW)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert [event.subject for event in registry.ledger.events()] == ["parent", "child"]


def test_append_only_is_written_for_both_dialects():
    on_sqlite = append_only("ledger", is_sqlite=True)
    on_postgresql = append_only("ledger", is_sqlite=False)
    assert all("RAISE(ABORT" in statement for statement in on_sqlite)
    assert any("TRUNCATE" in statement for statement in on_postgresql)


def test_upserts_are_written_for_postgresql():
    database = Database.__new__(Database)
    database.is_sqlite = False
    statement = database.upsert(lease, where=lease.c.number > 0, keep=[lease.c.host])
    written = str(statement.compile(dialect=postgresql.dialect()))
    assert "ON CONFLICT (name) DO UPDATE SET" in written
    assert "host = excluded.host" not in written
    assert "WHERE lease.number >" in written


def test_an_upsert_replaces_the_row_of_the_same_key(registry):
    database = registry._database
    with database.write() as unit:
        for number in (1, 2):
            unit.execute(database.upsert(lease), {"name": "x", "number": number})
        unit.execute(database.upsert(lease, where=lease.c.number < 2), {"name": "x", "number": 3})
        unit.execute(database.upsert(lease, keep=[lease.c.number]), {"name": "x", "number": 4, "host": "h"})
        assert unit.execute(select(lease.c.number, lease.c.host)).all() == [(2, "h")]


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_table_compiles_for_postgresql(table):
    assert str(CreateTable(table).compile(dialect=postgresql.dialect())).strip().startswith("CREATE TABLE")
