"""K-NN: the errors on the nearest representative prompts (UniRoute section 6, baseline)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from routing.errors import InvalidInput
from routing.prompt_weights import F32, F64

# Prompts whose distances are computed at a time: a block with a thousand neighbours stays in the cache.
_BLOCK = 1024


class NearestNeighbours(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict `gamma(x, h)` as the mean error of h over the k representative prompts nearest to x.

    Source: UniRoute section 6 (K-NN). It needs every LLM's answers to the same prompts, and all of them at serving, so
    it is a baseline rather than a router. Among equally near prompts, those that come first in `fit` count.

    Parameters
    ----------
    n_neighbors
        k, at least 1; more than there are prompts means all of them.

    Attributes
    ----------
    errors_ : (n, m) float64
        Errors of the LLMs on the prompts it was fitted on.
    """

    def __init__(self, n_neighbors: int = 10) -> None:
        self.n_neighbors = n_neighbors

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Store the representative prompts.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Their embeddings.
        y : array-like of shape (n, m) or (n,)
            Errors of the LLMs on them.

        Raises
        ------
        InvalidInput
            When shapes differ or a number is not finite.
        """
        if not isinstance(self.n_neighbors, (int, np.integer)) or self.n_neighbors < 1:
            raise InvalidInput(f"n_neighbors must be an integer of at least 1, got {self.n_neighbors!r}")
        try:
            self.rows_, errors = validate_data(self, X, y, dtype=np.float32, multi_output=True, y_numeric=True)
        except ValueError as error:
            raise InvalidInput(f"neighbours cannot be learned: {error}") from error
        self.errors_ = np.asarray(errors, dtype=np.float64)
        return self

    def predict(self, X: npt.ArrayLike) -> F64:
        """Return the expected errors of the LLMs.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.

        Returns
        -------
        (n, m) float64, or (n,) when `y` had one dimension
        """
        return self.predict_each(X, [self.n_neighbors])[self.n_neighbors]

    def predict_each(self, X: npt.ArrayLike, sizes: Sequence[int]) -> Mapping[int, F64]:
        """Return the expected errors for several k from one search.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        sizes
            The k, each at least 1.

        Returns
        -------
        mapping of k to (n, m) float64
        """
        check_is_fitted(self)
        try:
            rows = validate_data(self, X, dtype=np.float32, reset=False)
        except ValueError as error:
            raise InvalidInput(f"neighbours cannot be found: {error}") from error
        kept = {k: min(k, len(self.rows_)) for k in sizes}
        nearest = self._nearest(rows, max(kept.values()))
        return {k: self.errors_[nearest[:, :count]].mean(axis=1) for k, count in kept.items()}

    def _nearest(self, rows: F32, count: int) -> npt.NDArray[np.int64]:
        """Return the indices of the nearest fitted prompts, nearest first."""
        half_norms = 0.5 * np.einsum("nd,nd->n", self.rows_, self.rows_)
        found = np.empty((len(rows), count), dtype=np.int64)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            distances = half_norms - block @ self.rows_.T
            best = np.arange(len(self.rows_))[None].repeat(len(block), axis=0)
            if count < len(self.rows_):
                best = np.sort(np.argpartition(distances, count - 1, axis=1)[:, :count], axis=1)
            order = np.argsort(np.take_along_axis(distances, best, axis=1), axis=1, kind="stable")
            found[start : start + _BLOCK] = np.take_along_axis(best, order, axis=1)
        return found
