"""What the gate can see with a number of gate prompts, before anything is asked and after two routers were compared.

The gate passes a challenger when the lower bound of its score, minus the champion's, is at least minus epsilon. The
bound is that of `routing.resampling.paired_lower_bound`: the mean of the paired differences together with one prompt
won and one lost outright. Its normal approximation gives the difference that is seen with probability `POWER`: the sum
of the quantiles of the level and of the power, times the standard error (Cohen 1988, chapter 2, paired differences).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

POWER: Final = 0.8
"""Probability with which a difference counts as seen."""

DIFFERING_SHARE: Final = 0.1
"""Share of the gate prompts on which two routers are taken to score differently, one right and one wrong."""

_MOST_PROMPTS: Final = 10**8


@dataclass(frozen=True)
class Power:
    """What the gate prompts of a comparison can show.

    Attributes
    ----------
    n_prompts
        Number of gate prompts that were compared on.
    visible_difference
        Smallest difference in mean score that so many show, in (0, 1], by the spread measured on these two routers.
    prompts_needed
        About how many gate prompts would decide if the difference stayed as it is; None when no number is enough.
    judging
        What these prompts are called, in the singular: representative ones may judge too.
    """

    n_prompts: int
    visible_difference: float
    prompts_needed: int | None
    judging: str = "gate prompt"


def visible_difference(n_prompts: int, level: float, variance: float = DIFFERING_SHARE) -> float:
    """Return the smallest difference in mean score that the gate sees with probability `POWER`, in (0, 1].

    A challenger as good as the champion passes with that probability if epsilon is at least as large.

    Parameters
    ----------
    n_prompts
        Number of gate prompts.
    level
        Probability that the lower bound is too high, in (0, 0.5].
    variance
        Variance of the paired difference of one prompt, in [0, 1].
    """
    quantiles = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(POWER)
    standard_error = math.sqrt(n_prompts * variance + 2) / (n_prompts + 2)
    return min(quantiles * standard_error, 1.0)


def prompts_needed(difference: float, level: float, variance: float = DIFFERING_SHARE) -> int | None:
    """Return the smallest number of gate prompts with which the gate sees a difference; None when no number is enough.

    Parameters
    ----------
    difference
        In mean score, for example the setting ``[gate] epsilon``.
    level, variance
        As for `visible_difference`.
    """
    if visible_difference(_MOST_PROMPTS, level, variance) > difference:
        return None
    low, high = 0, _MOST_PROMPTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if visible_difference(middle, level, variance) <= difference else (middle, high)
    return high


def power_of(
    differences: NDArray[np.float64],
    *,
    epsilon: float,
    level: float,
    reject_level: float,
    judging: str = "gate prompt",
) -> Power:
    """Return what a comparison can show, and about how many gate prompts would decide it.

    Parameters
    ----------
    differences
        ``(n,)`` score of the challenger minus the champion's, by prompt; at least one.
    epsilon
        How far the lower bound may lie below 0.
    level
        Probability that the lower bound is too high, at the next look.
    reject_level
        Probability that the upper bound is too low.
    judging
        What the prompts are called.
    """
    mean, variance = float(differences.mean()), float(differences.var())
    margin = mean + epsilon
    at = level if margin >= 0 else reject_level
    n, needed = len(differences), prompts_needed(abs(margin), at, variance)
    return Power(
        n_prompts=n,
        visible_difference=visible_difference(n, level, variance),
        # So many did not decide it, whatever the approximation says.
        prompts_needed=None if needed is None else max(needed, n + 1),
        judging=judging,
    )
