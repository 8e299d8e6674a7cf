"""Choose how sharp the soft clusters are and how strongly to shrink, by simulation on the training LLMs.

The training LLMs have labels on many prompts. Some of them are held out in turn as *pseudo-new* LLMs: they show only
their answers to the representative prompts, as a new LLM would, and are judged on map prompts that nothing was fitted
on. New LLMs and gate prompts are never seen.

Features of prompts do not depend on which LLMs are held out, except the error profiles, and those do not depend on the
contrast. So features, and the sums over prompts that coefficients depend on, are computed once per contrast and once
per fold, and joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..prompt_weights import F32, F64, I64, ClusterMap
from .calibration import NOT_CALIBRATED, Calibration, HeldOut, calibrated
from .difficulty import N_DIRECTIONS, Difficulty, positions_of
from .feature_space import ErrorSlopes, feature_space
from .inference import (
    Moments,
    Posterior,
    Prior,
    Shrinkage,
    direction_share,
    gram_of,
    grouped_moments,
    posterior,
    prior_of,
    scales_of,
    surfaces,
)

# Share of the map prompts that is judged, and the most that are needed.
JUDGED_SHARE, JUDGED_MOST = 0.3, 2000
N_FOLDS = 3
# Settings to try. The coarse grids cover what any data set may need; the simulation chooses.
CONTRASTS = (5.0, 10.0, 20.0)
PROFILE_SCALES = (0.0, 1.0, 2.0)
VARIANCES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)


@dataclass(frozen=True)
class Form:
    """Which settings a fit tries, and whether it reads how hard the representative prompts are.

    Attributes
    ----------
    n_directions
        Numbers of directions to try.
    n_averaged
        Number of the best settings that are averaged: the simulation cannot distinguish them.
    reads_difficulty
        Whether the known LLMs' answers to the representative prompts enter the likelihood.
    """

    n_directions: tuple[int, ...]
    n_averaged: int
    reads_difficulty: bool

    @property
    def tried(self) -> tuple[Shrinkage, ...]:
        """The shrinkages to try."""
        return tuple(
            Shrinkage(variance, scale, n_directions)
            for scale in PROFILE_SCALES
            for variance in VARIANCES
            for n_directions in self.n_directions
        )

    @property
    def unsimulated(self) -> tuple[Shrinkage, ...]:
        """What is averaged with fewer than two training LLMs, none of which can be held out: the middle of the grid."""
        return tuple(Shrinkage(variance, 1.0, 0) for variance in (0.001, 0.002, 0.004))


# Estimators of before difficulties were read are fitted again as they were when their versions are rebuilt.
WITHOUT_DIFFICULTY = Form(n_directions=(0, 1), n_averaged=4, reads_difficulty=False)
CURRENT = Form(n_directions=tuple(range(1, N_DIRECTIONS + 1)), n_averaged=8, reads_difficulty=True)


@dataclass(frozen=True, eq=False)
class Plan:
    """Which LLMs and prompts are held out in a simulation.

    Attributes
    ----------
    fitting : (n,) int64
        Rows of the map prompts that methods may be fitted on, ascending.
    judging : (n,) int64
        Rows that they are judged on, ascending.
    folds
        Columns of the pseudo-new LLMs, fold by fold; every training LLM is in exactly one.
    """

    fitting: I64
    judging: I64
    folds: tuple[I64, ...]

    @classmethod
    def draw(cls, errors: F64, *, seed: int) -> Plan | None:
        """Draw a plan, or return None when there is no LLM to hold out or nothing to judge by.

        Parameters
        ----------
        errors : (n, m) float64
            Errors of the training LLMs on the map prompts, NaN where there is no label. Only prompts that all of them
            have a label for are judged.
        seed
            Seed of the draw.
        """
        n, n_llms = errors.shape
        complete = np.flatnonzero(np.isfinite(errors).all(axis=1))
        n_judged = min(JUDGED_MOST, int(JUDGED_SHARE * len(complete)))
        if n_llms < 2 or n_judged < 1:
            return None
        rng = np.random.default_rng(seed)
        judging = np.sort(rng.permutation(complete)[:n_judged])
        parts = np.array_split(rng.permutation(n_llms), min(N_FOLDS, n_llms))
        return cls(np.setdiff1d(np.arange(n), judging), judging, tuple(np.sort(part) for part in parts))


@dataclass(frozen=True)
class Choice:
    """Settings that the simulation chose.

    Attributes
    ----------
    contrast
        Sharpness of the soft clusters, see `feature_space`.
    shrinkages
        Shrinkages whose results are averaged.
    losses
        Contrast loss of every (contrast, shrinkage) tried; empty without a simulation.
    calibration
        How far posterior variances must be stretched.
    """

    contrast: float
    shrinkages: tuple[Shrinkage, ...]
    losses: Mapping[tuple[float, Shrinkage], float]
    calibration: Calibration = NOT_CALIBRATED


def choose(
    rows: F32,
    errors: F64,
    few_rows: F32 | None,
    few_errors: F64,
    maps: Sequence[ClusterMap],
    spreads: Sequence[float],
    *,
    seed: int,
    form: Form = CURRENT,
) -> Choice:
    """Try every contrast and shrinkage on pseudo-new LLMs.

    Parameters
    ----------
    rows, errors : (n, dim) float32, (n, m) float64
        Map prompts and the errors of the training LLMs on them, NaN where there is no label.
    few_rows, few_errors : (N, dim) float32, (N, m) float64
        What pseudo-new LLMs show; without `few_rows`, the map prompts that are fitted on.
    maps, spreads
        As for `feature_space`.
    seed
        Seed of the draw and of k-means.
    form
        What to try.
    """
    plan = Plan.draw(errors, seed=seed)
    if plan is None:
        return Choice(CONTRASTS[0], form.unsimulated, {})
    judged = errors[plan.judging]
    fit_rows, fit_errors, judged_rows = rows[plan.fitting], errors[plan.fitting], rows[plan.judging]
    reads_difficulty = form.reads_difficulty and few_rows is not None
    if few_rows is None:
        few_rows, few_errors = fit_rows, fit_errors
    # A pseudo-new LLM must not have answered what it is judged on.
    unseen = ~_among(few_rows, judged_rows)
    few_rows, few_errors = few_rows[unseen], few_errors[unseen]
    slopes = ErrorSlopes.of(fit_rows, filled(fit_errors))
    others = [np.setdiff1d(np.arange(errors.shape[1]), fold) for fold in plan.folds]
    profiles = [
        _Columns.of(*(_profile_columns(fitted, part) for part in (fit_rows, few_rows, judged_rows)))
        for fitted in (slopes.maps(columns, seed=seed) for columns in others)
    ]
    parts = (fit_rows, few_rows, judged_rows)
    losses: dict[tuple[float, Shrinkage], float] = {}
    lessons: dict[float, list[Lessons]] = {}
    for contrast in CONTRASTS:
        resolutions = _Columns.of(*map(feature_space(maps, spreads, (), contrast=contrast).design, parts))
        loss, lessons[contrast] = _Losses(errors.shape[1]), []
        for fold, known, beside in zip(plan.folds, others, profiles, strict=True):
            columns, n_profiles = resolutions.joined(beside), beside.fitting.shape[1]
            few = (columns.few, few_errors[:, known]) if reads_difficulty else None
            found = learn(
                columns.fitting, columns.gram, n_profiles, fit_errors[:, known], PROFILE_SCALES, form=form, few=few
            )
            loss.add(columns.judging, _trial(columns.few, few_errors[:, fold], found, form), judged[:, fold])
            lessons[contrast].append(found)
        losses |= {(contrast, tried): value for tried, value in zip(form.tried, loss.values(), strict=True)}
    best = _best(losses, form.n_averaged)
    if not form.reads_difficulty:
        return best
    space = feature_space(maps, spreads, (), contrast=best.contrast)
    resolutions, clusters = _Columns.of(*map(space.design, parts)), space.features(judged_rows).clusters
    held_out: list[HeldOut] = []
    for fold, beside, found in zip(plan.folds, profiles, lessons[best.contrast], strict=True):
        columns = resolutions.joined(beside)
        held_out += _held_out(columns, found, best.shrinkages, few_errors[:, fold], clusters, judged[:, fold])
    return replace(best, calibration=calibrated(held_out))


def _held_out(
    columns: _Columns,
    lessons: Lessons,
    shrinkages: Sequence[Shrinkage],
    few_errors: F64,
    clusters: F32,
    judged: F64,
) -> Iterator[HeldOut]:
    """Compare the pseudo-new LLMs of a fold with what they then did."""
    design = lessons.design(columns.few, np.arange(len(columns.few)))
    for moments, llms in grouped_moments(design, few_errors):
        posteriors = lessons.posteriors(moments, shrinkages)
        yield HeldOut.of(posteriors, columns.judging, clusters, judged[:, llms])


class _Losses:
    """Loss of all shrinkages at once, summed fold by fold without a table of the predictions.

    Routing depends on differences between LLMs alone, so an error that is the same for all of them does not count: the
    loss is the mean over prompts of the variance of the residuals over LLMs, and a variance needs only two sums.
    """

    def __init__(self, n_llms: int) -> None:
        self._n_llms = n_llms
        self._sums: F64 = np.zeros(())
        self._squares: F64 = np.zeros(())

    def add(self, design: F32, coefficients: F64, errors: F64) -> None:
        """Add the LLMs of a fold: (n, D), (D, n_llms, n_tried) and (n, n_llms)."""
        n_columns, n_llms, n_tried = coefficients.shape
        flat = np.ascontiguousarray(coefficients, dtype=np.float32).reshape(n_columns, n_llms * n_tried)
        wrong = (design @ flat).reshape(len(design), n_llms, n_tried)
        wrong -= errors[:, :, None].astype(np.float32)
        self._sums = self._sums + wrong.sum(axis=1)
        self._squares = self._squares + np.einsum("nht,nht->nt", wrong, wrong)

    def values(self) -> list[float]:
        """Return the loss of every shrinkage."""
        variances = self._squares / self._n_llms - (self._sums / self._n_llms) ** 2
        return variances.mean(axis=0).tolist()


@dataclass(frozen=True, eq=False)
class Lessons:
    """What training LLMs teach about the next one.

    Attributes
    ----------
    priors
        By profile scale; their columns are those of the design, then `items`.
    items : (N, c) float32
        Further columns of the representative prompts: per profile scale, those of `difficulty.Difficulty`. Not a column
        where difficulties are not read.
    """

    priors: Mapping[float, Prior]
    items: F32

    def design(self, features: F32, places: I64 | None = None) -> F32:
        """Append the further columns to the design of prompts, (n, D + c).

        Parameters
        ----------
        features : (n, D) float32
            Columns of the feature space.
        places : (n,) int64, optional
            Place of each prompt among the representative ones, -1 for any other; by default no prompt is one.
        """
        beside = np.zeros((len(features), self.items.shape[1]), dtype=np.float32)
        if places is not None and self.items.size:
            beside[places >= 0] = self.items[places[places >= 0]]
        return np.hstack([features, beside])

    def posteriors(self, moments: Moments, shrinkages: Sequence[Shrinkage]) -> Iterator[Posterior]:
        """Yield the posterior under every shrinkage, grouped by profile scale.

        Parameters
        ----------
        moments
            Answers of LLMs, in the columns of `design`.
        shrinkages
            Their profile scales are among those of the priors.
        """
        for scale, prior in self.priors.items():
            yield from posterior(prior, moments, [one for one in shrinkages if one.profile_scale == scale])


def learn(
    design: F32,
    gram: F64,
    n_profile_columns: int,
    errors: F64,
    profile_scales: Sequence[float],
    *,
    form: Form = CURRENT,
    few: tuple[F32, F64] | None = None,
) -> Lessons:
    """Learn one prior per profile scale from the training LLMs' labels, and how hard representative prompts are.

    Parameters
    ----------
    design : (n, D) float32
        Columns of the feature space.
    gram : (D, D) float64
        `design.T @ design`.
    n_profile_columns
        Columns that are error profiles.
    errors : (n, m) float64
        NaN where there is no label.
    profile_scales
        As in `Shrinkage`.
    form
        Which directions the priors have.
    few : (N, D) float32, (N, m) float64
        Design of the representative prompts, and the LLMs' errors on them; None where difficulties are not read.
    """
    groups = list(grouped_moments(design, errors, gram))
    positions = positions_of(filled(errors)) if form.reads_difficulty else None
    priors: dict[float, Prior] = {}
    found: dict[float, Difficulty] = {}
    for profile_scale in profile_scales:
        scales = scales_of(design.shape[1], n_profile_columns, profile_scale)
        coefficients = np.empty((design.shape[1], errors.shape[1]))
        for moments, columns in groups:
            coefficients[:, columns] = surfaces(moments, scales)
        priors[profile_scale] = prior_of(coefficients, gram, scales, positions)
        if few is not None and positions is not None:
            residuals = few[1] - few[0].astype(np.float64) @ coefficients
            found[profile_scale] = Difficulty.of(residuals, positions)
    if not found:
        return Lessons(priors, np.zeros((0, 0), dtype=np.float32))
    items = np.hstack([one.columns for one in found.values()]).astype(np.float32)
    at = design.shape[1]
    for scale, one in found.items():
        priors[scale] = _beside(
            priors[scale], one, at, design.shape[1] + items.shape[1], direction_share(errors.shape[1])
        )
        at += one.columns.shape[1]
    return Lessons(priors, items)


def _beside(prior: Prior, found: Difficulty, at: int, n_columns: int, share: float) -> Prior:
    """Give a prior the further columns of representative prompts, its own from `at` on."""
    wide = n_columns - len(prior.mean)
    mean, scales, variances = (np.pad(part, (0, wide)) for part in (prior.mean, prior.scales, prior.variances))
    mean[at], variances[at] = found.slope, found.slope_variance
    directions = np.pad(prior.directions, ((0, wide), (0, 0)))
    # An LLM that lies one standard deviation along a direction errs by the prompts' loadings more.
    size = prior.directions.shape[1]
    directions[at + 1 : at + 1 + size] = np.diag(prior.directions.any(axis=0) * share)
    return Prior(mean, directions, scales, variances)


def filled(errors: F64) -> F64:
    """Replace missing errors by the LLM's mean; good enough to shape the feature space."""
    missing = np.isnan(errors)
    if not missing.any():
        return errors
    counts = np.maximum((~missing).sum(axis=0), 1)
    means = np.where(missing, 0, errors).sum(axis=0) / counts
    return np.where(missing, means, errors)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Some columns of the design for prompts that are fitted on, shown to pseudo-new LLMs, and judged on."""

    fitting: F32
    few: F32
    judging: F32
    # Of the prompts that are fitted on.
    gram: F64

    @classmethod
    def of(cls, fitting: F32, few: F32, judging: F32) -> _Columns:
        return cls(fitting, few, judging, gram_of(fitting))

    def joined(self, other: _Columns) -> _Columns:
        """Append the columns of another part; the sums within each part are not computed again."""
        across = (self.fitting.T @ other.fitting).astype(np.float64)
        return _Columns(
            np.hstack([self.fitting, other.fitting]),
            np.hstack([self.few, other.few]),
            np.hstack([self.judging, other.judging]),
            np.block([[self.gram, across], [across.T, other.gram]]),
        )


def _profile_columns(profiles: Sequence[ClusterMap], rows: F32) -> F32:
    return np.hstack([np.zeros((len(rows), 0), dtype=np.float32), *(fitted.weights(rows) for fitted in profiles)])


def _trial(few: F32, few_errors: F64, lessons: Lessons, form: Form) -> F64:
    """Return the coefficients of h pseudo-new LLMs under every shrinkage, (D, h, n_tried)."""
    n_columns = few.shape[1]
    found = np.empty((n_columns, few_errors.shape[1], len(form.tried)))
    shown = list(grouped_moments(lessons.design(few, np.arange(len(few))), few_errors))
    for scale, prior in lessons.priors.items():
        places = [place for place, tried in enumerate(form.tried) if tried.profile_scale == scale]
        for moments, llms in shown:
            results = posterior(prior, moments, [form.tried[p] for p in places])
            for place, result in zip(places, results, strict=True):
                found[:, llms, place] = result.coefficients[:n_columns]
    return found


def _best(losses: Mapping[tuple[float, Shrinkage], float], n_averaged: int) -> Choice:
    """Choose the contrast whose best shrinkages have the lowest mean loss, and those shrinkages."""
    ranked = {
        contrast: sorted((s for c, s in losses if c == contrast), key=lambda s: losses[contrast, s])[:n_averaged]
        for contrast in dict.fromkeys(c for c, _ in losses)
    }
    contrast = min(ranked, key=lambda c: float(np.mean([losses[c, s] for s in ranked[c]])))
    return Choice(contrast, tuple(ranked[contrast]), dict(losses))


def _among(rows: F32, others: F32) -> npt.NDArray[np.bool_]:
    """Whether each row is also among the others, bit for bit."""
    known = {row.tobytes() for row in others}
    return np.array([row.tobytes() in known for row in rows], dtype=bool)
