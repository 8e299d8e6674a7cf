"""The posterior feature vector: what a few answers of a new LLM say, given how earlier LLMs behaved.

Empirical Bayes in one linear space. The expected error of LLM h on prompt x is `design(x) @ w_h` with the columns of
`feature_space.FeatureSpace`. Before any answer, `w_h` is normally distributed:

- its mean is the mean of the training LLMs' coefficients, fitted on many labels;
- every feature may differ by a variance that is the same for all features of a kind (`Shrinkage`);
- optionally it also moves along one direction, the leading principal direction of the training LLMs: how the whole
  error surface follows the LLM's level.

One answer adds noise of variance p (1 - p); the prior scales with it, so all LLMs with the same labelled prompts share
one gain matrix, and the noise they share cancels in the differences between LLMs, which routing depends on.
The posterior mean is ridge regression towards the prior (Robbins 1956; Rasmussen and Williams 2006, section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from .day_zero import LevelPrior
from .prompt_weights import F32, F64

Mask = npt.NDArray[np.bool_]

# Variance of one answer around its expectation that the prior variances are relative to: p (1 - p) at p = 0.28.
NOISE_VARIANCE = 0.2
# Prior variance of an LLM's level: LLMs differ by 0.25 in their overall error.
LEVEL_VARIANCE = 0.06
# Penalty, in prompts, of the training LLMs' own coefficients.
SURFACE_RIDGE = 60.0
# Prompts without a label are subtracted from the sum over all prompts when they are at most one in this many.
_FEW_MISSING = 10


@dataclass(frozen=True, order=True)
class Shrinkage:
    """How far a new LLM may be from the prior.

    Attributes
    ----------
    variance
        Prior variance of a feature's coefficient, in squared errors; the smaller it is, the
        closer the LLM stays to its level.
    profile_scale
        Standard deviation of the error profiles' coefficients over that of the other features; zero leaves them out.
    follows_level
        Whether the coefficients may also move along the training LLMs' leading direction.
    """

    variance: float
    profile_scale: float
    follows_level: bool


@dataclass(frozen=True, eq=False)
class Prior:
    """What the training LLMs say about the next one, in the columns of a feature space.

    Attributes
    ----------
    mean : (D,) float64
        Mean of the coefficients.
    direction : (D,) float64
        Leading principal direction, one standard deviation long; zero with fewer than two LLMs.
    scales : (D,) float64
        Relative prior standard deviation of every coefficient; columns that are not used have zero.
    """

    mean: F64
    direction: F64
    scales: F64


@dataclass(frozen=True, eq=False)
class Posterior:
    """Coefficients of some LLMs after their answers to the same prompts.

    Attributes
    ----------
    coefficients : (D, h) float64
        Posterior means.
    factor : (d, d) float64
        Lower Cholesky factor of the precision of the d columns in use, in units of one over `p (1 - p)`.
    along : (d,) float64
        Column whose outer product the posterior adds to the covariance, along the training LLMs' direction; zero
        without one.
    used : (D,) bool
        The columns in use.
    """

    coefficients: F64
    factor: F64
    along: F64
    used: Mask

    def variances(self, rows: F64) -> F64:
        """Return the posterior variance of `rows @ coefficients`, to be multiplied by an LLM's `p (1 - p)`.

        Parameters
        ----------
        rows : (k, D) float64
            Designs, or means of designs.

        Returns
        -------
        (k,) float64
        """
        inside = rows[:, self.used]
        whitened = solve_triangular(self.factor, inside.T, lower=True)
        return np.einsum("dk,dk->k", whitened, whitened) + (inside @ self.along) ** 2


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over labelled prompts: all that coefficients depend on.

    Attributes
    ----------
    gram : (D, D) float64
        `design.T @ design`.
    totals : (D, h) float64
        `design.T @ errors`.
    n
        Number of prompts.
    """

    gram: F64
    totals: F64
    n: int

    @classmethod
    def of(cls, design: F32, errors: F64) -> Moments:
        """Sum over prompts that every LLM has a label for.

        Parameters
        ----------
        design : (n, D) float32
            Columns of the feature space.
        errors : (n, h) float64
            Errors in [0, 1].
        """
        return cls(
            gram_of(design),
            (design.T @ errors.astype(np.float32)).astype(np.float64),
            len(design),
        )


