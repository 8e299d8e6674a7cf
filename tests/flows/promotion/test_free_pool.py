"""A pool in which every LLM is free: routed by score, ties by key; no figure sets score against a cost of zero."""

import math
import re
from pathlib import Path

import pytest

from flows.versions.store import load_version
from flows.workspace import Workspace
from tests.commands import Uniroute
from tests.fakes.nights import FIRST, SECOND, Clock, answered_home, run_night, settings_of
from tests.homes import Once


@pytest.fixture(scope="module")
def free_home(once: Once, migrated: Path, template: Path) -> Path:
    """A home after two nights with free LLMs only; a better one came in the second."""

    def make(folder: Path) -> None:
        clock = Clock()
        with answered_home(folder / "home", migrated, template) as workspace:
            first = run_night(workspace, FIRST, ("weak", "fair"), clock, are_free=True)
            assert first.promotion.startswith("promoted"), first
        with Workspace(settings_of(folder / "home")) as workspace:
            run_night(workspace, SECOND, ("weak", "fair", "good"), clock, are_free=True)

    return once("free", make)


@pytest.fixture
def free(free_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(free_home)
    monkeypatch.setenv("UNIROUTE_CONFIG", str(free_home / "uniroute.toml"))
    return free_home


def test_the_best_llm_is_chosen_and_its_cost_is_a_known_zero(free: Path) -> None:
    with Workspace(settings_of(free / "home")) as workspace:
        record = workspace.registry.routers.get("champion")
        router = load_version(workspace, record.digest)
        prompts = [prompt.text for prompt in workspace.prompt_set.prompts]
        decisions = router.route(workspace.embedder.embed(prompts))
        best = [router.keys[column] for column in decisions.llm_index]
    assert router.keys == ("fake:fair", "fake:good", "fake:weak")
    assert set(best) == {"fake:good"}
    assert record.metrics["cost_usd_per_1k"] == 0
    assert not {"area", "qnc", "qnc_reached", "aiq", "champion_area"} & set(record.metrics)
    assert all(math.isfinite(value) for value in record.metrics.values())


def test_no_command_and_no_report_shows_a_number_that_is_none(free: Path, uniroute: Uniroute, tmp_path: Path) -> None:
    shown = [
        uniroute(*words).out
        for words in (
            ["router", "list"],
            ["router", "show", "champion"],
            ["llm", "list"],
            ["promotion", "show", "2"],
            ["route", "Question 3 about lakes?"],
        )
    ]
    for number, words in enumerate((["leaderboard"], ["promotion", "1"], ["promotion", "2"])):
        for form in ("html", "markdown"):
            out = tmp_path / f"{number}.{form}"
            assert uniroute("report", *words, "--format", form, "--out", str(out)).code == 0
            shown.append(out.read_text())
    assert all(shown)
    for text in shown:
        assert not re.search(r"\b(nan|inf|-inf|NaN)\b", text), text
    assert "never as good as the champion" not in shown[-1]
    assert uniroute("audit", "verify").code == 0
