"""Shrunk means per cluster and ratios per LLM for token counts: the fewer the prompts, the stronger the shrinkage."""

from __future__ import annotations

import numpy as np

from .prompt_weights import F64

# Variance of the ratio of tokens to their estimate, between tokenizers and between prompts of the same one.
_BETWEEN_LLMS, _BETWEEN_PROMPTS = 0.09, 0.25


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
    # How much clusters differ beyond the difference that their own noise causes.
    effective = total - float((counts**2).sum()) / total
    between = float((counts * (own - overall) ** 2).sum()) - (len(own) - 1) * within
    if between <= 0 or effective <= 0:
        return np.full(len(own), overall)
    share = counts / np.maximum(counts + within * effective / between, 1e-12)
    return share * own + (1 - share) * overall


def credible_ratio(tokens: F64, estimates: F64) -> float:
    """Return how many tokens an LLM counts per estimated token, shrunk towards one.

    With the total T of the estimates the ratio is `z * own + (1 - z)` with `z = T / (T + k)` and k the variance between
    prompts, in tokens, over the variance between LLMs. The former is estimated from the prompts and one more that
    differs by a half, so that a single prompt is not taken as certain. Source: Buehlmann and Straub 1970.

    Parameters
    ----------
    tokens, estimates : (n,) float64
        Tokens that the LLM counted for its prompts, and their estimates; not negative.

    Returns
    -------
    float
        At least zero; one when the estimates sum to zero.
    """
    total = float(estimates.sum())
    if not total > 0:
        return 1.0
    own = float(tokens.sum()) / total
    # (tokens - own * estimate)^2 / estimate: the deviation of each prompt, weighted by its size.
    apart = np.divide((tokens - own * estimates) ** 2, estimates, out=np.zeros_like(tokens), where=estimates > 0)
    between_prompts = (float(apart.sum()) + _BETWEEN_PROMPTS * total / len(estimates)) / len(estimates)
    share = total / (total + between_prompts / _BETWEEN_LLMS)
    return share * own + (1 - share)
