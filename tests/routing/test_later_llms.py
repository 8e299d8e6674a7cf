"""LLMs of later nights teach a prior by a few answers, and change nothing else."""

import numpy as np
import pytest

from routing import InvalidInput, PosteriorEstimator
from routing.later_llms import taught_by_later
from routing.stored_estimator import estimator_arrays, read_estimator


def answers(n: int, n_llms: int, seed: int, level: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts of two topics, and errors of LLMs that differ by topic around a level."""
    rng = np.random.default_rng(seed)
    topic = np.arange(n) % 2
    rows = np.eye(4)[topic] + rng.normal(0, 0.1, (n, 4))
    chances = np.clip(rng.uniform(0.2, 0.5, (2, n_llms)) + level, 0, 1)
    errors = (rng.random((n, n_llms)) < chances[topic]).astype(float)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), errors


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    return answers(300, 4, 0)


@pytest.fixture(scope="module")
def fitted(known) -> PosteriorEstimator:
    rows, errors = known
    return PosteriorEstimator().fit(rows, errors, few=(rows[::6], errors[::6]))


def mean_level(estimator: PosteriorEstimator, rows: np.ndarray) -> float:
    """Return what the prior expects of an LLM that has not answered anything."""
    design = estimator._fitted.space.design(rows)
    return float(
        np.mean([design @ prior.mean[: design.shape[1]] for prior in estimator._fitted.lessons.priors.values()])
    )


def test_the_prior_moves_towards_what_later_llms_showed(known, fitted) -> None:
    later = answers(80, 4, 1, level=0.4)
    taught = taught_by_later(fitted, known, later)
    before, after = (mean_level(one, known[0]) for one in (fitted, taught))
    assert before == pytest.approx(known[1].mean(), abs=0.05)
    assert after == pytest.approx((known[1].mean() + later[1].mean()) / 2, abs=0.06)
    assert (fitted.n_training_llms_, taught.n_training_llms_) == (4, 8)
    assert taught.cluster_map_.digest == fitted.cluster_map_.digest


def test_llms_like_the_known_ones_hardly_move_it(known, fitted) -> None:
    taught = taught_by_later(fitted, known, answers(80, 4, 2))
    assert mean_level(taught, known[0]) == pytest.approx(mean_level(fitted, known[0]), abs=0.05)


def test_missing_answers_are_no_answers_and_an_llm_without_any_teaches_nothing(known, fitted) -> None:
    rows, errors = answers(80, 2, 1, level=0.4)
    errors[10:20, 0] = np.nan
    with_silent = np.column_stack([errors, np.full(80, np.nan)])
    found, wanted = (estimator_arrays(taught_by_later(fitted, known, (rows, one))) for one in (with_silent, errors))
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert taught_by_later(fitted, known, (rows, np.full((80, 1), np.nan))) is fitted


def test_the_same_answers_teach_the_same_bits_and_are_read_back_as_such(known, fitted) -> None:
    later = answers(80, 3, 1, level=0.4)
    arrays = [estimator_arrays(taught_by_later(fitted, known, later)) for _ in range(2)]
    again = estimator_arrays(read_estimator("posterior", arrays[0]))
    assert all(np.array_equal(arrays[0][name], one[name]) for one in (arrays[1], again) for name in again)


def test_prompts_and_errors_must_be_equally_many(known, fitted) -> None:
    rows, errors = answers(80, 3, 1)
    with pytest.raises(InvalidInput, match="not equally many"):
        taught_by_later(fitted, known, (rows, errors[1:]))
