"""When more answers of a new LLM would change no decision: what is still open, prompt by prompt.

Before the remaining answers are in, the expected error that they will lead to is normally distributed around the
present one. Its variance is what they take away: the posterior variance now minus the posterior variance with them
(pre-posterior analysis, Raiffa and Schlaifer 1961). What no answer will ever settle does not count as open.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from .prompt_weights import F64


def open_deviations(now: npt.ArrayLike, later: npt.ArrayLike) -> F64:
    """Return the standard deviations by which expectations may still move.

    Parameters
    ----------
    now, later : array-like of shape (K,)
        Standard errors with the answers so far, and with all that are planned.

    Returns
    -------
    (K,) float64
    """
    before, after = np.asarray(now, dtype=np.float64), np.asarray(later, dtype=np.float64)
    return np.sqrt(np.maximum(before**2 - after**2, 0.0))


def most_open_decision(
    errors: F64,
    costs_usd: F64,
    deviations: F64,
    other_errors: F64,
    other_costs_usd: F64,
    *,
    cost_weights: Sequence[float],
) -> float:
    """Return the largest probability, over prompts and cost weights, that the choice for or against an LLM changes.

    Parameters
    ----------
    errors, costs_usd, deviations : (n,) float64
        What is expected of the LLM on each prompt, and how far its expected error may still move.
    other_errors, other_costs_usd : (n, m) float64
        The same of the LLMs that it is compared with; at least one.
    cost_weights
        Errors that one USD is worth.

    Returns
    -------
    float
        In [0, 0.5]; 0 when nothing may move.
    """
    most = 0.0
    for weight in cost_weights:
        best = (other_errors + weight * other_costs_usd).min(axis=1)
        apart = np.abs(errors + weight * costs_usd - best)
        distance = np.divide(apart, deviations, out=np.full_like(apart, np.inf), where=deviations > 0)
        most = max(most, float(ndtr(-distance).max(initial=0.0)))
    return most
