"""A fitted posterior estimator: from sums over an LLM's answers to its feature vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..checks import finite_array
from ..cluster_maps import one_thread
from ..credibility import credible_means
from ..day_zero import LevelPrior
from ..errors import InvalidInput, InvalidProfile
from ..features import FeatureVector, input_token_ratio
from ..prompt_weights import F32, F64, I64
from .choice import Choice, Lessons
from .feature_space import FeatureSpace
from .inference import (
    NOISE_VARIANCE,
    Moments,
    Posterior,
    gram_of,
    grouped_moments,
    level_variance,
    posterior,
    with_level,
)


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the answers of one LLM say.

    Attributes
    ----------
    psi : (n_clusters + n_linear,) float64
        Errors of the shown clusters, then weights of the features.
    variances : (n_clusters,) float64
        Variances of the former over `p (1 - p)`, calibrated.
    overall, overall_variance
        Overall error, and its variance over `p (1 - p)`, calibrated; None where the fit kept no mean design.
    prior_share
        How much of it is prior, in [0, 1]; None as above.
    """

    psi: F64
    variances: F64
    overall: float | None = None
    overall_variance: float | None = None
    prior_share: float | None = None


@dataclass(frozen=True, eq=False)
class FittedPosterior:
    """Everything that vectors are computed from, besides answers.

    Attributes
    ----------
    space
        The features of prompts.
    choice
        Settings that are averaged, and the calibration of variances.
    lessons
        Priors, and how hard the representative prompts are.
    shown : (n_clusters, D) float64
        Mean design of every shown cluster.
    overall : (D,) float64 or None
        Mean design of all map prompts; estimators of earlier releases have none.
    """

    space: FeatureSpace
    choice: Choice
    lessons: Lessons
    shown: F64
    overall: F64 | None

    @property
    def n_columns(self) -> int:
        """Columns of the design of representative prompts."""
        return self.space.n_columns + self.lessons.items.shape[1]

    def checked_places(self, places: npt.ArrayLike | None, n: int) -> I64 | None:
        """Return places among the representative prompts as an array; None when nothing is known of any.

        Parameters
        ----------
        places : array-like of shape (n,)
            -1 for a prompt that is not among them.
        n
            Number of prompts.

        Raises
        ------
        InvalidInput
            A place does not exist.
        """
        n_items = len(self.lessons.items)
        if places is None or not n_items:
            return None
        at = np.asarray(places, dtype=np.int64)
        if at.shape != (n,) or at.min(initial=0) < -1 or at.max(initial=-1) >= n_items:
            raise InvalidInput(f"places must be {n} numbers from -1 to {n_items - 1}")
        return at

    def design(self, embeddings: F32, places: I64 | None) -> F32:
        """Return the design of prompts, ``(n, n_columns)``."""
        return self.lessons.design(self.space.design(embeddings), places)

    def psi_of_all(self, moments: Moments) -> F64:
        """Return Psi of all LLMs with the same labelled prompts, ``(n_clusters + n_linear, h)``."""
        return self._psi(self._mean(list(self.lessons.posteriors(moments, self.choice.shrinkages))))

    def estimate(self, moments: Moments, level: LevelPrior | None) -> Estimate:
        """Estimate one LLM.

        Parameters
        ----------
        moments
            Its answers.
        level
            What is expected of its level before them; None for nothing.
        """
        overall = self.overall
        settings = [
            (prior, shrinkage)
            for scale, prior in self.lessons.priors.items()
            for shrinkage in self.choice.shrinkages
            if shrinkage.profile_scale == scale
        ]
        if overall is None or level is None:
            found = list(self.lessons.posteriors(moments, self.choice.shrinkages))
        else:
            found = [
                next(posterior(prior, with_level(moments, prior, shrinkage, overall, level), [shrinkage]))
                for prior, shrinkage in settings
            ]
        mean = self._mean(found)
        psi, factors = self._psi(mean)[:, 0], self.choice.calibration
        variances = factors.clusters * np.mean([one.variances(self.shown) for one in found], axis=0)
        if overall is None:
            return Estimate(psi, variances)
        largest = np.inf if level is None else level.variance
        before = sum(min(level_variance(prior, shrinkage, overall), largest) for prior, shrinkage in settings)
        after = sum(float(one.variances(overall[None, :])[0]) for one in found)
        return Estimate(
            psi,
            variances,
            float(np.clip(overall @ mean[:, 0], 0, 1)),
            factors.level * after / len(found),
            min(NOISE_VARIANCE * after / before, 1.0),
        )

    def _mean(self, found: Sequence[Posterior]) -> F64:
        """Return the mean over settings of the coefficients of the feature space, (D, h)."""
        return np.mean([one.coefficients[: self.space.n_columns] for one in found], axis=0)

    def _psi(self, coefficients: F64) -> F64:
        """Express coefficients of the feature space in the map's columns: errors of shown clusters, then features."""
        shown = np.clip(self.shown @ coefficients, 0, 1)
        features = coefficients[1:].copy()
        # The shown clusters repeat the features at `start`: what they show is subtracted there, so that gamma stays.
        start, size = self.space.shown_start, len(shown)
        features[start : start + size] += coefficients[0] - shown
        return np.vstack([shown, features])


