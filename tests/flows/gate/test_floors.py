"""Absolute floors: a broken pool and a router that only guesses are never promoted, not even as the first."""

from dataclasses import replace

import numpy as np
import pytest

from flows.gate.evidence import chance_of, named_options
from flows.gate.refresh import Standing, refresh_of
from flows.gate.refresh_checks import judge_refresh
from flows.graders import GRADERS
from registry.promotion_records import PROMOTE, REJECT
from registry.prompts import Prompt
from tests.flows.gate.test_gate import NEW, RULES, failed, outcomes, router, run

SOME, DIFFER, GUESS = (
    "LLMs that score above 0 on gate prompts",
    "LLMs that answer differently on gate prompts",
    "score above guessing on gate prompts",
)


def choices(right: dict[str, float], *, n: int = 400, chance: float = 0.25):
    return replace(outcomes(right, n=n), chance=np.full(n, chance))


def check(found, name: str):
    return next(one for one in found.checks if one.name == name)


@pytest.mark.parametrize("champion", [None, router({"a": 0.1, "b": 0.5})], ids=["first", "against a champion"])
def test_a_pool_whose_answers_are_all_wrong_is_never_promoted(champion) -> None:
    found = run(outcomes({"a": 0.0, "b": 0.0}), champion=champion, epsilon=1.0)
    assert (found.verdict, found.decision) == (REJECT, REJECT)
    assert {SOME, DIFFER} <= set(failed(found))
    assert "base_url" in check(found, SOME).remedy
    assert run(outcomes({"a": 0.01, "b": 0.0}), champion=None).verdict == PROMOTE


def test_llms_with_the_same_score_on_every_prompt_leave_nothing_to_choose_by() -> None:
    seen = outcomes({"a": 0.7, "b": 0.2})
    same = replace(seen, scores=seen.scores[:, [0, 0]])
    found = run(same, champion=None)
    assert failed(found) == [DIFFER]
    always_right = run(replace(same, scores=np.ones_like(same.scores)), champion=None)
    assert always_right.passed, "the cheapest of LLMs that are always right can serve"
    one_apart = same.scores.copy()
    one_apart[0, 1] = 1 - one_apart[0, 1]
    assert run(replace(same, scores=one_apart), champion=None).passed
    with_third = run(replace(same, keys=("a", "b"), scores=same.scores), router({"a": 0.5, "b": 0.1}), champion=NEW)
    assert with_third.verdict == REJECT


def test_llms_that_name_one_option_whatever_they_are_asked_are_refused() -> None:
    seen = outcomes({"a": 0.7, "b": 0.2}, n=40)
    letters = tuple("ABCD"[place % 4] for place in range(40))
    constant = np.stack([[one == "A" for one in letters], [one == "B" for one in letters]], axis=1).astype(float)
    assert failed(run(replace(seen, scores=constant, letters=letters), champion=None)) == [DIFFER]
    assert run(replace(seen, scores=constant), champion=None).passed, "what was accepted is not known"
    constant[2, 1] = 1.0
    assert run(replace(seen, scores=constant, letters=letters), champion=None).passed, "one of them answers something"
    assert run(replace(seen, letters=("A",) * 40), champion=None).passed


@pytest.mark.parametrize(
    ("score", "n", "chance", "passes"),
    [
        (0.25, 400, 0.25, False),
        (0.2, 400, 0.25, False),
        (0.28, 400, 0.25, False),
        (0.35, 400, 0.25, True),
        (0.5, 400, 0.5, False),
        (0.35, 20, 0.25, False),
        (0.8, 20, 0.25, True),
    ],
)
def test_a_router_has_to_do_better_than_a_blind_guess_beyond_chance(score, n, chance, passes) -> None:
    found = run(choices({"a": 0.0, "b": score}, n=n, chance=chance), champion=None)
    assert found.passed == passes == (GUESS not in failed(found))
    assert f"a guess scores {chance:.4f}" in check(found, GUESS).value
    assert found.verdict in (PROMOTE, REJECT), "a floor is never left to judgement"


def test_the_floor_names_how_many_prompts_would_show_it_or_that_none_would() -> None:
    few = check(run(choices({"a": 0.0, "b": 0.35}, n=20), champion=None), GUESS)
    needed = int(few.remedy.split()[1].replace(",", ""))
    assert 20 < needed < 400
    assert run(choices({"a": 0.0, "b": 0.35}, n=2 * needed), champion=None).passed
    hopeless = check(run(choices({"a": 0.0, "b": 0.2}), champion=None), GUESS)
    assert "no number of prompts" in hopeless.remedy


def test_a_guesser_that_is_no_worse_than_a_guessing_champion_is_refused_all_the_same() -> None:
    found = run(choices({"a": 0.25, "b": 0.27}), epsilon=0.5)
    assert failed(found) == [GUESS]
    assert found.verdict == REJECT


def test_f94_a_guesser_passes_the_floor_hardly_ever() -> None:
    rng = np.random.default_rng(3)
    seen = choices({"a": 0.0, "b": 0.5}, n=120)
    passed = 0
    for _ in range(200):
        scores = seen.scores.copy()
        scores[:, 1] = rng.random(120) < 0.25
        passed += run(replace(seen, scores=scores), champion=None).passed
    assert passed <= 10


def test_where_no_grader_knows_what_a_guess_scores_there_is_no_such_floor() -> None:
    seen = outcomes({"a": 0.0, "b": 0.1})
    for unknown in (None, np.full(400, np.nan)):
        assert GUESS not in {one.name for one in run(replace(seen, chance=unknown), champion=None).checks}
    half = np.where(np.arange(400) < 200, 0.25, np.nan)
    assert "a guess scores 0.1250" in check(run(replace(seen, chance=half), champion=None), GUESS).value


def test_a_grader_knows_chance_from_the_options_that_a_prompt_lists() -> None:
    four = Prompt("1", "Which?\nA. one\nB. two\nC. three\nD. four", "B", "choice")
    two, plain = replace(four, text="Which?\n(A) yes\n(B) no"), replace(four, text="Which letter?")
    numeric, judged = replace(four, grader="numeric", reference="2"), replace(four, grader="judge")
    found = chance_of([four, two, plain, numeric, judged])
    np.testing.assert_array_equal(found, [0.25, 0.5, np.nan, np.nan, np.nan])
    assert {name: one.chance(four.text) for name, one in GRADERS.items()} == {
        "choice": 0.25,
        "contains": None,
        "exact": None,
        "numeric": None,
    }
    assert named_options([four, replace(two, reference="(a).")]) == ("B", "A")
    assert named_options([four, numeric]) == ()


def test_a_refresh_has_to_score_above_a_blind_guess_without_a_test() -> None:
    champion = router({"a": 0.1, "b": 0.5})
    gone = refresh_of(champion, {"a": Standing("withdrawn"), "b": Standing("", 1.0, 1.0)})
    for score, passes in ((0.2, False), (0.3, True)):
        found = judge_refresh(gone, choices({"a": 0.9, "b": score}, n=100), RULES)
        assert found.passed == passes
        assert check(found, "score on gate prompts").threshold == "above 0.2500, what a guess scores"
    found = judge_refresh(gone, outcomes({"a": 0.9, "b": 0.0}, n=100), RULES)
    assert (failed(found), check(found, "score on gate prompts").threshold) == (["score on gate prompts"], "above 0")
