"""Synthetic data for routing tests: seeded embeddings, vectors and routers, and one data set that is solved by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing import ClusterMap, EmbedderId, RoutedLLM, Router, plain_feature_vector

EMBEDDER = EmbedderId("fake", "1", 8)


def unit_rows(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_llm(key: str, fitted: ClusterMap, seed: int) -> RoutedLLM:
    rng = np.random.default_rng(seed)
    n = 40
    vector = plain_feature_vector(
        rng.integers(0, fitted.n_clusters, n),
        rng.integers(0, 2, n),
        rng.integers(10, 100, n),
        rng.integers(10, 500, n),
        n_clusters=fitted.n_clusters,
        n_prompts=n + 2,
    )
    return RoutedLLM(key, float(rng.uniform(0.1, 1)), float(rng.uniform(0.5, 5)), vector)


def random_router(
    *, soft: bool = False, n_llms: int = 5, n_clusters: int = 4, seed: int = 0, cost_weight: float = 50.0
) -> Router:
    centres = unit_rows(n_clusters, seed=seed + 1000)
    fitted = ClusterMap.soft(centres, 4.0) if soft else ClusterMap.nearest(centres)
    return Router(
        fitted,
        [random_llm(f"endpoint:llm-{j}", fitted, seed * 100 + j) for j in range(n_llms)],
        embedder=EMBEDDER,
        cost_weight=cost_weight,
        calibration_weights=fitted.weights(unit_rows(30, seed=seed + 2000)),
        provenance={"prompt_set": "abc"},
    )


def flat_llm(key: str, errors: list[float], usd: float) -> RoutedLLM:
    """Make an LLM with these errors per cluster that costs `usd` on every prompt."""
    n = len(errors)
    vector = plain_feature_vector(np.arange(n), 1 - np.array(errors), [1e6] * n, [0] * n, n_clusters=n, n_prompts=n)
    return RoutedLLM(key, usd, 0.0, vector)


def flat_router(llms: list[RoutedLLM], *, cost_weight: float = 0.0, soft: bool = False) -> Router:
    """Make a router whose cluster k is the k-th axis of an 8-dimensional space."""
    centres = np.eye(8)[: len(llms[0].vector.errors)]
    fitted = ClusterMap.soft(centres, 5.0) if soft else ClusterMap.nearest(centres)
    return Router(
        fitted, llms, embedder=EMBEDDER, cost_weight=cost_weight, calibration_weights=fitted.weights(np.eye(8))
    )


@dataclass(frozen=True)
class SolvedByHand:
    """Four prompts and three LLMs, each slightly better and more expensive than the one before.

    A router that knows the scores chooses (cheap, mid, dear, cheap) at cost weight zero: mean cost 2, mean score 3/4.
    The third prompt switches from dear to cheap at a cost weight of 1/3, the second from mid to cheap at 1. Relative to
    the 4 USD of dear, the curve is (1/2, 3/4), (5/16, 1/2), (1/4, 1/4).
    """

    keys = ("cheap", "mid", "dear")
    scores = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=float)
    costs_usd = np.array([[1, 2, 4]] * 4, dtype=float)
    reference_cost_usd = 4.0
