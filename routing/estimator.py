"""Fit the prior once, then give every LLM its posterior feature vector from its answers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from .checks import checked_embeddings, finite_array
from .credibility import credible_means
from .errors import InvalidInput, InvalidProfile
from .feature_space import FeatureSpace, feature_space, profile_maps, resolution_maps
from .features import FeatureVector, input_token_ratio
from .posterior import Moments, Posterior, Prior, Shrinkage, label_groups, posterior, prior_of, scales_of, surfaces
from .prompt_weights import F32, F64, ClusterMap
from .simulation import Plan, contrast_loss

# What is tried. The coarse grids cover what any data set may need; the simulation chooses.
CONTRASTS = (5.0, 10.0, 20.0)
PROFILE_SCALES = (0.0, 1.0, 2.0)
VARIANCES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
# So many of the best are averaged: the simulation cannot tell them apart.
N_AVERAGED = 4
# With fewer than two training LLMs nobody can be held out: the middle of the grid.
_UNSIMULATED = tuple(Shrinkage(variance, 1.0, False) for variance in (0.001, 0.002, 0.004))


@dataclass(frozen=True)
class Choice:
    """Hold what the simulation chose.

    Attributes
    ----------
    contrast
        Sharpness of the soft clusters, see `feature_space`.
    shrinkages
        What is averaged.
    losses
        Contrast loss of every (contrast, shrinkage) tried; empty without a simulation.
    """

    contrast: float
    shrinkages: tuple[Shrinkage, ...]
    losses: Mapping[tuple[float, Shrinkage], float]


class PosteriorEstimator:
    """Estimate feature vectors with the training LLMs as prior (the default of this package).

    It chooses the sharpness of the soft clusters and how strongly to shrink by `simulation`: training LLMs are held out
    as pseudo-new ones with as many labels as a new LLM has. With few training LLMs there is less to learn from, with
    none it shrinks every LLM towards its own mean error.

    Parameters
    ----------
    random_state
        Seed of k-means and of the simulation.

    Attributes
    ----------
    cluster_map_ : ClusterMap
        Phi, for routers.
    choice_ : Choice
        What the simulation chose.
    n_training_llms_ : int
        LLMs behind the prior.

    Examples
    --------
    >>> import numpy as np
    >>> from routing import PosteriorEstimator
    >>> rng = np.random.default_rng(0)
    >>> prompts = np.vstack([rng.normal(side, 0.1, (60, 2)) for side in ([1, 0], [0, 1])]).astype("float32")
    >>> good_at_first = (prompts[:, :1] < prompts[:, 1:]).astype(float)
    >>> known = np.hstack([good_at_first, 1 - good_at_first, good_at_first])
    >>> estimator = PosteriorEstimator().fit(prompts, known)
    >>> few = prompts[::20]
    >>> vector = estimator.vector(few, 1 - good_at_first[::20, 0], np.full(6, 50), np.full(6, 80), n_prompts=6)
    >>> gamma = estimator.cluster_map_.weights([[1.0, 0.0], [0.0, 1.0]]) @ np.r_[vector.errors, vector.coefficients]
    >>> bool(gamma[0] < 0.4 and gamma[1] > 0.6)
    True
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        few: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        maps: Sequence[ClusterMap] | None = None,
    ) -> Self:
        """Learn the feature space and the prior.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings of the map prompts.
        y : array-like of shape (n, m)
            Errors of the training LLMs on them, in [0, 1]; NaN where there is none. m may be zero.
        few
            Embeddings (N, dim) and errors (N, m) of the training LLMs on the representative prompts, the ones that new
            LLMs are going to be asked: what a pseudo-new LLM shows. They may be among `X` too. By default the map
            prompts that are fitted on.
        maps
            K-means maps of `X`, coarse to fine; by default fitted here.

        Raises
        ------
        InvalidInput
            When shapes differ or a number must not be used.
        """
        rows = checked_embeddings(X, np.shape(X)[-1] if np.ndim(X) == 2 else 0)
        errors = _checked_errors(y, len(rows), "errors of the training LLMs")
        if not len(rows):
            raise InvalidInput("a posterior estimator needs at least one map prompt")
        # Sums over BLAS threads differ in their last bits, and fitted numbers go into digests.
        with threadpool_limits(limits=1):
            fitted = tuple(maps) if maps else resolution_maps(rows, seed=self.random_state)
            self.choice_ = self._simulate(rows, errors, few, fitted)
            self._finish(rows, errors, fitted)
        self.n_training_llms_ = errors.shape[1]
        return self

    def coefficients(self, X: npt.ArrayLike, y: npt.ArrayLike) -> F64:
        """Give Psi of several LLMs: `cluster_map_.weights(prompts) @ Psi` are their expected errors.

        Parameters
        ----------
        X : array-like of shape (N, dim)
            Embeddings of the prompts that they were asked.
        y : array-like of shape (N, h)
            Their errors, in [0, 1]; NaN where there is none.

        Returns
        -------
        (n_clusters + n_linear, h) float64
        """
        rows = checked_embeddings(X, self.cluster_map_.dim)
        errors = _checked_errors(y, len(rows), "errors of the LLMs")
        psi = np.empty((self.cluster_map_.n_clusters + self.cluster_map_.n_linear, errors.shape[1]))
        with threadpool_limits(limits=1):
            design = self._space.design(rows)
            for labelled, columns in label_groups(errors):
                moments = Moments.of(design[labelled], errors[np.ix_(labelled, columns)])
                psi[:, columns] = self._psi(np.mean([p.coefficients for p in self._posteriors(moments)], axis=0))
        return psi

    def vector(
        self,
        X: npt.ArrayLike,
        scores: npt.ArrayLike,
        input_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        *,
        n_prompts: int,
        estimated_tokens: npt.ArrayLike | None = None,
    ) -> FeatureVector:
        """Give one LLM's feature vector, with a standard error per cluster.

        Parameters
        ----------
        X : array-like of shape (N, dim)
            Embeddings of the scored prompts.
        scores : array-like of shape (N,)
            Its scores on them, in [0, 1].
        input_tokens, output_tokens : array-like of shape (N,)
            Tokens of the prompts and of its answers.
        n_prompts
            Prompts it was asked, at least N.
        estimated_tokens : array-like of shape (N,), optional
            Input tokens of the prompts as `estimated_input_tokens` gives them.

        Raises
        ------
        InvalidProfile
            When there is no scored prompt, or a number must not be used.
        """
        rows = checked_embeddings(X, self.cluster_map_.dim)
        n = len(rows)
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
        wrong = 1 - right
        with threadpool_limits(limits=1):
            found = list(self._posteriors(Moments.of(self._space.design(rows), wrong[:, None])))
            psi = self._psi(np.mean([p.coefficients for p in found], axis=0))[:, 0]
            variances = np.mean([p.variances(self._shown) for p in found], axis=0)
            weights = self._space.clusters(rows).astype(np.float64)
        level = (wrong.sum() + 0.5) / (n + 1)
        n_clusters = self.cluster_map_.n_clusters
        return FeatureVector(
            errors=psi[:n_clusters],
            standard_errors=np.sqrt(level * (1 - level) * variances),
            counts=np.bincount(weights.argmax(axis=1), minlength=n_clusters),
            input_tokens=credible_means(weights, tokens[0]),
            output_tokens=credible_means(weights, tokens[1]),
            n_prompts=n_prompts,
            n_scored=n,
            coefficients=psi[n_clusters:],
            input_token_ratio=input_token_ratio(tokens[0], estimated_tokens),
        )

    def _simulate(
        self,
        rows: F32,
        errors: F64,
        few: tuple[npt.ArrayLike, npt.ArrayLike] | None,
        maps: Sequence[ClusterMap],
    ) -> Choice:
        plan = Plan.draw(errors, seed=self.random_state)
        if plan is None:
            return Choice(CONTRASTS[0], _UNSIMULATED, {})
        judged = errors[plan.judging]
        fit_rows, fit_errors = rows[plan.fitting], errors[plan.fitting]
        few_rows, few_errors = fit_rows, fit_errors
        if few is not None:
            few_rows = checked_embeddings(few[0], rows.shape[1])
            few_errors = _checked_errors(few[1], len(few_rows), "errors on the representative prompts")
            if few_errors.shape[1] != errors.shape[1]:
                raise InvalidInput(f"{few_errors.shape[1]} LLMs on the representative prompts, not {errors.shape[1]}")
        # A pseudo-new LLM must not have answered what it is judged on.
        unseen = ~_among(few_rows, rows[plan.judging])
        few_rows, few_errors = few_rows[unseen], few_errors[unseen]
        expected: dict[tuple[float, Shrinkage], F64] = {}
        for fold in plan.folds:
            others = fit_errors[:, np.setdiff1d(np.arange(errors.shape[1]), fold)]
            profiles = profile_maps(fit_rows, _filled(others), seed=self.random_state)
            for contrast in CONTRASTS:
                space = feature_space(maps, profiles, fit_rows, contrast=contrast)
                judged_design = space.design(rows[plan.judging])
                found = _trial(space, fit_rows, others, few_rows, few_errors[:, fold])
                for shrinkage, coefficients in found.items():
                    table = expected.setdefault((contrast, shrinkage), np.empty_like(judged))
                    table[:, fold] = judged_design @ coefficients.astype(np.float32)
        return _chosen({tried: contrast_loss(table, judged) for tried, table in expected.items()})

    def _finish(self, rows: F32, errors: F64, maps: Sequence[ClusterMap]) -> None:
        """Fit the chosen space and its priors on all map prompts and all training LLMs."""
        profiles = profile_maps(rows, _filled(errors), seed=self.random_state)
        self._space = feature_space(maps, profiles, rows, contrast=self.choice_.contrast)
        self.cluster_map_ = self._space.cluster_map
        design = self._space.design(rows)
        scales = {s.profile_scale for s in self.choice_.shrinkages}
        self._priors = _priors(self._space, design, errors, sorted(scales))
        weights = self._space.clusters(rows)
        self._shown = (weights.T @ design).astype(np.float64) / weights.sum(axis=0, dtype=np.float64)[:, None]

    def _posteriors(self, moments: Moments) -> list[Posterior]:
        return [
            found
            for scale, prior in self._priors.items()
            for found in posterior(prior, moments, [s for s in self.choice_.shrinkages if s.profile_scale == scale])
        ]

    def _psi(self, coefficients: F64) -> F64:
        """Express coefficients of the feature space in the map's columns: errors of shown clusters, then features."""
        shown = np.clip(self._shown @ coefficients, 0, 1)
        features = coefficients[1:].copy()
        # The shown clusters are the features at `start` again: what they show is taken off there, gamma stays.
        start, size = self._space.shown_start, len(shown)
        features[start : start + size] += coefficients[0] - shown
        return np.vstack([shown, features])


