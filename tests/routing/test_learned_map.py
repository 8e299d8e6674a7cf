import dataclasses

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from routing import ClusterMap, InvalidInput, KMeansMap, Router, plain_feature_vector
from routing.content import format_of
from routing.learned_map import LearnedMap, _Problem, _soft_start, learn
from tests.routing.synthetic import EMBEDDER, random_llm, unit_rows


@dataclasses.dataclass(frozen=True)
class SyntheticData:
    """Prompts whose errors follow a softmax map that k-means cannot see: it reads one axis only."""

    rows: np.ndarray
    errors: np.ndarray
    start: ClusterMap
    psi: np.ndarray
    fresh_rows: np.ndarray
    fresh_errors: np.ndarray


@pytest.fixture(scope="module")
def data() -> SyntheticData:
    rng = np.random.default_rng(0)
    rows, fresh_rows = unit_rows(3000, seed=1), unit_rows(3000, seed=2)
    skill = rng.uniform(0.05, 0.95, (2, 12))

    def errors(x: np.ndarray) -> np.ndarray:
        easy = 1 / (1 + np.exp(-12 * x[:, :1]))
        return (rng.random((len(x), 12)) < easy * skill[0] + (1 - easy) * skill[1]).astype(float)

    known = errors(rows)
    start = KMeansMap(n_clusters=6).fit(rows).fitted_
    psi = np.stack([known[start.assign(rows) == k].mean(axis=0) for k in range(6)])
    return SyntheticData(rows, known, start, psi, fresh_rows, errors(fresh_rows))


def log_loss(predicted: np.ndarray, errors: np.ndarray) -> float:
    return float(-(errors * np.log(predicted) + (1 - errors) * np.log(1 - predicted)).mean())


@pytest.fixture(scope="module")
def learned(data) -> LearnedMap:
    return LearnedMap().fit(data.rows, data.errors, psi=data.psi, start=data.start)


def test_learning_explains_unseen_prompts_better_than_where_it_started(data, learned):
    clipped = np.clip(data.psi, 0.01, 0.99)
    hard = log_loss(data.start.weights(data.fresh_rows) @ clipped, data.fresh_errors)
    fitted = log_loss(learned.predict(data.fresh_rows), data.fresh_errors)
    assert fitted < hard - 0.01
    assert learned.held_out_loss_ < learned.start_loss_


def test_stopping_early_is_as_good_on_unseen_prompts_as_a_long_run(data, learned):
    errors = data.errors.astype(np.float32)
    problem = _Problem(data.rows, errors, learned.psi_, _soft_start(data.start, data.rows), learned.ridge)
    here = problem.start.ravel()
    slope, size = np.zeros_like(here), np.zeros_like(here)
    for step in range(1, 1501):
        # Adam (Kingma and Ba 2015), the optimiser that other implementations use.
        gradient = problem.loss_and_gradient(here)[1]
        slope, size = 0.9 * slope + 0.1 * gradient, 0.999 * size + 0.001 * gradient**2
        here = here - 0.05 * (slope / (1 - 0.9**step)) / (np.sqrt(size / (1 - 0.999**step)) + 1e-8)
    theta, bias = np.split(here.reshape(problem.start.shape), [-1], axis=1)
    reference = ClusterMap("reference", theta, bias[:, 0], learned.fitted_.blocks).weights(data.fresh_rows)
    assert log_loss(learned.predict(data.fresh_rows), data.fresh_errors) <= (
        log_loss(reference @ learned.psi_, data.fresh_errors) + 5e-4
    )


def test_the_start_is_the_soft_k_means_map_of_the_paper(data):
    centres, own = data.start.matrix, data.start.matrix[data.start.assign(data.rows)]
    tau = ((data.rows - own) ** 2).sum(axis=1).mean()
    start = _soft_start(data.start, data.rows)
    np.testing.assert_allclose(start[:, :-1], 2 * centres / tau, rtol=1e-5)
    np.testing.assert_allclose(start[:, -1], -(centres**2).sum(axis=1) / tau, rtol=1e-5)


def test_the_gradient_is_the_slope_of_the_loss(data):
    psi = np.clip(data.psi, 0.01, 0.99).astype(np.float32)
    start = _soft_start(data.start, data.rows)
    problem = _Problem(data.rows[:200], data.errors[:200].astype(np.float32), psi, start, 5.0)
    rng = np.random.default_rng(3)
    here = start.ravel() + rng.normal(0, 0.3, start.size)
    for _ in range(5):
        direction = rng.normal(size=start.size)
        step = 1e-2 * direction / np.linalg.norm(direction)
        rise = problem.loss_and_gradient(here + step)[0] - problem.loss_and_gradient(here - step)[0]
        assert rise / 2 == pytest.approx(float(problem.loss_and_gradient(here)[1] @ step), rel=0.05, abs=2e-7)


