"""Speeds of the routing mathematics as measured here, and as a ratio to bare float32 numpy: ``uniroute bench --speed``.

Every figure is the best of several repeats, and the two sides of a ratio take turns in the same run: the speed of a
shared machine changes from one minute to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.text import table
from routing.cluster_maps import KMeansMap
from routing.embedders import load_embedder
from routing.embedders.static import STATIC, table_file
from routing.embedding import EmbedderId
from routing.estimator import PosteriorEstimator
from routing.features import FeatureVector
from routing.learned_map import LearnedMap
from routing.posterior.choice import choose
from routing.posterior.feature_space import resolution_maps, spreads_of
from routing.prompt_weights import Block, ClusterMap
from routing.router import RoutedLLM, Router

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_DIM, _CLUSTERS, _LLMS, _PROMPTS = 384, 32, 30, 10_000
_REPEATS = 7
# The map of the posterior: shown clusters, then resolutions and error profiles.
_POSTERIOR_BLOCKS = (25, 5, 10, 25, 50, 100, 16, 64)


@dataclass(frozen=True)
class Speed:
    """One measured speed.

    Attributes
    ----------
    what
        What was done, and what it is compared with.
    measured
        Duration or rate, with its unit.
    target
        Target of the figure or of the ratio.
    ratio
        Ratio to the bare loop named in `what`; empty where there is none.
    """

    what: str
    measured: str
    target: str = ""
    ratio: str = ""


def measured_speeds(embedders: Path) -> Iterator[Speed]:
    """Measure the speeds one after another, in about a minute.

    Parameters
    ----------
    embedders
        Folder of the static embedder's table; if there is no table, its line says so.

    Yields
    ------
    Speed
    """
    rng = np.random.default_rng(0)
    rows = _unit(rng.normal(size=(_PROMPTS, _DIM)))
    routers = _routers(rng)
    for kind, router in routers:
        yield _batch(rows, router, kind)
    for kind, router in routers:
        yield _single(rows, router, kind, None)
        yield _single(rows, router, kind, 150.0)
    yield _learned_map(rng)
    yield from _estimators(rows, rng)
    yield _cluster_map(rng)
    yield from _embedding(embedders)


def speed_table(speeds: Sequence[Speed]) -> str:
    """Format speeds as a table.

    Parameters
    ----------
    speeds
        Measured speeds.
    """
    lines = [[speed.what, speed.measured, speed.ratio, speed.target] for speed in speeds]
    return table(["WHAT", "MEASURED", "RATIO", "TARGET"], lines)


def _unit(rows: F64) -> F32:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _routers(rng: np.random.Generator) -> list[tuple[str, Router]]:
    centres = _unit(rng.normal(size=(_CLUSTERS, _DIM)))
    features = 20 * _unit(rng.normal(size=(sum(_POSTERIOR_BLOCKS), _DIM)))
    first, *others = _POSTERIOR_BLOCKS
    blocks = (Block("softmax", first), *(Block("soft_feature", size) for size in others))
    maps = {
        f"{_CLUSTERS} hard clusters": ClusterMap.nearest(centres),
        f"{_CLUSTERS} soft clusters": ClusterMap.soft(centres, 10.0),
        f"a posterior of {len(features)} columns": ClusterMap("posterior", features, np.zeros(len(features)), blocks),
    }
    return [(kind, _router(fitted, rng)) for kind, fitted in maps.items()]


def _router(fitted: ClusterMap, rng: np.random.Generator) -> Router:
    k = fitted.n_clusters
    llms = [
        RoutedLLM(
            f"e:{number:02d}",
            float(rng.uniform(0.1, 5)),
            float(rng.uniform(0.1, 15)),
            FeatureVector(
                errors=rng.uniform(0.1, 0.9, k).astype(np.float32),
                standard_errors=np.full(k, 0.05, dtype=np.float32),
                counts=np.full(k, 20, dtype=np.int64),
                input_tokens=np.full(k, 150, dtype=np.float32),
                output_tokens=rng.uniform(50, 400, k).astype(np.float32),
                n_prompts=640,
                n_scored=640,
                coefficients=rng.normal(0, 0.05, fitted.n_linear).astype(np.float32),
            ),
        )
        for number in range(_LLMS)
    ]
    nothing = np.zeros((0, k + fitted.n_linear), dtype=np.float32)
    embedder = EmbedderId("bench", "1", _DIM)
    return Router(fitted, llms, embedder=embedder, cost_weight=20.0, calibration_weights=nothing)


def _best(*actions: Callable[[], object], repeats: int = _REPEATS) -> list[float]:
    """Return the shortest time in seconds of actions that take turns, after one turn that does not count."""
    least = [float("inf")] * len(actions)
    for turn in range(repeats + 1):
        for place, action in enumerate(actions):
            started_s = time.perf_counter()
            action()
            if turn:
                least[place] = min(least[place], time.perf_counter() - started_s)
    return least


def _once(action: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


def _bare(router: Router) -> Callable[[F32], NDArray[np.int64]]:
    """Return the same arithmetic in bare numpy: scores, softmax or argmax, errors plus cost, argmin."""
    fitted = router.cluster_map
    matrix, bias = fitted.matrix, fitted.bias
    psi = np.array([np.concatenate([llm.vector.errors, llm.vector.coefficients]) for llm in router.llms]).T
    objective = np.ascontiguousarray(psi * np.float32(1 + 20e-4))
    ends = np.cumsum([0, *(block.size for block in fitted.blocks)])

    def decide(rows: F32) -> NDArray[np.int64]:
        scores = rows @ matrix.T + bias
        if fitted.is_hard:
            return objective.argmin(axis=1)[scores.argmax(axis=1)]
        for start, end in pairwise(ends.tolist()):
            part = scores[:, start:end]
            part -= part.max(axis=1, keepdims=True)
            np.exp(part, out=part)
            part /= part.sum(axis=1, keepdims=True)
        return (scores @ objective).argmin(axis=1)

    return decide


def _batch(rows: F32, router: Router, kind: str) -> Speed:
    ours_s, bare_s = _best(partial(router.route, rows), partial(_bare(router), rows))
    what = f"route {_PROMPTS:,} prompts x {_LLMS} LLMs, {kind}; ratio to bare numpy"
    return Speed(what, f"{ours_s * 1000:.1f} ms", "ratio at most 1.3", f"{ours_s / bare_s:.2f}")


def _single(rows: F32, router: Router, kind: str, input_tokens: float | None) -> Speed:
    count = 500
    bare = _bare(router)

    def decide() -> None:
        for row in rows[:count]:
            router.decide(row, input_tokens=input_tokens)

    def decide_bare() -> None:
        for row in range(count):
            bare(rows[row : row + 1])

    ours_s, bare_s = _best(decide, decide_bare)
    with_tokens = "" if input_tokens is None else " and its own input tokens"
    what = f"one decision with its full record{with_tokens}, {kind}; ratio to bare numpy without a record"
    return Speed(what, f"{ours_s / count * 1e6:.1f} microseconds", "30 microseconds", f"{ours_s / bare_s:.2f}")


def _learned_map(rng: np.random.Generator) -> Speed:
    # As many topics as clusters, and errors that follow the topic: without any, the fit stops at its start.
    topics = rng.integers(0, _CLUSTERS, _PROMPTS)
    centres = _unit(rng.normal(size=(_CLUSTERS, _DIM)))
    rows = _unit(centres[topics] + rng.normal(0, 0.06, (_PROMPTS, _DIM)))
    rates = rng.uniform(0.1, 0.9, (_CLUSTERS, 20))[topics]
    errors = (rng.uniform(size=rates.shape) < rates).astype(np.float64)
    learned = LearnedMap(_CLUSTERS, random_state=0)
    taken_s = _once(lambda: learned.fit(rows, errors))
    theta, psi, wrong = learned.fitted_.matrix, learned.psi_, errors.astype(np.float32)

    def step() -> F32:
        weights = rows @ theta.T
        return ((weights @ psi - wrong) @ psi.T * weights).T @ rows

    (step_s,) = _best(step)
    what = f"learned map on {len(rows):,} x 20; ratio to the bare products of its {learned.n_iter_} steps"
    return Speed(what, f"{taken_s:.2f} s", "5 s", f"{taken_s / max(step_s * learned.n_iter_, 1e-9):.1f}")


def _estimators(rows: F32, rng: np.random.Generator) -> list[Speed]:
    errors = (rng.uniform(size=(len(rows), _LLMS)) < 0.4).astype(np.float64)
    few = slice(0, 1000)
    # As in service: the estimator knows how hard the representative prompts are.
    places = np.where(np.arange(len(rows)) < few.stop, np.arange(len(rows)), -1)
    estimator = PosteriorEstimator()

    def refit() -> None:
        estimator.fit(rows, errors, few=(rows[few], errors[few]))
        prompts, tokens = estimator.prepared(rows, places), np.full(len(rows), 150.0)
        for column in range(_LLMS):
            scored = np.ones(len(rows), dtype=bool)
            prompts.vector(scored, 1 - errors[:, column], tokens, tokens, n_prompts=len(rows))

    maps = resolution_maps(rows, seed=0)
    spreads = spreads_of(maps, rows)
    refit_s, choice_s = _best(
        refit, lambda: choose(rows, errors, rows[few], errors[few], maps, spreads, seed=0), repeats=3
    )

    def refit_plain() -> None:
        fitted = KMeansMap(_CLUSTERS, random_state=0).fit(rows).fitted_
        for column in range(_LLMS):
            np.bincount(fitted.assign(rows), weights=errors[:, column], minlength=_CLUSTERS)

    (plain_s,) = _best(refit_plain, repeats=1)
    matrix = estimator.cluster_map_.matrix

    def bare() -> F32:
        design = np.exp(-np.abs(rows @ matrix.T))
        return design.T @ design

    (bare_s,) = _best(bare)
    size = f"{len(rows):,} prompts x {_LLMS} LLMs, no LLM called"
    what = f"refit of posterior map and {_LLMS} vectors, {size}; ratio to features and their sums once, bare"
    return [
        Speed(what, f"{refit_s:.2f} s", "2 s", f"{refit_s / bare_s:.0f}"),
        Speed("  of which the choice of sharpness and shrinkage by simulation", f"{choice_s:.2f} s"),
        Speed(f"refit of a k-means map and {_LLMS} plain vectors, {size}", f"{plain_s:.2f} s", "2 s"),
        *(_one_more(rows, rng, known) for known in (_LLMS, 10 * _LLMS)),
    ]


def _one_more(rows: F32, rng: np.random.Generator, n_known: int) -> Speed:
    """Add one LLM; by then, the LLMs before it are only a few numbers in the prior."""
    errors = (rng.uniform(size=(2000, n_known)) < 0.4).astype(np.float64)
    estimator = PosteriorEstimator().fit(rows[:2000], errors)
    (seconds,) = _best(lambda: _vector(estimator, rows[:1000], errors[:1000, 0]))
    what = f"posterior vector of one new LLM with 1,000 labels, beside {n_known} known LLMs"
    return Speed(what, f"{seconds * 1000:.1f} ms", "50 ms")


def _vector(estimator: PosteriorEstimator, rows: F32, errors: F64) -> FeatureVector:
    tokens = np.full(len(rows), 150.0)
    return estimator.vector(rows, 1 - errors, tokens, tokens, n_prompts=len(rows))


def _cluster_map(rng: np.random.Generator) -> Speed:
    rows = _unit(rng.normal(size=(100_000, _DIM)))
    fitted = KMeansMap(_CLUSTERS, random_state=0)
    taken_s = _once(lambda: fitted.fit(rows))
    (step_s,) = _best(lambda: (rows @ fitted.cluster_centers_.T).argmax(axis=1), repeats=2)
    what = f"cluster map of 100,000 prompts, {_CLUSTERS} clusters; ratio to its {fitted.n_iter_} bare assignments"
    return Speed(what, f"{taken_s:.1f} s", "60 s", f"{taken_s / (step_s * fitted.n_iter_):.1f}")


def _embedding(embedders: Path) -> list[Speed]:
    """Embed recorded prompts in a batch, compared with one at a time and with the faster embedder."""
    from flows.sandbox import Sandbox

    texts = [prompt.text for prompt in Sandbox.prompts()]
    some = texts[::25]
    embedder = load_embedder("all-MiniLM-L6-v2")
    embedder.embed(some[:2])
    together_s = _once(lambda: embedder.embed(some))
    naive_s = _once(lambda: [embedder.embed([text]) for text in some])
    default = Speed(
        f"embed {len(some)} prompts with the default embedder; ratio of its speed to one prompt at a time",
        f"{len(some) / together_s:.0f} prompts/s",
        "faster than one at a time",
        f"{naive_s / together_s:.1f}",
    )
    if not table_file(embedders).exists():
        return [default, Speed(f"embed with {STATIC}: no table yet; bench --embedder {STATIC} makes one", "")]
    static = load_embedder(STATIC, folder=embedders)
    (static_s,) = _best(lambda: static.embed(texts))
    a_second = len(texts) / static_s
    what = f"embed {len(texts):,} prompts with {STATIC}; ratio of its speed to the default embedder's"
    return [default, Speed(what, f"{a_second:.0f} prompts/s", "", f"{a_second * together_s / len(some):.0f}")]