def _trial(space: FeatureSpace, rows: F32, errors: F64, few_rows: F32, few_errors: F64) -> dict[Shrinkage, F64]:
    """Give the coefficients of pseudo-new LLMs under every shrinkage."""
    design, few_design = space.design(rows), space.design(few_rows)
    found: dict[Shrinkage, F64] = {}
    priors = _priors(space, design, errors, PROFILE_SCALES)
    for scale, prior in priors.items():
        tried = [Shrinkage(variance, scale, follows) for variance in VARIANCES for follows in (False, True)]
        for labelled, columns in label_groups(few_errors):
            moments = Moments.of(few_design[labelled], few_errors[np.ix_(labelled, columns)])
            for shrinkage, result in zip(tried, posterior(prior, moments, tried), strict=True):
                table = found.setdefault(shrinkage, np.empty((space.n_columns, few_errors.shape[1])))
                table[:, columns] = result.coefficients
    return found


def _priors(space: FeatureSpace, design: F32, errors: F64, profile_scales: Sequence[float]) -> dict[float, Prior]:
    groups = [
        (Moments.of(design[labelled], errors[np.ix_(labelled, columns)]), columns)
        for labelled, columns in label_groups(errors)
    ]
    gram = (design.T @ design).astype(np.float64)
    priors = {}
    for profile_scale in profile_scales:
        scales = scales_of(space.n_columns, space.n_profile_columns, profile_scale)
        coefficients = np.empty((space.n_columns, errors.shape[1]))
        for moments, columns in groups:
            coefficients[:, columns] = surfaces(moments, scales)
        priors[profile_scale] = prior_of(coefficients, gram, scales)
    return priors


