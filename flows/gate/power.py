"""What the gate can see with a number of gate prompts, before anything is asked.

The gate passes a challenger when the lower bound of its score, minus the champion's, is at least minus epsilon. The
bound is that of `routing.resampling.paired_lower_bound`: the mean of the paired differences together with one prompt
won and one lost outright. Its normal approximation gives the difference that is seen with probability `POWER`: the sum
of the quantiles of the level and of the power, times the standard error (Cohen 1988, chapter 2, paired differences).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

POWER: Final = 0.8
"""Probability with which a difference counts as seen."""

DIFFERING_SHARE: Final = 0.1
"""Share of the gate prompts on which two routers are taken to score differently, one right and one wrong."""

_MOST_PROMPTS: Final = 10**8


def visible_difference(n_prompts: int, level: float) -> float:
    """Return the smallest difference in mean score that the gate sees with probability `POWER`, in (0, 1].

    A challenger as good as the champion passes with that probability if epsilon is at least as large.

    Parameters
    ----------
    n_prompts
        Number of gate prompts.
    level
        Probability that the lower bound is too high, in (0, 0.5].
    """
    quantiles = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(POWER)
    standard_error = math.sqrt(n_prompts * DIFFERING_SHARE + 2) / (n_prompts + 2)
    return min(quantiles * standard_error, 1.0)


def prompts_needed(difference: float, level: float) -> int | None:
    """Return the smallest number of gate prompts with which the gate sees a difference; None when no number is enough.

    Parameters
    ----------
    difference
        In mean score, for example the setting ``[gate] epsilon``.
    level
        As for `visible_difference`.
    """
    if visible_difference(_MOST_PROMPTS, level) > difference:
        return None
    low, high = 0, _MOST_PROMPTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if visible_difference(middle, level) <= difference else (middle, high)
    return high
