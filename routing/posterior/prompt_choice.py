"""Which representative prompts a new LLM is asked, and in which order: chosen by simulation on the known LLMs.

A known LLM is held out as if it were new. It shows its answers to the first prompts of an order that was made without
it, what it would have scored on all prompts is predicted from those, and every choice between it and another known LLM
that comes out otherwise than with all its answers loses the difference of the two. The order that loses least is taken.

The first prompts of every order are drawn uniformly, and they are the same whatever the strategy. Only on them may a
mean score be taken: the rest are chosen for being easy or hard, and are read by estimators that know how hard they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..checks import checked_embeddings
from ..errors import InvalidInput
from ..prompt_weights import F32, F64, I64

RANDOM, VARIANCE, MEDOIDS, COVERAGE, DESIGN = "random", "variance", "medoids", "coverage", "design"
FEWEST_KNOWN = 8
"""With fewer known LLMs nothing can be learnt from where they differ: the order is random."""
SIZES = (25, 50, 100, 200, 400)
"""Numbers of answers of which the loss is simulated, where there are so many prompts."""

_RANDOM_SHARE = 0.5
_N_FOLDS, _N_DRAWS = 4, 3
_COMPONENTS = 8
# Principal components of the known LLMs' answers that a design knows.
_LOADINGS = 2
# Error variance of one answer, and prior variances of an LLM's level and of its coefficients.
_NOISE, _LEVEL, _SHAPE = 0.2, 0.06, 0.02


@dataclass(frozen=True, eq=False)
class PromptOrder:
    """An order of the representative prompts.

    Attributes
    ----------
    strategy
        How it was made: one of the names above.
    order : (N,) int64
        Permutation of the prompts; a new LLM is asked the first ones.
    n_random
        How many of the first were drawn uniformly. A new LLM is always asked all of them.
    losses
        By strategy, the simulated loss at the number of answers that was asked for, in errors per prompt; empty
        without a simulation.
    expected_loss_by_n
        By number of answers, the simulated loss of this order against asking all prompts; empty without a simulation.
    """

    strategy: str
    order: I64
    n_random: int
    losses: Mapping[str, float]
    expected_loss_by_n: Mapping[int, float]


def choose_order(
    few_rows: npt.ArrayLike, few_errors: npt.ArrayLike, *, n_asked: int, seed: int, uniform: I64 | None = None
) -> PromptOrder:
    """Choose the order in which new LLMs are asked the representative prompts.

    Parameters
    ----------
    few_rows : array-like of shape (N, dim)
        Embeddings of the representative prompts.
    few_errors : array-like of shape (N, m)
        Errors of the known LLMs on them, in [0, 1]; NaN where there is no answer. m may be zero.
    n_asked
        How many prompts a new LLM is going to be asked.
    seed
        Seed of every draw.
    uniform : (N,) int64, optional
        The uniformly drawn permutation that the order begins with; drawn here by default.

    Raises
    ------
    InvalidInput
        When shapes differ or a number must not be used.
    """
    rows, errors = _checked(few_rows, few_errors)
    if n_asked < 1:
        raise InvalidInput(f"a new LLM must be asked at least one prompt, got {n_asked}")
    n, m = errors.shape
    n_asked = min(n_asked, n)
    uniform = np.random.default_rng(seed).permutation(n) if uniform is None else uniform
    n_random = n_drawn(n, n_asked)
    if m < FEWEST_KNOWN or n_random == n:
        return PromptOrder(RANDOM, uniform, n_random, {}, {})
    # Imported here: commands that only show how many prompts are asked need no scikit-learn, which takes a second.
    from ..cluster_maps import one_thread

    sizes = tuple(size for size in SIZES if size < n)
    with one_thread():
        features = _features(rows)
        losses = {name: _losses(features, errors, name, n_random, (n_asked, *sizes), seed) for name in _STRATEGIES}
        best = min(losses, key=lambda name: losses[name][0])
        order = _STRATEGIES[best](errors, features, uniform, n_random, n_asked, seed + 1)
    return PromptOrder(
        best,
        order,
        n_random,
        {name: float(found[0]) for name, found in losses.items()},
        {size: float(loss) for size, loss in zip(sizes, losses[best][1:], strict=True)} | {n: 0.0},
    )


def _checked(few_rows: npt.ArrayLike, few_errors: npt.ArrayLike) -> tuple[F32, F64]:
    rows = checked_embeddings(few_rows, np.shape(few_rows)[-1] if np.ndim(few_rows) == 2 else 0)
    errors = np.asarray(few_errors, dtype=np.float64)
    if errors.ndim != 2 or len(errors) != len(rows):
        raise InvalidInput(f"errors of known LLMs must have shape ({len(rows)}, any), got {errors.shape}")
    return rows, errors


def n_drawn(n: int, n_asked: int) -> int:
    """Return how many prompts every order begins with that are drawn uniformly, if so many of n are asked."""
    return n if n_asked >= n else max(1, round(_RANDOM_SHARE * n_asked))


def _as_drawn(errors: F64, features: F64, uniform: I64, n_random: int, n_asked: int, seed: int) -> I64:
    return uniform


def _by_variance(errors: F64, features: F64, uniform: I64, n_random: int, n_asked: int, seed: int) -> I64:
    """Draw the rest with a probability that grows with p (1 - p), p the share of the known LLMs that fail.

    Gumbel's trick makes one draw without replacement of it (Kool, van Hoof and Welling 2019).
    """
    rest = uniform[n_random:]
    p = _difficulty(errors)[rest]
    keys = np.log(np.maximum(p * (1 - p), 1e-6)) + np.random.default_rng(seed).gumbel(size=len(rest))
    return np.concatenate([uniform[:n_random], rest[np.argsort(-keys, kind="stable")]])


def _by_medoids(errors: F64, features: F64, uniform: I64, n_random: int, n_asked: int, seed: int) -> I64:
    """Ask prompts in the middle of clusters of prompts that the same known LLMs fail: anchors (Vivek et al. 2023)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    rest = uniform[n_random:]
    n_clusters = min(max(n_asked - n_random, 1), len(rest))
    answers = np.where(np.isfinite(errors), errors, _difficulty(errors)[:, None])[rest]
    with warnings.catch_warnings():
        # Prompts that the same few LLMs fail are one point; there are then fewer clusters, and people are not told.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(n_clusters, n_init=1, max_iter=5, init="random", random_state=seed).fit(answers)
    apart = ((answers - found.cluster_centers_[found.labels_]) ** 2).sum(axis=1)
    nearest = {int(found.labels_[row]): row for row in np.argsort(-apart, kind="stable")}
    sizes = np.bincount(found.labels_, minlength=n_clusters)
    first = [nearest[label] for label in sorted(nearest, key=lambda label: (-sizes[label], label))]
    others = np.setdiff1d(np.arange(len(rest)), first)
    return np.concatenate([uniform[:n_random], rest[first], rest[others]])


