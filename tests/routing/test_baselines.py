import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routing import InvalidInput, ZeroRouter, area, deferral_curve, peak
from routing.baselines import oracle_curve, random_errors
from tests.routing.synthetic import SolvedByHand

world = SolvedByHand()


def test_zero_router_keeps_the_hull_of_the_solved_world():
    zero = ZeroRouter.fit(world.scores, world.costs_usd, world.keys)
    assert zero.keys == ("cheap", "mid", "dear")
    assert zero.scores == (0.25, 0.5, 0.75)
    curve = zero.curve(world.scores, world.costs_usd, reference_cost_usd=4.0)
    assert curve.costs.tolist() == [1.0, 0.5, 0.25]
    assert curve.cost_weights.tolist() == [0.0, 0.125, 0.25]
    assert area(curve) == pytest.approx(1 / 4 * 1 / 4 + 1 / 4 * 3 / 8 + 1 / 2 * 5 / 8)
    assert peak(curve) == 0.75


def test_zero_router_drops_what_a_mixture_beats():
    zero = ZeroRouter.fit([[0.2, 0.3, 1.0]], [[1.0, 2.0, 3.0]], ["cheap", "mid", "dear"])
    assert zero.keys == ("cheap", "dear")


def test_zero_router_drops_what_costs_more_and_is_no_better():
    assert ZeroRouter.fit([[0.5, 0.5]], [[1.0, 2.0]], ["a", "b"]).keys == ("a",)


def test_equal_llms_are_told_apart_by_key():
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
    zero = ZeroRouter.fit(world.scores, world.costs_usd, world.keys)
    with pytest.raises(InvalidInput, match="cannot read a table"):
        zero.curve([[1.0]], [[1.0]], reference_cost_usd=1.0)


def test_the_oracle_of_the_solved_world():
    curve = oracle_curve(world.scores, world.costs_usd, reference_cost_usd=4.0)
    assert curve.costs.tolist() == [0.5, 5 / 16, 0.25]
    assert area(curve) == pytest.approx(0.0625 + 0.0234375 + 0.1171875 + 0.375)


@given(scores=arrays(float, (5, 4), elements=st.floats(0, 1, width=16)), seed=st.integers(0, 99))
def test_nothing_is_above_the_oracle(scores, seed):
    costs = np.random.default_rng(seed).uniform(0.1, 1, (5, 4))
    guess = deferral_curve(random_errors(5, 4, seed=seed), costs, scores, costs, reference_cost_usd=1.0)
    oracle = oracle_curve(scores, costs, reference_cost_usd=1.0)
    for weight, cost, score in zip(guess.cost_weights, guess.costs_usd, guess.scores, strict=True):
        best = (scores - weight * costs).max(axis=1).mean()
        assert score - weight * cost <= best + 1e-9
    assert peak(guess) <= peak(oracle) + 1e-12


def test_random_errors_choose_every_llm_alike_and_repeat():
    errors = random_errors(9000, 3, seed=5)
    assert np.bincount(errors.argmin(axis=1)) == pytest.approx([3000] * 3, rel=0.05)
    np.testing.assert_array_equal(errors, random_errors(9000, 3, seed=5))
