"""Faults of the registry's database: concurrent writers, locks, half migrations, damage, full disks."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

import sql
from flows.checks.doctor import examine
from flows.cli.endings import ExitCode, exit_code_of
from flows.config.settings import Settings
from flows.findings import worst
from flows.workspace import Workspace
from registry.db.tables import llm
from registry.errors import RegistryBusy, RegistryCorrupt, RegistryError, SchemaMismatch
from registry.runs import Run
from registry.store import Registry
from routing.errors import InvalidInput
from tests.fakes.served import clock
from tests.postgres import break_in, tables_of
from tests.registry.conftest import only_on_sqlite
from tests.registry.samples import GRADERS, NOW, SAMPLING, freeze, know_llms, outcome, prompts, start_night

HEAD = sql.migrations()[-1].revision
COUNT_UP = """
import sys
from sqlalchemy import select
from registry.store import Registry
from registry.db.tables import llm
with Registry.open(sys.argv[1]) as registry:
    for _ in range(100):
        with registry.unit() as unit:
            seen = unit.execute(select(llm.c.context_tokens)).scalar_one()
            unit.execute(llm.update().values(context_tokens=seen + 1))
"""
RECORD = """
import sys
from registry.store import Registry
from tests.registry.samples import freeze, outcome
with Registry.open(sys.argv[1]) as registry:
    night = registry.runs.latest()
    for one in freeze(registry).prompts[:: int(sys.argv[2])]:
        registry.outcomes.record(night, [outcome("router:a", one)])
"""
ASKED = prompts(1)[0]
SECOND_MIGRATION = """
import sqlalchemy as sa
from alembic import op
revision = "9001"
down_revision = "{head}"
def upgrade():
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("{second}")
"""


@pytest.fixture
def own_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations that a test may change."""
    folder = tmp_path / "migrations"
    shutil.copytree(sql.migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sql, "migrations_folder", lambda: folder)
    return folder / "versions"


def test_f15_concurrent_writers_lose_no_update(registry, night, url, in_child):
    """Four processes read one number and write it back one higher, a hundred times each."""
    know_llms(registry, night, "a")
    with registry.unit() as unit:
        unit.execute(llm.update().values(context_tokens=0))
    children = [in_child(COUNT_UP, url) for _ in range(4)]
    assert [(child.communicate()[1], child.returncode) for child in children] == [("", 0)] * 4
    assert registry.llms.get("router:a").context_tokens == 400


def test_two_profiles_at_once_record_and_book_every_answer_once(registry, night, url, in_child):
    """Two processes of one night record the same ten answers, one by one and in opposite order."""
    know_llms(registry, night, "a")
    asked = freeze(registry).prompts
    children = [in_child(RECORD, url, order) for order in ("1", "-1")]
    assert [(child.communicate()[1], child.returncode) for child in children] == [("", 0)] * 2
    spent = registry.outcomes.spend(night)
    assert (spent.calls, spent.total_usd) == (10, 10 * outcome("router:a", asked[0]).cost_usd)
    table = registry.outcomes.table(["router:a"], asked, GRADERS, SAMPLING)
    assert table.scores.tolist() == [[1.0]] * 10


def test_f16_a_database_that_stays_locked_is_busy_and_keeps_what_it_had(registry, night, url):
    with Registry.open(url, busy_timeout_s=0.05) as impatient, registry.unit():
        with pytest.raises(RegistryBusy) as caught:
            know_llms(impatient, night, "a")
        assert registry.llms.all() == (), "reading still works, and nothing of the write is stored"
    assert exit_code_of(caught.value) == ExitCode.TRY_LATER
    know_llms(registry, night, "a")
    assert len(registry.llms.all()) == 1


def test_f17_a_migration_that_fails_halfway_leaves_the_schema_and_every_row(url, own_migrations):
    with Registry.open(url) as registry:
        know_llms(registry, start_night(registry), "a")
    before = tables_of(url)
    file = own_migrations / "9001_second.py"
    file.write_text(SECOND_MIGRATION.format(head=HEAD, second="UPDATE nowhere SET id = 1"))
    with pytest.raises(RegistryError, match="nowhere"):
        Registry.open(url)
    assert tables_of(url) == before
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().pending == ("9001",)
    file.write_text(SECOND_MIGRATION.format(head=HEAD, second="INSERT INTO half VALUES (1)"))
    for _ in range(2):
        with Registry.open(url) as registry:
            assert registry.schema_status().current == "9001"
            assert [one.llm_id for one in registry.llms.all()] == ["a"]
    assert break_in(url, "SELECT count(*) FROM half") == [(1,)], "applied once"