def scales_of(n_columns: int, n_profile_columns: int, profile_scale: float) -> F64:
    """Return the relative prior standard deviations of the columns of a feature space, (n_columns,).

    Parameters
    ----------
    n_columns, n_profile_columns
        Numbers of all columns and of the error profiles, which come last.
    profile_scale
        As in `Shrinkage`.
    """
    scales = np.ones(n_columns)
    scales[n_columns - n_profile_columns :] = profile_scale
    return scales


def surfaces(moments: Moments, scales: F64) -> F64:
    """Fit the coefficients of LLMs with many labels by ridge regression, (D, h).

    Parameters
    ----------
    moments
        Labelled prompts.
    scales : (D,)
        Relative prior standard deviations; columns with zero get zero.
    """
    used = scales > 0
    penalty = SURFACE_RIDGE / scales[used] ** 2
    # The level is not shrunk; this small penalty keeps the system solvable without any prompt.
    penalty[0] = 1e-3
    fitted = np.zeros_like(moments.totals)
    _, fitted[used] = _solved(moments.gram[np.ix_(used, used)], penalty, moments.totals[used])
    return fitted


def prior_of(coefficients: F64, gram: F64, scales: F64) -> Prior:
    """Learn the prior from the coefficients of the training LLMs.

    Parameters
    ----------
    coefficients : (D, m)
        One column per training LLM; without any, errors are expected to be one half everywhere.
    gram : (D, D)
        `design.T @ design` of the prompts that directions are compared on.
    scales : (D,)
        As for `surfaces`.
    """
    n_columns, n_llms = coefficients.shape
    if not n_llms:
        mean = np.zeros(n_columns)
        mean[0] = 0.5
        return Prior(mean, np.zeros(n_columns), scales)
    mean = coefficients.mean(axis=1)
    apart = coefficients - mean[:, None]
    direction = np.zeros(n_columns)
    if n_llms > 1:
        _, rotation = np.linalg.eigh(apart.T @ gram @ apart)
        direction = apart @ rotation[:, -1] / np.sqrt(n_llms - 1)
    return Prior(_shrunk(mean, apart, gram), direction, scales)


def _shrunk(mean: F64, apart: F64, gram: F64) -> F64:
    """Shrink the LLMs' mean surface to what they share beyond chance (Efron and Morris 1973), and keep its level.

    The share kept is one minus the variance of a mean of m LLMs over the mean's own size; for a single LLM it is half.
    """
    n_llms = apart.shape[1]
    level = np.zeros_like(mean)
    level[0] = gram[0] @ mean / max(gram[0, 0], 1.0)
    shape = mean - level
    size = shape @ gram @ shape
    by_chance = size / 2
    if n_llms > 1:
        shapes = apart.copy()
        shapes[0] -= gram[0] @ apart / max(gram[0, 0], 1.0)
        by_chance = float(np.sum(shapes * (gram @ shapes))) / (n_llms - 1) / n_llms
    kept = max(0.0, 1 - by_chance / size) if size > 0 else 0.0
    return level + kept * shape


def level_variance(prior: Prior, shrinkage: Shrinkage, overall: F64) -> float:
    """Return the variance of an LLM's overall error before any answer, at p (1 - p) of `NOISE_VARIANCE`.

    Parameters
    ----------
    prior, shrinkage
        The prior, and how far LLMs may be from it.
    overall : (D,) float64
        Mean design of all prompts: `overall @ w` is the overall error.
    """
    variances = shrinkage.variance * prior.scales**2
    variances[0] = LEVEL_VARIANCE
    along = float(overall @ prior.direction) if shrinkage.follows_level else 0.0
    return float(overall**2 @ variances) + along**2


def with_level(moments: Moments, prior: Prior, shrinkage: Shrinkage, overall: F64, level: LevelPrior | None) -> Moments:
    """Add what is known of an LLM's level before its answers, as answers to a prompt that is like all prompts.

    Without any answer, the posterior of the added sums has the mean and the variance of `level` at `overall`; the rest
    of the surface moves with it as the prior has it. A level that is less certain than the prior adds nothing.

    Parameters
    ----------
    moments
        Its labelled prompts.
    prior, shrinkage
        The prior, and how far the LLM may be from it.
    overall : (D,) float64
        Mean design of all prompts.
    level
        What is known; None for nothing.
    """
    if level is None:
        return moments
    known, before = NOISE_VARIANCE / level.variance, NOISE_VARIANCE / level_variance(prior, shrinkage, overall)
    added = known - before
    if added <= 0:
        return moments
    total = known * level.mean - before * float(overall @ prior.mean)
    gram = moments.gram + added * np.outer(overall, overall)
    return Moments(gram, moments.totals + total * overall[:, None], moments.n)


