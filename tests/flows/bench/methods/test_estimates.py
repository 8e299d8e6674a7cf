import dataclasses

import numpy as np
import pytest

from flows.bench.methods import estimates
from flows.bench.methods.estimates import EXPECTED_ERRORS
from flows.bench.methods.trial import BenchTrial
from routing import ClusterMap, InvalidInput, ZeroRouter, area, deferral_curve
from routing.learned_map import best_setting, contrast_loss, plain_vectors
from tests.flows.bench.synthetic import embeddings, knows, topics

N = 300
ROWS = embeddings(N)


def trial(*, n_few: int = 60, noise: float = 0.0, n_train: int = 6, seed: int = 0) -> BenchTrial:
    """Training LLMs and two new ones, one per topic; answers are flipped with the probability `noise`."""
    rng = np.random.default_rng(seed)
    kinds = [("first", "second")[column % 2] for column in range(n_train)] + ["first", "second"]
    right = np.stack([knows(kind, topics(N)) for kind in kinds], axis=1)
    errors = np.where(rng.random(right.shape) < noise, right, ~right).astype(float)
    map_rows, few, gate = np.arange(0, 180), np.arange(180, 180 + n_few), np.arange(240, N)
    pool = np.arange(180, 240)
    return BenchTrial(
        map_rows=ROWS[map_rows],
        few_rows=ROWS[few],
        gate_rows=ROWS[gate],
        train_map_errors=errors[map_rows, :n_train],
        train_few_errors=errors[few, :n_train],
        train_few_costs_usd=np.ones((n_few, n_train)),
        test_few_errors=errors[few, n_train:],
        test_map_errors=errors[map_rows, n_train:],
        pool_rows=ROWS[pool],
        train_pool_errors=errors[pool, :n_train],
        test_pool_errors=errors[pool, n_train:],
        seed=seed,
    )


EXPECTED = np.stack([topics(N)[240:] == 1, topics(N)[240:] == 0], axis=1).astype(float)


@pytest.mark.parametrize("name", [name for name in EXPECTED_ERRORS if name != "random"])
@pytest.mark.parametrize("n_train", [0, 1, 2, 6])
def test_every_method_distinguishes_the_topics(name, n_train):
    found = EXPECTED_ERRORS[name](trial(n_train=n_train))
    assert found.shape == EXPECTED.shape
    # What a router reads: which of the two LLMs is better on a prompt.
    assert ((found[:, 0] > found[:, 1]) == (EXPECTED[:, 0] > EXPECTED[:, 1])).all()


@pytest.mark.parametrize("name", [name for name in EXPECTED_ERRORS if name not in ("clairvoyant", "random")])
def test_no_method_but_the_clairvoyant_sees_the_new_llms_on_map_prompts(name):
    seen, blind = trial(noise=0.2), trial(noise=0.2)
    blind.test_map_errors[:] = np.nan
    assert EXPECTED_ERRORS[name](seen).tobytes() == EXPECTED_ERRORS[name](blind).tobytes()


def test_the_number_of_neighbours_follows_the_noise():
    # With one label in three wrong, one neighbour is the worst choice and many the best.
    noisy = trial(noise=0.33)
    found = EXPECTED_ERRORS["knn"](noisy)
    steps = found * 40
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert len(np.unique(found)) > 2


def test_the_paper_chooses_more_clusters_than_the_simulation(monkeypatch):
    chosen = {}

    def routed(cluster_map, trial):
        chosen[name] = cluster_map.n_clusters
        return np.zeros((1, 1))

    monkeypatch.setattr(estimates, "_routed_by", routed)
    noisy = trial(noise=0.3)
    for name in ("kmeans", "kmeans_f1"):
        EXPECTED_ERRORS[name](noisy)
    assert chosen["kmeans"] <= chosen["kmeans_f1"]
    assert chosen["kmeans"] == 5


def test_plain_vectors_are_means_per_cluster_and_the_overall_mean_where_none_is():
    cluster_map = ClusterMap.nearest(np.eye(8)[:3])
    rows = np.eye(8, dtype=np.float32)[[0, 0, 1]]
    found = plain_vectors(cluster_map, rows, np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.5, 0.0], [1.0, 0.0], [2 / 3, 0.0]], rtol=1e-6)


