"""Turn a budget or a quality into a cost weight, exactly, on what a router expects of some prompts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .checks import finite_number
from .deferral import DeferralCurve, deferral_curve
from .errors import InvalidInput

F64 = npt.NDArray[np.float64]


def cost_weight_within(errors: F64, costs_usd: F64, max_cost_usd: float) -> float:
    """Return the smallest cost weight whose choices stay within a mean cost.

    Parameters
    ----------
    errors, costs_usd : (n, m) float64
        Expected errors and expected USD of m LLMs on n prompts.
    max_cost_usd
        Largest allowed mean USD per prompt, not negative.

    Raises
    ------
    InvalidInput
        When even the cheapest choices cost more.
    """
    budget = finite_number(max_cost_usd, "max_cost_usd", minimum=0)
    curve = _expected_curve(errors, costs_usd)
    within = np.flatnonzero(curve.costs_usd <= budget * (1 + 1e-9))
    if not len(within):
        cheapest = float(curve.costs_usd[-1])
        raise InvalidInput(
            f"no choice stays within {budget:.3g} USD per prompt: the cheapest LLMs cost {cheapest:.3g}",
            hint=f"allow at least {1000 * cheapest:.3g} USD per 1,000 prompts",
        )
    return _inside(curve, int(within[0]))


def cost_weight_keeping(errors: F64, costs_usd: F64, share: float) -> float:
    """Return the largest cost weight whose choices keep a share of the best single LLM's expected score.

    Parameters
    ----------
    errors, costs_usd : (n, m) float64
        Expected errors and expected USD of m LLMs on n prompts.
    share
        Share of the largest mean expected score of one LLM, in [0, 1].
    """
    kept = finite_number(share, "min_score", minimum=0, maximum=1)
    curve = _expected_curve(errors, costs_usd)
    best = float((1 - np.clip(errors, 0, 1)).mean(axis=0).max())
    enough = np.flatnonzero(curve.scores >= kept * best - 1e-9)
    return _inside(curve, int(enough[-1]) if len(enough) else 0)


def _expected_curve(errors: F64, costs_usd: F64) -> DeferralCurve:
    reference = float(costs_usd.mean(axis=0).max())
    scores = 1 - np.clip(errors, 0, 1)
    return deferral_curve(errors, costs_usd, scores, costs_usd, reference_cost_usd=reference or 1.0)


def _inside(curve: DeferralCurve, point: int) -> float:
    """Return a cost weight just inside the interval of a point: at its edge two LLMs tie."""
    start = float(curve.cost_weights[point])
    if point + 1 == len(curve.cost_weights):
        return start * 1.001
    return min(start * 1.001, (start + float(curve.cost_weights[point + 1])) / 2)
