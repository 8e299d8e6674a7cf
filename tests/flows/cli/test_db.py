"""The registry from the command line: backed up, restored, copied to a server, and pruned."""

import json
from pathlib import Path

import pytest

from flows.cli.endings import ExitCode
from registry.store import Registry
from tests.commands import Uniroute
from tests.postgres import break_in


def registry_of(home: Path) -> str:
    return f"sqlite:///{home / 'registry.db'}"


def test_a_laptops_registry_moves_to_a_server_without_losing_a_row(
    home, uniroute: Uniroute, empty_database, monkeypatch
):
    tried = uniroute("db", "copy-to", empty_database, "--dry-run", "--json").data
    assert (tried["digest_there"], tried["is_dry_run"]) == (None, True)
    moved = uniroute("db", "copy-to", empty_database, "--json").data
    assert moved["digest"] == moved["digest_there"] == tried["digest"]
    assert moved["rows"] == tried["rows"] > 50
    again = uniroute("db", "copy-to", empty_database)
    assert (again.code, again.out.count(moved["digest"])) == (ExitCode.DONE, 2)
    here = uniroute("router", "list").out
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", empty_database)
    assert uniroute("router", "list").out == here
    assert uniroute("db", "backup", "server.backup", "--json").data["digest"] == moved["digest"]


def test_a_server_with_other_rows_is_left_as_it_is(home, uniroute: Uniroute, empty_database):
    Registry.open(empty_database).close()
    break_in(empty_database, "INSERT INTO llm_price VALUES (1, 1, '2024-09-01', 'x', '1', '1', false)")
    for words in (["--dry-run"], []):
        refused = uniroute("db", "copy-to", empty_database, *words)
        assert (refused.code, "holds rows already" in refused.err) == (ExitCode.CONFIGURATION, True)
    assert break_in(empty_database, "SELECT count(*) FROM llm") == [(0,)]


def test_a_backup_is_restored_into_an_empty_home_and_nowhere_else(home, uniroute: Uniroute, tmp_path, monkeypatch):
    assert uniroute("db", "backup", "all.backup", "--dry-run").code == ExitCode.DONE
    assert not (tmp_path / "all.backup").exists()
    written = uniroute("db", "backup", "all.backup", "--json").data
    assert (written["file"], written["size_bytes"]) == ("all.backup", (tmp_path / "all.backup").stat().st_size)
    assert uniroute("db", "restore", "all.backup").code == ExitCode.CONFIGURATION, "this one is not empty"
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", f"sqlite:///{tmp_path / 'new.db'}")
    looked = uniroute("db", "restore", "all.backup", "--dry-run")
    assert (looked.code, (tmp_path / "new.db").exists()) == (ExitCode.DONE, False)
    restored = uniroute("db", "restore", "all.backup", "--json").data
    assert (restored["digest"], restored["tables"]) == (written["digest"], written["tables"])
    assert uniroute("db", "status", "--json").data["pending"] == []
    with Registry.open(registry_of(home)) as old, Registry.open(f"sqlite:///{tmp_path / 'new.db'}") as new:
        assert new.ledger.head() == old.ledger.head()


def test_a_damaged_backup_is_an_integrity_error_in_one_line(home, uniroute: Uniroute, tmp_path, monkeypatch):
    uniroute("db", "backup", "all.backup")
    content = (tmp_path / "all.backup").read_bytes()
    (tmp_path / "all.backup").write_bytes(content[: len(content) // 2])
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", f"sqlite:///{tmp_path / 'new.db'}")
    refused = uniroute("db", "restore", "all.backup", "--json")
    assert refused.code == ExitCode.INTEGRITY
    assert json.loads(refused.out)["error"]["kind"] == "integrity"
    assert "all.backup" in refused.err


def test_a_damaged_ledger_is_restored_as_it_was_and_reported(home, uniroute: Uniroute, tmp_path, monkeypatch):
    break_in(registry_of(home), "UPDATE ledger SET actor = 'eve' WHERE number = 2")
    uniroute("db", "backup", "all.backup")
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", f"sqlite:///{tmp_path / 'new.db'}")
    restored = uniroute("db", "restore", "all.backup")
    assert (restored.code, "event 2 was changed" in restored.err) == (ExitCode.INTEGRITY, True)


def test_prune_reports_first_and_then_does_what_it_reported(home, uniroute: Uniroute, monkeypatch):
    monkeypatch.setenv("UNIROUTE_RETENTION__COMPLETIONS_DAYS", "1")
    monkeypatch.setenv("UNIROUTE_RETENTION__LISTINGS_DAYS", "0")
    planned = uniroute("db", "prune", "--dry-run", "--json").data
    done = uniroute("db", "prune", "--json").data
    sizes = {"size_before_bytes", "size_after_bytes", "is_dry_run"}
    assert {key: value for key, value in planned.items() if key not in sizes} == {
        key: value for key, value in done.items() if key not in sizes
    }
    assert done["listings"] == 0, "0 days keep them forever"
    assert uniroute("db", "prune").code == ExitCode.DONE


@pytest.mark.parametrize("words", [["backup", "/nowhere/all.backup"], ["backup", "."], ["restore", "."]])
def test_files_that_cannot_be_read_or_written_are_named(home, uniroute: Uniroute, words):
    refused = uniroute("db", *words)
    assert refused.code in (ExitCode.CONFIGURATION, ExitCode.USAGE)
    assert words[1] in refused.err
