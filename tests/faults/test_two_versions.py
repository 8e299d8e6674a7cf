"""Two deployments of different versions on one registry: the older one is refused, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

import sql
from flows.cli import main
from registry.errors import RunAlreadyActive, SchemaMismatch
from registry.store import Registry
from tests.faults.conftest import ROOT
from tests.registry.conftest import only_on_sqlite
from tests.registry.samples import NOW, freeze, know_llms, outcome, start_night

ADDED = '''"""A column that only newer code fills."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9000", "{head}", None, None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("machine", sa.String(100), server_default="", nullable=False))
'''
LATEST = sql.migrations()[-1].revision

Newer = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def newer(tmp_path: Path, url: str) -> Newer:
    """Run a command of a newer code tree, which has one migration more, on the registry."""
    tree = tmp_path / "newer"
    shutil.copytree(ROOT / "sql", tree / "sql", ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "sql" / "migrations" / "versions" / "9000_machine.py").write_text(ADDED.format(head=LATEST))
    surroundings = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(tree), str(ROOT))),
        "UNIROUTE_REGISTRY__URL": url,
        "UNIROUTE_HOME": str(tmp_path / "home"),
    }

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", "from flows.cli import main; main()", *words]
        return subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)

    return run


@pytest.fixture
def older(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Newer:
    """Run a command of this code tree on the same registry."""
    monkeypatch.setenv("UNIROUTE_REGISTRY__URL", url)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, stopped.value.code, said.out, said.err)

    return run


@pytest.fixture
def fresh(url: str) -> str:
    """The URL of a registry of its own at the schema of this code: the shared one must not be migrated further."""
    Registry.open(url).close()
    return url


def test_newer_code_does_not_migrate_during_a_night_of_older_code(fresh: str, newer: Newer, older: Newer):
    with Registry.open(fresh) as registry:
        held = start_night(registry, now=datetime.now(UTC), host="worker-7", pid=41)
        (key,) = know_llms(registry, held, "a")
        asked = freeze(registry).prompts
        registry.outcomes.record(held, [outcome(key, asked[0])])
        waiting = newer("llm", "list", "--json")
        assert waiting.returncode == 75, waiting.stderr
        error = json.loads(waiting.stdout)["error"]
        assert (error["kind"], error["unchanged"]) == ("busy", "Nothing was migrated.")
        assert "a night is running on worker-7 (process 41)" in error["message"]
        assert "its lease ends at" in error["hint"]
        # The night of the older code continues as if nothing had happened.
        registry.outcomes.record(held, [outcome(key, asked[1])])
        registry.runs.finish(held, "completed", "fine", "{}", NOW)

    migrated = newer("llm", "list", "--json")
    assert migrated.returncode == 0, migrated.stderr
    assert len(json.loads(migrated.stdout)["data"]) == 1
    for words in (["night", "run"], ["llm", "list"], ["promotion", "list"], ["db", "migrate"], ["db", "prune"]):
        refused = older(*words)
        assert refused.returncode == 78, words
        assert f"has schema 9000; this version of uniroute knows up to {LATEST}" in refused.stderr
        assert "install the newer version of uniroute" in refused.stderr
    refused = older("db", "backup", "elsewhere")
    assert (refused.returncode, "install the newer version" in refused.stderr) == (78, True)
    refused = older("config", "validate", "--connect", "--json")
    parts = {row["part"]: row["is_fine"] for row in json.loads(refused.stdout)["data"]["parts"]}
    assert (refused.returncode, parts["registry"]) == (78, False)
    with Registry.open(fresh, migrate=False) as registry:
        assert registry.outcomes.spend(held).calls == 2, "nothing was lost"
        assert registry.ledger.verify().is_intact


def test_a_night_that_slept_while_newer_code_migrated_can_no_longer_write(fresh: str, newer: Newer):
    with Registry.open(fresh) as registry:
        long_ago = start_night(registry)
        (key,) = know_llms(registry, long_ago, "a")
        asked = freeze(registry).prompts
        migrated = newer("db", "migrate")
        assert migrated.returncode == 0, migrated.stderr
        with pytest.raises(RunAlreadyActive, match="can write no more"):
            registry.outcomes.record(long_ago, [outcome(key, asked[0])])
        with pytest.raises(RunAlreadyActive, match="can write no more"):
            registry.runs.heartbeat(long_ago, NOW)
    with pytest.raises(SchemaMismatch):
        Registry.open(fresh)


@only_on_sqlite
def test_older_code_with_an_older_grader_does_not_ask_everything_again(registry: Registry, older: Newer):
    held = start_night(registry)
    (key,) = know_llms(registry, held, "a")
    asked = freeze(registry).prompts
    registry.outcomes.record(held, [outcome(key, asked[0], grader="choice/3")])
    registry.runs.finish(held, "completed", "fine", "{}", NOW)
    refused = older("night", "run")
    assert refused.returncode == 78
    assert "grades with choice/2, but" in refused.stderr
    assert "already has scores of choice/3" in refused.stderr
    assert "Nothing was called." in refused.stderr
    assert len(registry.runs.list()) == 1