def posterior(prior: Prior, moments: Moments, shrinkages: Sequence[Shrinkage]) -> Iterator[Posterior]:
    """Yield the posterior of LLMs that were asked the same prompts, once per shrinkage.

    Parameters
    ----------
    prior
        Its scales fit the profile scale of every shrinkage.
    moments
        The LLMs' labelled prompts; without any, the posterior is the prior.
    shrinkages
        How far the LLMs may be from the prior.

    Yields
    ------
    Posterior
        In the order of `shrinkages`.
    """
    used = prior.scales > 0
    gram, direction = moments.gram[np.ix_(used, used)], prior.direction[used]
    residual = moments.totals[used] - gram @ prior.mean[used, None]
    sides = np.column_stack([residual, gram @ direction])
    solved: dict[float, tuple[F64, F64]] = {}
    for shrinkage in shrinkages:
        if shrinkage.variance not in solved:
            penalty = NOISE_VARIANCE / (shrinkage.variance * prior.scales[used] ** 2)
            penalty[0] = NOISE_VARIANCE / LEVEL_VARIANCE
            solved[shrinkage.variance] = _solved(gram, penalty, sides)
        factor, answers = solved[shrinkage.variance]
        shift, beside = answers[:, :-1], np.zeros(len(gram))
        if shrinkage.follows_level:
            along, answer = sides[:, -1], answers[:, -1]
            precision = direction @ along + NOISE_VARIANCE - along @ answer
            shift = shift + np.outer(direction - answer, (direction @ residual - along @ shift) / precision)
            beside = (direction - answer) / np.sqrt(precision)
        coefficients = np.repeat(prior.mean[:, None], moments.totals.shape[1], axis=1)
        coefficients[used] += shift
        yield Posterior(coefficients, factor, beside, used)


def _solved(gram: F64, penalty: F64, sides: F64) -> tuple[F64, F64]:
    """Return the lower Cholesky factor of `gram + diag(penalty)` and the solutions for some right-hand sides."""
    system = gram.copy()
    system.flat[:: len(system) + 1] += penalty
    # Every number was checked on entry.
    factor, _ = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    return factor, cho_solve((factor, True), sides, check_finite=False)


def grouped_moments(design: F32, errors: F64, gram: F64 | None = None) -> Iterator[tuple[Moments, list[int]]]:
    """Sum over labelled prompts, once for all LLMs with labels on the same ones.

    Where only a few prompts have no label, they are subtracted from the sums over all prompts, so LLMs that failed here
    and there cost little more than LLMs that never failed.

    Parameters
    ----------
    design : (n, D) float32
        Columns of the feature space.
    errors : (n, h) float64
        Errors in [0, 1]; NaN where there is no label.
    gram : (D, D) float64, optional
        `design.T @ design`, if already known.

    Yields
    ------
    Moments
        Of one group.
    list of int
        Its columns.
    """
    totals = (design.T @ np.where(np.isnan(errors), 0, errors).astype(np.float32)).astype(np.float64)
    for labelled, columns in label_groups(errors):
        n_missing = int(np.count_nonzero(~labelled))
        if n_missing * _FEW_MISSING > len(labelled):
            own = gram_of(design[labelled])
        else:
            gram = gram_of(design) if gram is None else gram
            own = gram - gram_of(design[~labelled]) if n_missing else gram
        yield Moments(own, totals[:, columns], len(labelled) - n_missing), columns


def gram_of(design: F32) -> F64:
    """Return `design.T @ design`, (D, D) float64, summed in float32."""
    return (design.T @ design).astype(np.float64)


def label_groups(errors: F64) -> Iterator[tuple[Mask, list[int]]]:
    """Group LLMs that have labels on the same prompts.

    Parameters
    ----------
    errors : (n, h)
        Errors; NaN where there is no label.

    Yields
    ------
    (n,) bool
        Prompts with a label.
    list of int
        Columns of the group.
    """
    labelled = np.isfinite(errors)
    groups: dict[bytes, list[int]] = {}
    for column in range(errors.shape[1]):
        groups.setdefault(labelled[:, column].tobytes(), []).append(column)
    for columns in groups.values():
        yield labelled[:, columns[0]], columns