def test_f18_a_migration_edited_after_it_was_applied_is_refused(url, own_migrations):
    file = own_migrations / "9001_second.py"
    file.write_text(SECOND_MIGRATION.format(head=HEAD, second="INSERT INTO half VALUES (1)"))
    with Registry.open(url) as registry:
        registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
    file.write_text(file.read_text() + "# a harmless remark\n")
    with Registry.open(url, migrate=False) as registry:
        with pytest.raises(SchemaMismatch, match=r"9001_second was edited") as caught:
            registry.ledger.append("test:row:added", "row", actor="t", now=NOW)
        assert registry.ledger.count() == 1, "reading still works"
    with pytest.raises(SchemaMismatch, match=r"9001_second was edited"):
        Registry.open(url)
    assert exit_code_of(caught.value) == ExitCode.CONFIGURATION


def test_f19_a_registry_newer_than_the_code_is_read_and_never_written(url):
    with Registry.open(url) as registry:
        know_llms(registry, start_night(registry), "a")
    break_in(url, "UPDATE uniroute_alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="schema 9999") as caught:
        Registry.open(url)
    assert exit_code_of(caught.value) == ExitCode.CONFIGURATION
    with Registry.open(url, migrate=False) as registry:
        assert registry.schema_status().is_newer
        assert len(registry.llms.all()) == 1
        with pytest.raises(SchemaMismatch, match="schema 9999"):
            freeze(registry)


@pytest.mark.parametrize("content", [b"this is a text" * 300, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_f21_a_file_that_is_not_a_database_is_named_and_never_replaced(tmp_path, content):
    file = tmp_path / "registry.db"
    file.write_bytes(content)
    with pytest.raises(RegistryCorrupt) as caught:
        Registry.open(f"sqlite:///{file}")
    assert str(file) in caught.value.message
    assert "backup" in caught.value.hint
    assert exit_code_of(caught.value) == ExitCode.INTEGRITY
    with Workspace(Settings(home=tmp_path), migrate=False) as workspace:
        assert worst(examine(workspace, repair=True, clock=clock)) == "damaged"
    assert file.read_bytes() == content


@only_on_sqlite
def test_f21_a_damaged_page_is_found_by_the_doctor(registry, night, tmp_path):
    know_llms(registry, night, *(f"llm-{number}" for number in range(200)))
    registry.close()
    file = tmp_path / "registry.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'llm'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 12 : (page - 1) * size + 60] = b"\xff" * 48
    file.write_bytes(content)
    with Workspace(Settings(home=tmp_path), migrate=False) as workspace:
        (found,) = (one for one in examine(workspace, repair=False, clock=clock) if one.subject == "registry")
    assert (found.severity, "backup" in found.next_step) == ("damaged", True)


def test_f23_no_connection_lets_a_parent_go_while_it_has_children(registry, night, url):
    know_llms(registry, night, "a")
    for opened in (registry, Registry.open(url)):
        with pytest.raises(RegistryError, match="rule of the registry"), opened.unit() as unit:
            unit.execute(text("DELETE FROM run"))
    opened.close()
    assert registry.damages() == ()


@given(
    field=st.sampled_from(["score", "latency_s", "input_tokens"]),
    bad=st.floats(max_value=-1e-9) | st.sampled_from([float("nan"), float("inf")]),
)
def test_f24_no_outcome_holds_an_invalid_number(field, bad):
    with pytest.raises(InvalidInput):
        outcome("router:a", ASKED, **{field: bad})


@pytest.mark.parametrize("score", ["'Infinity'", "'-Infinity'", "1.5", "-0.1", "'NaN'"])
def test_f24_what_slips_past_the_code_is_refused_by_the_table(registry, night, score):
    asked = freeze(registry).prompts[0]
    know_llms(registry, night, "a")
    registry.outcomes.record(night, [outcome("router:a", asked)])
    with pytest.raises(RegistryError, match="rule of the registry"), registry.unit() as unit:
        unit.execute(text(f"UPDATE outcome SET score = {score}"))
    with registry.unit() as unit:
        assert unit.execute(text("SELECT score FROM outcome")).scalar_one() == 1


@only_on_sqlite
def test_f09_a_full_disk_stops_the_write_whole_and_the_registry_stays_sound(registry, night: Run, tmp_path):
    prompt_set = freeze(registry, 200)
    know_llms(registry, night, "a")
    rows = [outcome("router:a", one, completion="long " * 500) for one in prompt_set.prompts]
    database = registry._database
    with pytest.raises(RegistryError, match=r"disk .* is full") as caught, registry.unit() as unit:
        pages = unit.exec_driver_sql("PRAGMA page_count").scalar()
        unit.exec_driver_sql(f"PRAGMA max_page_count = {pages + 3}")
        registry.outcomes.record(night, rows, unit=unit)
    assert caught.value.hint == "free some space"
    with database.read() as unit:
        assert unit.execute(text("SELECT count(*) FROM outcome")).scalar_one() == 0
    registry.close()
    with Workspace(Settings(home=tmp_path), migrate=False) as workspace:
        assert worst(examine(workspace, repair=False, clock=clock)) == "ok"
        assert workspace.registry.outcomes.record(night, rows) == 200, "once there is space again the night continues"
