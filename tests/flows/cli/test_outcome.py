"""``uniroute outcome``: what a newer grader changes, tried and done, without a call."""

import json
import re
from pathlib import Path

import pytest

from flows.graders import GRADERS
from flows.graders.choice import ChoiceGrader
from registry.store import Registry
from tests.commands import Uniroute


class LaterGrader(ChoiceGrader):
    """The same rules under a higher version."""

    version = "99"


@pytest.fixture
def answered(tmp_path: Path, answered_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder after two nights whose answers were recorded with other scores than their texts deserve."""
    import shutil

    shutil.copytree(answered_template, tmp_path / "home")
    shutil.copy(answered_template.with_name("uniroute.toml"), tmp_path / "uniroute.toml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))
    return tmp_path


def stored(folder: Path) -> int:
    with Registry.open(f"sqlite:///{folder / 'home' / 'registry.db'}") as registry:
        return len(registry.outcomes.score_moves())


def test_regrading_is_tried_done_and_then_finished(
    answered: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = uniroute("outcome", "regrade")
    assert (nothing.code, "has been graded by the present graders" in nothing.out) == (0, True)
    monkeypatch.setitem(GRADERS, "choice", LaterGrader())
    tried = uniroute("outcome", "regrade", "--dry-run", "--json")
    data = json.loads(tried.out)["data"]
    assert [one["llm"] for one in data["llms"]] == ["fake:fair", "fake:good", "fake:weak"]
    assert data["llms"][1]["after"] < data["llms"][1]["before"], "the texts answer A to every prompt"
    assert (data["is_dry_run"], data["waiting_for_judge"], stored(answered)) == (True, 0, 0)
    would = sum(one["regraded"] for one in data["llms"])
    said = uniroute("outcome", "regrade", "--dry-run").out
    assert f"{would} stored answers would be graded again, 0 would keep their grade. Nothing was stored." in said
    assert said.startswith("Would be regraded: ")
    assert re.search(r"^mean score +[01]\.\d{4}$", uniroute("llm", "show", "fake:good").out, re.MULTILINE)
    done = uniroute("outcome", "regrade")
    assert (done.code, "fake:good" in done.out, stored(answered)) == (0, True, 3)
    assert "has been graded by the present graders" in uniroute("outcome", "regrade").out


def test_during_a_night_nothing_is_regraded(
    answered: Path, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.clock import utc_now
    from tests.registry.samples import start_night

    with Registry.open(f"sqlite:///{answered / 'home' / 'registry.db'}") as registry:
        start_night(registry, "night:2099-01-01:x", now=utc_now(), lease_s=600)
        monkeypatch.setitem(GRADERS, "choice", LaterGrader())
        refused = uniroute("outcome", "regrade")
    assert refused.code == 75
    assert "a night is running" in refused.err
    assert "No grade was changed." in refused.err
    assert stored(answered) == 0