def _by_coverage(errors: F64, features: F64, uniform: I64, n_random: int, n_asked: int, seed: int) -> I64:
    """Ask what is least like the prompts before it: an optimal design that knows embeddings alone."""
    return _greedy(features, uniform[:n_random])


def _by_design(errors: F64, features: F64, uniform: I64, n_random: int, n_asked: int, seed: int) -> I64:
    """Ask what narrows the predicted errors most, by embeddings and by how differently known LLMs fare on a prompt."""
    n_llms = errors.shape[1]
    apart = np.where(np.isfinite(errors), errors - _difficulty(errors)[:, None], 0.0)
    left, sizes, _ = np.linalg.svd(apart, full_matrices=False)
    # The level of an LLM is a feature already; a loading from few answers is mostly noise.
    kept = min(_LOADINGS, n_llms - 1)
    loadings = left[:, :kept] * sizes[:kept] / np.sqrt(n_llms) / np.sqrt(_SHAPE)
    return _greedy(np.hstack([features, loadings]), uniform[:n_random])


def _greedy(features: F64, first: I64) -> I64:
    """Order prompts so that each next one reduces the mean posterior variance of all predictions most.

    Greedy I-optimal design for the Gaussian linear model behind `_predicted` (Atkinson and Donev 1992, chapter 10).
    """
    scaled = features * np.sqrt(_SHAPE)
    scaled[:, 0] = np.sqrt(_LEVEL)
    target, covariance = scaled.T @ scaled, np.eye(scaled.shape[1])
    order = np.empty(len(features), dtype=np.int64)
    is_free = np.ones(len(features), dtype=bool)
    for place in range(len(features)):
        if place < len(first):
            taken = int(first[place])
        else:
            moved = scaled @ covariance
            gains = np.einsum("ij,ij->i", moved @ target, moved) / (_NOISE + np.einsum("ij,ij->i", moved, scaled))
            taken = int(np.where(is_free, gains, -1.0).argmax())
        order[place], is_free[taken] = taken, False
        column = covariance @ scaled[taken]
        covariance = covariance - np.outer(column, column) / (_NOISE + scaled[taken] @ column)
    return order


