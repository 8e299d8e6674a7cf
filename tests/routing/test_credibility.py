import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.credibility import credible_means, credible_ratio


def test_clusters_that_truly_differ_keep_their_means():
    member = np.repeat(np.eye(2), 50, axis=0)
    values = np.concatenate([np.tile([99.0, 101.0], 25), np.tile([199.0, 201.0], 25)])
    np.testing.assert_allclose(credible_means(member, values), [100, 200], atol=0.1)


def test_clusters_that_differ_by_chance_get_the_overall_mean():
    member = np.eye(4)[np.arange(40) % 4]
    values = np.tile([10.0, 30.0], 20)[np.random.default_rng(1).permutation(40)]
    np.testing.assert_allclose(credible_means(member, values), np.full(4, 20.0))


def test_an_empty_cluster_and_a_single_prompt_get_the_overall_mean():
    member = np.repeat(np.eye(3)[:2], 50, axis=0)
    values = np.concatenate([np.tile([99.0, 101.0], 25), np.tile([199.0, 201.0], 25)])
    assert credible_means(member, values)[2] == 150
    assert credible_means(np.array([[0.5, 0.5]]), np.array([7.0])).tolist() == [7.0, 7.0]


def test_the_credibility_of_a_cluster_by_hand():
    # Two clusters of two values: within (1 + 1 + 4 + 4) / 2 = 5, means 1 and 6 around 3.5: between
    # (2 * 6.25 + 2 * 6.25 - 5) / (4 - 8 / 4) = 10, so z = 2 / (2 + 5 / 10) = 0.8.
    member = np.repeat(np.eye(2), 2, axis=0)
    np.testing.assert_allclose(credible_means(member, np.array([0.0, 2.0, 4.0, 8.0])), [1.5, 5.5])


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e6)), min_size=1, max_size=30))
def test_the_means_stay_within_the_values(drawn):
    member = np.eye(4)[[cluster for cluster, _ in drawn]]
    values = np.array([value for _, value in drawn])
    found = credible_means(member, values)
    assert (found >= values.min() - 1e-6 - 1e-9 * values.max()).all()
    assert (found <= values.max() + 1e-6 + 1e-9 * values.max()).all()


def test_a_ratio_by_hand():
    # Own ratio 600 / 400 = 1.5, from which the prompts differ by (50^2 + 50^2 + 0 + 0) / 100 = 50 tokens; with
    # 0.25 * 100 of one prompt more, 75 / 4 between prompts. k = 18.75 / 0.09 and z = 400 / (400 + k).
    tokens, estimates = np.array([100.0, 200.0, 150.0, 150.0]), np.full(4, 100.0)
    share = 400 / (400 + 18.75 / 0.09)
    assert credible_ratio(tokens, estimates) == pytest.approx(1 + share * 0.5)


def test_a_ratio_from_many_prompts_is_their_own_and_from_one_prompt_is_close_to_one():
    estimates = np.random.default_rng(0).uniform(20, 2000, 1000)
    assert credible_ratio(1.4 * estimates, estimates) == pytest.approx(1.4, abs=0.002)
    assert 1 < credible_ratio(np.array([1400.0]), np.array([1000.0])) < 1.2


def test_long_prompts_count_for_more_than_short_ones():
    estimates = np.array([10.0] * 50 + [1000.0] * 50)
    assert credible_ratio(estimates * np.repeat([3.0, 1.0], 50), estimates) < 1.05


@pytest.mark.parametrize("estimates", [[], [0.0, 0.0]])
def test_without_an_estimate_the_ratio_is_one(estimates):
    assert credible_ratio(np.array([5.0] * len(estimates)), np.array(estimates)) == 1.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(1, 1e6)), min_size=1, max_size=30))
def test_a_ratio_is_between_one_and_that_of_the_prompts(drawn):
    tokens, estimates = np.array(drawn).T
    low, high = sorted((1.0, tokens.sum() / estimates.sum()))
    assert low * (1 - 1e-9) <= credible_ratio(tokens, estimates) <= high * (1 + 1e-9)
