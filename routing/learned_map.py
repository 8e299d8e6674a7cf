"""Learn the cluster map from the labels of the LLMs that are known when it is fitted (UniRoute section 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .checks import checked_embeddings, finite_array, finite_number
from .cluster_maps import KMeansMap, one_thread
from .errors import InvalidInput
from .features import plain_feature_vector
from .posterior.choice import Plan
from .prompt_weights import F32, F64, I64, Block, ClusterMap

Setting = TypeVar("Setting")

LEARNED_K = (5, 10, 25, 50)
"""Numbers of clusters to try: a learned map of more clusters is never chosen, and slow to learn."""
LEAST_KNOWN = 2
"""With fewer known LLMs nothing tells the prompts apart on which LLMs differ."""

# Expected errors stay this far from 0 and 1, so that every logarithm is finite.
_FLOOR = 0.01


class TooFewKnown(InvalidInput):
    """Too few LLMs are known for anything to be learned from them."""


class LearnedMap(BaseEstimator):
    """Learn soft cluster weights under which fixed feature vectors explain the training LLMs' errors best.

    `Phi(x) = softmax(theta @ x + b)` minimises the log-loss of `Phi(x) @ Psi` against the errors on the map prompts. It
    starts from the k-means solution: `theta_k = 2 c_k / tau`, `b_k = -|c_k|**2 / tau`, with tau the mean squared
    distance to the own centre, which makes the start a soft version of it. Psi stays fixed. A new LLM's vector is the
    plain one on the hard clusters.

    The paper fixes Psi at the training LLMs' means over the representative prompts. By default they are means over the
    map prompts: representative prompts then teach the map nothing, so they may judge it.

    The paper does not publish its optimiser. This is L-BFGS with a small pull towards the start; it stops when the
    log-loss on a tenth of the map prompts, held out, has not fallen for `patience` steps, and keeps the best step.

    Parameters
    ----------
    n_clusters
        Number of clusters when no `start` is given to `fit`.
    random_state
        Seed of k-means and of the prompts held out.
    ridge
        Strength of the pull towards the start, not negative.
    max_iter
        Maximum number of steps.
    patience
        Number of steps without a lower held-out loss before it stops.

    Attributes
    ----------
    fitted_ : ClusterMap
        The frozen map, of kind "learned_map".
    psi_ : (K, m) float32
        Feature vectors that were held fixed.
    held_out_loss_ : float
        Log-loss on the held-out map prompts.
    start_loss_ : float
        The same loss before the first step.
    n_iter_ : int
        Number of steps taken.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        random_state: int = 0,
        ridge: float = 0.1,
        max_iter: int = 200,
        patience: int = 8,
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.ridge = ridge
        self.max_iter = max_iter
        self.patience = patience

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        psi: npt.ArrayLike | None = None,
        start: ClusterMap | None = None,
    ) -> Self:
        """Learn the weights.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings of the map prompts.
        y : array-like of shape (n, m)
            Errors of the training LLMs on them, in [0, 1]; NaN where there is no label.
        psi : array-like of shape (K, m), optional
            Expected errors of the training LLMs per cluster of `start`; by default, their means over the map prompts.
        start
            A fitted k-means map; fitted here by default.

        Raises
        ------
        InvalidInput
            When shapes differ, a number is infinite or out of range, or there is no label.
        """
        errors = _checked_errors(y)
        rows = checked_embeddings(X, np.shape(X)[-1] if np.ndim(X) == 2 else 0)
        if len(rows) != len(errors) or len(rows) < 2:
            raise InvalidInput(f"{len(rows)} embeddings and {len(errors)} rows of errors: need two or more of both")
        ridge = finite_number(self.ridge, "ridge", minimum=0)
        if start is None:
            start = KMeansMap(self.n_clusters, random_state=self.random_state).fit(rows).fitted_
        # Sums over BLAS threads differ in their last bits, and what is learned goes into digests.
        with one_thread():
            self._learn(rows, errors, psi, start, ridge)
        return self

    def _learn(self, rows: F32, errors: F32, psi: npt.ArrayLike | None, start: ClusterMap, ridge: float) -> None:
        self.psi_ = self._fixed_vectors(psi, start, rows, errors)
        held_out = np.zeros(len(rows), dtype=bool)
        order = np.random.default_rng(self.random_state).permutation(len(rows))
        held_out[order[: max(1, len(rows) // 10)]] = True
        problem = _Problem(rows[~held_out], errors[~held_out], self.psi_, _soft_start(start, rows), ridge)
        watch = _Watch(_Problem(rows[held_out], errors[held_out], self.psi_, problem.start, 0.0), self.patience)
        self.start_loss_ = watch.best_loss
        minimize(
            problem.loss_and_gradient,
            problem.start.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=watch,
            options={"maxiter": self.max_iter, "maxfun": 2 * self.max_iter},
        )
        self.held_out_loss_, self.n_iter_ = watch.best_loss, watch.n_steps
        best = watch.best.reshape(problem.start.shape)
        self.fitted_ = ClusterMap("learned_map", best[:, :-1], best[:, -1], (Block("softmax", len(best)),))

    def predict(self, X: npt.ArrayLike) -> F32:
        """Return the expected errors of the training LLMs, (n, m) float32.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        check_is_fitted(self)
        return self.fitted_.weights(X) @ self.psi_

    def weights(self, X: npt.ArrayLike) -> F32:
        """Return the cluster weights of prompts, (n, K) float32.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        check_is_fitted(self)
        return self.fitted_.weights(X)

    def assign(self, X: npt.ArrayLike) -> I64:
        """Return the cluster with the largest weight per prompt, (n,) int64.

        Parameters
        ----------
        X : array-like of shape (n, dim)
            Embeddings.
        """
        check_is_fitted(self)
        return self.fitted_.assign(X)

    def _fixed_vectors(self, psi: npt.ArrayLike | None, start: ClusterMap, rows: F32, errors: F32) -> F32:
        if psi is None:
            member, known = start.weights(rows), np.isfinite(errors)
            overall = np.nanmean(errors, axis=0)
            # One pseudo-prompt at the LLM's overall error stands in for an empty cluster.
            psi = (member.T @ np.where(known, errors, 0) + overall) / (member.T @ known.astype(np.float32) + 1)
        shape = (start.n_clusters, errors.shape[1])
        vectors = finite_array(psi, "psi", shape=shape, minimum=-1e-6, maximum=1 + 1e-6)
        return np.clip(vectors, _FLOOR, 1 - _FLOOR).astype(np.float32)


class _Problem:
    """The log-loss of some prompts as a function of (theta, b), one row per cluster."""

    def __init__(self, rows: F32, errors: F32, psi: F32, start: F64, ridge: float) -> None:
        self._rows = np.hstack([rows, np.ones((len(rows), 1), dtype=np.float32)])
        labelled = np.isfinite(errors.T)
        self._errors = np.ascontiguousarray(np.where(labelled, errors.T, 0))
        # None where nothing is missing, which saves a product per step.
        self._labelled = None if labelled.all() else labelled.astype(np.float32)
        self._n_labels = max(int(np.count_nonzero(labelled)), 1)
        self._psi = psi
        self._psi_t = np.ascontiguousarray(psi.T)
        self._pull = ridge / (len(rows) * len(psi))
        self.start = start

    def loss(self, flat: F64) -> float:
        """Return the mean log-loss in nats per (prompt, LLM), without the pull."""
        return self._log_loss(self._psi_t @ self._weights(flat))

    def loss_and_gradient(self, flat: F64) -> tuple[float, F64]:
        """Return the mean log-loss plus the pull, and its gradient."""
        weights = self._weights(flat)
        predicted = self._psi_t @ weights
        moved = flat.reshape(self.start.shape) - self.start
        slope = (predicted - self._errors) / (predicted * (1 - predicted))
        if self._labelled is not None:
            slope *= self._labelled
        back = self._psi @ slope
        back -= (back * weights).sum(axis=0)
        back *= weights
        back /= self._n_labels
        gradient = (back @ self._rows).astype(np.float64) + 2 * self._pull * moved
        return self._log_loss(predicted) + self._pull * float((moved**2).sum()), gradient.ravel()

    def _weights(self, flat: F64) -> F32:
        scores = flat.reshape(self.start.shape).astype(np.float32) @ self._rows.T
        scores -= scores.max(axis=0)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=0)
        return scores

    def _log_loss(self, predicted: F32) -> float:
        nats = self._errors * np.log(predicted) + (1 - self._errors) * np.log1p(-predicted)
        if self._labelled is not None:
            nats *= self._labelled
        return -float(nats.sum(dtype=np.float64)) / self._n_labels


class _Watch:
    """Keep the step with the lowest held-out loss, and stop when no later step improves on it for `patience` steps."""

    def __init__(self, problem: _Problem, patience: int) -> None:
        self._problem, self._patience, self._waited = problem, patience, 0
        self.best, self.best_loss, self.n_steps = problem.start.ravel(), problem.loss(problem.start.ravel()), 0

    def __call__(self, flat: F64) -> None:
        self.n_steps += 1
        self._waited += 1
        loss = self._problem.loss(flat)
        if loss < self.best_loss:
            self.best, self.best_loss, self._waited = flat.copy(), loss, 0
        elif self._waited >= self._patience:
            raise StopIteration


def _checked_errors(given: npt.ArrayLike) -> F32:
    table = np.asarray(given, dtype=np.float64)
    labelled = ~np.isnan(table)
    finite_array(np.where(labelled, table, 0), "errors", shape=(None, None), minimum=0, maximum=1)
    if not labelled.any(axis=0).all():
        raise InvalidInput(f"LLM {int(labelled.any(axis=0).argmin())} has no label: it teaches nothing")
    return table.astype(np.float32)


def _soft_start(start: ClusterMap, rows: F32) -> F64:
    """Return (theta, b) of the soft version of a k-means map, one row per cluster."""
    if not start.is_hard:
        raise InvalidInput(f"a learned map starts from a k-means map, got a {start.kind} map")
    centres = start.matrix.astype(np.float64)
    own = centres[start.assign(rows)]
    spread = float(((rows - own) ** 2).sum(axis=1).mean())
    # If all prompts are on their centres, the weights are practically hard.
    tau = max(spread, 1e-3)
    return np.hstack([2 * centres, -(centres**2).sum(axis=1, keepdims=True)]) / tau


@dataclass(frozen=True, eq=False)
class Learned:
    """A learned map and the k-means map it started from.

    Attributes
    ----------
    cluster_map
        Phi, of kind "learned_map".
    start
        The hard map with the same clusters: the answers of an LLM are averaged in its clusters.
    """

    cluster_map: ClusterMap
    start: ClusterMap


def learn(
    rows: F32,
    errors: F64,
    few_rows: F32,
    few_errors: F64,
    *,
    sizes: Sequence[int],
    map_of: Callable[[int], ClusterMap],
    seed: int,
    as_in_paper: bool = False,
) -> Learned:
    """Learn a map with the number of clusters under which known LLMs that are held out are predicted best.

    They are held out as if they were new, with the answers that a new LLM has; the loss is `contrast_loss`.

    Parameters
    ----------
    rows, errors : (n, dim) float32, (n, m) float64
        Map prompts and the errors of the known LLMs on them; NaN where there is no label.
    few_rows, few_errors : (N, dim) float32, (N, m) float64
        Representative prompts and their errors there: what LLMs that are held out show. They choose the number of
        clusters.
    sizes
        Numbers of clusters to try, at least one.
    map_of
        Returns the k-means map of the map prompts with that many clusters.
    seed
        Seed of the draws.
    as_in_paper
        Whether Psi is fixed at means over the representative prompts. Otherwise nothing is learned from these: the
        means are over the map prompts, and representative prompts may judge the map.

    Raises
    ------
    TooFewKnown
        When fewer than `LEAST_KNOWN` LLMs are known.
    InvalidInput
        When an input must not be used.
    """
    if errors.shape[1] < LEAST_KNOWN:
        raise TooFewKnown(
            f"a learned map needs at least {LEAST_KNOWN} LLMs that answered the map prompts, not {errors.shape[1]}"
        )

    def fitted(size: int, prompts: I64, llms: I64) -> ClusterMap:
        start = map_of(size)
        psi = plain_vectors(start, few_rows, few_errors[:, llms]) if as_in_paper else None
        return (
            LearnedMap(random_state=seed)
            .fit(rows[prompts], errors[np.ix_(prompts, llms)], psi=psi, start=start)
            .fitted_
        )

    plan, chosen, llms = Plan.draw(errors, seed=seed), sizes[0], np.arange(errors.shape[1])
    if plan is not None and len(sizes) > 1:
        judged = rows[plan.judging]
        losses = {}
        for size in sizes:
            expected = np.empty((len(judged), errors.shape[1]))
            for fold in plan.folds:
                found = fitted(size, plan.fitting, np.setdiff1d(llms, fold))
                expected[:, fold] = found.weights(judged) @ plain_vectors(map_of(size), few_rows, few_errors[:, fold])
            losses[size] = contrast_loss(expected, errors[plan.judging])
        chosen = best_setting(losses)
    return Learned(fitted(chosen, np.arange(len(rows)), llms), map_of(chosen))


def plain_vectors(cluster_map: ClusterMap, rows: F32, errors: F64) -> F64:
    """Return the paper's feature vectors of several LLMs, ``(K, m)``: mean error per cluster.

    Parameters
    ----------
    cluster_map
        Map of the clusters; a soft one assigns every prompt to its largest weight.
    rows
        Embeddings of the labelled prompts, ``(n, dim)``.
    errors
        ``(n, m)`` in [0, 1]; NaN where there is no label.
    """
    clusters, vectors = cluster_map.assign(rows), np.empty((cluster_map.n_clusters, errors.shape[1]))
    for column, one in enumerate(errors.T):
        known = np.isfinite(one)
        nothing = np.zeros(int(known.sum()))
        vectors[:, column] = plain_feature_vector(
            clusters[known], 1 - one[known], nothing, nothing, n_clusters=len(vectors), n_prompts=len(rows)
        ).errors
    return vectors


def contrast_loss(expected_errors: npt.ArrayLike, errors: npt.ArrayLike) -> float:
    """Return the mean squared error of the differences between LLMs.

    Routing depends on differences between LLMs alone, so an error that is the same for all of them does not count: the
    mean over LLMs is subtracted from every prompt, and this is the mean square of the rest. It has far less noise than
    the area under a simulated deferral curve.

    Parameters
    ----------
    expected_errors, errors : array-like of shape (n, m)
        Predicted and observed errors; prompts with a NaN among the latter are left out.

    Raises
    ------
    InvalidInput
        When no prompt has a label of every LLM.
    """
    wanted = np.asarray(errors, dtype=np.float64)
    complete = np.isfinite(wanted).all(axis=1)
    if not complete.any():
        raise InvalidInput("no prompt has a label of every LLM: there is nothing to judge a prediction by")
    residual = np.asarray(expected_errors, dtype=np.float64)[complete] - wanted[complete]
    centred = residual - residual.mean(axis=1, keepdims=True)
    return float(np.mean(centred**2))


def best_setting(losses: Mapping[Setting, float]) -> Setting:
    """Return the setting with the smallest loss; the first of equal ones.

    Parameters
    ----------
    losses
        At least one.
    """
    return min(losses, key=losses.__getitem__)
