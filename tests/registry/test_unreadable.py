"""Answers in which nothing could be read: counted, looked at, and decided by a judge once and for good."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text

from registry.errors import RegistryError, RunAlreadyActive
from registry.outcomes import GradingCost, Readability, Regrade, UnreadableAnswer, Verdict
from registry.prompts import RoleShares
from registry.pruning import Retention
from routing.errors import InvalidInput
from tests.registry.samples import GRADERS, NOW, SAMPLING, know_llms, outcome, prompts, start_night

LATER = NOW + timedelta(days=1)
NEWER = {"choice": "2"}
JUDGE = "judge/2.0a1b2c3d.router:judge"


@pytest.fixture
def asked(registry, night):
    """Key of an LLM and its six prompts: two answers read, three unreadable ones, and one of which it is unknown."""
    a, _ = know_llms(registry, night, "a", "judge")
    frozen = registry.prompts.freeze("core", prompts(6), RoleShares(map=0, representative=1, gate=0, hidden=0))
    known = (False, True, True, False, True, None)
    rows = [
        outcome(a, one, score=float(is_unreadable is False), is_unreadable=is_unreadable, completion=f"text {number}")
        for number, (one, is_unreadable) in enumerate(zip(frozen.prompts, known, strict=True))
    ]
    registry.outcomes.record(night, rows)
    return a, frozen


def undecided(registry, a, frozen, graders=GRADERS):
    return registry.outcomes.undecided(a, frozen.prompts, graders, SAMPLING)


def decide(registry, run, verdicts, **changes):
    made = [Verdict(answer, JUDGE, score, **changes) for answer, score in verdicts]
    return registry.outcomes.decide(run, made, now=LATER)


def column(registry, a, frozen, graders=GRADERS, **options):
    return registry.outcomes.table([a], frozen.prompts, graders, SAMPLING, **options).scores[:, 0].tolist()


def read(registry, a, frozen, graders=GRADERS, **options) -> Readability:
    return registry.outcomes.readability([a], frozen.prompts, graders, SAMPLING, **options)[a]


def test_what_is_unknown_is_not_counted_as_readable(registry, asked):
    a, frozen = asked
    found = read(registry, a, frozen)
    assert found == Readability(n_scored=6, n_known=5, n_unreadable=3, n_judged=0)
    assert (found.share, found.doubtful_share) == (0.6, 0.6)
    assert registry.outcomes.readability([a, "router:none"], frozen.prompts, GRADERS, "other") == {
        a: Readability(),
        "router:none": Readability(),
    }
    assert Readability(n_scored=9).share is None
    (row,) = registry.leaderboard(frozen.digest)
    assert row.readability == found


def test_a_verdict_is_the_score_and_what_was_before_can_still_be_computed(registry, night, asked):
    a, frozen = asked
    waiting = undecided(registry, a, frozen)
    assert [answer.prompt for answer in waiting] == [frozen.prompts[at] for at in (1, 2, 4)]
    cost = GradingCost("router:judge", 2, Decimal("0.01"))
    assert decide(registry, night, zip(waiting[:2], (1.0, 0.0), strict=True), grading=cost) == 2
    assert column(registry, a, frozen) == [1, 1, 0, 1, 0, 0]
    before = [1, 0, 0, 1, 0, 0]
    assert column(registry, a, frozen, is_undecided=True) == before
    assert column(registry, a, frozen, until=LATER - timedelta(seconds=1)) == before
    assert column(registry, a, frozen, until=LATER) == [1, 1, 0, 1, 0, 0]
    assert read(registry, a, frozen) == Readability(6, 5, 3, 2)
    assert read(registry, a, frozen, until=LATER - timedelta(seconds=1)) == Readability(6, 5, 3, 0)
    assert registry.leaderboard(frozen.digest)[0].readability == Readability(6, 5, 3, 2)
    assert [answer.prompt for answer in undecided(registry, a, frozen)] == [frozen.prompts[4]]
    (judging,) = [one for one in registry.outcomes.spend(night).by_purpose if one.purpose == "judge"]
    assert (judging.calls, judging.cost_usd) == (4, Decimal("0.02"))
    assert registry.outcomes.judged_since(NOW) == {(a, SAMPLING)}
    assert registry.outcomes.judged_since(LATER) == frozenset()


def test_the_first_verdict_stays_and_only_the_night_may_give_it(registry, night, asked):
    a, frozen = asked
    waiting = undecided(registry, a, frozen)
    assert decide(registry, night, [(waiting[0], 1.0)]) == 1
    assert decide(registry, night, [(waiting[0], 0.0)]) == 0
    assert column(registry, a, frozen)[1] == 1.0
    start_night(registry, "night:other", holder_is_gone=lambda _: True)
    with pytest.raises(RunAlreadyActive):
        decide(registry, night, [(waiting[1], 1.0)])
    with pytest.raises(InvalidInput, match=r"not in \[0, 1\]"):
        Verdict(waiting[1], JUDGE, 1.5)


def test_only_whole_answers_that_no_judge_grades_wait_for_one(registry, night, asked):
    a, frozen = asked
    again = [outcome(a, one, sampling="other", score=0.0, is_unreadable=True) for one in frozen.prompts]
    again[0] = outcome(a, frozen.prompts[0], sampling="other", score=0.0, is_unreadable=True, completion="x" * 20_000)
    again[1] = outcome(a, frozen.prompts[1], sampling="other", score=0.0, is_unreadable=True, grader="judge/1")
    registry.outcomes.record(night, again)
    waiting = registry.outcomes.undecided(a, frozen.prompts, GRADERS | {"judge": "1"}, "other")
    assert [answer.prompt for answer in waiting] == list(frozen.prompts[2:])
    registry.pruning.prune(Retention(1, None), NOW + timedelta(days=9), actor="t")
    assert undecided(registry, a, frozen) == ()


@pytest.mark.parametrize(
    ("is_unreadable", "scores", "judged"),
    [(True, [1, 1, 0, 1, 0, 0], 2), (False, [1, 0, 0, 1, 0, 0], 0), (None, [1, 0, 0, 1, 0, 0], 0)],
    ids=["still unreadable", "read", "unknown"],
)
def test_a_newer_grader_keeps_verdicts_on_what_it_cannot_read_either(
    registry, night, asked, is_unreadable, scores, judged
):
    a, frozen = asked
    decide(registry, night, zip(undecided(registry, a, frozen)[:2], (1.0, 0.0), strict=True))
    waiting = registry.outcomes.waiting(a, frozen.prompts, NEWER, SAMPLING)
    assert [one.is_judged for one in waiting] == [False, True, True, False, False, False]
    made = [
        Regrade(one, "choice/2", float(at in (0, 3)), is_unreadable=is_unreadable if at in (1, 2) else False)
        for at, one in enumerate(waiting)
    ]
    registry.outcomes.regrade(night, made, now=LATER + timedelta(days=1))
    assert column(registry, a, frozen, NEWER) == scores
    assert read(registry, a, frozen, NEWER).n_judged == judged
    assert column(registry, a, frozen) == [1, 1, 0, 1, 0, 0], "versions made before can be computed again"


def test_answers_are_shown_with_their_prompts_those_in_doubt_first(registry, night, asked):
    a, frozen = asked
    decide(registry, night, [(undecided(registry, a, frozen)[0], 1.0)])
    found = registry.outcomes.unreadable(a, frozen.digest, SAMPLING, limit=9)
    one = frozen.prompts[2]
    assert [answer.prompt_id for answer in found] == ["p2", "p4", "p1"]
    asked_at = NOW + timedelta(minutes=1)
    assert found[0] == UnreadableAnswer("p2", one.text, one.reference, "choice/1", "text 2", False, 0.0, None, asked_at)
    assert (found[2].score, found[2].judged_by) == (1.0, JUDGE)
    assert len(registry.outcomes.unreadable(a, frozen.digest, SAMPLING, limit=1)) == 1
    waiting = registry.outcomes.waiting(a, frozen.prompts, NEWER, SAMPLING)
    registry.outcomes.regrade(night, [Regrade(one, "choice/2", 0.0, True) for one in waiting[:2]], now=LATER)
    found = registry.outcomes.unreadable(a, frozen.digest, SAMPLING, limit=9)
    assert sorted((one.prompt_id, one.grader) for one in found) == [
        ("p0", "choice/2"),
        ("p1", "choice/2"),
        ("p2", "choice/1"),
        ("p4", "choice/1"),
    ], "an answer is shown once, under its latest grader"
    registry.pruning.prune(Retention(1, None), NOW + timedelta(days=9), actor="t")
    assert {one.completion for one in registry.outcomes.unreadable(a, frozen.digest, SAMPLING, limit=9)} == {None}


def test_a_verdict_without_doubt_is_refused_by_the_database(registry, asked):
    with pytest.raises(RegistryError, match="ck_outcome_judged_in_doubt"), registry._database.write() as unit:
        unit.execute(text("UPDATE outcome SET judged_by = 'x', judged_at = asked_at WHERE is_unreadable IS FALSE"))
