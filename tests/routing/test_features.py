import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import FeatureVector, InvalidProfile, plain_feature_vector


def vector(assignments, scores, *, n_clusters=3, tokens_in=None, tokens_out=None, n_prompts=None) -> FeatureVector:
    n = len(scores)
    return plain_feature_vector(
        assignments,
        scores,
        np.full(n, 10.0) if tokens_in is None else tokens_in,
        np.full(n, 20.0) if tokens_out is None else tokens_out,
        n_clusters=n_clusters,
        n_prompts=n if n_prompts is None else n_prompts,
    )


def test_errors_and_tokens_are_means_per_cluster():
    found = vector([0, 0, 1, 2], [1, 0, 1, 0.25], tokens_in=[10, 30, 5, 7], tokens_out=[1, 3, 9, 11])
    assert found.errors.tolist() == [0.5, 0.0, 0.75]
    assert found.input_tokens.tolist() == [20, 5, 7]
    assert found.output_tokens.tolist() == [2, 9, 11]
    assert found.counts.tolist() == [2, 1, 1]


def test_an_empty_cluster_gets_the_llms_overall_error_and_tokens():
    found = vector([0, 0, 2, 2], [1, 1, 0, 1], tokens_out=[10, 20, 30, 40])
    assert found.errors[1] == pytest.approx(0.25)
    assert found.output_tokens[1] == pytest.approx(25)
    assert found.counts[1] == 0


def test_fewer_answers_leave_a_larger_standard_error():
    found = vector([0] * 40 + [1] * 2, [1, 0] * 21)
    assert found.standard_errors[0] < found.standard_errors[1] < found.standard_errors[2]


def test_an_all_wrong_llm_has_errors_of_one_and_an_all_right_llm_of_zero_with_room_for_doubt():
    wrong, right = vector([0, 1, 2], [0, 0, 0]), vector([0, 1, 2], [1, 1, 1])
    assert wrong.errors.tolist() == [1, 1, 1]
    assert right.errors.tolist() == [0, 0, 0]
    assert (wrong.standard_errors > 0).all()
    assert (right.standard_errors > 0).all()


def test_coverage_is_the_share_of_asked_prompts_with_a_score():
    assert vector([0], [1], n_prompts=4).coverage == 0.25


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
)
def test_counts_weigh_the_cluster_errors_to_the_overall_error(scores, seed):
    clusters = np.random.default_rng(seed).integers(0, 3, len(scores))
    found = vector(clusters, scores)
    assert found.counts.sum() == len(scores)
    assert (found.errors * found.counts).sum() == pytest.approx(len(scores) - sum(scores), abs=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1.1])
def test_a_score_outside_its_range_is_refused_by_name(bad):
    with pytest.raises(InvalidProfile, match=r"scores must be finite and in \[0, 1\].*position 1"):
        vector([0, 1], [1, bad])


@pytest.mark.parametrize("name", ["tokens_in", "tokens_out"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1])
def test_invalid_tokens_are_refused(name, bad):
    with pytest.raises(InvalidProfile, match="put_tokens must be finite"):
        vector([0, 1], [1, 0], **{name: [1, bad]})


def test_an_llm_without_any_score_has_no_vector():
    with pytest.raises(InvalidProfile, match="without any scored prompt"):
        vector([], [], n_prompts=5)


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_cluster_that_does_not_exist_is_refused(bad):
    with pytest.raises(InvalidProfile, match="assignments must be finite"):
        vector([0, bad], [1, 1])


def test_arrays_of_different_prompts_are_refused():
    with pytest.raises(InvalidProfile, match="assignments must have shape"):
        vector([0, 1, 2], [1, 1])


def test_more_scores_than_prompts_asked_are_refused():
    with pytest.raises(InvalidProfile, match="n_scored must be between 0 and n_prompts, got 2 of 1"):
        vector([0, 1], [1, 1], n_prompts=1)


FIELDS = ("errors", "standard_errors", "input_tokens", "output_tokens", "coefficients")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_no_vector_contains_a_number_that_is_not_finite(name, bad):
    found = vector([0, 1, 2], [1, 0, 1])
    broken = np.zeros(3, dtype=np.float64)
    broken[1] = bad
    with pytest.raises(InvalidProfile, match=f"{name} of a feature vector"):
        dataclasses.replace(found, **{name: broken})


def test_a_vector_cannot_be_changed_after_it_was_checked():
    found = vector([0, 1, 2], [1, 0, 1])
    with pytest.raises(ValueError, match="read-only"):
        found.errors[0] = np.nan


def test_changing_the_source_array_does_not_change_a_vector():
    errors = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    found = dataclasses.replace(vector([0, 1, 2], [1, 0, 1]), errors=errors)
    errors[0] = np.nan
    assert found.errors[0] == np.float32(0.1)


def test_counts_are_kept_to_the_last_prompt():
    assert dataclasses.replace(vector([0, 1, 2], [1, 0, 1]), counts=[2**24 + 1, 0, 0]).counts[0] == 2**24 + 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1, 1e7, "many", None])
def test_an_invalid_ratio_of_tokens_is_refused_by_name(bad):
    with pytest.raises(InvalidProfile, match="input_token_ratio must be a finite number in"):
        FeatureVector([0.5], [0.1], [1], [10], [10], 1, 1, input_token_ratio=bad)


def test_the_ratio_of_counted_to_estimated_tokens_is_kept_and_shrunk():
    n = 400
    estimates = np.random.default_rng(0).uniform(10, 1000, n)
    tokens = {"input_tokens": 1.25 * estimates, "output_tokens": np.ones(n)}
    made = partial(plain_feature_vector, np.zeros(n), np.ones(n), n_clusters=1, n_prompts=n, **tokens)
    assert made(estimated_tokens=estimates).input_token_ratio == pytest.approx(1.25, abs=0.003)
    assert made().input_token_ratio == 1.0


@pytest.mark.parametrize("bad", [[1.0], [np.nan, 1.0], [-1.0, 1.0], "many"])
def test_invalid_estimates_are_refused_by_name(bad):
    with pytest.raises(InvalidProfile, match="estimated_tokens must"):
        plain_feature_vector([0, 0], [1, 0], [1, 1], [1, 1], n_clusters=1, n_prompts=2, estimated_tokens=bad)
