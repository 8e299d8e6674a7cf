"""Our methods: posterior feature vectors from drawn or chosen prompts, and how true their intervals are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.bench.methods.trial import BenchTrial
from routing.day_zero import KnownFacts
from routing.estimator import PosteriorEstimator
from routing.features import FeatureVector
from routing.posterior.prompt_choice import choose_order

F64 = NDArray[np.float64]

_NORMAL_95 = 1.959964


@dataclass(frozen=True, eq=False)
class Intervals:
    """How the levels and cluster errors of unseen LLMs compare with their 95 % intervals.

    Attributes
    ----------
    missed : (h,) float64
        Level minus the LLM's mean error on the gate prompts.
    level_is_covered : (h,) bool
    clusters_are_covered : (h, K) bool
        Whether the interval holds what the gate prompts show, which scatters by itself.
    """

    missed: F64
    level_is_covered: NDArray[np.bool_]
    clusters_are_covered: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Estimated:
    """Unseen LLMs, as posterior vectors see them.

    Attributes
    ----------
    expected : (n, h) float64
        Expected errors on the gate prompts.
    vectors
        One per LLM.
    clusters : (n, K) float64
        Weights of the shown clusters for the gate prompts.
    """

    expected: F64
    vectors: tuple[FeatureVector, ...]
    clusters: F64

    def intervals(self, errors: F64) -> Intervals:
        """Compare with the errors on the gate prompts, (n, h)."""
        weights = np.hstack([np.ones((len(errors), 1)), self.clusters])
        weights /= np.maximum(weights.sum(axis=0), 1e-12)
        shown = weights.T @ errors
        spread = np.clip(shown[0], 0.02, 0.98) * (1 - np.clip(shown[0], 0.02, 0.98))
        own = (weights**2).sum(axis=0)[:, None] * spread
        found = np.array([np.r_[one.overall, one.errors] for one in self.vectors]).T
        deviations = np.array([np.r_[one.overall_standard_error, one.standard_errors] for one in self.vectors]).T
        inside = np.abs(found - shown) <= _NORMAL_95 * np.sqrt(deviations**2 + own)
        return Intervals(found[0] - shown[0], inside[0], inside[1:].T)


def estimated(trial: BenchTrial, *, chosen: bool) -> Estimated:
    """Estimate the unseen LLMs from their answers to representative prompts.

    Parameters
    ----------
    trial
        The trial.
    chosen
        Whether the prompts are those that the known LLMs' answers recommend, as many as were drawn for the other
        methods; otherwise those.
    """
    rows, known, answers = trial.few_rows, trial.train_few_errors, trial.test_few_errors
    asked = np.arange(len(rows))
    if chosen:
        rows, known, answers = trial.pool_rows, trial.train_pool_errors, trial.test_pool_errors
        asked = np.sort(choose_order(rows, known, n_asked=len(trial.few_rows), seed=trial.seed).order[: len(asked)])
    estimator = PosteriorEstimator(random_state=trial.seed).fit(
        trial.map_rows,
        trial.train_map_errors,
        few=(rows, known),
        maps=trial.resolutions,
        facts=KnownFacts.of(trial.train_facts) if trial.train_facts else None,
        asked=asked if chosen else None,
    )
    prompts = estimator.prepared(rows[asked], asked)
    levels = [estimator.level_prior(llm) for llm in trial.test_facts] or [None] * answers.shape[1]
    nothing, all_scored = np.zeros(len(asked)), np.ones(len(asked), dtype=bool)
    vectors = tuple(
        prompts.vector(all_scored, 1 - answers[asked, column], nothing, nothing, n_prompts=len(asked), level=level)
        for column, level in enumerate(levels)
    )
    weights = estimator.cluster_map_.weights(trial.gate_rows).astype(np.float64)
    psi = np.array([np.r_[one.errors, one.coefficients] for one in vectors], dtype=np.float64).T
    return Estimated(weights @ psi, vectors, weights[:, : estimator.cluster_map_.n_clusters])
