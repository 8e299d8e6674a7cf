"""What a router scores when it may spend exactly what another one spends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import InvalidInput, deferral_curve
from routing.equal_cost import scores_at_equal_cost
from tests.routing.synthetic import SolvedByHand

solved = SolvedByHand()


def at(target_usd: float):
    return scores_at_equal_cost(
        1 - solved.scores, solved.costs_usd, solved.scores, solved.costs_usd, target_usd=target_usd
    )


def test_at_a_point_of_the_curve_nothing_is_mixed():
    curve = deferral_curve(
        1 - solved.scores,
        solved.costs_usd,
        solved.scores,
        solved.costs_usd,
        reference_cost_usd=solved.reference_cost_usd,
    )
    for weight, cost, score in zip(curve.cost_weights, curve.costs_usd, curve.scores, strict=True):
        found = at(float(cost))
        assert (found.is_reached, found.cost_weight) == (True, pytest.approx(weight))
        assert found.cost_usd == pytest.approx(cost)
        assert found.scores.mean() == pytest.approx(score)
        assert set(found.scores.tolist()) <= {0.0, 1.0}


def test_between_two_points_the_target_is_spent_to_the_cent():
    """One prompt, a wrong LLM at 1 USD and a right one at 4 USD: 2 USD buy the right one a third of the
    time."""
    found = scores_at_equal_cost([[1, 0]], [[1, 4]], [[0, 1]], [[1, 4]], target_usd=2)
    assert (found.cost_usd, found.is_reached) == (2, True)
    assert found.scores.tolist() == [pytest.approx(1 / 3)]


def test_of_several_cost_weights_that_spend_the_target_the_nearest_to_the_routers_own_counts():
    """The LLM in the middle is taken for cheap and is not: from the left, the cost goes 4, 9, 1."""
    given = [[0.0, 0.3, 0.9]], [[4, 2, 1]], [[1, 0.5, 0]], [[4, 9, 1]]
    found = {weight: scores_at_equal_cost(*given, target_usd=4, own_weight=weight) for weight in (0.0, 0.1, 0.3, 0.7)}
    assert {weight: one.scores.tolist() for weight, one in found.items()} == {
        0.0: [1],
        0.1: [1],
        0.3: [pytest.approx(0.5 * 3 / 8)],
        0.7: [pytest.approx(0.5 * 3 / 8)],
    }
    as_it_serves = scores_at_equal_cost(*given, target_usd=9, own_weight=0.3)
    assert (as_it_serves.scores.tolist(), as_it_serves.cost_usd) == ([0.5], 9)


def test_a_budget_above_the_cost_of_the_best_is_not_spent():
    found = at(1e6)
    assert (found.is_reached, found.cost_weight, found.cost_usd) == (
        True,
        0,
        pytest.approx(0.5 * solved.reference_cost_usd),
    )


def test_a_target_below_the_cheapest_choice_is_reported():
    found = scores_at_equal_cost([[1, 0]], [[1, 4]], [[0, 1]], [[1, 4]], target_usd=0.5)
    assert (found.cost_usd, found.is_reached, found.scores.tolist()) == (1, False, [0])


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_the_target_is_met_and_the_score_lies_on_the_curve(seed: int, share: float):
    rng = np.random.default_rng(seed)
    n, m = 7, 4
    errors, costs = rng.random((n, m)).round(1), rng.random((n, m)).round(1)
    scores, costs_usd = (rng.random((n, m)) < 0.5).astype(float), rng.random((n, m))
    curve = deferral_curve(errors, costs, scores, costs_usd, reference_cost_usd=1.0)
    target = float(share * costs_usd.max(axis=1).mean())
    found = scores_at_equal_cost(errors, costs, scores, costs_usd, target_usd=target)
    cheap_enough = np.flatnonzero(curve.costs_usd <= target)
    assert found.is_reached == bool(len(cheap_enough))
    first = int(cheap_enough[0]) if len(cheap_enough) else len(curve.costs_usd) - 1
    cost_usd, score = curve.costs_usd[first], curve.scores[first]
    if found.is_reached and first > 0:
        part = (target - cost_usd) / (curve.costs_usd[first - 1] - cost_usd)
        cost_usd, score = target, part * curve.scores[first - 1] + (1 - part) * score
    assert found.cost_usd == pytest.approx(cost_usd)
    assert found.scores.mean() == pytest.approx(score)


@pytest.mark.parametrize("target", [-1.0, float("nan"), float("inf")])
def test_a_target_must_be_an_amount_of_money(target: float):
    with pytest.raises(InvalidInput, match="target_usd"):
        at(target)


def test_no_prompt_and_nan_are_refused():
    with pytest.raises(InvalidInput, match="a prompt and an LLM"):
        scores_at_equal_cost(*(np.zeros((0, 2)),) * 4, target_usd=1)
    with pytest.raises(InvalidInput, match="costs_usd"):
        scores_at_equal_cost([[0.5]], [[1]], [[1]], [[float("nan")]], target_usd=1)
