"""What ``uniroute doctor`` finds, what it says to type, and what ``--repair`` repairs."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.checks import doctor
from flows.checks.doctor import examine
from flows.cli import main
from flows.config.settings import Settings
from flows.findings import Finding, worst
from flows.night.cancel import cancel_night
from flows.versions.mlflow_sync import sync_mlflow
from flows.versions.store import router_folder
from flows.workspace import Workspace
from registry import clock as registry_clock
from registry.publishing.embedded import is_half_made
from tests.fakes.served import clock
from tests.postgres import PostgresServer, empty
from tests.registry.publishing.samples import half_made
from tests.registry.samples import NOW, start_night


def look(workspace: Workspace, *, repair: bool = False) -> dict[str, Finding]:
    return {check.subject: check for check in examine(workspace, repair=repair, clock=clock)}


def bad(workspace: Workspace, *, repair: bool = False) -> dict[str, str]:
    return {name: check.severity for name, check in look(workspace, repair=repair).items() if check.severity != "ok"}


def champion_folder(workspace: Workspace) -> Path:
    return router_folder(workspace, str(workspace.registry.routers.aliases().champion))


def test_an_intact_home_is_ok_and_nothing_is_written(served: Workspace) -> None:
    before = served.registry.ledger.count()
    checks = look(served)
    assert [check.severity for check in checks.values()] == ["ok"] * 11
    assert not any(check.next_step for check in checks.values())
    assert served.registry.ledger.count() == before


def test_a_changed_router_file_is_damage_and_comes_back_from_mlflow(served: Workspace) -> None:
    folder = champion_folder(served)
    whole = (folder / "arrays.npz").read_bytes()
    (folder / "arrays.npz").write_bytes(whole[:-1] + b"x")
    name = f"router {folder.name[:12]}"
    assert bad(served) == {name: "damaged"}
    assert look(served)[name].next_step == "uniroute doctor --repair"
    assert bad(served, repair=True) == {}
    assert (folder / "arrays.npz").read_bytes() == whole
    assert (folder.with_name(f"{folder.name}.damaged-1") / "arrays.npz").read_bytes() == whole[:-1] + b"x"


def test_a_damaged_router_that_mlflow_does_not_have_is_left_where_it_is(served: Workspace) -> None:
    folder = champion_folder(served)
    (folder / "router.json").unlink()
    shutil.rmtree(served.home / "mlflow-artifacts")
    found = bad(served, repair=True)
    assert found[f"router {folder.name[:12]}"] == "damaged"
    assert (folder / "arrays.npz").exists()


def test_a_router_folder_that_is_gone_is_copied_from_mlflow(served: Workspace) -> None:
    folder = champion_folder(served)
    shutil.rmtree(folder)
    assert bad(served) == {f"router {folder.name[:12]}": "attention"}
    assert bad(served, repair=True) == {}
    assert folder.is_dir()


def test_foreign_files_beside_a_router_are_named(served: Workspace) -> None:
    (champion_folder(served) / "extra.pkl").write_text("?")
    check = look(served)["router files"]
    assert (check.severity, "extra.pkl" in check.next_step) == ("attention", True)


def test_a_version_deleted_in_mlflow_is_published_again_with_its_aliases(served: Workspace) -> None:
    served.publisher.client.delete_model_version("uniroute", "2")
    assert served.publisher.aliases("uniroute") == {"previous": 1}, "MLflow deletes the aliases too"
    assert bad(served) == {"mlflow version 2": "damaged", "aliases": "damaged"}
    assert bad(served, repair=True) == {}
    assert served.publisher.aliases("uniroute") == {"champion": 3, "challenger": 3, "previous": 1}
    assert served.registry.routers.get("champion").mlflow_version == 3
    assert [one.event for one in served.registry.ledger.events(event="router:version:v")] == ["router:version:vanished"]
    assert bad(served) == {}


def test_a_version_changed_in_mlflow_is_damage(served: Workspace) -> None:
    for path in (served.home / "mlflow-artifacts").rglob("arrays.npz"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert bad(served) == {"mlflow version 1": "damaged", "mlflow version 2": "damaged"}
    assert "delete version 2 in MLflow" in look(served)["mlflow version 2"].next_step


def test_what_waits_in_the_outbox_is_delivered(served: Workspace) -> None:
    served.registry.promotions.rollback(actor="me", reason="worse", now=NOW)
    assert bad(served) == {"outbox": "attention"}, "a move that waits is no drift"
    assert bad(served, repair=True) == {}
    assert served.publisher.aliases("uniroute") == {"champion": 1, "challenger": 2, "previous": 2}


def test_a_lease_without_a_heartbeat_is_reported(served: Workspace) -> None:
    start_night(served.registry, "night:2024-09-02:abc")
    assert bad(served) == {}
    later = examine(served, repair=False, clock=lambda: NOW + timedelta(hours=1))
    (lease,) = (check for check in later if check.subject == "lease")
    assert (lease.severity, lease.next_step.startswith("uniroute night run")) == ("attention", True)


def test_a_changed_ledger_and_a_lost_parent_are_damage(served: Workspace) -> None:
    with sqlite3.connect(served.home / "registry.db") as connection:
        connection.execute("DROP TRIGGER ledger_refuses_update")
        connection.execute("UPDATE ledger SET actor = 'nobody' WHERE number = 2")
        connection.execute("DELETE FROM catalog_fetch")
    connection.close()
    assert bad(served) == {"registry": "damaged", "ledger": "damaged"}
    assert "event 2 was changed" in look(served)["ledger"].text


def test_a_promotion_that_is_not_what_the_ledger_says_is_damage(served: Workspace) -> None:
    with sqlite3.connect(served.home / "registry.db") as connection:
        connection.execute("UPDATE promotion SET decided_by = 'eve' WHERE id = 2")
    connection.close()
    assert bad(served) == {"promotions": "damaged"}
    found = look(served)["promotions"]
    assert "decided by is eve; the ledger says night" in found.text
    assert "uniroute audit verify" in found.next_step


def test_a_ledger_shortened_together_with_its_note_lacks_the_head_that_mlflow_noted(served: Workspace) -> None:
    served.registry.ledger.append("test:row:added", "row", actor="me", now=NOW)
    sync_mlflow(served, clock)
    with sqlite3.connect(served.home / "registry.db") as connection:
        connection.execute("DROP TRIGGER ledger_refuses_delete")
        connection.execute("DELETE FROM ledger WHERE number = (SELECT MAX(number) FROM ledger)")
        last = connection.execute("SELECT number, hash FROM ledger ORDER BY number DESC").fetchone()
        connection.execute("UPDATE ledger_head SET number = ?, hash = ?", last)
    connection.close()
    assert bad(served) == {"ledger in mlflow": "damaged"}
    assert "MLflow's tags of uniroute is no longer part of the chain" in look(served)["ledger in mlflow"].text


def test_an_unknown_alias_is_reported(served: Workspace) -> None:
    served.publisher.client.set_registered_model_alias("uniroute", "staging", "1")
    assert bad(served) == {"other aliases": "attention"}
    assert "staging" in look(served)["other aliases"].text
    assert bad(served, repair=True) == {"other aliases": "attention"}, "it may be somebody's on purpose"


def test_a_champion_without_all_of_its_llms_is_reported(served: Workspace) -> None:
    served.registry.llms.set_status("sandbox:strong", "withdrawn", "gone", actor="me", now=NOW)
    assert bad(served) == {"champion": "attention"}
    assert look(served)["champion"].next_step.startswith("uniroute night run")


def test_a_registry_that_is_no_database_is_damage_and_nothing_else_is_looked_at(served: Workspace) -> None:
    served.registry.close()
    for name in ("registry.db-wal", "registry.db-shm"):
        (served.home / name).unlink(missing_ok=True)
    (served.home / "registry.db").write_bytes(b"no database at all" * 500)
    with Workspace(served.settings, migrate=False) as workspace:
        assert bad(workspace) == {"registry": "damaged"}
        assert list(look(workspace)) == ["disk", "registry"]
        assert "uniroute db restore" in look(workspace)["registry"].next_step


def test_mlflow_that_cannot_be_read_is_reported_and_the_rest_is_checked(served: Workspace) -> None:
    (served.home / "mlflow.db").write_bytes(b"no database at all" * 100)
    served.__dict__.pop("publisher")
    found = bad(served)
    assert found == {"mlflow": "unreachable"}
    assert "champion" in look(served)


def test_mlflow_that_is_gone_or_half_made_is_reported_and_published_again_on_request(served: Workspace) -> None:
    file = served.home / "mlflow.db"
    file.unlink()
    shutil.rmtree(served.home / "mlflow-artifacts")
    served.__dict__.pop("publisher")
    assert bad(served) == {"mlflow": "damaged"}
    assert not file.exists()
    half_made(file)
    assert bad(served) == {"mlflow database": "damaged"}
    assert look(served)["mlflow database"].next_step == "uniroute doctor --repair"
    # A process of its own, as it is in life: MLflow keeps the connection to the file that is gone.
    command = [Path(sys.executable).with_name("uniroute"), "doctor", "--repair"]
    environment = os.environ | {"UNIROUTE_HOME": str(served.home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {one.mlflow_version for one in served.registry.routers.list()} == {1, 2}
    assert not is_half_made(file)
    assert is_half_made(file.with_name("mlflow.db.half-made-1"))


def test_a_schema_that_is_behind_is_updated_on_request(served: Workspace) -> None:
    with sqlite3.connect(served.home / "registry.db") as connection:
        connection.execute("DROP VIEW spend")
        connection.execute("DELETE FROM schema_file WHERE name = 'spend'")
    connection.close()
    assert look(served)["schema"].next_step == "uniroute db migrate"
    assert bad(served, repair=True) == {}
    with sqlite3.connect(served.home / "registry.db") as connection:
        connection.execute("UPDATE uniroute_alembic_version SET version_num = '9999'")
    connection.close()
    assert bad(served, repair=True) == {"schema": "refused"}


def test_a_full_disk_is_reported_in_time(served: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    assert bad(served) == {"disk": "attention"}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *arguments])
    return int(stopped.value.code or 0)


@pytest.fixture
def at_home(served: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(served.home)
    monkeypatch.setenv("UNIROUTE_HOME", str(served.home))
    return served.home


def test_the_command_prints_one_line_per_check_and_the_repair(
    at_home: Path, served: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    assert capsys.readouterr().out.count("\n") == 11
    served.publisher.set_alias("uniroute", "champion", 1)
    assert run() == 5
    said = capsys.readouterr().out
    assert "damaged  aliases           champion points to version 1, it should be version 2\n" in said
    assert "next: uniroute doctor --repair\n" in said
    assert run("--repair", "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["verdict"], data["is_repaired"]) == ("ok", True)
    assert run() == 0


def test_the_command_creates_nothing_where_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "none"))
    assert run() == 0
    assert "uniroute night run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_worst_finding_decides() -> None:
    found = [Finding("a", status, "") for status in ("ok", "attention", "damaged", "unreachable")]
    assert worst(tuple(found)) == "damaged"
    assert worst(()) == "ok"


@pytest.mark.parametrize("skew", [timedelta(hours=2), timedelta(hours=-2)])
def test_the_lease_is_judged_by_the_servers_clock_and_not_by_the_one_here(
    postgres: PostgresServer,
    migrated_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    skew: timedelta,
) -> None:
    def here() -> datetime:
        return datetime.now(UTC) + skew

    empty(postgres, migrated_database)
    settings = Settings(home=tmp_path, registry={"url": migrated_database})
    with Workspace(settings, migrate=False) as workspace:
        night = start_night(workspace.registry, now=datetime.now(UTC))
        monkeypatch.setattr(registry_clock, "machine_time", here)
        found = {check.subject: check.severity for check in examine(workspace, repair=False, clock=here)}
        assert found["lease"] == "ok"
        asked = cancel_night(workspace.registry, "latest", "why", actor="me", now=here(), is_dry_run=True)
        assert asked.run_key == night.key, "a night that runs can be stopped from there"
        workspace.registry.runs.finish(night, "completed", "fine", "{}", here())
        start_night(workspace.registry, "night:silent", now=here() - timedelta(hours=1))
        found = {check.subject: check.severity for check in examine(workspace, repair=False, clock=here)}
        assert found["lease"] == "attention", "it ended an hour ago, whatever the clock here says"
