import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.posterior.inference import (
    LEVEL_VARIANCE,
    NOISE_VARIANCE,
    SURFACE_RIDGE,
    Moments,
    Prior,
    Shrinkage,
    grouped_moments,
    label_groups,
    posterior,
    prior_of,
    scales_of,
    surfaces,
)
from tests.properties import examples

RNG = np.random.default_rng(0)
DESIGN = np.hstack([np.ones((50, 1)), RNG.normal(size=(50, 3))]).astype(np.float32)
ERRORS = RNG.random((50, 2))
ONES = np.ones(4)
ISOTROPIC, FOLLOWING = Shrinkage(0.01, 1.0, 0), Shrinkage(0.01, 1.0, 2)
LEVEL_ALONE = np.array([LEVEL_VARIANCE, 0, 0, 0])
NO_DIRECTION = np.zeros((4, 2))


def direct_posterior(prior: Prior, design, errors, shrinkage):
    """The textbook formula on the prior's covariance: mean and covariance, in units of the noise."""
    covariance = np.diag(prior.variances_under(shrinkage))
    for direction in prior.directions.T[: shrinkage.n_directions]:
        covariance += np.outer(direction, direction)
    wide = design.astype(np.float64)
    gain = covariance @ wide.T @ np.linalg.inv(wide @ covariance @ wide.T + NOISE_VARIANCE * np.eye(len(wide)))
    mean = prior.mean[:, None] + gain @ (errors - (wide @ prior.mean)[:, None])
    return mean, (covariance - gain @ wide @ covariance) / NOISE_VARIANCE


@pytest.mark.parametrize("shrinkage", [ISOTROPIC, FOLLOWING])
def test_mean_and_variances_are_the_textbook_ones(shrinkage):
    directions = np.array([[0.2, 0.05, -0.05, 0.1], [0.0, 0.1, 0.0, -0.1]]).T
    # The last column has a variance of its own, as the difficulty of a prompt.
    prior = Prior(
        np.array([0.4, 0.1, -0.2, 0.8]),
        directions,
        np.array([1.0, 1.0, 2.0, 0.0]),
        LEVEL_ALONE + np.array([0, 0, 0, 0.02]),
    )
    (found,) = posterior(prior, Moments.of(DESIGN, ERRORS), [shrinkage])
    mean, covariance = direct_posterior(prior, DESIGN, ERRORS, shrinkage)
    np.testing.assert_allclose(found.coefficients, mean, atol=1e-5)
    np.testing.assert_allclose(found.variances(np.eye(4)), np.diag(covariance), atol=1e-5)
    rows = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(found.variances(rows), np.diag(rows @ covariance @ rows.T), atol=1e-5)


@pytest.mark.parametrize("shrinkage", [ISOTROPIC, FOLLOWING])
def test_without_labels_the_prior_comes_back(shrinkage):
    prior = Prior(np.array([0.4, 0.1, -0.2, 0.0]), RNG.normal(size=(4, 2)), ONES, LEVEL_ALONE)
    (found,) = posterior(prior, Moments.of(DESIGN[:0], ERRORS[:0]), [shrinkage])
    np.testing.assert_allclose(found.coefficients, np.repeat(prior.mean[:, None], 2, axis=1), atol=1e-12)


def test_unused_columns_have_no_coefficient_and_no_variance():
    prior = Prior(np.zeros(4), NO_DIRECTION, scales_of(4, 2, 0.0), LEVEL_ALONE)
    (found,) = posterior(prior, Moments.of(DESIGN, ERRORS), [Shrinkage(0.01, 0.0, 0)])
    assert not found.coefficients[2:].any()
    assert found.variances(np.eye(4))[2:].tolist() == [0.0, 0.0]


def test_the_weaker_the_shrinkage_the_nearer_to_least_squares():
    prior = Prior(np.zeros(4), NO_DIRECTION, ONES, LEVEL_ALONE)
    wanted = np.linalg.lstsq(DESIGN.astype(float), ERRORS, rcond=None)[0]
    variances = (1e-4, 1e-2, 1.0, 1e4)
    found = posterior(prior, Moments.of(DESIGN, ERRORS), [Shrinkage(v, 1.0, 0) for v in variances])
    apart = [float(np.abs(result.coefficients[1:] - wanted[1:]).max()) for result in found]
    assert apart == sorted(apart, reverse=True)
    # The level keeps its own prior.
    assert apart[-1] < 0.02


