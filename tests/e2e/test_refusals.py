"""Nights that cannot continue: refused in one line, and nothing half-made stays behind."""

import json
from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.workspace import Workspace
from tests.commands import Uniroute
from tests.fakes.plain import without_prefect
from tests.faults.tiny_night import ForkedCommand
from tests.homes import with_prefect

GOOD = {
    "id": "good",
    "name": "Good",
    "created": 1700000000,
    "pricing": {"prompt": "0.000001", "completion": "0.000002"},
}


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


@pytest.mark.slow
def test_an_endpoint_that_is_down_ends_the_night_and_counts_no_answer_as_wrong(
    tmp_path: Path, prefect_template: Path
) -> None:
    """Under Prefect, which wants to report the exception of a flow in its own way."""
    config = written(tmp_path, json.dumps({"data": [GOOD]}), "http://127.0.0.1:9/v1")
    with_prefect(tmp_path / "home", prefect_template)
    prefect = str(tmp_path / "home" / "prefect")
    ended = ForkedCommand.start(tmp_path, "night", "run", "--config", str(config), PREFECT_HOME=prefect).end()
    assert ended.code == 75, ended.err
    error = next(line for line in ended.err.splitlines() if line.startswith("error: "))
    assert "endpoint here" in error
    assert "The registry and the champion stay as they are." in error
    assert "Traceback" not in ended.err
    with Workspace(load_settings(config)) as workspace:
        assert workspace.registry.routers.list() == ()
        assert workspace.registry.runs.list()[0].status == "failed"
        assert all(row.mean_score is None for row in workspace.registry.leaderboard())


def test_one_bad_row_is_quarantined_and_a_malformed_catalog_is_refused(
    tmp_path: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"id": "bad\nid", "pricing": "free?"}
    config = written(tmp_path, json.dumps({"data": [GOOD, bad]}), "http://127.0.0.1:9/v1")
    without_prefect(monkeypatch.setattr)
    planned = uniroute("night", "run", "--config", str(config), "--plan", "--json")
    assert planned.code in (0, 3), planned.err
    data = json.loads(planned.out.splitlines()[-1])["data"]
    assert [row["llm"] for row in data["plan"]["llms"]] == ["here:good"]
    (tmp_path / "catalog.json").write_text("<html>")
    refused = uniroute("night", "run", "--config", str(config), "--plan")
    assert refused.code == 78, refused.err
    assert "mine" in next(line for line in refused.err.splitlines() if line.startswith("error: "))
