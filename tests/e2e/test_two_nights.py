"""Two nights on recorded answers of real LLMs, from the command line to what consumers load."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.demo import SECOND_NIGHT
from flows.config.loading import SANDBOX_COST_WEIGHT
from flows.reports.promotion.reviews import build_review, kept_review, subject_of
from flows.workspace import Workspace
from tests.e2e.conftest import PROMPTS, SHARES, Demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RELEASED_BETWEEN = {"sandbox:llama-3.1-70b-instruct", "sandbox:llama-3.1-8b-instruct", "sandbox:mathstral-7b"}
N_FIRST = 10
N_LLMS = N_FIRST + len(RELEASED_BETWEEN)


def nights(workspace: Workspace) -> list[dict]:
    return [json.loads(run.summary_json) for run in reversed(workspace.registry.runs.list())]


def test_the_first_night_asks_every_llm_released_by_then(workspace: Workspace) -> None:
    first, _ = nights(workspace)
    asked = {row["llm"]: row["calls"] for row in first["profiles"]}
    assert len(asked) == N_FIRST
    assert not RELEASED_BETWEEN & set(asked)
    assert len(set(asked.values())) == 1
    assert first["calls"] == first["plan"]["calls"] == sum(asked.values())
    assert first["router"]["map_was_fitted"]
    assert (first["router"]["version"], first["router"]["promotion"]) == (1, "promoted")


def test_the_second_night_calls_only_the_llms_that_are_new(workspace: Workspace) -> None:
    first, second = nights(workspace)
    assert {row["llm"] for row in second["profiles"]} == RELEASED_BETWEEN
    assert set(second["catalogs"][0]["new"]) == RELEASED_BETWEEN
    saved = sum(row.get("saved_calls", 0) for row in second["profiles"])
    assert second["calls"] == second["plan"]["calls"] - saved
    assert first["calls"] == N_FIRST * PROMPTS
    measuring = PROMPTS * (SHARES["gate"] + SHARES["hidden"])
    order = second["plan"]["order"]
    assert 0 < order["n_asked"] < order["n_prompts"] == PROMPTS * SHARES["representative"]
    assert second["plan"]["calls"] == len(RELEASED_BETWEEN) * (measuring + order["n_asked"]), (
        "only the LLMs of the first night label map prompts, and all representative ones"
    )
    assert not second["router"]["map_was_fitted"]
    assert second["router"]["version"] == 2


def test_the_challenger_beats_the_champion_on_gate_prompts_and_takes_its_place(workspace: Workspace) -> None:
    _, second = nights(workspace)
    gate = second["router"]["gate"]
    assert gate["passed"]
    assert all(check["passed"] for check in gate["checks"])
    metrics = gate["metrics"]
    assert metrics["area"] > metrics["champion_area"]
    assert metrics["score_difference_at_equal_cost"] > -workspace.settings.gate.epsilon
    aliases = workspace.registry.routers.aliases()
    versions = {
        name: workspace.registry.routers.get(digest).mlflow_version
        for name, digest in (("champion", aliases.champion), ("previous", aliases.previous))
    }
    assert versions == {"champion": 2, "previous": 1}


def test_mlflow_agrees_with_the_registry_and_has_one_version_a_night(workspace: Workspace) -> None:
    assert dict(workspace.publisher.aliases("uniroute")) == {"challenger": 2, "champion": 2, "previous": 1}
    found = workspace.publisher.client.search_model_versions("name='uniroute'")
    assert sorted(int(version.version) for version in found) == [1, 2]
    tags = next(version.tags for version in found if int(version.version) == 2)
    assert {"digest", "publish_key", "prompt_set", "embedder", "cluster_map", "parent", "n_llms"} <= set(tags)
    assert tags["n_llms"] == str(N_LLMS)
    run = workspace.publisher.client.get_run(next(version.run_id for version in found if int(version.version) == 2))
    assert run.data.metrics["area"] > 0
    figures = workspace.publisher.client.list_artifacts(run.info.run_id, "figures")
    assert [Path(figure.path).name for figure in figures] == ["deferral_curve.png"]


def test_the_night_leaves_the_report_of_its_promotion_in_mlflow_and_at_home(
    workspace: Workspace, tmp_path: Path
) -> None:
    promotion = workspace.registry.promotions.find("champion")
    record = workspace.registry.routers.get("champion")
    page = kept_review(workspace, promotion)
    assert page is not None and promotion.report_digest is not None
    workspace.publisher.client.download_artifacts(record.mlflow_run_id, "review.html", str(tmp_path))
    assert (tmp_path / "review.html").read_bytes() == page.read_bytes()
    review = build_review(workspace, subject_of(promotion))
    assert review.digest == promotion.report_digest, "computed again, it is the very page"
    with sqlite3.connect(workspace.home / "prefect" / "prefect.db") as prefect:
        (link,) = prefect.execute(
            "SELECT data FROM artifact WHERE key = 'promotion-report' ORDER BY created DESC LIMIT 1"
        ).fetchone()
    prefect.close()
    assert page.as_uri() in link
    assert {effect.key for effect in review.evidence.effects} == RELEASED_BETWEEN
    assert len(review.html.encode()) < 2_000_000 and len(review.markdown.encode()) < 60_000


def test_spend_is_what_the_recorded_calls_would_have_cost(workspace: Workspace) -> None:
    for night, run in zip(nights(workspace), reversed(workspace.registry.runs.list()), strict=True):
        spend = workspace.registry.outcomes.spend(run)
        assert float(spend.total_usd) == pytest.approx(night["spent_usd"], abs=1e-9)
        assert spend.calls == night["calls"]
        assert night["spent_usd"] < night["plan"]["worst_usd"]


def test_the_ledger_holds_both_promotions_and_verifies(workspace: Workspace) -> None:
    assert workspace.registry.ledger.verify().is_intact
    applied = [event for event in workspace.registry.ledger.events() if event.event == "router:promotion:applied"]
    assert len(applied) == 2


def test_the_demo_says_plainly_that_the_answers_are_recorded(demo: Demo) -> None:
    assert "RECORDED answers" in demo.output
    assert "no LLM is called" in demo.output
    further = ("uniroute route", "uniroute report promotion champion --open", "mlflow ui", "deferral_curve.png")
    for promised in ("champion", "challenger", "QNC", "runner-up", *further, "Your own endpoint in five steps"):
        assert promised in demo.output


def test_a_night_run_again_asks_nothing_and_publishes_nothing(at_demo: Callable[..., str]) -> None:
    out = json.loads(at_demo("night", "run", "--as-of", SECOND_NIGHT, "--json").splitlines()[-1])["data"]
    assert out["calls"] == 0
    assert out["router"]["is_unchanged"]
    assert out["router"]["version"] == 2
    assert [row["version"] for row in json.loads(at_demo("router", "list", "--json"))["data"]] == [2, 1]


def test_a_plan_calls_nothing(at_demo: Callable[..., str]) -> None:
    out = json.loads(at_demo("night", "run", "--as-of", "2024-08-02", "--plan", "--json").splitlines()[-1])["data"]
    assert out["is_plan_only"]
    assert out["plan"]["calls"] == 0
    assert out["router"] is None


def test_the_command_line_routes_and_gives_its_reasons(at_demo: Callable[..., str]) -> None:
    text = "Which planet is the largest?"
    best = json.loads(at_demo("route", text, "--cost-weight", "0", "--json"))["data"]
    cheap = json.loads(at_demo("route", text, "--cost-weight", "1e9", "--json"))["data"]
    assert best["expected_score"] >= cheap["expected_score"]
    assert best["expected_cost_usd"] > cheap["expected_cost_usd"]
    assert best["router_version"] == 2
    only = json.loads(at_demo("route", text, "--candidates", "yi-6b-chat", "--json"))["data"]
    assert only["llm"] == "sandbox:yi-6b-chat"
    assert only["runner_up"] is None
    old = json.loads(at_demo("route", text, "--router", "1", "--json"))["data"]
    assert old["router_version"] == 1
    assert old["llm"] not in RELEASED_BETWEEN
    assert "runner-up" in at_demo("route", text)
    at_demo("route", text, "--candidates", "nobody", expect=2)


def test_llms_and_routers_are_listed_and_shown(at_demo: Callable[..., str]) -> None:
    llms = json.loads(at_demo("llm", "list", "--json"))["data"]
    assert len(llms) == N_LLMS
    assert all(row["is_routable"] and row["mean_score"] > 0 for row in llms)
    shown = json.loads(at_demo("llm", "show", "llama-3.1-70b-instruct", "--json"))["data"]
    assert shown["price_history"][0]["input_usd_per_mtok"] == 0.88
    router = json.loads(at_demo("router", "show", "--json"))["data"]
    assert len(router["llms"]) == N_LLMS
    assert router["cost_weight"] == SANDBOX_COST_WEIGHT
    assert "sandbox:llama-3.1-70b-instruct" in at_demo("router", "show")
    assert "completed" in at_demo("night", "list")
    assert "up to date" in at_demo("db", "status")


def test_consumers_load_the_champion_where_this_repository_is_not(demo: Demo, tmp_path: Path) -> None:
    blocker = tmp_path / "site"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('routing', 'registry', 'flows', 'sql'):\n"
        "            raise ImportError(name + ' is out of reach here')\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    script = (
        "import json, mlflow, pandas\n"
        "try:\n    import routing\n    raise SystemExit('the repository is in reach')\nexcept ImportError:\n    pass\n"
        "loaded = mlflow.pyfunc.load_model('models:/uniroute@champion')\n"
        "prompts = pandas.DataFrame({'prompt': ['Which planet is the largest?', 'What is 2 + 2?']})\n"
        "params = {'cost_weight': 0.0, 'candidates': ['sandbox:gpt-4o-2024-05-13', 'sandbox:yi-6b-chat']}\n"
        "print(json.dumps(loaded.predict(prompts, params=params).to_dict('records')))\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIROUTE_")}
    environment |= {
        "PYTHONPATH": str(blocker),
        "MLFLOW_TRACKING_URI": f"sqlite:///{demo.home / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert [row["llm"] for row in rows] == ["sandbox:gpt-4o-2024-05-13"] * 2
    assert all(row["router_version"] == "uniroute/2" for row in rows)
    assert all(0 < row["expected_score"] <= 1 and row["expected_cost_usd"] > 0 for row in rows)
