"""A newer grader grades stored answers: nothing is asked again, paid again or counted twice."""

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from sqlalchemy import text

from registry.errors import RunAlreadyActive
from registry.outcomes import MAX_COMPLETION_BYTES, GradingCost, Regrade
from registry.pruning import Retention
from routing.errors import InvalidInput
from tests.postgres import break_in
from tests.registry.samples import GRADERS, NOW, SAMPLING, TODAY, failed, freeze, know_llms, outcome, start_night

NEWER = {"choice": "2"}
LATER = NOW + timedelta(days=1)


@pytest.fixture
def asked(registry, night):
    """Key of an LLM and the six prompts it answered under choice/1: three right, three wrong."""
    a, _ = know_llms(registry, night, "a", "judge")
    prompts = freeze(registry, 6).prompts
    rows = [outcome(a, one, score=float(i < 3), usage_flags=("estimated",)) for i, one in enumerate(prompts)]
    registry.outcomes.record(night, rows)
    return a, prompts


def regrade(registry, run, a, prompts, graders=NEWER, *, score=1.0, now=LATER, **changes):
    """Grade again whatever waits; None for a score keeps the former grade."""
    (label,) = (f"choice/{version}" for version in graders.values())
    waiting = registry.outcomes.waiting(a, prompts, graders, SAMPLING)
    made = [Regrade(one, label, score if one.has_text else None, **changes) for one in waiting]
    return registry.outcomes.regrade(run, made, now=now)


def column(registry, a, prompts, graders, **options):
    return registry.outcomes.table([a], prompts, graders, SAMPLING, **options).scores[:, 0].tolist()


def test_what_an_earlier_version_scored_waits_and_is_not_asked_again(registry, night, asked):
    a, prompts = asked
    registry.outcomes.record(night, [failed(a, one, sampling="other") for one in prompts[:2]])
    assert registry.outcomes.missing(a, prompts, NEWER, SAMPLING) == ()
    waiting = registry.outcomes.waiting(a, prompts, NEWER, SAMPLING)
    assert [one.prompt for one in waiting] == list(prompts)
    assert {(one.former_grader, one.has_text) for one in waiting} == {("choice/1", True)}
    assert registry.outcomes.waiting(a, prompts, GRADERS, SAMPLING) == ()
    assert registry.outcomes.missing(a, prompts, NEWER, "other") == prompts, "calls that failed are asked again"
    assert registry.outcomes.missing(a, prompts, NEWER, "third") == prompts, "another question"


