"""The champion under newer grades: it is no challenger of itself, and spends nothing of the gate's error level."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from flows.config.loading import load_settings
from flows.gate.alpha_spending import REGRADED
from flows.gate.answers import Answers
from flows.gate.evidence import is_regraded_champion
from flows.graders import GRADERS
from flows.graders.choice import ChoiceGrader
from flows.promotion import decisions
from flows.versions.store import load_version
from flows.workspace import Workspace
from registry.clock import utc_now
from registry.db.tables import llm, outcome
from tests.fakes.contest import ANN, BOB, clock, digest_of, run_again
from tests.faults.asked_night import THIRD

FOURTH = "2024-09-04"


class StrictGrader(ChoiceGrader):
    """A later version, for which every answer that settles on A is wrong."""

    version = "99"

    def grade(self, *given):
        graded = super().grade(*given)
        return graded if "(A)" not in given[0] else type(graded)(0.0)


def spending_of(workspace: Workspace, promotion_id: int) -> dict:
    return json.loads(workspace.registry.promotions.get(promotion_id).gate.details_json)["spending"]


def test_a_night_that_only_regrades_the_champion_tests_no_challenger(
    contest_folder: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = contest_folder / "uniroute.toml"
    with Workspace(load_settings(settings)) as workspace:
        decisions.approve(workspace, 2, by=BOB, reason="looks right", clock=clock)
        champion = digest_of(workspace, "champion")
    monkeypatch.setitem(GRADERS, "choice", StrictGrader())
    made = run_again(contest_folder, migrated, THIRD)
    assert (made.is_unchanged, made.gate.spending, made.promotion) == (False, REGRADED, "waiting for review")
    assert made.gate.champion.score == pytest.approx(made.gate.challenger.score, abs=0.05), "both under the new grades"
    (check,) = [one for one in made.gate.checks if one.name.startswith("score at the champion's cost")]
    assert "the champion itself under newer grades, which spends nothing" in check.value
    with Workspace(load_settings(settings)) as workspace:
        assert workspace.registry.promotions.tested_against(champion) == ()
        again = decisions.request(workspace, "challenger", by=ANN, reason="", clock=clock, is_dry_run=True)
        assert json.loads(again.promotion.gate.details_json)["spending"]["ordinal"] == 0
        decisions.approve(workspace, 3, by=BOB, reason="graded again", clock=clock)
        assert digest_of(workspace, "champion") == made.digest
    assert run_again(contest_folder, migrated, FOURTH).is_unchanged, "grades move a router once"


def test_a_challenger_with_another_llm_or_price_is_tested_although_grades_moved(
    contest_folder: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GRADERS, "choice", StrictGrader())
    made = run_again(contest_folder, migrated, THIRD)
    assert made.gate.spending.ordinal == 2, "the champion is still the first router, without good"
    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        champion = load_version(workspace, digest_of(workspace, "champion"))
        answers = Answers.of_version(workspace.registry, made.digest, champion.digest)
        assert answers.graders == {"choice": "choice/99"}
        vectors = {llm.key: llm.vector for llm in load_version(workspace, made.digest).llms}
        regraded = replace(champion, llms=tuple(replace(llm, vector=vectors[llm.key]) for llm in champion.llms))
        assert is_regraded_champion(answers, regraded, champion)
        first, *others = regraded.llms
        dearer = replace(regraded, llms=(replace(first, input_usd_per_mtok=9.0), *others))
        assert not is_regraded_champion(answers, dearer, champion)
        assert not is_regraded_champion(answers, champion, champion)


def test_verdicts_on_unreadable_answers_of_the_champion_make_no_challenger_either(contest_folder: Path) -> None:
    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        registry = workspace.registry
        champion = load_version(workspace, digest_of(workspace, "champion"))
        answers = Answers.of_version(registry, champion.digest, None)
        first, *others = champion.llms
        vector = replace(first.vector, errors=first.vector.errors * 0.5)
        moved = replace(champion, llms=(replace(first, vector=vector), *others))
        assert not is_regraded_champion(answers, moved, champion)
        of_first = outcome.c.llm_id == select(llm.c.id).where(llm.c.key == first.key).scalar_subquery()
        verdict = {"is_unreadable": True, "judged_by": "judge/2", "judged_at": utc_now()}
        with registry._database.write() as unit:
            unit.execute(update(outcome).where(of_first, outcome.c.score == 0).values(verdict))
        assert is_regraded_champion(answers, moved, champion)
