"""Nights that cannot continue: refused in one line, and nothing half-made stays behind."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.workspace import Workspace
from tests.e2e.conftest import UNIROUTE

pytestmark = [pytest.mark.slow]


def written(folder: Path, catalog: str, base_url: str) -> Path:
    prompts = [
        {"prompt_id": f"p{n}", "text": f"question {n}", "reference": "ABCD"[n % 4], "grader": "choice"}
        for n in range(200)
    ]
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in prompts))
    (folder / "catalog.json").write_text(catalog)
    config = folder / "uniroute.toml"
    config.write_text(
        'home = "home"\n[embedder]\nname = "hashing-256"\n[prompts]\nfile = "prompts.jsonl"\n'
        '[[catalog]]\nname = "mine"\nkind = "openrouter"\nlocation = "catalog.json"\nendpoint = "here"\n'
        f'[[endpoint]]\nname = "here"\nbase_url = "{base_url}"\nmax_attempts = 1\n'
    )
    return config


@pytest.fixture(scope="module")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let the nights here share Prefect's own database: making it takes longer than they do."""
    return tmp_path_factory.mktemp("prefect")


def night(config: Path, prefect_home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
    environment["PREFECT_HOME"] = str(prefect_home)
    return subprocess.run(
        [UNIROUTE, "night", "run", "--config", config, *options],
        env=environment,
        cwd=config.parent,
        capture_output=True,
        text=True,
        timeout=200,
    )


GOOD = {
    "id": "good",
    "name": "Good",
    "created": 1700000000,
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
}


def test_an_endpoint_that_is_down_ends_the_night_and_counts_nobody_as_wrong(tmp_path: Path, prefect_home: Path) -> None:
    config = written(tmp_path, json.dumps({"data": [GOOD]}), "http://127.0.0.1:9/v1")
    done = night(config, prefect_home)
    assert done.returncode == 75, done.stderr
    error = next(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "endpoint here" in error
    assert "The registry and the champion stay as they are." in error
    assert "Traceback" not in done.stderr
    with Workspace(load_settings(config)) as workspace:
        assert workspace.registry.routers.list() == ()
        assert workspace.registry.runs.list()[0].status == "failed"
        assert all(row.mean_score is None for row in workspace.registry.leaderboard())


def test_one_bad_row_is_quarantined_and_a_malformed_catalog_is_refused(tmp_path: Path, prefect_home: Path) -> None:
    bad = {"id": "bad\nid", "pricing": "free?"}
    config = written(tmp_path, json.dumps({"data": [GOOD, bad]}), "http://127.0.0.1:9/v1")
    planned = night(config, prefect_home, "--plan", "--json")
    assert planned.returncode in (0, 3), planned.stderr
    data = json.loads(planned.stdout.splitlines()[-1])["data"]
    assert [row["llm"] for row in data["plan"]["llms"]] == ["here:good"]
    (tmp_path / "catalog.json").write_text("<html>")
    refused = night(config, prefect_home, "--plan")
    assert refused.returncode == 78, refused.stderr
    assert "mine" in next(line for line in refused.stderr.splitlines() if line.startswith("error: "))