def test_regrading_changes_grades_and_nothing_that_was_measured_or_paid(registry, night, asked):
    a, prompts = asked
    before, spent = registry.outcomes.table([a], prompts, GRADERS, SAMPLING), registry.outcomes.spend(night)
    assert regrade(registry, night, a, prompts, is_unreadable=False) == 6
    after = registry.outcomes.table([a], prompts, NEWER, SAMPLING)
    assert after.scores[:, 0].tolist() == [1.0] * 6
    for name in ("input_tokens", "output_tokens", "cost_usd"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
    assert registry.outcomes.spend(night) == spent
    assert column(registry, a, prompts, GRADERS) == [1, 1, 1, 0, 0, 0], "versions made before can be computed again"
    assert registry.outcomes.completions(a, prompts, NEWER, SAMPLING) == registry.outcomes.completions(
        a, prompts, GRADERS, SAMPLING
    )
    facts = registry.outcomes.facts(a, prompts, NEWER, SAMPLING)
    assert (facts.n_scored, facts.last_at) == (6, NOW + timedelta(minutes=1)), "asked when it was asked"
    assert registry.outcomes.waiting(a, prompts, NEWER, SAMPLING) == ()
    assert registry.outcomes.missing(a, prompts, NEWER, SAMPLING) == ()


def test_a_regrade_keeps_how_usage_was_measured_and_says_whether_the_answer_was_read(registry, night, asked, url):
    a, prompts = asked
    regrade(registry, night, a, prompts, score=0.0, is_unreadable=True)
    rows = break_in(url, "SELECT usage_flags, is_unreadable, is_old_grade FROM outcome WHERE regraded_at IS NOT NULL")
    assert {tuple(map(str, row)) for row in rows} in ({("estimated", "1", "0")}, {("estimated", "True", "False")})


def test_a_table_as_it_was_does_not_know_what_was_regraded_later(registry, night, asked):
    a, prompts = asked
    regrade(registry, night, a, prompts[:2], now=LATER)
    regrade(registry, night, a, prompts, now=LATER + timedelta(days=1))
    then = column(registry, a, prompts, NEWER, until=LATER)
    assert np.isfinite(then).tolist() == [True, True, False, False, False, False]
    facts = registry.outcomes.facts(a, prompts, NEWER, SAMPLING, until=LATER)
    assert facts.n_scored == 2


def test_an_answer_whose_text_was_pruned_keeps_its_grade_and_is_flagged(registry, night, asked, url):
    a, prompts = asked
    registry.runs.finish(night, "completed", "fine", "{}", NOW)
    registry.pruning.prune(Retention(completions_days=1, listings_days=None), NOW + timedelta(days=9), actor="t")
    assert registry.outcomes.missing(a, prompts, NEWER, SAMPLING) == (), "nobody pays again because a text is gone"
    again = start_night(registry, "night:2024-09-02:abc", as_of=TODAY + timedelta(days=1), now=LATER)
    assert {one.has_text for one in registry.outcomes.waiting(a, prompts, NEWER, SAMPLING)} == {False}
    assert regrade(registry, again, a, prompts) == 6
    assert column(registry, a, prompts, NEWER) == [1, 1, 1, 0, 0, 0]
    assert registry.outcomes.old_grades(a, prompts, NEWER, SAMPLING) == {one.digest for one in prompts}
    assert registry.outcomes.old_grades(a, prompts, GRADERS, SAMPLING) == frozenset()
    (moved,) = registry.outcomes.score_moves()
    assert (moved.regraded, moved.kept, moved.change) == (0, 6, 0.0)


def test_a_text_that_is_kept_in_part_is_not_graded_again(registry, night):
    (a,) = know_llms(registry, night, "a")
    prompts = freeze(registry, 2).prompts
    long = "thinking " * MAX_COMPLETION_BYTES + "The answer is (A)."
    registry.outcomes.record(night, [outcome(a, prompts[0], completion=long), outcome(a, prompts[1])])
    waiting = registry.outcomes.waiting(a, prompts, NEWER, SAMPLING)
    assert [one.has_text for one in waiting] == [False, True]


def test_an_answer_that_the_former_grader_could_not_grade_is_graded_and_not_asked(registry, night):
    (a,) = know_llms(registry, night, "a")
    prompts = freeze(registry, 4).prompts
    kinds = ("grading", "judging", "substituted", "timeout")
    rows = [failed(a, one, failure=kind, completion="(A)") for one, kind in zip(prompts, kinds, strict=True)]
    registry.outcomes.record(night, rows)
    assert registry.outcomes.missing(a, prompts, NEWER, SAMPLING) == prompts[2:], "those are no answers of the LLM"
    assert regrade(registry, night, a, prompts) == 2
    assert column(registry, a, prompts, NEWER)[:2] == [1.0, 1.0]
    (moved,) = registry.outcomes.score_moves()
    assert (moved.regraded, moved.compared, moved.before) == (2, 0, None)


def test_of_several_grades_the_latest_is_replaced_and_the_text_is_still_found(registry, night, asked):
    a, prompts = asked
    regrade(registry, night, a, prompts, {"choice": "2"}, now=LATER)
    newest = {"choice": "3"}
    waiting = registry.outcomes.waiting(a, prompts, newest, SAMPLING)
    assert {(one.former_grader, one.has_text, one.former_score) for one in waiting} == {("choice/2", True, 1.0)}
    regrade(registry, night, a, prompts, newest, score=0.5, now=LATER + timedelta(hours=1))
    assert len(registry.outcomes.completions(a, prompts, newest, SAMPLING)) == 6
    (moved,) = registry.outcomes.score_moves(LATER)
    assert (moved.before, moved.after, moved.change) == (1.0, 0.5, -0.5)


def test_how_far_an_llm_moved_is_known(registry, night, asked):
    a, prompts = asked
    regrade(registry, night, a, prompts, score=1.0)
    (moved,) = registry.outcomes.score_moves(NOW)
    assert (moved.llm_key, moved.sampling, moved.regraded, moved.kept, moved.compared) == (a, SAMPLING, 6, 0, 6)
    assert (moved.before, moved.after, moved.change) == (0.5, 1.0, 0.5)
    assert registry.outcomes.score_moves(LATER) == ()


def test_views_count_the_newest_grade_of_an_answer_once(registry, night, asked):
    a, prompts = asked
    regrade(registry, night, a, prompts)
    with registry._database.read() as unit:
        (best,) = unit.execute(text("SELECT n_prompts, n_scored, mean_score FROM leaderboard"))
        covered = unit.execute(text("SELECT SUM(n_prompts), SUM(n_scored), SUM(n_pending) FROM coverage")).one()
    n_of_all = len(freeze(registry, 6).with_role("representative", "gate", "hidden"))
    assert tuple(best) == (n_of_all, n_of_all, 1.0)
    assert tuple(map(int, covered)) == (6, 6, 0)


def test_a_judges_grade_is_booked_with_the_row_and_the_llm_is_not_charged(registry, night, asked):
    a, prompts = asked
    judge = "router:judge"
    before = registry.outcomes.spend(night).usd_on(a)
    regrade(registry, night, a, prompts, grading=GradingCost(judge, 2, Decimal("0.01")))
    spend = registry.outcomes.spend(night)
    assert (spend.usd_on(judge), spend.usd_on(a)) == (Decimal("0.06"), before)
    assert {(one.purpose, one.calls) for one in spend.by_purpose} == {("judge", 12), ("profile", 6)}


def test_a_second_regrade_of_the_same_answers_changes_nothing(registry, night, asked):
    a, prompts = asked
    waiting = registry.outcomes.waiting(a, prompts, NEWER, SAMPLING)
    assert registry.outcomes.regrade(night, [Regrade(one, "choice/2", 1.0) for one in waiting], now=LATER) == 6
    assert registry.outcomes.regrade(night, [Regrade(one, "choice/2", 0.0) for one in waiting], now=LATER) == 0
    assert column(registry, a, prompts, NEWER) == [1.0] * 6


def test_outside_of_nights_grades_are_stored_only_while_none_is_running(registry, night, asked):
    a, prompts = asked
    with pytest.raises(RunAlreadyActive, match="a night is running") as refused:
        regrade(registry, None, a, prompts, now=NOW)
    assert refused.value.unchanged == "No grade was changed."
    registry.runs.finish(night, "completed", "fine", "{}", NOW)
    assert regrade(registry, None, a, prompts) == 6
    with pytest.raises(RunAlreadyActive, match="can write no more"):
        regrade(registry, night, a, prompts, {"choice": "3"})


def test_a_regrade_without_any_grade_is_refused(registry, night, asked):
    a, prompts = asked
    (one, *_) = registry.outcomes.waiting(a, prompts, NEWER, SAMPLING)
    with pytest.raises(InvalidInput, match="not in"):
        Regrade(one, "choice/2", 1.5)


def test_grades_are_carried_by_backups(registry, night, asked, tmp_path):
    from registry.store import Registry

    a, prompts = asked
    regrade(registry, night, a, prompts, is_unreadable=True, score=0.0)
    registry.runs.finish(night, "completed", "fine", "{}", NOW)
    registry.backups.write(tmp_path / "all.gz", NOW)
    with Registry.unmade(f"sqlite:///{tmp_path / 'copy.db'}") as copy:
        copy.backups.restore(tmp_path / "all.gz")
        assert copy.outcomes.score_moves() == registry.outcomes.score_moves()
        assert column(copy, a, prompts, NEWER) == [0.0] * 6
