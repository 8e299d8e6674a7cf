"""Measure routers: the deferral curve and the numbers read off it.

A deferral curve shows score against cost as `cost_weight` sweeps from zero to infinity. The costs of a curve are
relative to a reference, the mean cost of the most expensive LLM, so that the axis is [0, 1] for every router of one
pool. Between two neighbouring points a consumer can toss a coin, so the curve is read as straight lines between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import finite_array, finite_number
from .errors import InvalidInput
from .resampling import resampled_means

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DeferralCurve:
    """Mean cost and mean score of a router at every cost weight where its choices change.

    Attributes
    ----------
    cost_weights : (p,) float64
        Ascending from zero; a point holds from its cost weight up to the next one.
    costs_usd : (p,) float64
        Mean USD per prompt.
    scores : (p,) float64
        Mean score, in [0, 1].
    reference_cost_usd
        Mean USD per prompt of the most expensive LLM; zero only in a free pool, where every cost is zero.
    """

    cost_weights: F64
    costs_usd: F64
    scores: F64
    reference_cost_usd: float

    def __post_init__(self) -> None:
        costs = finite_array(self.costs_usd, "costs of a deferral curve", shape=(None,), minimum=0)
        if not len(costs):
            raise InvalidInput("a deferral curve needs at least one point")
        scores = finite_array(self.scores, "scores of a deferral curve", shape=(len(costs),), minimum=0, maximum=1)
        weights = finite_array(self.cost_weights, "cost weights of a curve", shape=(len(costs),), minimum=0)
        reference = finite_number(self.reference_cost_usd, "reference_cost_usd", minimum=0)
        if reference == 0 and costs.any():
            raise InvalidInput("reference_cost_usd must be positive: only a free pool, without any cost, has none")
        for name, value in (("cost_weights", weights), ("costs_usd", costs), ("scores", scores)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "reference_cost_usd", reference)

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything: then there is no cost to save, and only the scores mean something."""
        return self.reference_cost_usd == 0

    @property
    def costs(self) -> F64:
        """Mean costs relative to the most expensive LLM, (p,) float64; zero in a free pool."""
        return self.relative(self.costs_usd)

    def relative(self, costs_usd: npt.ArrayLike) -> F64:
        """Return costs in USD relative to the most expensive LLM, in the same shape; unchanged in a free pool."""
        return np.asarray(costs_usd, dtype=np.float64) / (self.reference_cost_usd or 1.0)


@dataclass(frozen=True)
class Qnc:
    """A quality-neutral cost.

    Attributes
    ----------
    value
        Smallest relative cost at which the curve reaches the most accurate LLM, 1.0 when it never does.
    reached
        Whether it does.
    """

    value: float
    reached: bool


