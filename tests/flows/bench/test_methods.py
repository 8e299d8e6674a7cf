import numpy as np
import pytest

from flows.bench import methods
from flows.bench.methods import EXPECTED_ERRORS, Trial, plain_vectors
from routing import ClusterMap

from .worlds import embeddings, knows, topics

N = 300
ROWS = embeddings(N)


def trial(*, n_few: int = 60, noise: float = 0.0, n_train: int = 6, seed: int = 0) -> Trial:
    """Training LLMs and two new ones, one per topic; answers are flipped with the probability `noise`."""
    rng = np.random.default_rng(seed)
    kinds = [("first", "second")[column % 2] for column in range(n_train)] + ["first", "second"]
    right = np.stack([knows(kind, topics(N)) for kind in kinds], axis=1)
    errors = np.where(rng.random(right.shape) < noise, right, ~right).astype(float)
    map_rows, few, gate = np.arange(0, 180), np.arange(180, 180 + n_few), np.arange(240, N)
    return Trial(
        map_rows=ROWS[map_rows],
        few_rows=ROWS[few],
        gate_rows=ROWS[gate],
        train_map_errors=errors[map_rows, :n_train],
        train_few_errors=errors[few, :n_train],
        train_few_costs_usd=np.ones((n_few, n_train)),
        test_few_errors=errors[few, n_train:],
        test_map_errors=errors[map_rows, n_train:],
        seed=seed,
    )


WANTED = np.stack([topics(N)[240:] == 1, topics(N)[240:] == 0], axis=1).astype(float)


@pytest.mark.parametrize("name", [name for name in EXPECTED_ERRORS if name != "random"])
@pytest.mark.parametrize("n_train", [0, 1, 2, 6])
def test_every_method_tells_the_topics_apart(name, n_train):
    found = EXPECTED_ERRORS[name](trial(n_train=n_train))
    assert found.shape == WANTED.shape
    # What a router reads: which of the two LLMs is better on a prompt.
    assert ((found[:, 0] > found[:, 1]) == (WANTED[:, 0] > WANTED[:, 1])).all()


@pytest.mark.parametrize("name", [name for name in EXPECTED_ERRORS if name not in ("clairvoyant", "random")])
def test_no_method_but_the_clairvoyant_sees_the_new_llms_on_map_prompts(name):
    seen, blind = trial(noise=0.2), trial(noise=0.2)
    blind.test_map_errors[:] = np.nan
    assert EXPECTED_ERRORS[name](seen).tobytes() == EXPECTED_ERRORS[name](blind).tobytes()


def test_neighbours_are_chosen_for_the_noise():
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

    monkeypatch.setattr(methods, "_routed_by", routed)
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
