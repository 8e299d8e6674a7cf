"""The posterior feature vector: what a few answers of a new LLM say, given how earlier LLMs behaved.

Empirical Bayes in one linear space. The expected error of LLM h on prompt x is `design(x) @ w_h` with the columns of
`feature_space.FeatureSpace`. Before any answer, `w_h` is normally distributed:

- its mean is the mean of the training LLMs' coefficients, fitted on many labels;
- every feature may differ by a variance that is the same for all features of a kind (`Shrinkage`);
- it also moves along a few directions, those in which the training LLMs differ most: how the whole error surface
  follows an LLM's level and kind.

Answers to representative prompts have further columns, see `difficulty`.

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

from ..day_zero import LevelPrior
from ..prompt_weights import F32, F64

Mask = npt.NDArray[np.bool_]

# Variance of one answer around its expectation that the prior variances are relative to: p (1 - p) at p = 0.28.
NOISE_VARIANCE = 0.2
# Prior variance of an LLM's level: LLMs differ by 0.25 in their overall error.
LEVEL_VARIANCE = 0.06
# Penalty, in prompts, of the training LLMs' own coefficients.
SURFACE_RIDGE = 60.0
# LLMs that do not differ along the directions which those known do, added to the known ones.
_PSEUDO_LLMS = 6.0
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
    n_directions
        Along how many of the prior's directions the coefficients may also move.
    """

    variance: float
    profile_scale: float
    n_directions: int


