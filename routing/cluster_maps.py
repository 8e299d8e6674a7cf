"""Fit cluster maps: estimators in scikit-learn's contract whose result is a frozen `ClusterMap`."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from .errors import InvalidInput
from .prompt_weights import F32, I64, ClusterMap


class KMeansMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster prompt embeddings with k-means; Phi is one for the nearest centre (UniRoute section 5.1).

    Fit it on the *map* prompts, never on the representative ones. The same input gives the same centres, bit for bit,
    for any number of threads: everything runs in float32 on one thread with a fixed seed. Distances are the same at
    fit and at serving.

    Parameters
    ----------
    n_clusters
        Number of clusters to ask for, at most the number of distinct prompts.
    random_state
        Seed of the k-means++ starts.
    n_init
        Number of starts; the one with the smallest inertia is kept.
    max_iter
        Most iterations of one start.

    Attributes
    ----------
    cluster_centers_ : (K, dim) float32
        Centres; clusters that ended empty are dropped, so K may be smaller than `n_clusters`.
    labels_ : (n,) int64
        Cluster of every row it was fitted on.
    inertia_ : float
        Sum of squared distances to the own centre.
    fitted_ : ClusterMap
        The frozen value that routers keep.

    Examples
    --------
    >>> import numpy as np
    >>> from routing.cluster_maps import KMeansMap
    >>> points = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    >>> KMeansMap(n_clusters=2).fit(points).predict(points[[0, 2]]).tolist() in ([0, 1], [1, 0])
    True
    """

    def __init__(self, n_clusters: int = 8, random_state: int = 0, n_init: int = 3, max_iter: int = 100) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.n_init = n_init
        self.max_iter = max_iter

    def fit(self, X: npt.ArrayLike, y: object = None) -> Self:
        """Find the centres.

        Parameters
        ----------
        X : array-like of shape (n_samples, dim)
            Embeddings of the map prompts.
        y
            Ignored; there for scikit-learn's pipelines.

        Raises
        ------
        InvalidInput
            When a number is not finite, or when there are fewer distinct prompts than clusters.
        """
        rows = self._validated(X, reset=True)
        if not isinstance(self.n_clusters, (int, np.integer)) or self.n_clusters < 1:
            raise InvalidInput(f"n_clusters must be an integer of at least 1, got {self.n_clusters!r}")
        distinct = _count_distinct(rows, self.n_clusters)
        if distinct < self.n_clusters:
            raise InvalidInput(
                f"{self.n_clusters} clusters need as many distinct prompts, "
                f"got n_samples = {len(rows)} with {distinct} distinct",
                hint=f"use at most {distinct} clusters or more prompts",
            )
        estimator = KMeans(self.n_clusters, n_init=self.n_init, max_iter=self.max_iter, random_state=self.random_state)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            # Near-duplicates may leave a cluster empty; it is dropped below instead of warned about.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(rows)
        used = np.bincount(estimator.labels_, minlength=self.n_clusters) > 0
        self.cluster_centers_ = np.ascontiguousarray(estimator.cluster_centers_[used], dtype=np.float32)
        self.inertia_ = float(estimator.inertia_)
        self.n_iter_ = int(estimator.n_iter_)
        self.fitted_ = ClusterMap.nearest(self.cluster_centers_)
        self.labels_ = self._assigned(rows)
        return self

    def predict(self, X: npt.ArrayLike) -> I64:
        """Give the cluster of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, dim)
            Embeddings.

        Returns
        -------
        (n_samples,) int64
        """
        return self._assigned(self._validated(X, reset=False))

    def transform(self, X: npt.ArrayLike) -> F32:
        """Give the one-hot cluster weights of every row.

        Parameters
        ----------
        X : array-like of shape (n_samples, dim)
            Embeddings.

        Returns
        -------
        (n_samples, K) float32
        """
        return np.eye(len(self.cluster_centers_), dtype=np.float32)[self.predict(X)]

    assign = predict
    weights = transform

    @property
    def kind(self) -> str:
        """Label of the method."""
        return "kmeans"

    @property
    def digest(self) -> str:
        """SHA-256 of the fitted map."""
        check_is_fitted(self)
        return self.fitted_.digest

    def arrays(self) -> dict[str, np.ndarray]:
        """Give the fitted map as arrays, for storage."""
        check_is_fitted(self)
        return self.fitted_.arrays()

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _assigned(self, rows: F32) -> I64:
        return self.fitted_.assign(rows)

    def _validated(self, X: npt.ArrayLike, *, reset: bool) -> F32:
        if not reset:
            check_is_fitted(self)
        try:
            # scikit-learn's own k-means refuses float32 rows after a fit on float64 ones: everything is float32 here.
            return validate_data(self, X, dtype=np.float32, order="C", ensure_min_samples=1, reset=reset)
        except ValueError as error:
            raise InvalidInput(f"embeddings cannot be clustered: {error}") from error


def _count_distinct(rows: F32, enough: int) -> int:
    """Count distinct rows, stopping at `enough`."""
    seen: set[bytes] = set()
    for row in rows:
        seen.add(row.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)
