"""Speeds of the routing mathematics as measured here, and as a ratio to bare float32 numpy: ``uniroute bench --speed``.

Every ratio is taken between two loops of the same run, each the median of several repeats that take turns, because the
speed of a machine changes from one minute to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.reports.plain import table
from routing.cluster_maps import KMeansMap
from routing.embedding import EmbedderId, load_embedder
from routing.estimator import PosteriorEstimator
from routing.features import FeatureVector
from routing.learned_map import LearnedMap
from routing.prompt_weights import ClusterMap
from routing.router import RoutedLLM, Router

_DIM, _CLUSTERS, _LLMS, _PROMPTS = 384, 32, 30, 10_000
_REPEATS = 7


@dataclass(frozen=True)
class Speed:
    """One measured speed.

    Attributes
    ----------
    what
        What was done.
    measured
        How long it took, or how much a second, with the unit.
    ratio
        Against the bare loop named in `what`; empty where there is none.
    """

    what: str
    measured: str
    ratio: str = ""


def measure_speed() -> str:
    """Measure and give a table of speeds."""
    rng = np.random.default_rng(0)
    rows = _unit(rng.normal(size=(_PROMPTS, _DIM)))
    speeds = [
        *(_batch(rows, router, kind) for kind, router in _routers(rng)),
        *(_single(rows, router, kind) for kind, router in _routers(rng)),
        _learned_map(rows, rng),
        *_estimators(rows, rng),
        _cluster_map(rng),
        _embedding(),
    ]
    return table(["WHAT", "MEASURED", "RATIO"], [[speed.what, speed.measured, speed.ratio] for speed in speeds])


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _routers(rng: np.random.Generator) -> list[tuple[str, Router]]:
    centres = _unit(rng.normal(size=(_CLUSTERS, _DIM)))
    vectors = [
        FeatureVector(
            errors=rng.uniform(0.1, 0.9, _CLUSTERS).astype(np.float32),
            standard_errors=np.full(_CLUSTERS, 0.05, dtype=np.float32),
            counts=np.full(_CLUSTERS, 20, dtype=np.int64),
            input_tokens=np.full(_CLUSTERS, 150, dtype=np.float32),
            output_tokens=rng.uniform(50, 400, _CLUSTERS).astype(np.float32),
            n_prompts=640,
            n_scored=640,
        )
        for _ in range(_LLMS)
    ]
    llms = [
        RoutedLLM(f"e:{n:02d}", float(rng.uniform(0.1, 5)), float(rng.uniform(0.1, 15)), v)
        for n, v in enumerate(vectors)
    ]
    embedder = EmbedderId("bench", "1", _DIM)
    return [
        (
            kind,
            Router(
                fitted,
                llms,
                embedder=embedder,
                cost_weight=20.0,
                calibration_weights=np.zeros((0, _CLUSTERS), dtype=np.float32),
            ),
        )
        for kind, fitted in (("hard", ClusterMap.nearest(centres)), ("soft", ClusterMap.soft(centres, 10.0)))
    ]


def _medians(*actions: Callable[[], object]) -> list[float]:
    """Give the median seconds of actions that take turns."""
    taken: list[list[float]] = [[] for _ in actions]
    for _ in range(_REPEATS + 1):
        for place, action in enumerate(actions):
            started_s = time.perf_counter()
            action()
            taken[place].append(time.perf_counter() - started_s)
    return [float(np.median(seconds[1:])) for seconds in taken]


def _batch(rows: NDArray[np.float32], router: Router, kind: str) -> Speed:
    """Route a batch, against the same arithmetic in bare numpy: scores, softmax or argmax, errors, cost, argmin."""
    matrix, bias = router.cluster_map.matrix, router.cluster_map.bias
    psi = np.array([llm.vector.errors for llm in router.llms], dtype=np.float32).T
    costs = psi * np.float32(1e-4)
    table_of = psi + np.float32(router.cost_weight) * costs

    def bare() -> NDArray[np.int64]:
        scores = rows @ matrix.T + bias
        if kind == "hard":
            return table_of.argmin(axis=1)[scores.argmax(axis=1)]
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return (scores @ table_of).argmin(axis=1)

    ours_s, bare_s = _medians(lambda: router.route(rows), bare)
    what = f"route {_PROMPTS:,} prompts x {_LLMS} LLMs x {_CLUSTERS} {kind} clusters, against bare numpy"
    return Speed(what, f"{ours_s * 1000:.1f} ms", f"{ours_s / bare_s:.2f}")


def _single(rows: NDArray[np.float32], router: Router, kind: str) -> Speed:
    count = 2000

    def decide() -> None:
        for row in rows[:count]:
            router.decide(row)

    (seconds,) = _medians(decide)
    return Speed(f"one decision with its full record, {kind} clusters", f"{seconds / count * 1e6:.1f} microseconds")


def _learned_map(rows: NDArray[np.float32], rng: np.random.Generator) -> Speed:
    errors = (rng.uniform(size=(len(rows), 20)) < 0.4).astype(np.float64)
    started_s = time.perf_counter()
    LearnedMap(_CLUSTERS, random_state=0).fit(rows, errors)
    return Speed(f"learned map on {len(rows):,} x 20", f"{time.perf_counter() - started_s:.2f} s")


def _estimators(rows: NDArray[np.float32], rng: np.random.Generator) -> list[Speed]:
    errors = (rng.uniform(size=(len(rows), _LLMS)) < 0.4).astype(np.float64)
    few = slice(0, 1000)
    started_s = time.perf_counter()
    estimator = PosteriorEstimator().fit(rows, errors, few=(rows[few], errors[few]))
    for column in range(_LLMS):
        _vector(estimator, rows[few], errors[few, column])
    refit_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    fitted = KMeansMap(_CLUSTERS, random_state=0).fit(rows).fitted_
    for column in range(_LLMS):
        np.bincount(fitted.assign(rows[few]), weights=errors[few, column], minlength=_CLUSTERS)
    plain_s = time.perf_counter() - started_s
    (one_s,) = _medians(lambda: _vector(estimator, rows[few], errors[few, 0]))
    size = f"{len(rows):,} prompts x {_LLMS} LLMs, no LLM called"
    return [
        Speed(f"refit of the posterior with its simulation and vectors, {size}", f"{refit_s:.2f} s"),
        Speed(f"refit of a k-means map and vectors, {size}", f"{plain_s:.2f} s"),
        Speed("posterior vector of one new LLM with 1 000 labels", f"{one_s * 1000:.1f} ms"),
    ]


def _vector(estimator: PosteriorEstimator, rows: NDArray[np.float32], errors: NDArray[np.float64]) -> FeatureVector:
    tokens = np.full(len(rows), 150.0)
    return estimator.vector(rows, 1 - errors, tokens, tokens, n_prompts=len(rows))


def _cluster_map(rng: np.random.Generator) -> Speed:
    rows = _unit(rng.normal(size=(100_000, _DIM)))
    started_s = time.perf_counter()
    KMeansMap(_CLUSTERS, random_state=0).fit(rows)
    return Speed(f"cluster map of 100 000 prompts, {_CLUSTERS} clusters", f"{time.perf_counter() - started_s:.1f} s")


def _embedding() -> Speed:
    """Embed recorded prompts at once, against one at a time."""
    from flows.sandbox import Sandbox

    texts = [prompt.text for prompt in Sandbox.prompts()[::25]]
    embedder = load_embedder("all-MiniLM-L6-v2")
    embedder.embed(texts[:2])
    started_s = time.perf_counter()
    embedder.embed(texts)
    together_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    for text in texts:
        embedder.embed([text])
    naive_s = time.perf_counter() - started_s
    return Speed(
        f"embed {len(texts)} prompts at once, against one at a time",
        f"{len(texts) / together_s:.0f} prompts/s",
        f"{naive_s / together_s:.2f} times as fast",
    )