@dataclass(frozen=True)
class BootstrapDifference:
    """Difference of two means over the same prompts.

    Attributes
    ----------
    mean
        Mean of first minus second.
    low, high
        Percentile interval of the mean over resampled prompts.
    n
        Number of prompts.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class Switches:
    """The LLM that every prompt starts with at cost weight zero, and every later change, by ascending cost weight."""

    first: I64
    cost_weights: F64
    rows: I64
    before: I64
    after: I64


def switches(errors: F64, costs: F64) -> Switches:
    """Follow `argmin(errors + cost_weight * costs)` of every prompt as the cost weight grows, exactly.

    The choice only ever moves to a cheaper LLM, at the smallest cost weight where one is as good: the lower envelope of
    straight lines. Ties go to the cheaper LLM, then to the first column.

    Parameters
    ----------
    errors : (n, m) float64
        Expected errors.
    costs : (n, m) float64
        Expected costs.
    """
    n, _ = errors.shape
    tied = errors <= errors.min(axis=1, keepdims=True)
    current = np.where(tied, costs, np.inf).argmin(axis=1)
    first, rows, reached = current.copy(), np.arange(n), np.zeros(n)
    found: list[tuple[F64, I64, I64, I64]] = []
    while len(rows):
        own_error, own_cost = errors[rows, current[rows], None], costs[rows, current[rows], None]
        saving = own_cost - costs[rows]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            crossing = np.where(saving > 0, (errors[rows] - own_error) / saving, np.inf)
        nearest = crossing.min(axis=1, keepdims=True)
        after = np.where(crossing <= nearest, costs[rows], np.inf).argmin(axis=1)
        moves = np.isfinite(nearest[:, 0])
        rows, after = rows[moves], after[moves]
        # Rounding may put a crossing slightly before the previous one.
        reached[rows] = np.maximum(reached[rows], nearest[moves, 0])
        found.append((reached[rows], rows, current[rows], after))
        current[rows] = after
    weights, moved, before, later = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(weights, kind="stable")
    return Switches(first, weights[order], moved[order], before[order], later[order])


def deferral_curve(
    expected_errors: npt.ArrayLike,
    expected_costs: npt.ArrayLike,
    scores: npt.ArrayLike,
    costs_usd: npt.ArrayLike,
    *,
    reference_cost_usd: float,
) -> DeferralCurve:
    """Sweep the cost weight from zero to infinity, exactly: one point per cost weight where a choice changes.

    Parameters
    ----------
    expected_errors, expected_costs : array-like of shape (n, m)
        What the router expects and chooses by. Costs in USD.
    scores, costs_usd : array-like of shape (n, m)
        Scores and costs of the answers; the curve shows their means over the choices.
    reference_cost_usd
        Mean cost of the most expensive LLM; zero if all of them are free.

    Returns
    -------
    DeferralCurve

    Raises
    ------
    InvalidInput
        When shapes differ, an array is empty, or a number is not finite or out of range.

    Examples
    --------
    One prompt, a cheap LLM that is wrong and an expensive one that is right: paying 3 USD to avoid one error is worth
    it up to a cost weight of 1/3.

    >>> from routing import area, deferral_curve
    >>> curve = deferral_curve([[1, 0]], [[1, 4]], [[0, 1]], [[1, 4]], reference_cost_usd=4)
    >>> curve.cost_weights.round(3).tolist(), curve.costs.tolist(), curve.scores.tolist()
    ([0.0, 0.333], [1.0, 0.25], [1.0, 0.0])
    >>> area(curve)
    0.375
    """
    believed = finite_array(expected_errors, "expected_errors", shape=(None, None))
    n, m = believed.shape
    if n == 0 or m == 0:
        raise InvalidInput(f"a deferral curve needs a prompt and an LLM, got {n} and {m}")
    believed_costs = finite_array(expected_costs, "expected_costs", shape=(n, m), minimum=0)
    true_scores = finite_array(scores, "scores", shape=(n, m), minimum=0, maximum=1)
    true_costs = finite_array(costs_usd, "costs_usd", shape=(n, m), minimum=0)
    moves = switches(believed, believed_costs)
    start = np.arange(n), moves.first
    gains = true_scores[moves.rows, moves.after] - true_scores[moves.rows, moves.before]
    rises = true_costs[moves.rows, moves.after] - true_costs[moves.rows, moves.before]
    # The last switch at each cost weight; all before it happen at once.
    last = np.flatnonzero(np.append(np.diff(moves.cost_weights) > 0, True)) if len(gains) else np.zeros(0, dtype=int)
    all_scores = np.concatenate([[0.0], np.cumsum(gains)[last]]) + true_scores[start].sum()
    all_costs = np.concatenate([[0.0], np.cumsum(rises)[last]]) + true_costs[start].sum()
    weights = np.concatenate([[0.0], moves.cost_weights[last]])
    kept = slice(1 if len(weights) > 1 and weights[1] == 0 else 0, None)
    return DeferralCurve(
        weights[kept],
        np.maximum(all_costs[kept] / n, 0),
        np.clip(all_scores[kept] / n, 0, 1),
        reference_cost_usd,
    )


def scores_at_costs(curve: DeferralCurve, relative_costs: npt.ArrayLike) -> F64:
    """Return the best mean score that the curve reaches at each relative cost, (p,) float64.

    Between points on straight lines, flat beyond the ends of the curve.

    Parameters
    ----------
    curve
        A deferral curve.
    relative_costs : array-like of shape (p,)
        Shares of the most expensive LLM's mean cost, not negative.
    """
    costs, best = _best_so_far(curve)
    return np.interp(finite_array(relative_costs, "relative_costs", shape=(None,), minimum=0), costs, best)


def area(curve: DeferralCurve) -> float:
    """Integrate the best reachable score over relative costs in [0, 1], flat beyond the curve's ends.

    In a free pool this is the peak: the curve is one point.

    Source: area under the deferral curve, UniRoute section 6, on the axis from zero to the most expensive LLM.
    """
    return _integral(*_best_so_far(curve))


def aiq(curve: DeferralCurve) -> float:
    """Integrate the non-decreasing convex hull of the curve over relative costs in [0, 1], flat beyond its ends.

    Source: average improvement in quality, RouterBench (arXiv 2403.12031) section 3.4: the area under the hull divided
    by the largest cost, here that of the most expensive LLM for every router.
    """
    costs, best = _best_so_far(curve)
    hull = upper_hull(costs, best)
    return _integral(costs[hull], best[hull])


def peak(curve: DeferralCurve) -> float:
    """Return the largest mean score on the curve."""
    return float(curve.scores.max())


def qnc(curve: DeferralCurve, best_score: float, *, best_cost_usd: float | None = None) -> Qnc:
    """Find the smallest relative cost at which the curve matches the most accurate LLM of the pool.

    Parameters
    ----------
    curve
        A deferral curve.
    best_score
        Mean score of the most accurate LLM on the same prompts, in [0, 1].
    best_cost_usd
        Mean cost of the most accurate LLM. When given, the result is relative to it instead of to the most expensive
        LLM.

    Returns
    -------
    Qnc
        With the value 1.0 when the curve stays below, and 0.0 when it is reached in a free pool.
    """
    target = finite_number(best_score, "best_score", minimum=0, maximum=1)
    costs, best = _best_so_far(curve)
    # Means over the same prompts in another order of summation differ in the last bits.
    enough = np.flatnonzero(best >= target - 1e-12)
    if not len(enough):
        return Qnc(1.0, False)
    at = int(enough[0])
    value = costs[at]
    if at > 0 and best[at] > target:
        value = np.interp(target, best[at - 1 : at + 1], costs[at - 1 : at + 1])
    if best_cost_usd is not None:
        if finite_number(best_cost_usd, "best_cost_usd", minimum=0) == 0:
            raise InvalidInput("best_cost_usd must be positive: a free LLM leaves no cost to save")
        value = value * curve.reference_cost_usd / best_cost_usd
    return Qnc(float(value), True)


def upper_hull(costs: F64, scores: F64) -> I64:
    """Return the indices of the non-decreasing upper hull of points, by ascending cost.

    Parameters
    ----------
    costs, scores : (p,) float64
        Points; among equal costs the best score counts.
    """
    hull: list[int] = []
    for index in np.lexsort((-scores, costs)).tolist():
        if hull and scores[index] <= scores[hull[-1]]:
            continue
        while len(hull) > 1:
            first, second = hull[-2], hull[-1]
            rise = (scores[second] - scores[first]) * (costs[index] - costs[first])
            if rise > (scores[index] - scores[first]) * (costs[second] - costs[first]):
                break
            hull.pop()
        hull.append(index)
    return np.array(hull, dtype=np.int64)


def paired_bootstrap(
    first: npt.ArrayLike, second: npt.ArrayLike, *, seed: int, n_resamples: int = 2000, level: float = 0.95
) -> BootstrapDifference:
    """Bound the difference of two means over the same prompts by resampling the prompts.

    Source: percentile bootstrap, Efron and Tibshirani 1993, chapter 13, on paired differences.

    Parameters
    ----------
    first, second : array-like of shape (n,)
        Scores, or costs, of two routers on the same prompts in the same order.
    seed
        Seed of the resampling.
    n_resamples
        Number of resamples.
    level
        Share of the resampled means between `low` and `high`, in (0, 1).
    """
    ours = finite_array(first, "first", shape=(None,))
    differences = ours - finite_array(second, "second", shape=(len(ours),))
    n = len(differences)
    if n == 0:
        raise InvalidInput("a paired bootstrap needs at least one prompt")
    tail = (1 - finite_number(level, "level", minimum=0, maximum=1)) / 2
    low, high = np.quantile(resampled_means(differences, seed=seed, n_resamples=n_resamples), [tail, 1 - tail])
    return BootstrapDifference(float(differences.mean()), float(low), float(high), n)


def _best_so_far(curve: DeferralCurve) -> tuple[F64, F64]:
    """Relative costs in ascending order and the best score up to each, one point per cost."""
    order = np.lexsort((curve.scores, curve.costs))
    costs, best = curve.costs[order], np.maximum.accumulate(curve.scores[order])
    last = np.append(np.diff(costs) > 0, True)
    return costs[last], best[last]


def _integral(costs: F64, scores: F64) -> float:
    """Integral over [0, 1] of straight lines through points of ascending cost, flat beyond them."""
    inside = costs[(costs > 0) & (costs < 1)]
    grid = np.concatenate([[0.0], inside, [1.0]])
    heights = np.interp(grid, costs, scores)
    return float(np.sum(np.diff(grid) * (heights[1:] + heights[:-1]) / 2))