@dataclass(frozen=True, eq=False)
class Prior:
    """What the training LLMs say about the next one, in the columns of a feature space.

    Attributes
    ----------
    mean : (D,) float64
        Mean of the coefficients.
    directions : (D, q) float64
        Directions in which LLMs differ, each one standard deviation long; zero where there are too few LLMs.
    scales : (D,) float64
        Relative prior standard deviation of every coefficient; columns that are not used have zero.
    variances : (D,) float64
        Prior variance of the coefficients that `Shrinkage.variance` does not concern, zero for all others: the level,
        and the difficulty of representative prompts.
    """

    mean: F64
    directions: F64
    scales: F64
    variances: F64

    def variances_under(self, shrinkage: Shrinkage) -> F64:
        """Return the prior variance of every coefficient apart from the directions, (D,)."""
        return np.where(self.variances > 0, self.variances, shrinkage.variance * self.scales**2)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Coefficients of some LLMs after their answers to the same prompts.

    Attributes
    ----------
    coefficients : (D, h) float64
        Posterior means.
    factor : (d, d) float64
        Lower Cholesky factor of the precision of the d unknowns, in units of one over `p (1 - p)`.
    basis : (D, d) float64
        What the unknowns contribute to the coefficients: those in use one by one, then the directions.
    """

    coefficients: F64
    factor: F64
    basis: F64

    def variances(self, rows: F64) -> F64:
        """Return the posterior variance of `rows @ coefficients`, to be multiplied by an LLM's `p (1 - p)`.

        Parameters
        ----------
        rows : (k, c) float64
            Designs, or means of designs, in the first c of the D columns; the others count as zero.

        Returns
        -------
        (k,) float64
        """
        inside = rows @ self.basis[: rows.shape[1]]
        whitened = solve_triangular(self.factor, inside.T, lower=True)
        return np.einsum("dk,dk->k", whitened, whitened)


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
    factor = _factor(moments.gram[np.ix_(used, used)], penalty)
    fitted[used] = cho_solve((factor, True), moments.totals[used], check_finite=False)
    return fitted


def prior_of(coefficients: F64, gram: F64, scales: F64, positions: F64 | None = None) -> Prior:
    """Learn the prior from the coefficients of the training LLMs.

    Parameters
    ----------
    coefficients : (D, m)
        One column per training LLM; without any, errors are expected to be one half everywhere.
    gram : (D, D)
        `design.T @ design` of the prompts that directions are compared on.
    scales : (D,)
        As for `surfaces`.
    positions : (m, q), optional
        Where the LLMs stand along the directions, each with variance one, see `difficulty.positions_of`. By default
        there is one direction, the leading principal direction of the coefficients.
    """
    n_columns, n_llms = coefficients.shape
    variances = np.zeros(n_columns)
    variances[0] = LEVEL_VARIANCE
    if not n_llms:
        mean = np.zeros(n_columns)
        mean[0] = 0.5
        n_directions = 1 if positions is None else positions.shape[1]
        return Prior(mean, np.zeros((n_columns, n_directions)), scales, variances)
    mean = coefficients.mean(axis=1)
    apart = coefficients - mean[:, None]
    if positions is not None:
        # Directions learned from few LLMs point partly elsewhere: the next LLM moves along them by less.
        directions = apart @ positions / n_llms * direction_share(n_llms)
    else:
        directions = np.zeros((n_columns, 1))
        if n_llms > 1:
            _, rotation = np.linalg.eigh(apart.T @ gram @ apart)
            directions[:, 0] = apart @ rotation[:, -1] / np.sqrt(n_llms - 1)
    return Prior(_shrunk(mean, apart, gram), directions, scales, variances)


def direction_share(n_llms: int) -> float:
    """Return how far the next LLM is expected to move along directions learned from some, in (0, 1)."""
    return float(np.sqrt(n_llms / (n_llms + _PSEUDO_LLMS)))


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
    overall : (c,) float64
        Mean design of all prompts in the columns that prompts in service have: `overall @ w` is the overall error.
    """
    variances = prior.variances_under(shrinkage)[: len(overall)]
    along = overall @ prior.directions[: len(overall), : shrinkage.n_directions]
    return float(overall**2 @ variances + along @ along)


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
    overall : (c,) float64
        As for `level_variance`.
    level
        What is known; None for nothing.
    """
    if level is None:
        return moments
    known, before = NOISE_VARIANCE / level.variance, NOISE_VARIANCE / level_variance(prior, shrinkage, overall)
    added = known - before
    if added <= 0:
        return moments
    total = known * level.mean - before * float(overall @ prior.mean[: len(overall)])
    row = np.zeros(len(prior.mean))
    row[: len(overall)] = overall
    return Moments(moments.gram + added * np.outer(row, row), moments.totals + total * row[:, None], moments.n)


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
    used = np.flatnonzero((prior.scales > 0) | (prior.variances > 0))
    most = max((one.n_directions for one in shrinkages), default=0)
    # Unknowns: the coefficients in use, then positions along the directions. Fewer directions are the leading part.
    basis = np.hstack([np.eye(len(prior.mean))[:, used], prior.directions[:, :most]])
    across = moments.gram @ prior.directions[:, :most]
    gram = np.block(
        [
            [moments.gram[np.ix_(used, used)], across[used]],
            [across[used].T, prior.directions[:, :most].T @ across],
        ]
    )
    residual = basis.T @ (moments.totals - (moments.gram @ prior.mean)[:, None])
    factors: dict[float, F64] = {}
    for shrinkage in shrinkages:
        if shrinkage.variance not in factors:
            penalty = np.full(len(gram), NOISE_VARIANCE)
            penalty[: len(used)] /= prior.variances_under(shrinkage)[used]
            factors[shrinkage.variance] = _factor(gram, penalty)
        size = len(used) + shrinkage.n_directions
        factor = factors[shrinkage.variance][:size, :size]
        shift = cho_solve((factor, True), residual[:size], check_finite=False)
        yield Posterior(prior.mean[:, None] + basis[:, :size] @ shift, factor, basis[:, :size])


def _factor(gram: F64, penalty: F64) -> F64:
    """Return the lower Cholesky factor of `gram + diag(penalty)`."""
    system = gram.copy()
    system.flat[:: len(system) + 1] += penalty
    # Every number was checked on entry.
    factor, _ = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    return factor


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