def test_the_same_inputs_learn_the_same_map(data, learned):
    again = clone(learned).fit(data.rows, data.errors, psi=data.psi, start=data.start)
    np.testing.assert_allclose(again.fitted_.matrix, learned.fitted_.matrix, rtol=1e-6)


def test_a_missing_label_is_no_label(data):
    """What is missing counts neither as right nor as wrong: a tenth of the labels of one LLM hardly changes a map."""
    rows, errors = data.rows[:600], data.errors[:600].copy()
    whole = LearnedMap(max_iter=20, n_clusters=3).fit(rows, errors)
    errors[::10, 3] = np.nan
    found = LearnedMap(max_iter=20, n_clusters=3).fit(rows, errors, start=KMeansMap(3).fit(rows).fitted_)
    np.testing.assert_allclose(found.weights(rows), whole.weights(rows), atol=0.15)
    errors[:, 3] = np.nan
    with pytest.raises(InvalidInput, match="LLM 3 has no label"):
        LearnedMap(n_clusters=3).fit(rows, errors)


def test_the_number_of_clusters_is_the_one_that_predicts_llms_that_are_held_out(data):
    rows, errors = data.rows[:600], data.errors[:600]
    few = data.rows[600:700], data.errors[600:700]
    maps = {size: KMeansMap(size).fit(rows).fitted_ for size in (1, 6)}
    given = {"map_of": maps.__getitem__, "seed": 0}
    found = learn(rows, errors, *few, sizes=(1, 6), **given)
    # With one cluster there is nothing to tell prompts apart by.
    assert found.start is maps[6]
    assert found.cluster_map.n_clusters == 6
    assert learn(rows, errors, *few, sizes=(1,), **given).start is maps[1]
    with pytest.raises(InvalidInput, match="at least 2 LLMs that answered the map prompts, not 1"):
        learn(rows, errors[:, :1], few[0], few[1][:, :1], sizes=(6,), **given)


def test_it_finds_its_own_start_and_vectors_when_given_none(data):
    fitted = LearnedMap(n_clusters=4, max_iter=5).fit(data.rows[:500], data.errors[:500])
    assert fitted.psi_.shape == (4, 12)
    assert fitted.weights(data.rows[:7]).shape == (7, 4)


def test_a_router_serves_the_learned_map(data, learned):
    clusters = learned.assign(data.rows[:300])
    vector = plain_feature_vector(
        clusters, 1 - data.errors[:300, 0], np.ones(300), np.ones(300), n_clusters=6, n_prompts=300
    )
    llm = dataclasses.replace(random_llm("a", data.start, 0), vector=vector)
    router = Router(learned, [llm], embedder=EMBEDDER, cost_weight=1.0, calibration_weights=np.zeros((0, 6)))
    assert router.cluster_map.kind == "learned_map"
    # Its form is older than the method: consumers of every release read it.
    assert format_of(router) == 1
    expected = learned.fitted_.weights(data.rows[:5]) @ vector.errors
    np.testing.assert_allclose(router.expected(data.rows[:5]).errors[:, 0], expected, atol=1e-6)


def test_it_keeps_the_estimator_contract(learned):
    fresh = clone(learned)
    assert fresh.get_params() == learned.get_params()
    with pytest.raises(NotFittedError):
        fresh.weights(unit_rows(1))


@pytest.mark.parametrize("bad", [np.inf, -0.1, 1.1])
def test_invalid_errors_are_refused(data, bad):
    broken = data.errors[:50].copy()
    broken[3, 2] = bad
    with pytest.raises(InvalidInput, match=r"errors must be finite and in \[0, 1\].*\(3, 2\)"):
        LearnedMap(n_clusters=2).fit(data.rows[:50], broken)


def test_inputs_that_do_not_fit_together_are_refused(data):
    rows, errors = data.rows[:50], data.errors[:50]
    with pytest.raises(InvalidInput, match="50 embeddings and 49 rows"):
        LearnedMap(n_clusters=2).fit(rows, errors[:49])
    with pytest.raises(InvalidInput, match="psi must have shape"):
        LearnedMap().fit(rows, errors, psi=np.zeros((5, 12)), start=data.start)
    with pytest.raises(InvalidInput, match="starts from a k-means map"):
        LearnedMap().fit(rows, errors, start=ClusterMap.soft(unit_rows(3), 2.0))
    with pytest.raises(InvalidInput, match="ridge must be"):
        LearnedMap(n_clusters=2, ridge=-1).fit(rows, errors)
