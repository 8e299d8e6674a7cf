"""Faults of disks: full, read-only, a folder that must not be written to."""

import pytest

from flows.cli import main
from flows.cli.endings import ExitCode, exit_code_of
from registry.errors import RegistryError
from registry.store import Registry
from routing import ArtifactCorrupt, ArtifactError, load_router, save_router
from tests.registry.conftest import only_on_sqlite
from tests.registry.samples import NOW
from tests.routing.synthetic import random_router

SAVE_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from flows.cli.endings import report_error
from routing import save_router
from routing.errors import ArtifactError
from tests.routing.synthetic import random_router

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    save_router(random_router(seed=2, n_llms=60), Path(sys.argv[1]))
except ArtifactError as error:
    sys.exit(report_error(error, as_json=False))
"""


@pytest.mark.parametrize("free_bytes", [0, 100, 4000])
def test_f10_a_full_disk_leaves_no_half_router_and_the_old_one_whole(tmp_path, in_child, free_bytes):
    old = save_router(random_router(seed=1), tmp_path / "routers" / "old")
    child = in_child(SAVE_ON_A_FULL_DISK, tmp_path / "routers" / "new", free_bytes)
    err = child.communicate()[1]
    assert child.returncode == ExitCode.CONFIGURATION, err
    assert "File too large" in err
    assert "Free some space" in err
    assert [path.name for path in (tmp_path / "routers").iterdir()] == ["old"]
    assert load_router(tmp_path / "routers" / "old").digest == old.digest


def test_f10_what_is_in_the_place_of_a_router_is_never_overwritten(tmp_path):
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "router.json").write_text("half a router")
    with pytest.raises(ArtifactCorrupt, match="something other than router") as caught:
        save_router(random_router(), tmp_path / "router")
    assert (caught.value.hint, exit_code_of(caught.value)) == ("uniroute doctor --repair", ExitCode.INTEGRITY)
    assert (tmp_path / "router" / "router.json").read_text() == "half a router"


@only_on_sqlite
def test_f12_a_read_only_registry_is_named_and_still_read(tmp_path, registry, night, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///file:{tmp_path / 'registry.db'}?mode=ro&uri=true"
    with Registry.open(url, migrate=False) as opened:
        assert [run.key for run in opened.runs.list()] == [night.key]
        with pytest.raises(RegistryError, match="cannot be opened for writing") as caught:
            opened.ledger.append("test:row:added", "row", actor="t", now=NOW)
    assert str(tmp_path / "registry.db") in caught.value.message
    assert exit_code_of(caught.value) == ExitCode.CONFIGURATION
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".db", ".db-shm", ".db-wal"]


def test_f12_a_home_that_cannot_be_created_is_named_before_anything_starts(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    monkeypatch.setenv("UNIROUTE_HOME", str(home))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["night", "run"])
    said = capsys.readouterr().err
    assert stopped.value.code == ExitCode.CONFIGURATION
    assert str(home) in said
    assert "UNIROUTE_HOME" in said


def test_f12_a_router_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "routers").write_text("in the way")
    with pytest.raises(ArtifactError, match=str(tmp_path / "routers")) as caught:
        save_router(random_router(), tmp_path / "routers" / "one")
    assert exit_code_of(caught.value) == ExitCode.CONFIGURATION
