"""Choose how sharp the soft clusters are and how strongly to shrink, by simulation on the training LLMs.

The training LLMs have labels on many prompts. Some of them are held out in turn as *pseudo-new* LLMs: they show only
their answers to the representative prompts, as a new LLM would, and are judged on map prompts that nothing was fitted
on. New LLMs and gate prompts are never seen.

Features of prompts do not depend on which LLMs are held out, except the error profiles, and those do not depend on the
contrast. So features, and the sums over prompts that coefficients depend on, are computed once per contrast and once
per fold, and joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .feature_space import ErrorSlopes, feature_space
from .posterior import Prior, Shrinkage, gram_of, grouped_moments, posterior, prior_of, scales_of, surfaces
from .prompt_weights import F32, F64, I64, ClusterMap

# Share of the map prompts that is judged, and the most that are needed.
JUDGED_SHARE, JUDGED_MOST = 0.3, 2000
N_FOLDS = 3
# Settings to try. The coarse grids cover what any data set may need; the simulation chooses.
CONTRASTS = (5.0, 10.0, 20.0)
PROFILE_SCALES = (0.0, 1.0, 2.0)
VARIANCES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
_TRIED = tuple(
    Shrinkage(variance, scale, follows)
    for scale in PROFILE_SCALES
    for variance in VARIANCES
    for follows in (False, True)
)
# Number of the best settings that are averaged: the simulation cannot distinguish them.
N_AVERAGED = 4
# With fewer than two training LLMs none can be held out: the middle of the grid.
_UNSIMULATED = tuple(Shrinkage(variance, 1.0, False) for variance in (0.001, 0.002, 0.004))


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
    """

    contrast: float
    shrinkages: tuple[Shrinkage, ...]
    losses: Mapping[tuple[float, Shrinkage], float]


def choose(
    rows: F32,
    errors: F64,
    few_rows: F32 | None,
    few_errors: F64,
    maps: Sequence[ClusterMap],
    spreads: Sequence[float],
    *,
    seed: int,
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
    """
    plan = Plan.draw(errors, seed=seed)
    if plan is None:
        return Choice(CONTRASTS[0], _UNSIMULATED, {})
    judged = errors[plan.judging]
    fit_rows, fit_errors, judged_rows = rows[plan.fitting], errors[plan.fitting], rows[plan.judging]
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
    losses: dict[tuple[float, Shrinkage], float] = {}
    for contrast in CONTRASTS:
        space = feature_space(maps, spreads, (), contrast=contrast)
        resolutions = _Columns.of(*(space.design(part) for part in (fit_rows, few_rows, judged_rows)))
        loss = _Losses(errors.shape[1])
        for fold, known, beside in zip(plan.folds, others, profiles, strict=True):
            columns = resolutions.joined(beside)
            found = _trial(columns, beside.fitting.shape[1], fit_errors[:, known], few_errors[:, fold])
            loss.add(columns.judging, found, judged[:, fold])
        losses |= {(contrast, tried): value for tried, value in zip(_TRIED, loss.values(), strict=True)}
    return _best(losses)


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


def priors_of(
    design: F32, gram: F64, n_profile_columns: int, errors: F64, profile_scales: Sequence[float]
) -> dict[float, Prior]:
    """Learn one prior per profile scale from the training LLMs' labels.

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
    """
    groups = list(grouped_moments(design, errors, gram))
    priors = {}
    for profile_scale in profile_scales:
        scales = scales_of(design.shape[1], n_profile_columns, profile_scale)
        coefficients = np.empty((design.shape[1], errors.shape[1]))
        for moments, columns in groups:
            coefficients[:, columns] = surfaces(moments, scales)
        priors[profile_scale] = prior_of(coefficients, gram, scales)
    return priors


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


def _trial(columns: _Columns, n_profile_columns: int, errors: F64, few_errors: F64) -> F64:
    """Return the coefficients of h pseudo-new LLMs under every shrinkage, (D, h, n_tried)."""
    found = np.empty((columns.few.shape[1], few_errors.shape[1], len(_TRIED)))
    shown = list(grouped_moments(columns.few, few_errors))
    priors = priors_of(columns.fitting, columns.gram, n_profile_columns, errors, PROFILE_SCALES)
    for scale, prior in priors.items():
        places = [place for place, tried in enumerate(_TRIED) if tried.profile_scale == scale]
        for moments, llms in shown:
            for place, result in zip(places, posterior(prior, moments, [_TRIED[p] for p in places]), strict=True):
                found[:, llms, place] = result.coefficients
    return found


def _best(losses: Mapping[tuple[float, Shrinkage], float]) -> Choice:
    """Choose the contrast whose best shrinkages have the lowest mean loss, and those shrinkages."""
    ranked = {
        contrast: sorted((s for c, s in losses if c == contrast), key=lambda s: losses[contrast, s])[:N_AVERAGED]
        for contrast in dict.fromkeys(c for c, _ in losses)
    }
    contrast = min(ranked, key=lambda c: float(np.mean([losses[c, s] for s in ranked[c]])))
    return Choice(contrast, tuple(ranked[contrast]), dict(losses))


def _among(rows: F32, others: F32) -> npt.NDArray[np.bool_]:
    """Whether each row is also among the others, bit for bit."""
    known = {row.tobytes() for row in others}
    return np.array([row.tobytes() in known for row in rows], dtype=bool)
