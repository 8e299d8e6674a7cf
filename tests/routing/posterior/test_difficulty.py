import numpy as np
import pytest

from routing.posterior.difficulty import N_DIRECTIONS, Difficulty, positions_of

RNG = np.random.default_rng(4)


def test_difficulty_is_the_mean_residual_of_those_who_answered():
    residuals = np.array([[0.2, 0.4, np.nan], [-0.1, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    found = Difficulty.of(residuals, np.zeros((3, N_DIRECTIONS)))
    np.testing.assert_allclose(found.columns[:, 0], [0.3, -0.1, 0.0])
    assert not found.columns[:, 1:].any()


def test_the_slope_is_what_known_llms_make_of_the_others_difficulty():
    truth = RNG.normal(0, 0.3, (2000, 1))
    exact = Difficulty.of(np.repeat(truth, 5, axis=1), np.zeros((5, N_DIRECTIONS)))
    assert exact.slope == pytest.approx(1.0)
    # The mean of the four others has variance .09 + .16 / 4: a slope of .09 / .13.
    noisy = Difficulty.of(truth + RNG.normal(0, 0.4, (2000, 5)), np.zeros((5, N_DIRECTIONS)))
    assert noisy.slope == pytest.approx(0.09 / 0.13, abs=0.05)


def test_loadings_follow_the_llms_positions_and_shrink_when_they_are_noise():
    positions = np.zeros((8, N_DIRECTIONS))
    positions[:, 0] = np.tile([-1.0, 1.0], 4)
    loadings = RNG.normal(0, 0.3, 500)
    found = Difficulty.of(np.outer(loadings, positions[:, 0]) + RNG.normal(0, 0.05, (500, 8)), positions)
    np.testing.assert_allclose(found.columns[:, 1], loadings, atol=0.08)
    noise = Difficulty.of(RNG.normal(0, 0.4, (500, 8)), positions)
    assert np.abs(noise.columns[:, 1]).mean() < 0.03


@pytest.mark.parametrize("n_llms", [0, 1, 2, 3, 5, 12])
def test_positions_have_mean_zero_and_variance_one_in_as_many_directions_as_llms_allow(n_llms):
    errors = (RNG.random((300, n_llms)) < np.linspace(0.2, 0.8, n_llms)).astype(float)
    positions = positions_of(errors)
    assert positions.shape == (n_llms, N_DIRECTIONS)
    n_used = max(0, min(N_DIRECTIONS, n_llms - 2))
    assert not positions[:, n_used:].any()
    if n_used:
        np.testing.assert_allclose(positions[:, :n_used].mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(positions[:, :n_used].std(axis=0), 1)
        assert np.corrcoef(positions[:, 0], errors.mean(axis=0))[0, 1] > 0.5


def test_llms_that_do_not_differ_have_no_positions():
    assert not positions_of(np.ones((50, 6))).any()