class PosteriorPrompts:
    """Prompts that LLMs were asked, with what is the same for all LLMs computed once.

    The vector of an LLM depends on its own answers and these prompts alone, bit for bit, not on other LLMs.

    Parameters
    ----------
    fitted
        The estimator of the vectors.
    clusters : (n, n_clusters) float32
        Weights of the shown clusters.
    design : (n, D) float32
        Features of the prompts, then the columns of representative prompts.
    """

    def __init__(self, fitted: FittedPosterior, clusters: F32, design: F32) -> None:
        self._fitted = fitted
        self._clusters = clusters
        self._design = design

    def __len__(self) -> int:
        return len(self._design)

    @cached_property
    def _gram(self) -> F64:
        return gram_of(self._design)

    def vector(
        self,
        scored: npt.NDArray[np.bool_],
        scores: npt.ArrayLike,
        input_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        *,
        n_prompts: int,
        estimated_tokens: npt.ArrayLike | None = None,
        level: LevelPrior | None = None,
    ) -> FeatureVector:
        """Return the feature vector of one LLM, with a standard error per cluster.

        Parameters
        ----------
        scored : (n,) bool
            Which of the prompts it has a score for; N of them.
        scores, input_tokens, output_tokens, n_prompts, estimated_tokens, level
            As for `PosteriorEstimator.vector`, of the N scored prompts.

        Raises
        ------
        InvalidProfile
            When there is no scored prompt, or a number must not be used.
        """
        n = int(np.count_nonzero(scored))
        if not n:
            raise InvalidProfile("an LLM without any scored prompt has no feature vector")
        try:
            right = finite_array(scores, "scores", shape=(n,), minimum=0, maximum=1)
            tokens = [
                finite_array(values, f"{name} tokens", shape=(n,), minimum=0)
                for name, values in (("input", input_tokens), ("output", output_tokens))
            ]
        except InvalidInput as error:
            raise InvalidProfile(error.message) from None
        errors = np.full((len(self), 1), np.nan)
        errors[scored, 0] = 1 - right
        with one_thread():
            moments, _ = next(grouped_moments(self._design, errors, self._gram))
            found = self._fitted.estimate(moments, level)
            weights = self._clusters[scored].astype(np.float64)
            n_clusters = weights.shape[1]
            # Earlier releases scaled by the observed error, which chosen prompts bend.
            error = found.overall if found.overall is not None else (n - right.sum() + 0.5) / (n + 1)
            spread = max(error * (1 - error), 1 / (4 * n + 4))
            return FeatureVector(
                errors=found.psi[:n_clusters],
                standard_errors=np.sqrt(spread * found.variances),
                counts=np.bincount(weights.argmax(axis=1), minlength=n_clusters),
                input_tokens=credible_means(weights, tokens[0]),
                output_tokens=credible_means(weights, tokens[1]),
                n_prompts=n_prompts,
                n_scored=n,
                coefficients=found.psi[n_clusters:],
                input_token_ratio=input_token_ratio(tokens[0], estimated_tokens),
                prior_share=found.prior_share,
                level=level,
                overall=found.overall,
                overall_standard_error=None
                if found.overall_variance is None
                else float(np.sqrt(spread * found.overall_variance)),
            )
