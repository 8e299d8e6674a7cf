"""Learn the cluster map from the labels of the LLMs that are known when it is fitted (UniRoute section 5.2)."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from routing.checks import checked_embeddings, finite_array, finite_number
from routing.cluster_maps import KMeansMap
from routing.errors import InvalidInput
from routing.prompt_weights import F32, F64, I64, Block, ClusterMap

# Expected errors stay this far from 0 and 1, so that every logarithm is finite.
_FLOOR = 0.01


class LearnedMap(BaseEstimator):
    """Learn soft cluster weights under which fixed feature vectors explain the training LLMs' errors best.

    `Phi(x) = softmax(theta @ x + b)` minimises the log-loss of `Phi(x) @ Psi` against the errors on the map prompts. It
    starts from the k-means solution: `theta_k = 2 c_k / tau`, `b_k = -|c_k|**2 / tau`, with tau the mean squared
    distance to the own centre, which makes the start a soft version of it. Psi stays fixed. A new LLM's vector is the
    plain one on the hard clusters.

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
            Errors of the training LLMs on them, in [0, 1].
        psi : array-like of shape (K, m), optional
            Expected errors of the training LLMs per cluster of `start`, from the representative prompts as in the
            paper; by default, their means over the map prompts.
        start
            A fitted k-means map; fitted here by default.

        Raises
        ------
        InvalidInput
            When shapes differ, or a number is not finite or out of range.
        """
        errors = finite_array(y, "errors", shape=(None, None), minimum=0, maximum=1).astype(np.float32)
        rows = checked_embeddings(X, np.shape(X)[-1] if np.ndim(X) == 2 else 0)
        if len(rows) != len(errors) or len(rows) < 2:
            raise InvalidInput(f"{len(rows)} embeddings and {len(errors)} rows of errors: need two or more of both")
        ridge = finite_number(self.ridge, "ridge", minimum=0)
        if start is None:
            start = KMeansMap(self.n_clusters, random_state=self.random_state).fit(rows).fitted_
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
        return self

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
            member = start.weights(rows)
            # One pseudo-prompt at the LLM's overall error stands in for an empty cluster.
            psi = (member.T @ errors + errors.mean(axis=0)) / (member.sum(axis=0) + 1)[:, None]
        shape = (start.n_clusters, errors.shape[1])
        vectors = finite_array(psi, "psi", shape=shape, minimum=-1e-6, maximum=1 + 1e-6)
        return np.clip(vectors, _FLOOR, 1 - _FLOOR).astype(np.float32)


class _Problem:
    """The log-loss of some prompts as a function of (theta, b), one row per cluster."""

    def __init__(self, rows: F32, errors: F32, psi: F32, start: F64, ridge: float) -> None:
        self._rows = np.hstack([rows, np.ones((len(rows), 1), dtype=np.float32)])
        self._errors = np.ascontiguousarray(errors.T)
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
        back = self._psi @ slope
        back -= (back * weights).sum(axis=0)
        back *= weights
        back /= self._errors.size
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
        return -float(nats.mean(dtype=np.float64))


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
