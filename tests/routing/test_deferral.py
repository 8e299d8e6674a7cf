import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routing import (
    DeferralCurve,
    InvalidInput,
    ZeroRouter,
    aiq,
    area,
    deferral_curve,
    paired_bootstrap,
    peak,
    qnc,
    scores_at_costs,
)
from routing.deferral import Qnc
from tests.routing.synthetic import SolvedByHand

solved = SolvedByHand()


def solved_curve() -> DeferralCurve:
    return deferral_curve(
        1 - solved.scores,
        solved.costs_usd,
        solved.scores,
        solved.costs_usd,
        reference_cost_usd=solved.reference_cost_usd,
    )


def points(*pairs: tuple[float, float]) -> DeferralCurve:
    """Make a curve from (relative cost, score) pairs."""
    return DeferralCurve(np.zeros(len(pairs)), np.array([c for c, _ in pairs]), np.array([s for _, s in pairs]), 1.0)


def test_the_sweep_finds_every_switch_of_the_case_solved_by_hand():
    curve = solved_curve()
    np.testing.assert_allclose(curve.cost_weights, [0, 1 / 3, 1])
    np.testing.assert_allclose(curve.costs, [1 / 2, 5 / 16, 1 / 4])
    np.testing.assert_allclose(curve.scores, [3 / 4, 1 / 2, 1 / 4])


def test_area_of_the_case_solved_by_hand():
    flat_start, first, second, flat_end = 1 / 4 * 1 / 4, 1 / 16 * 3 / 8, 3 / 16 * 5 / 8, 1 / 2 * 3 / 4
    assert area(solved_curve()) == pytest.approx(flat_start + first + second + flat_end)


def test_area_counts_only_the_best_score_up_to_each_cost():
    assert area(points((0.2, 0.5), (0.6, 0.3))) == pytest.approx(0.5)


def test_area_stops_at_the_most_expensive_llm():
    assert area(points((0.5, 0.0), (1.5, 1.0))) == pytest.approx(0.5 * 0.25)


def test_qnc_is_where_the_curve_matches_the_best_llm():
    found = qnc(solved_curve(), 0.75)
    assert (found.value, found.reached) == (pytest.approx(0.5), True)


def test_qnc_reads_between_points():
    assert qnc(points((0.2, 0.4), (0.4, 0.8)), 0.6).value == pytest.approx(0.3)


def test_qnc_of_a_curve_that_stays_below_is_one_and_says_so():
    found = qnc(solved_curve(), 0.8)
    assert (found.value, found.reached) == (1.0, False)


def test_qnc_of_a_curve_that_starts_above_is_its_cheapest_cost():
    assert qnc(points((0.1, 0.9), (0.5, 0.95)), 0.6).value == pytest.approx(0.1)


def test_qnc_against_the_best_llms_own_cost():
    curve = DeferralCurve([0.0], [1.0], [0.9], 4.0)
    assert qnc(curve, 0.9).value == pytest.approx(0.25)
    assert qnc(curve, 0.9, best_cost_usd=2.0).value == pytest.approx(0.5)


def test_peak_is_the_largest_score_not_that_of_the_most_expensive_point():
    assert peak(points((0.2, 0.5), (0.6, 0.3))) == 0.5


def test_aiq_bridges_dents_that_area_keeps():
    dented = points((0.0, 0.0), (0.5, 0.1), (1.0, 1.0))
    assert aiq(dented) == pytest.approx(0.5)
    assert area(dented) == pytest.approx(0.5 * 0.05 + 0.5 * 0.55)


def test_score_at_cost_is_flat_beyond_the_ends():
    curve = solved_curve()
    assert scores_at_costs(curve, [0.0, 9 / 32, 0.5, 3.0]) == pytest.approx([0.25, 0.375, 0.75, 0.75])


def test_equal_expectations_start_with_the_cheaper_llm():
    curve = deferral_curve([[0.5, 0.5]], [[2.0, 1.0]], [[1.0, 0.0]], [[2.0, 1.0]], reference_cost_usd=2.0)
    assert curve.costs_usd.tolist() == [1.0]


table = arrays(float, (6, 4), elements=st.floats(0, 1, width=16))