def test_maps_are_shared_and_only_as_fine_as_prompts_allow():
    few = trial()
    assert few.map_of(5) is few.map_of(5)
    assert few.kmeans_sizes == (5, 10, 25, 50, 100)
    assert [m.n_clusters for m in few.resolutions] == [5, 10]


def shortfalls(method: str, n_train: int, *, n_labels: int = 40, seeds: int = 8) -> np.ndarray:
    """Area of ZeroRouter minus a method's, where prompts say nothing about who is right: there is nothing to gain."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(700, 16)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        skill = np.concatenate([rng.uniform(0.3, 0.9, n_train), [0.45, 0.55, 0.6, 0.7]])
        errors = (rng.random((700, len(skill))) > skill).astype(float)
        map_rows, few, gate = np.arange(300), np.arange(300, 300 + n_labels), np.arange(400, 700)
        costs = np.tile([0.1, 0.3, 0.5, 1.0], (700, 1))
        seen = BenchTrial(
            map_rows=rows[map_rows],
            few_rows=rows[few],
            gate_rows=rows[gate],
            train_map_errors=errors[map_rows, :n_train],
            train_few_errors=errors[few, :n_train],
            train_few_costs_usd=np.ones((n_labels, n_train)),
            test_few_errors=errors[few, n_train:],
            test_map_errors=errors[map_rows, n_train:],
            pool_rows=rows[few],
            train_pool_errors=errors[few, :n_train],
            test_pool_errors=errors[few, n_train:],
            seed=seed,
        )
        scores = 1 - errors[gate, n_train:]
        ours = deferral_curve(EXPECTED_ERRORS[method](seen), costs[gate], scores, costs[gate], reference_cost_usd=1.0)
        blind = ZeroRouter.fit(1 - errors[few, n_train:], costs[few], "abcd")
        found.append(area(blind.curve(scores, costs[gate], reference_cost_usd=1.0)) - area(ours))
    return np.array(found)


@pytest.mark.parametrize("n_train", [0, 1, 2, 3, 5])
def test_with_few_training_llms_the_posterior_is_not_below_the_zero_router_by_more_than_noise(n_train):
    # The standard error of the mean is about 0.005.
    assert shortfalls("posterior", n_train).mean() < 0.015


def test_plain_means_are_below_it_on_the_same_data():
    assert shortfalls("kmeans_f1", 3).mean() > 0.02


@pytest.mark.parametrize("name", list(EXPECTED_ERRORS))
@pytest.mark.parametrize("n_train", [0, 1, 4])
def test_llms_that_are_always_wrong_or_right_and_identical_prompts_are_no_obstacle(name, n_train):
    ordinary = trial(n_train=n_train)
    alike = np.tile(ROWS[:1], (N, 1))
    constant = dataclasses.replace(
        ordinary,
        map_rows=alike[:180],
        few_rows=alike[:60],
        gate_rows=alike[:60],
        train_map_errors=np.tile(np.arange(n_train) % 2.0, (180, 1)),
        train_few_errors=np.tile(np.arange(n_train) % 2.0, (60, 1)),
        test_few_errors=np.tile([0.0, 1.0], (60, 1)),
        test_map_errors=np.tile([0.0, 1.0], (180, 1)),
        pool_rows=alike[:60],
        train_pool_errors=np.tile(np.arange(n_train) % 2.0, (60, 1)),
        test_pool_errors=np.tile([0.0, 1.0], (60, 1)),
    )
    found = EXPECTED_ERRORS[name](constant)
    assert np.isfinite(found).all()
    if name != "random":
        assert (found[:, 0] < found[:, 1]).all(), "always right is better than always wrong"


def test_the_loss_is_the_mean_square_of_wrong_differences():
    # On the first prompt both are 0.1 too high: no difference is wrong. On the second they are 0.2 apart, 0 predicted.
    assert contrast_loss([[0.6, 0.1], [0.5, 0.5]], [[0.5, 0.0], [0.4, 0.6]]) == pytest.approx((0 + 0.1**2) / 2)


def test_prompts_without_every_label_do_not_count():
    assert contrast_loss([[0.5, 0.5], [0.0, 9.0]], [[0.5, 0.5], [0.0, np.nan]]) == 0
    with pytest.raises(InvalidInput, match="no prompt has a label of every LLM"):
        contrast_loss([[0.5, 0.5]], [[np.nan, 0.0]])


def test_the_first_of_equally_good_settings_is_kept():
    assert best_setting({"a": 2.0, "b": 1.0, "c": 1.0}) == "b"