_STRATEGIES: Mapping[str, Callable[[F64, F64, I64, int, int, int], I64]] = {
    RANDOM: _as_drawn,
    VARIANCE: _by_variance,
    MEDOIDS: _by_medoids,
    COVERAGE: _by_coverage,
    DESIGN: _by_design,
}


def _losses(features: F64, errors: F64, strategy: str, n_random: int, sizes: tuple[int, ...], seed: int) -> F64:
    """Return the mean loss of an order at several numbers of answers, over held-out LLMs and draws."""
    rng = np.random.default_rng(seed)
    n, m = errors.shape
    parts = np.array_split(rng.permutation(m), min(_N_FOLDS, m))
    found = np.zeros(len(sizes))
    for draw in range(_N_DRAWS):
        draws = np.random.default_rng([seed, draw])
        uniform = draws.permutation(n)
        for part in parts:
            known = np.setdiff1d(np.arange(m), part)
            others = errors[:, known]
            order = _STRATEGIES[strategy](others, features, uniform, n_random, sizes[0], seed + draw)
            offset, design = _difficulty(others), features
            of_others = _predicted(design, offset, others, np.arange(n))
            truth = _predicted(design, offset, errors[:, part], np.arange(n))
            for place, size in enumerate(sizes):
                guess = _predicted(design, offset, errors[:, part], order[:size])
                found[place] += len(part) * _regret(truth, guess, of_others)
    return found / (m * _N_DRAWS)


def _regret(truth: F64, guess: F64, others: F64) -> float:
    """Return the mean loss of choosing between an LLM and each other one by a guess of its errors."""
    gain = truth[:, :, None] - others[:, None, :]
    is_wrong = (guess[:, :, None] < others[:, None, :]) != (gain < 0)
    return float(np.mean(np.abs(gain) * is_wrong))


def _predicted(design: F64, offset: F64, errors: F64, shown: I64) -> F64:
    """Predict the errors of LLMs on all prompts from those on some: ridge regression around the known difficulty."""
    found = np.empty_like(errors)
    penalty = np.full(design.shape[1], _NOISE / _SHAPE)
    penalty[0] = _NOISE / _LEVEL
    for column in range(errors.shape[1]):
        rows = shown[np.isfinite(errors[shown, column])]
        part = design[rows]
        apart = errors[rows, column] - offset[rows]
        found[:, column] = offset + design @ np.linalg.solve(part.T @ part + np.diag(penalty), part.T @ apart)
    return found


def _features(rows: F32) -> F64:
    """Return a constant and the leading principal components of the embeddings, each of mean square one."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(_COMPONENTS, int((sizes > 1e-9).sum()))
    return np.hstack([np.ones((len(rows), 1)), left[:, :kept] * np.sqrt(len(rows))])


def _difficulty(errors: F64) -> F64:
    """Return the share of the LLMs that fail each prompt, with one pseudo-answer at the overall mean, ``(N,)``."""
    answered = np.isfinite(errors)
    overall = float(np.nanmean(errors)) if answered.any() else 0.5
    return (np.where(answered, errors, 0).sum(axis=1) + overall) / (answered.sum(axis=1) + 1)
