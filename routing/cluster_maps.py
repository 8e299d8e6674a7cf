"""K-means cluster maps: an estimator that follows scikit-learn's contract and results in a frozen `ClusterMap`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import ThreadpoolController

from .errors import InvalidInput
from .prompt_weights import F32, I64, ClusterMap

# Starts are compared on a sample of this many rows: several starts then cost less than the one refinement on all rows.
_SAMPLE_BASE, _SAMPLE_PER_CLUSTER, _START_ITERATIONS = 2000, 20, 10
# A refinement ends when at most this share of the rows changes cluster.
_SETTLED = 5e-4


class KMeansMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster prompt embeddings with k-means; Phi is one for the nearest centre (UniRoute section 5.1).

    Fit it on the *map* prompts, never on the representative ones. The same input gives the same centres, bit for bit,
    for any number of threads: rows are assigned at fit by the very code that assigns them at serving.

    Parameters
    ----------
    n_clusters
        Number of clusters to ask for, at most the number of distinct prompts.
    random_state
        Seed of the k-means++ starts.
    n_init
        Number of starts; the one with the smallest inertia on a sample of the prompts is refined on all.
    max_iter
        Most iterations of one refinement.

    Attributes
    ----------
    cluster_centers_ : (K, dim) float32
        Centres; clusters that ended empty are dropped, so K may be smaller than `n_clusters`.
    labels_ : (n,) int64
        Cluster of every row it was fitted on.
    inertia_ : float
        Sum of squared distances of rows to their own centre.
    fitted_ : ClusterMap
        The frozen value that routers keep.

    Examples
    --------
    >>> import numpy as np
    >>> from routing.cluster_maps import KMeansMap
    >>> points = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
    >>> fitted = KMeansMap(n_clusters=2).fit(points)
    >>> sorted(fitted.predict(points[[0, 2]]).tolist())
    [0, 1]
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
            Ignored; accepted for scikit-learn's pipelines.

        Raises
        ------
        InvalidInput
            When a number is not finite, or when there are fewer distinct prompts than clusters.
        """
        rows = self._validated(X, reset=True)
        if not isinstance(self.n_clusters, (int, np.integer)) or self.n_clusters < 1:
            raise InvalidInput(f"n_clusters must be an integer of at least 1, got {self.n_clusters!r}")
        distinct = count_distinct(rows, self.n_clusters)
        if distinct < self.n_clusters:
            raise InvalidInput(
                f"{self.n_clusters} clusters need as many distinct prompts, "
                f"got n_samples = {len(rows)} with {distinct} distinct",
                hint=f"use at most {distinct} clusters or more prompts",
            )
        centres = self._best_start(rows)
        labels, centres, self.n_iter_ = _refine(rows, centres, self.max_iter)
        used = np.bincount(labels, minlength=len(centres)) > 0
        self.cluster_centers_ = centres[used]
        self.fitted_ = ClusterMap.nearest(self.cluster_centers_)
        self.labels_ = self.fitted_.assign(rows)
        self.inertia_ = _inertia(rows, self.cluster_centers_, self.labels_)
        return self

    def predict(self, X: npt.ArrayLike) -> I64:
        """Return the cluster of every row.

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
        """Return the one-hot cluster weights of every row.

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
        """Return the fitted map as arrays, for storage."""
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

    def _best_start(self, rows: F32) -> F32:
        """Try several k-means++ starts on a sample and return the centres with the smallest inertia there."""
        rng = np.random.default_rng(self.random_state)
        size = _SAMPLE_BASE + _SAMPLE_PER_CLUSTER * self.n_clusters
        sample = rows
        if size < len(rows):
            sample = rows[np.sort(rng.choice(len(rows), size, replace=False))]
        # With float32 rows, scikit-learn would convert blocks of them over and over.
        wide = sample.astype(np.float64)
        best, least = None, np.inf
        seeds = rng.integers(0, 2**31, max(1, self.n_init)).tolist()
        for seed in seeds:
            # One thread: the draws depend on the last bits of distances.
            with one_thread():
                _, drawn = kmeans_plusplus(wide, self.n_clusters, random_state=seed)
            labels, centres, _ = _refine(sample, sample[drawn], min(self.max_iter, _START_ITERATIONS))
            if len(seeds) == 1:
                return centres
            inertia = _inertia(sample, centres, labels)
            if inertia < least:
                best, least = centres, inertia
        assert best is not None
        return best

    def _validated(self, X: npt.ArrayLike, *, reset: bool) -> F32:
        if not reset:
            check_is_fitted(self)
        try:
            # scikit-learn's own k-means refuses float32 rows after a fit on float64 ones: everything is float32 here.
            with np.errstate(over="ignore"):  # a number that is too large becomes infinite, and is refused as such
                return validate_data(self, X, dtype=np.float32, order="C", ensure_min_samples=1, reset=reset)
        except ValueError as error:
            raise InvalidInput(f"embeddings cannot be clustered: {error}") from error


def _refine(rows: F32, centres: F32, max_iter: int) -> tuple[I64, F32, int]:
    """Alternate assignment and means (Lloyd 1982) until almost no row moves; return labels, centres and iterations."""
    labels = np.full(len(rows), -1)
    for iteration in range(1, max_iter + 1):
        before, labels = labels, ClusterMap.nearest(centres).assign(rows)
        if np.count_nonzero(labels != before) <= _SETTLED * len(rows):
            return labels, centres, iteration
        centres = _means(rows, labels, centres)
    return labels, centres, max_iter


def _means(rows: F32, labels: I64, centres: F32) -> F32:
    """Return the mean row per cluster; an empty cluster keeps its centre."""
    n, k = len(rows), len(centres)
    # A sparse product adds the rows in their order, whatever the number of threads, and faster than a grouped sum.
    member = csr_matrix((np.ones(n, dtype=np.float32), labels, np.arange(n + 1)), shape=(n, k))
    counts = np.bincount(labels, minlength=k).astype(np.float32)[:, None]
    return np.where(counts > 0, (member.T @ rows) / np.maximum(counts, 1), centres)


def _inertia(rows: F32, centres: F32, labels: I64) -> float:
    apart = rows - centres[labels]
    return float(np.einsum("nd,nd->", apart, apart, dtype=np.float64))


def one_thread() -> AbstractContextManager[object]:
    """Limit the numerical libraries to one thread within the context, for results that go into digests.

    BLAS adds in another order for another number of threads, which changes the last bits of a sum. The libraries of
    this process are looked up once, at the first call, because that takes ten milliseconds.
    """
    return _controller().limit(limits=1)


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def count_distinct(rows: F32, enough: int) -> int:
    """Count distinct rows, stopping at `enough`.

    Parameters
    ----------
    rows : (n, dim) float32
    enough
        Number at which counting stops.
    """
    seen: set[bytes] = set()
    for row in rows:
        seen.add(row.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)
