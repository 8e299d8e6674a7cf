import numpy as np
import pytest

from routing.posterior.choice import JUDGED_MOST, Plan


def test_a_plan_judges_prompts_it_does_not_fit_and_holds_every_llm_out_once():
    plan = Plan.draw(np.zeros((100, 7)), seed=3)
    assert len(plan.judging) == 30
    assert sorted([*plan.fitting, *plan.judging]) == list(range(100))
    assert sorted(np.concatenate(plan.folds)) == list(range(7))
    assert sorted(map(len, plan.folds)) == [2, 2, 3]


def test_plans_depend_on_nothing_but_their_seed():
    first, again, other = (Plan.draw(np.zeros((100, 7)), seed=seed) for seed in (3, 3, 4))
    assert first.judging.tolist() == again.judging.tolist() != other.judging.tolist()


def test_only_prompts_that_every_llm_has_a_label_for_are_judged():
    errors = np.zeros((100, 4))
    errors[::2, 1] = np.nan
    plan = Plan.draw(errors, seed=0)
    assert (plan.judging % 2 == 1).all()
    assert len(plan.judging) == 15
    assert len(plan.fitting) == 85


def test_a_large_set_is_judged_on_a_part():
    assert len(Plan.draw(np.zeros((20_000, 2)), seed=0).judging) == JUDGED_MOST


@pytest.mark.parametrize("errors", [np.zeros((100, 1)), np.zeros((100, 0)), np.zeros((3, 4)), np.full((50, 3), np.nan)])
def test_without_llms_or_prompts_to_spare_there_is_no_plan(errors):
    assert Plan.draw(errors, seed=0) is None


def test_two_llms_are_held_out_one_by_one():
    assert sorted(fold.tolist() for fold in Plan.draw(np.zeros((10, 2)), seed=0).folds) == [[0], [1]]
