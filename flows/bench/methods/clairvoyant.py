"""Clairvoyant references: predictors that see what no router may see, the test LLMs' labels on the map prompts.

They are an upper bound for an estimate from few labels (UniRoute section 6), and never compete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from routing.checks import checked_embeddings, finite_array
from routing.deferral import DeferralCurve, deferral_curve
from routing.errors import InvalidInput
from routing.prompt_weights import F32, F64, ClusterMap

_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class _Predictor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Checks shared by predictors of (n, m) errors from (n, dim) embeddings."""

    def _checked(self, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[F32, F64]:
        errors = finite_array(y, "errors", shape=(None, None), minimum=0, maximum=1)
        rows = checked_embeddings(X, np.shape(X)[-1] if np.ndim(X) == 2 else 0)
        if len(rows) != len(errors) or not len(rows):
            raise InvalidInput(f"{len(rows)} embeddings and {len(errors)} rows of errors: need one or more of both")
        self.n_features_in_ = rows.shape[1]
        return rows, errors


class ClusterMeans(_Predictor):
    """Predict the mean error per cluster, averaged over maps of several resolutions.

    Parameters
    ----------
    maps
        Fitted hard maps, such as k-means with 5, 10, 25, 50 and 100 clusters.
    pseudo_prompts
        Number of prompts at the LLM's overall error that every cluster starts with, positive.
    """

    def __init__(self, maps: Sequence[ClusterMap], pseudo_prompts: float = 5.0) -> None:
        self.maps = maps
        self.pseudo_prompts = pseudo_prompts

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Average errors per cluster of every map.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        y : array-like of shape (n, m)
            Errors in [0, 1].
        """
        rows, errors = self._checked(X, y)
        overall = errors.mean(axis=0)
        self.tables_ = []
        for cluster_map in self.maps:
            member = cluster_map.weights(rows)
            totals = member.T @ errors + self.pseudo_prompts * overall
            self.tables_.append(totals / (member.sum(axis=0) + self.pseudo_prompts)[:, None])
        return self

    def predict(self, X: npt.ArrayLike) -> F64:
        """Return expected errors, (n, m) float64.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        check_is_fitted(self)
        parts = [table[m.assign(X)] for m, table in zip(self.maps, self.tables_, strict=True)]
        return np.mean(parts, axis=0)


class RidgeErrors(_Predictor):
    """Predict errors by ridge regression on the embedding; the strength is chosen by exact leave-one-out error.

    Source: leave-one-out residuals of ridge regression are `r_i / (1 - h_ii)` (Hastie et al., 3.4.1 and 7.10).

    Parameters
    ----------
    strengths
        Penalties to choose from, positive.
    """

    def __init__(self, strengths: Sequence[float] = _STRENGTHS) -> None:
        self.strengths = strengths

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Solve for every strength and keep the best.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        y : array-like of shape (n, m)
            Errors in [0, 1].
        """
        rows, errors = self._checked(X, y)
        self.mean_row_, self.mean_error_ = rows.mean(axis=0), errors.mean(axis=0)
        centred, wanted = rows - self.mean_row_, errors - self.mean_error_
        values, basis = eigh((centred.T @ centred).astype(np.float64))
        rotated = centred @ basis.astype(np.float32)
        target = rotated.T @ wanted
        squares = rotated.astype(np.float64) ** 2
        losses = []
        for strength in self.strengths:
            leverage = 1 / len(rows) + squares @ (1 / (values + strength))
            residual = wanted - rotated @ (target / (values + strength)[:, None])
            losses.append(float(((residual / (1 - np.minimum(leverage, 1 - 1e-6))[:, None]) ** 2).mean()))
        self.strength_ = self.strengths[int(np.argmin(losses))]
        self.coefficients_ = basis @ (target / (values + self.strength_)[:, None])
        return self

    def predict(self, X: npt.ArrayLike) -> F64:
        """Return expected errors, (n, m) float64.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        check_is_fitted(self)
        rows = checked_embeddings(X, self.n_features_in_)
        return self.mean_error_ + (rows - self.mean_row_) @ self.coefficients_


class FactorisedErrors(RidgeErrors):
    """Predict errors by a matrix factorisation whose prompt factors are linear in the embedding.

    Reduced-rank ridge regression: the fitted errors of all LLMs are projected on their leading principal directions, so
    that LLMs share what they have in common (Mukherjee and Zhu 2011).

    Parameters
    ----------
    rank
        Number of factors; more than there are LLMs means all.
    strengths
        Penalties to choose from, positive.
    """

    def __init__(self, rank: int = 3, strengths: Sequence[float] = _STRENGTHS) -> None:
        super().__init__(strengths)
        self.rank = rank

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit the ridge regression and keep its leading directions.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        y : array-like of shape (n, m)
            Errors in [0, 1].
        """
        super().fit(X, y)
        fitted = (checked_embeddings(X, self.n_features_in_) - self.mean_row_) @ self.coefficients_
        _, directions = eigh(fitted.T @ fitted)
        leading = directions[:, -self.rank :]
        self.coefficients_ = self.coefficients_ @ leading @ leading.T
        return self


class ClairvoyantMean(_Predictor):
    """Average cluster means at several resolutions, ridge regression and matrix factorisation: the best reference.

    Parameters
    ----------
    maps
        As for `ClusterMeans`.
    """

    def __init__(self, maps: Sequence[ClusterMap]) -> None:
        self.maps = maps

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Fit every member.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings of the map prompts.
        y : array-like of shape (n, m)
            Errors of the LLMs on them, in [0, 1].
        """
        members = {"cluster_means": ClusterMeans(self.maps), "ridge": RidgeErrors(), "factorised": FactorisedErrors()}
        self.members_ = {name: member.fit(X, y) for name, member in members.items()}
        return self

    def predict(self, X: npt.ArrayLike) -> F64:
        """Return expected errors, (n, m) float64.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        check_is_fitted(self)
        return np.mean([member.predict(X) for member in self.members_.values()], axis=0)


def oracle_curve(scores: npt.ArrayLike, costs_usd: npt.ArrayLike, *, reference_cost_usd: float) -> DeferralCurve:
    """Return the curve of a router that knows every score and cost beforehand: no curve lies above it.

    Parameters
    ----------
    scores, costs_usd : array-like of shape (n, m)
        Scores and costs of the answers.
    reference_cost_usd
        Mean cost of the most expensive LLM, positive.
    """
    right = finite_array(scores, "scores", shape=(None, None), minimum=0, maximum=1)
    return deferral_curve(1 - right, costs_usd, right, costs_usd, reference_cost_usd=reference_cost_usd)