def _chosen(losses: Mapping[tuple[float, Shrinkage], float]) -> Choice:
    """Average the best shrinkages under the contrast whose best ones are best."""
    ranked = {
        contrast: sorted((s for c, s in losses if c == contrast), key=lambda s: losses[contrast, s])[:N_AVERAGED]
        for contrast in dict.fromkeys(c for c, _ in losses)
    }
    contrast = min(ranked, key=lambda c: float(np.mean([losses[c, s] for s in ranked[c]])))
    return Choice(contrast, tuple(ranked[contrast]), dict(losses))


def _among(rows: F32, others: F32) -> npt.NDArray[np.bool_]:
    """Tell which rows are also among the others, bit for bit."""
    known = {row.tobytes() for row in others}
    return np.array([row.tobytes() in known for row in rows], dtype=bool)


def _filled(errors: F64) -> F64:
    """Replace missing errors by the LLM's mean, for what only shapes the feature space."""
    missing = np.isnan(errors)
    counts = np.maximum((~missing).sum(axis=0), 1)
    means = np.where(missing, 0, errors).sum(axis=0) / counts
    return np.where(missing, means, errors)


def _checked_errors(errors: npt.ArrayLike, n_prompts: int, name: str) -> F64:
    table = np.asarray(errors, dtype=np.float64)
    if table.ndim != 2 or len(table) != n_prompts:
        raise InvalidInput(f"{name} must have shape ({n_prompts}, any), got {table.shape}")
    finite_array(np.where(np.isnan(table), 0, table), name, shape=(None, None), minimum=0, maximum=1)
    return table
