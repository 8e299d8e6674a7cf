"""Bounds of paired differences: how often they are wrong, counted exactly over every outcome there can be."""

import numpy as np
import pytest
from scipy.stats import binom

from routing import InvalidInput, paired_bootstrap, resampling
from routing.resampling import paired_lower_bound, resampled_means


def test_resampling_in_parts_equals_resampling_at_once(monkeypatch: pytest.MonkeyPatch):
    differences = np.array([0.0, 0.5, -1.0, 1.0, 0.25])
    whole = resampled_means(differences, seed=4, n_resamples=1000)
    monkeypatch.setattr(resampling, "_CELLS", 64)
    np.testing.assert_allclose(resampled_means(differences, seed=4, n_resamples=1000), whole, atol=1e-12)
    assert len(whole) == 1000


def test_a_bound_is_the_same_every_time_and_lower_for_a_smaller_level():
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random(200) < 0.7).astype(float), (rng.random(200) < 0.6).astype(float)
    bounds = [paired_lower_bound(ours, theirs, level=level, seed=1) for level in (0.025, 0.005, 0.0005)]
    assert bounds == sorted(bounds, reverse=True)
    assert len(set(bounds)) == 3
    assert bounds[0] == paired_lower_bound(ours, theirs, level=0.025, seed=1)
    assert bounds[0] < (ours - theirs).mean()


def test_a_loss_that_was_not_observed_is_taken_into_account():
    """Nothing but ties on 20 prompts: a plain bootstrap is certain, but one prompt in ten may still be lost."""
    ties = np.ones(20)
    assert paired_bootstrap(ties, ties, seed=0).low == 0
    assert paired_lower_bound(ties, ties, level=0.025, seed=0) < -0.1
    assert paired_lower_bound(np.ones(2000), np.ones(2000), level=0.025, seed=0) > -0.002


@pytest.mark.parametrize(("n", "differing"), [(100, 0.1), (359, 0.05)])
def test_the_bound_is_wrong_about_as_often_as_it_claims_where_routers_hardly_differ(n: int, differing: float):
    """At a truth of -0.02, the chance that the bound lies above it, summed over all wins and losses."""
    truth, level = -0.02, 0.025
    losing, winning = (differing - truth) / 2, (differing + truth) / 2
    wrong = {"plain": 0.0, "bound": 0.0}
    for losses in range(n + 1):
        chance_of_losses = binom.pmf(losses, n, losing)
        for wins in range(n - losses + 1):
            chance = chance_of_losses * binom.pmf(wins, n - losses, winning / (1 - losing))
            if chance < 1e-5 or (wins - losses) / n < truth:
                continue
            ours = np.repeat([1.0, 0.0, 0.5], [wins, losses, n - wins - losses])
            theirs = np.repeat([0.0, 1.0, 0.5], [wins, losses, n - wins - losses])
            wrong["bound"] += chance * (paired_lower_bound(ours, theirs, level=level, seed=0) >= truth)
            wrong["plain"] += chance * (paired_bootstrap(ours, theirs, seed=0, level=1 - 2 * level).low >= truth)
    assert wrong["bound"] < 1.35 * level < wrong["plain"]


@pytest.mark.parametrize("level", [0.0, 0.6, float("nan")])
def test_a_level_must_be_a_small_probability(level: float):
    with pytest.raises(InvalidInput, match="level"):
        paired_lower_bound([1.0], [0.0], level=level, seed=0)


def test_scores_must_be_pairs_within_their_range():
    with pytest.raises(InvalidInput, match="second"):
        paired_lower_bound([0.5, 0.5], [0.5], level=0.1, seed=0)
    with pytest.raises(InvalidInput, match="first"):
        paired_lower_bound([1.5], [0.5], level=0.1, seed=0)
    with pytest.raises(InvalidInput, match="at least one prompt"):
        paired_lower_bound([], [], level=0.1, seed=0)
