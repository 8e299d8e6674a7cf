import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import Ridge

from flows.bench.methods.clairvoyant import ClairvoyantMean, ClusterMeans, FactorisedErrors, RidgeErrors, oracle_curve
from routing import ClusterMap, InvalidInput, KMeansMap, area, deferral_curve, peak
from tests.routing.synthetic import SolvedByHand, unit_rows

ROWS = unit_rows(120, seed=1)
ERRORS = np.random.default_rng(0).random((120, 5))
MAPS = [KMeansMap(n_clusters=k).fit(ROWS).fitted_ for k in (2, 6)]


def test_cluster_means_of_two_resolutions_by_hand():
    coarse, fine = ClusterMap.nearest(np.eye(8)[:1]), ClusterMap.nearest(np.eye(8)[:2])
    rows, errors = np.eye(8)[[0, 0, 1]], [[0.0], [0.5], [1.0]]
    found = ClusterMeans([coarse, fine], pseudo_prompts=1e-9).fit(rows, errors).predict(np.eye(8)[:2])
    np.testing.assert_allclose(found, [[(0.5 + 0.25) / 2], [(0.5 + 1.0) / 2]])


def test_pseudo_prompts_pull_small_clusters_to_the_overall_error():
    fitted = ClusterMeans([ClusterMap.nearest(np.eye(8)[:2])], pseudo_prompts=2.0)
    found = fitted.fit(np.eye(8)[[0, 0, 1]], [[0.0], [0.0], [0.9]]).predict(np.eye(8)[:2])
    np.testing.assert_allclose(found, [[0.6 / 4], [1.5 / 3]])


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_ridge_is_scikit_learns(strength):
    theirs = Ridge(strength).fit(ROWS, ERRORS).predict(ROWS[:9])
    np.testing.assert_allclose(RidgeErrors([strength]).fit(ROWS, ERRORS).predict(ROWS[:9]), theirs, atol=1e-5)


def test_ridge_keeps_the_strength_that_leaving_one_out_prefers():
    strengths = (0.01, 1.0, 100.0)
    losses = []
    for strength in strengths:
        residuals = [
            ERRORS[i] - Ridge(strength).fit(np.delete(ROWS, i, 0), np.delete(ERRORS, i, 0)).predict(ROWS[i : i + 1])[0]
            for i in range(len(ROWS))
        ]
        losses.append(np.square(residuals).mean())
    assert RidgeErrors(strengths).fit(ROWS, ERRORS).strength_ == strengths[int(np.argmin(losses))]


def test_all_factors_are_ridge_and_few_are_of_that_rank():
    ridge = RidgeErrors().fit(ROWS, ERRORS).predict(ROWS)
    np.testing.assert_allclose(FactorisedErrors(rank=5).fit(ROWS, ERRORS).predict(ROWS), ridge, atol=1e-5)
    np.testing.assert_allclose(FactorisedErrors(rank=9).fit(ROWS, ERRORS).predict(ROWS), ridge, atol=1e-5)
    two = FactorisedErrors(rank=2).fit(ROWS, ERRORS).predict(ROWS) - ERRORS.mean(axis=0)
    assert np.linalg.matrix_rank(two, tol=1e-4) == 2


def test_the_reference_is_the_mean_of_its_members():
    fitted = ClairvoyantMean(MAPS).fit(ROWS, ERRORS)
    members = [
        member.fit(ROWS, ERRORS).predict(ROWS[:4]) for member in (ClusterMeans(MAPS), RidgeErrors(), FactorisedErrors())
    ]
    np.testing.assert_allclose(fitted.predict(ROWS[:4]), np.mean(members, axis=0), atol=1e-6)


def test_members_find_a_linear_truth():
    errors = np.clip(0.5 + 0.4 * ROWS[:, :2], 0, 1)
    fresh = unit_rows(50, seed=9)
    predicted = RidgeErrors().fit(ROWS, errors).predict(fresh)
    assert np.abs(predicted - (0.5 + 0.4 * fresh[:, :2])).max() < 0.05


@pytest.mark.parametrize("estimator", [ClusterMeans(MAPS), RidgeErrors(), FactorisedErrors(), ClairvoyantMean(MAPS)])
def test_numbers_that_are_not_finite_are_refused(estimator):
    broken = ERRORS.copy()
    broken[1, 1] = np.nan
    with pytest.raises(InvalidInput, match="errors must be finite"):
        estimator.fit(ROWS, broken)
    with pytest.raises(InvalidInput, match="119 embeddings and 120 rows"):
        estimator.fit(ROWS[1:], ERRORS)


def test_the_oracle_of_a_case_solved_by_hand():
    solved = SolvedByHand()
    curve = oracle_curve(solved.scores, solved.costs_usd, reference_cost_usd=4.0)
    assert curve.costs.tolist() == [0.5, 5 / 16, 0.25]
    assert area(curve) == pytest.approx(0.0625 + 0.0234375 + 0.1171875 + 0.375)


@given(scores=arrays(float, (5, 4), elements=st.floats(0, 1, width=16)), seed=st.integers(0, 99))
def test_nothing_is_above_the_oracle(scores, seed):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0.1, 1, (5, 4))
    guess = deferral_curve(rng.random((5, 4)), costs, scores, costs, reference_cost_usd=1.0)
    oracle = oracle_curve(scores, costs, reference_cost_usd=1.0)
    for weight, cost, score in zip(guess.cost_weights, guess.costs_usd, guess.scores, strict=True):
        best = (scores - weight * costs).max(axis=1).mean()
        assert score - weight * cost <= best + 1e-9
    assert peak(guess) <= peak(oracle) + 1e-12