@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 2))
@examples(40)
def test_more_labels_never_widen_the_posterior(seed, n, n_directions):
    rng = np.random.default_rng(seed)
    design = np.hstack([np.ones((n + 5, 1)), rng.normal(size=(n + 5, 3))]).astype(np.float32)
    prior = Prior(rng.normal(size=4), rng.normal(size=(4, 2)), ONES, LEVEL_ALONE)
    shrinkage = Shrinkage(0.02, 1.0, n_directions)
    spread = []
    for count in (n, n + 5):
        moments = Moments.of(design[:count], np.zeros((count, 1)))
        (found,) = posterior(prior, moments, [shrinkage])
        spread.append(found.variances(np.eye(4)))
    assert (spread[1] <= spread[0] * (1 + 1e-4) + 1e-9).all()


def test_surfaces_are_ridge_regressions_that_leave_the_level_alone():
    scales = np.array([1.0, 1.0, 2.0, 0.0])
    found = surfaces(Moments.of(DESIGN, ERRORS), scales)
    penalty = np.array([1e-3, SURFACE_RIDGE, SURFACE_RIDGE / 4])
    used = DESIGN[:, :3].astype(float)
    wanted = np.linalg.solve(used.T @ used + np.diag(penalty), used.T @ ERRORS)
    np.testing.assert_allclose(found[:3], wanted, atol=1e-5)
    assert not found[3].any()
    level = surfaces(Moments.of(DESIGN * [1, 0, 0, 0], ERRORS), scales)[0]
    np.testing.assert_allclose(level, ERRORS.mean(axis=0), rtol=1e-4)


def test_the_prior_follows_the_direction_in_which_llms_differ():
    along = np.array([0.3, -0.1, 0.0, 0.2])
    amounts = np.array([-1.0, 0.0, 2.0, 3.0])
    coefficients = np.array([0.5, 0.1, 0.1, 0.1])[:, None] + np.outer(along, amounts)
    prior = prior_of(coefficients, np.eye(4), ONES)
    sign = np.sign(prior.directions[:, 0] @ along)
    np.testing.assert_allclose(prior.directions[:, 0], sign * along * amounts.std(ddof=1), atol=1e-12)


def test_the_prior_keeps_what_llms_have_in_common():
    # Prompts on both sides of zero: the second column has no level. Surfaces 0.4 and 0.2 steep: the mean 0.3 has size
    # 0.09, the variance of a mean of two is 0.02 / 2, so 8/9 of it is kept.
    gram = np.eye(2)
    alike = prior_of(np.array([[0.3, 0.5], [0.4, 0.2]]), gram, np.ones(2))
    np.testing.assert_allclose(alike.mean, [0.4, 0.3 * 8 / 9])
    contrary = prior_of(np.array([[0.3, 0.5], [0.3, -0.2]]), gram, np.ones(2))
    np.testing.assert_allclose(contrary.mean, [0.4, 0.0])


def test_with_one_llm_half_its_surface_is_expected_and_with_none_a_coin():
    one = prior_of(np.array([[0.3], [0.1]]), np.eye(2), np.ones(2))
    np.testing.assert_allclose(one.mean, [0.3, 0.05])
    assert one.directions.tolist() == [[0.0], [0.0]]
    none = prior_of(np.zeros((2, 0)), np.eye(2), np.ones(2))
    assert (none.mean.tolist(), none.directions.tolist()) == ([0.5, 0.0], [[0.0], [0.0]])


def test_llms_are_grouped_by_the_prompts_they_have_labels_on():
    errors = np.array([[0.0, 1.0, np.nan], [1.0, np.nan, np.nan], [0.0, 0.0, 1.0]])
    groups = {tuple(columns): labelled.tolist() for labelled, columns in label_groups(np.hstack([errors, errors]))}
    assert groups == {
        (0, 3): [True, True, True],
        (1, 4): [True, False, True],
        (2, 5): [False, False, True],
    }


@pytest.mark.parametrize("n_missing", [0, 2, 30])
def test_sums_of_a_group_are_those_of_its_own_prompts(n_missing):
    errors = ERRORS.copy()
    errors[:n_missing, 1] = np.nan
    found = list(grouped_moments(DESIGN, errors))
    assert sorted(column for _, columns in found for column in columns) == [0, 1]
    for moments, columns in found:
        own = np.isfinite(errors[:, columns[0]])
        wanted = Moments.of(DESIGN[own], errors[own][:, columns])
        assert moments.n == wanted.n == own.sum()
        np.testing.assert_allclose(moments.gram, wanted.gram, atol=1e-4)
        np.testing.assert_allclose(moments.totals, wanted.totals, atol=1e-5)
