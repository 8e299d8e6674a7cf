"""Fit the prior once, then compute the posterior feature vector of every LLM from its answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import numpy.typing as npt

from .checks import checked_embeddings, finite_array
from .cluster_maps import one_thread
from .day_zero import DayZero, KnownFacts, LevelPrior, LLMFacts
from .errors import InvalidInput
from .features import FeatureVector
from .posterior.choice import CURRENT, Form, choose, filled, learn
from .posterior.feature_space import feature_space, profile_maps, resolution_maps, spreads_of
from .posterior.fitted import FittedPosterior, PosteriorPrompts
from .posterior.inference import Moments, gram_of, grouped_moments
from .prompt_weights import F32, F64, I64, ClusterMap


class PosteriorEstimator:
    """Estimate feature vectors with the training LLMs as prior (the default of this package).

    It chooses the sharpness of the soft clusters and the strength of the shrinkage by simulation (`posterior.choice`):
    training LLMs are held out as pseudo-new ones with as many labels as a new LLM has. With few training LLMs there is
    less to learn from; with none, every LLM is shrunk towards its own mean error.

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
        Number of LLMs behind the prior.
    asked_ : (a,) int64 or None
        Places of the representative prompts that pseudo-new LLMs showed; None for all.
    facts_ : KnownFacts or None
        Facts of these LLMs; None when they were not given.
    day_zero_ : DayZero or None
        What such facts say about the level of a new LLM; None without them.

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

    asked_: I64 | None = None
    facts_: KnownFacts | None = None
    day_zero_: DayZero | None = None

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        few: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        maps: Sequence[ClusterMap] | None = None,
        facts: KnownFacts | None = None,
        asked: npt.ArrayLike | None = None,
        form: Form = CURRENT,
    ) -> Self:
        """Learn the feature space and the prior.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings of the map prompts.
        y : array-like of shape (n, m)
            Errors of the training LLMs on them, in [0, 1]; NaN where there is no label. m may be zero.
        few
            Embeddings (N, dim) and errors (N, m) of the training LLMs on the representative prompts, which new LLMs
            will be asked: they show how hard each of them is. They may be among `X` too. By default, difficulties are
            not read, and pseudo-new LLMs show the map prompts that are fitted on.
        maps
            K-means maps of `X`, coarse to fine; fitted here by default.
        facts
            Facts of the training LLMs. With them it learns what is expected of a new LLM before its first answer.
        asked : array-like of shape (a,), optional
            Places of the representative prompts that a new LLM is going to be asked, which a pseudo-new one shows; by
            default all.
        form
            Which settings to try: others than the current ones fit again what an earlier release has fitted.

        Raises
        ------
        InvalidInput
            When shapes differ or a number must not be used.
        """
        rows = checked_embeddings(X, np.shape(X)[-1] if np.ndim(X) == 2 else 0)
        errors = _checked_errors(y, len(rows), "errors of the training LLMs")
        if not len(rows):
            raise InvalidInput("a posterior estimator needs at least one map prompt")
        few_rows, few_errors = (None, errors) if few is None else _checked_few(few, rows.shape[1], errors.shape[1])
        if facts is not None and len(facts.codes) != errors.shape[1]:
            raise InvalidInput(f"facts of {len(facts.codes)} LLMs, not {errors.shape[1]}")
        fitted = tuple(maps) if maps else resolution_maps(rows, seed=self.random_state)
        # Sums over BLAS threads differ in their last bits, and fitted numbers go into digests.
        with one_thread():
            spreads = spreads_of(fitted, rows)
            self.asked_ = None if asked is None or few_rows is None else _checked_places(asked, len(few_errors))
            shown = slice(None) if self.asked_ is None else self.asked_
            shown_rows = None if few_rows is None else few_rows[shown]
            self.choice_ = choose(
                rows, errors, shown_rows, few_errors[shown], fitted, spreads, seed=self.random_state, form=form
            )
            few_of_all = None if few_rows is None or not form.reads_difficulty else (few_rows, few_errors)
            found = self._finish(rows, errors, few_of_all, fitted, spreads, form)
            # Estimators of before there were facts or difficulties kept no mean design, and their digests say so.
            keeps_overall = form.reads_difficulty or facts is not None
            self._fitted = found if keeps_overall else replace(found, overall=None)
            self.facts_ = facts
            self.day_zero_ = None if facts is None else DayZero.fit(facts, filled(errors).mean(axis=0))
        self.n_training_llms_ = errors.shape[1]
        return self

    def coefficients(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        levels: Sequence[LevelPrior | None] | None = None,
        places: npt.ArrayLike | None = None,
    ) -> F64:
        """Return Psi of several LLMs: `cluster_map_.weights(prompts) @ Psi` are their expected errors.

        Parameters
        ----------
        X : array-like of shape (N, dim)
            Embeddings of the prompts that they were asked.
        y : array-like of shape (N, h)
            Their errors, in [0, 1]; NaN where there is no label.
        levels
            What is expected of their levels before their answers, None for an LLM of which nothing is known.
        places : array-like of shape (N,), optional
            Place of each prompt among the representative prompts of the fit, -1 for any other; by default none is one
            of them, and how hard they are is unknown.

        Returns
        -------
        (n_clusters + n_linear, h) float64
        """
        rows = checked_embeddings(X, self.cluster_map_.dim)
        errors = _checked_errors(y, len(rows), "errors of the LLMs")
        at = self._fitted.checked_places(places, len(rows))
        psi = np.empty((self.cluster_map_.n_clusters + self.cluster_map_.n_linear, errors.shape[1]))
        with one_thread():
            for moments, columns in grouped_moments(self._fitted.design(rows, at), errors):
                if levels is None:
                    psi[:, columns] = self._fitted.psi_of_all(moments)
                    continue
                for place, column in enumerate(columns):
                    own = Moments(moments.gram, moments.totals[:, place : place + 1], moments.n)
                    psi[:, column] = self._fitted.estimate(own, levels[column]).psi
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
        level: LevelPrior | None = None,
        places: npt.ArrayLike | None = None,
    ) -> FeatureVector:
        """Return the feature vector of one LLM, with a standard error per cluster.

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
            Input tokens of the prompts as `estimated_input_tokens` returns them.
        level
            What is expected of its level before its answers; None when nothing is known.
        places
            As for `coefficients`.

        Raises
        ------
        InvalidProfile
            When there is no scored prompt, or a number must not be used.
        """
        prompts = self.prepared(X, places)
        return prompts.vector(
            np.ones(len(prompts), dtype=bool),
            scores,
            input_tokens,
            output_tokens,
            n_prompts=n_prompts,
            estimated_tokens=estimated_tokens,
            level=level,
        )

    def level_prior(self, llm: LLMFacts) -> LevelPrior | None:
        """Return what is expected of an LLM's level before its first answer.

        None when nothing is: the estimator has no facts of LLMs, they say nothing, or it was learned from this LLM.

        Parameters
        ----------
        llm
            Its facts.
        """
        if self.day_zero_ is None or self.facts_ is None or self.facts_.include(llm):
            return None
        return self.day_zero_.level(llm)

    def prior_vector(self, level: LevelPrior) -> FeatureVector:
        """Return where an LLM stands before its first answer; its tokens are unknown and zero.

        Parameters
        ----------
        level
            What is expected of its level.

        Raises
        ------
        InvalidInput
            The estimator was fitted without facts of LLMs.
        """
        if self.day_zero_ is None:
            raise InvalidInput("this estimator was fitted without facts of LLMs: it expects nothing of a new one")
        n_columns = self._fitted.n_columns
        nothing = Moments(np.zeros((n_columns, n_columns)), np.zeros((n_columns, 1)), 0)
        with one_thread():
            found = self._fitted.estimate(nothing, level)
        n_clusters = len(found.variances)
        unknown = np.zeros(n_clusters)
        return FeatureVector(
            errors=found.psi[:n_clusters],
            standard_errors=np.sqrt(level.mean * (1 - level.mean) * found.variances),
            counts=unknown,
            input_tokens=unknown,
            output_tokens=unknown,
            n_prompts=0,
            n_scored=0,
            coefficients=found.psi[n_clusters:],
            prior_share=1.0,
            level=level,
            overall=level.mean,
            overall_standard_error=float(np.sqrt(level.variance)),
        )

    def prepared(self, X: npt.ArrayLike, places: npt.ArrayLike | None = None) -> PosteriorPrompts:
        """Compute what the vectors of all LLMs that were asked these prompts share.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        places : array-like of shape (n,), optional
            As for `coefficients`.
        """
        rows = checked_embeddings(X, self.cluster_map_.dim)
        at = self._fitted.checked_places(places, len(rows))
        with one_thread():
            features = self._fitted.space.features(rows)
            design = self._fitted.lessons.design(features.design, at)
            return PosteriorPrompts(self._fitted, features.clusters, design)

    def _finish(
        self,
        rows: F32,
        errors: F64,
        few: tuple[F32, F64] | None,
        maps: Sequence[ClusterMap],
        spreads: Sequence[float],
        form: Form,
    ) -> FittedPosterior:
        """Fit the chosen space and its priors on all map prompts and all training LLMs."""
        profiles = profile_maps(rows, filled(errors), seed=self.random_state)
        space = feature_space(maps, spreads, profiles, contrast=self.choice_.contrast)
        self.cluster_map_ = space.cluster_map
        features = space.features(rows)
        scales = sorted({s.profile_scale for s in self.choice_.shrinkages})
        answers = None if few is None else (space.design(few[0]), few[1])
        gram = gram_of(features.design)
        lessons = learn(features.design, gram, space.n_profile_columns, errors, scales, form=form, few=answers)
        totals = (features.clusters.T @ features.design).astype(np.float64)
        shown = totals / features.clusters.sum(axis=0, dtype=np.float64)[:, None]
        return FittedPosterior(space, self.choice_, lessons, shown, features.design.mean(axis=0, dtype=np.float64))


def _checked_few(few: tuple[npt.ArrayLike, npt.ArrayLike], dim: int, n_llms: int) -> tuple[F32, F64]:
    rows = checked_embeddings(few[0], dim)
    errors = _checked_errors(few[1], len(rows), "errors on the representative prompts")
    if errors.shape[1] != n_llms:
        raise InvalidInput(f"{errors.shape[1]} LLMs on the representative prompts, not {n_llms}")
    return rows, errors


def _checked_places(asked: npt.ArrayLike, n: int) -> I64:
    places = np.asarray(asked, dtype=np.int64)
    if (
        places.ndim != 1
        or not len(places)
        or places.min() < 0
        or places.max() >= n
        or len(np.unique(places)) < len(places)
    ):
        raise InvalidInput(f"asked must be different places from 0 to {n - 1}")
    return places


def _checked_errors(errors: npt.ArrayLike, n_prompts: int, name: str) -> F64:
    table = np.asarray(errors, dtype=np.float64)
    if table.ndim != 2 or len(table) != n_prompts:
        raise InvalidInput(f"{name} must have shape ({n_prompts}, any), got {table.shape}")
    finite_array(np.where(np.isnan(table), 0, table), name, shape=(None, None), minimum=0, maximum=1)
    return table
