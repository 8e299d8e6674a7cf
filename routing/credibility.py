"""Means per cluster that trust a cluster as far as its prompts allow: for token counts."""

from __future__ import annotations

import numpy as np

from .prompt_weights import F64


def credible_means(weights: F64, values: F64) -> F64:
    """Shrink the mean of every cluster towards the overall mean.

    A cluster with n prompts gets `z * own + (1 - z) * overall` with `z = n / (n + k)` and k the variance within
    clusters over the variance between them, both estimated from the values. Source: Buehlmann and Straub 1970.

    Parameters
    ----------
    weights : (n, K) float64
        Cluster weights of every prompt, rows sum to one.
    values : (n,) float64
        One number per prompt, n at least 1.

    Returns
    -------
    (K,) float64
        Within the range of the values.
    """
    counts = weights.sum(axis=0)
    overall = float(values.mean())
    own = np.where(counts > 0, weights.T @ values / np.maximum(counts, 1e-12), overall)
    total = float(counts.sum())
    within = float(np.sum(weights * (values[:, None] - own) ** 2)) / max(total - len(own), 1.0)
    # What clusters differ by beyond what their own noise makes them differ.
    effective = total - float((counts**2).sum()) / total
    between = float((counts * (own - overall) ** 2).sum()) - (len(own) - 1) * within
    if between <= 0 or effective <= 0:
        return np.full(len(own), overall)
    share = counts / np.maximum(counts + within * effective / between, 1e-12)
    return share * own + (1 - share) * overall