@given(errors=table, costs=table)
def test_every_point_is_the_best_trade_inside_its_interval(errors, costs):
    curve = deferral_curve(errors, costs, 1 - errors, costs, reference_cost_usd=1.0)
    assert (np.diff(curve.cost_weights) > 0).all()
    ends = np.append(curve.cost_weights[1:], curve.cost_weights[-1] * 2 + 1)
    middles = (curve.cost_weights + ends) / 2
    reached = 1 - curve.scores + middles * curve.costs_usd
    best = [(errors + middle * costs).min(axis=1).mean() for middle in middles]
    np.testing.assert_allclose(reached, best, rtol=1e-9, atol=1e-9)


@given(errors=table, costs=table)
def test_score_and_cost_of_a_router_that_knows_the_truth_fall_along_its_curve(errors, costs):
    curve = deferral_curve(errors, costs, 1 - errors, costs, reference_cost_usd=1.0)
    assert (np.diff(curve.costs_usd) <= 1e-12).all()
    assert (np.diff(curve.scores) <= 1e-12).all()
    assert curve.scores[0] == pytest.approx((1 - errors).max(axis=1).mean())
    assert curve.costs_usd[-1] == pytest.approx(costs.min(axis=1).mean())


@given(scores=table, costs=table)
def test_area_and_aiq_stay_between_the_worst_and_the_peak(scores, costs):
    curve = deferral_curve(1 - scores, costs, scores, costs, reference_cost_usd=1.0)
    assert curve.scores.min() - 1e-12 <= area(curve) <= aiq(curve) + 1e-12 <= peak(curve) + 1e-9


@pytest.mark.parametrize("name", ["expected_errors", "expected_costs", "scores", "costs_usd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_by_name(name, bad):
    given_tables = {
        "expected_errors": 1 - solved.scores,
        "expected_costs": solved.costs_usd,
        "scores": solved.scores,
        "costs_usd": solved.costs_usd,
    }
    broken = given_tables[name].copy()
    broken[2, 1] = bad
    with pytest.raises(InvalidInput, match=rf"{name} must be finite.*\(2, 1\)"):
        deferral_curve(**(given_tables | {name: broken}), reference_cost_usd=4.0)


def test_the_curve_of_a_free_pool_is_one_point_by_score():
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    nothing = np.zeros_like(scores)
    curve = deferral_curve(1 - scores, nothing, scores, nothing, reference_cost_usd=0.0)
    assert curve.is_free
    assert (curve.costs.tolist(), curve.scores.tolist(), curve.relative([0.0, 2.0]).tolist()) == ([0.0], [1.0], [0, 2])
    assert (area(curve), aiq(curve), peak(curve)) == (1.0, 1.0, 1.0)
    assert (qnc(curve, 2 / 3), qnc(deferral_curve([[0]], [[0]], [[0]], [[0]], reference_cost_usd=0), 0.5)) == (
        Qnc(0.0, True),
        Qnc(1.0, False),
    )
    blind = ZeroRouter.fit(scores, nothing, ["b", "a"])
    assert blind.keys == ("a",)
    assert blind.curve(scores, nothing, reference_cost_usd=0.0).scores.tolist() == [2 / 3]


def test_costs_without_a_reference_are_refused():
    with pytest.raises(InvalidInput, match="only a free pool"):
        deferral_curve([[0.1]], [[0.0]], [[1.0]], [[0.5]], reference_cost_usd=0.0)


def test_bootstrap_brackets_the_mean_difference_and_repeats():
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 2, 400).astype(float), rng.integers(0, 2, 400).astype(float)
    found = paired_bootstrap(ours, theirs, seed=3)
    assert found == paired_bootstrap(ours, theirs, seed=3)
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert found.low < found.mean < found.high
    normal = 1.96 * (ours - theirs).std() / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * normal, rel=0.1)
    assert found.n == 400


def test_bootstrap_of_equal_vectors_is_exactly_zero():
    found = paired_bootstrap([0.3, 0.7], [0.3, 0.7], seed=0)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_bootstrap_refuses_vectors_of_different_prompts():
    with pytest.raises(InvalidInput, match="second must have shape"):
        paired_bootstrap([0.1, 0.2], [0.1], seed=0)
