"""Numbers in reports: shares, differences in score and amounts of money, written the same way everywhere."""

from __future__ import annotations

import math

NORMAL_95 = 1.959964
"""The normal distribution lies within this many standard deviations of its mean with probability 95 %."""


def points(change: float) -> str:
    """Write a difference in score in percentage points, with its sign."""
    return signed(100 * change, 1)


def percent(share: float) -> str:
    """Write a share in percent; the space does not break."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def per_1k(usd: float) -> str:
    """Write USD per prompt as USD per 1,000 prompts."""
    return f"{1000 * usd:.4f}"


def per_1k_change(usd: float) -> str:
    """Write a difference in USD per prompt as one per 1,000 prompts, with its sign."""
    return signed(1000 * usd, 4)


def signed(value: float, digits: int) -> str:
    """Write a difference with its sign; values that round to zero get no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def score_interval(mean: float | None, n: int | None) -> str:
    """Write the 95 % interval of a mean score over n prompts; empty when one of the two is not known."""
    if mean is None or not n:
        return ""
    low, high = share_interval(mean, n)
    return f"{low:.3f} to {high:.3f}"


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n prompts, or of a mean of scores in [0, 1].

    A bootstrap of a share of zero or one would claim certainty.

    Source: 95 % score interval, Wilson 1927.
    """
    spread = NORMAL_95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    width = NORMAL_95 * math.sqrt(share * (1 - share) / n + spread / n / 4) / (1 + spread)
    return max(centre - width, 0.0), min(centre + width, 1.0)
