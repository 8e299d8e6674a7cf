import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routing import InvalidInput, ZeroRouter, area, peak
from tests.routing.synthetic import SolvedByHand

solved = SolvedByHand()


def test_zero_router_keeps_the_hull_of_the_case_solved_by_hand():
    zero = ZeroRouter.fit(solved.scores, solved.costs_usd, solved.keys)
    assert zero.keys == ("cheap", "mid", "dear")
    assert zero.scores == (0.25, 0.5, 0.75)
    curve = zero.curve(solved.scores, solved.costs_usd, reference_cost_usd=4.0)
    assert curve.costs.tolist() == [1.0, 0.5, 0.25]
    assert curve.cost_weights.tolist() == [0.0, 0.125, 0.25]
    assert area(curve) == pytest.approx(1 / 4 * 1 / 4 + 1 / 4 * 3 / 8 + 1 / 2 * 5 / 8)
    assert peak(curve) == 0.75


def test_zero_router_drops_what_a_mixture_beats():
    zero = ZeroRouter.fit([[0.2, 0.3, 1.0]], [[1.0, 2.0, 3.0]], ["cheap", "mid", "dear"])
    assert zero.keys == ("cheap", "dear")


def test_zero_router_drops_what_costs_more_and_is_no_better():
    assert ZeroRouter.fit([[0.5, 0.5]], [[1.0, 2.0]], ["a", "b"]).keys == ("a",)


def test_among_equal_llms_the_first_key_wins():
    assert ZeroRouter.fit([[0.5, 0.5]], [[1.0, 1.0]], ["b", "a"]).keys == ("a",)


@given(scores=arrays(float, (5, 6), elements=st.floats(0, 1, width=16)))
def test_no_llm_lies_above_the_hull(scores):
    costs = np.tile(np.arange(1.0, 7.0), (5, 1))
    zero = ZeroRouter.fit(scores, costs, list("abcdef"))
    reachable = np.interp(costs.mean(axis=0), zero.costs_usd, zero.scores)
    assert (scores.mean(axis=0) <= reachable + 1e-9).all()
    assert (np.diff(zero.scores) > 0).all()


def test_zero_router_refuses_scores_that_are_not_finite():
    with pytest.raises(InvalidInput, match="scores must be finite"):
        ZeroRouter.fit([[np.nan]], [[1.0]], ["a"])


def test_zero_router_refuses_an_empty_table():
    with pytest.raises(InvalidInput, match="needs a prompt and an LLM"):
        ZeroRouter.fit(np.zeros((0, 1)), np.zeros((0, 1)), ["a"])


def test_zero_router_refuses_a_table_without_its_columns():
    zero = ZeroRouter.fit(solved.scores, solved.costs_usd, solved.keys)
    with pytest.raises(InvalidInput, match="cannot read a table"):
        zero.curve([[1.0]], [[1.0]], reference_cost_usd=1.0)
