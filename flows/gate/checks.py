"""The gate's checks: each says what it found, what is asked, and what would change its result.

The names, values and thresholds of checks are stored with every promotion and compared when it is requested again, so
their wording does not change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flows.gate.alpha_spending import Spending
from flows.gate.measure import GateOutcomes, RouterMeasure
from flows.gate.power import Power
from flows.gate.verdict import REJECT_LEVEL, GateCheck, GateRules
from flows.profiling.contamination import LEAST_GAP, SIGNIFICANCE
from registry.errors import PromotionRefused
from routing.deferral import BootstrapDifference
from routing.equal_cost import EqualCost
from routing.errors import named
from routing.router import Router

_MIN_LLMS = 2


@dataclass(frozen=True)
class NewcomerGap:
    """How much better a new LLM, one the champion does not have, does on representative than on hidden prompts.

    Attributes
    ----------
    llm_key
        The LLM.
    gap
        Difference of its mean scores; None when it has no scores on one of the two.
    p_value
        From `flows.profiling.contamination.contamination_p_value`.
    is_accepted
        Whether a person has decided that it may be routed to all the same.
    """

    llm_key: str
    gap: float | None
    p_value: float
    is_accepted: bool

    @property
    def is_suspicious(self) -> bool:
        """Whether the LLM seems to know the representative prompts and no person has accepted that."""
        is_wide = self.gap is not None and self.gap >= LEAST_GAP and self.p_value <= SIGNIFICANCE
        return is_wide and not self.is_accepted


def finite_numbers(router: Router, outcomes: GateOutcomes) -> GateCheck:
    """Refuse before measuring: an infinite price or vector makes every later number meaningless.

    Raises
    ------
    PromotionRefused
        There is nothing to measure, or the router expects something that is not a finite number.
    """
    if not len(outcomes.embeddings):
        raise PromotionRefused(
            f"router {router.digest[:12]} cannot be put to the gate: no gate prompt has a score from every LLM of "
            "the router and of the champion",
            unchanged="The champion stays as it is.",
            hint="See which LLMs lack answers: uniroute llm list",
        )
    missing = [key for key in router.keys if key not in outcomes.keys]
    if missing:
        raise PromotionRefused(
            f"router {router.digest[:12]} cannot be put to the gate: {missing[0]} was never asked the gate prompts",
            unchanged="The champion stays as it is.",
            hint="uniroute night run",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        expected = outcomes.expected_by(router)
    is_finite = np.isfinite(expected.errors).all(axis=0) & np.isfinite(expected.costs_usd).all(axis=0)
    if not is_finite.all():
        raise PromotionRefused(
            f"router {router.digest[:12]} expects errors or costs that are not finite numbers from "
            f"{router.keys[int(np.argmin(is_finite))]}",
            unchanged="The champion stays as it is.",
            hint="Check its price: uniroute llm list",
        )
    n, m = expected.errors.shape
    return GateCheck("finite expected errors and costs", f"{m} LLMs on {n} prompts", "all of them", True)


def enough_llms(router: Router) -> GateCheck:
    """Check that there is something to choose from."""
    count = len(router.keys)
    remedy = "more LLMs: include of [[catalog]], or uniroute llm include LLM --reason TEXT"
    return GateCheck("LLMs to choose from", str(count), f"at least {_MIN_LLMS}", count >= _MIN_LLMS, remedy=remedy)


def all_available(unavailable: Sequence[str]) -> GateCheck:
    """Check that every LLM of the challenger may be routed to today."""
    found = "all" if not unavailable else f"not {named(unavailable)}"
    remedy = "a night makes a router without them; uniroute llm include LLM --reason TEXT lets one return"
    return GateCheck("LLMs that may be routed to", found, "all", not unavailable, remedy=remedy)


def enough_prompts(outcomes: GateOutcomes, rules: GateRules) -> GateCheck:
    """Check that few gate prompts lack the score of some LLM."""
    kept = len(outcomes.embeddings)
    total = kept + outcomes.n_dropped
    missing = math.ceil(rules.min_coverage * total) - kept
    remedy = f"[routing] min_coverage = {rules.min_coverage:g}"
    if missing > 0:
        remedy += f", or every LLM's score for {missing:,} more of them"
    return GateCheck(
        "gate prompts with a score from every LLM",
        f"{kept} of {total}",
        f"at least {rules.min_coverage:.0%}",
        kept >= rules.min_coverage * total,
        remedy=remedy,
    )


def newcomers_believed(newcomers: Sequence[NewcomerGap]) -> GateCheck:
    """Apply the test for contamination to the LLMs that the champion does not have."""
    suspects = [one for one in newcomers if one.is_suspicious]
    measured = [one for one in newcomers if one.gap is not None]
    worst = max(suspects or measured, key=lambda one: (one.gap or 0.0, one.llm_key), default=None)
    said = f"{len(measured)} of {len(newcomers)} new LLMs measured"
    if worst is not None:
        said += f", widest {worst.llm_key}: {worst.gap:+.3f} (p = {worst.p_value:.2g})"
    threshold = f"none at least {LEAST_GAP:+.3f} with p at most {SIGNIFICANCE:g}"
    remedy = "if you know why, uniroute llm include LLM --reason TEXT accepts it; else uniroute llm exclude"
    name = "representative score above hidden score, new LLMs"
    return GateCheck(name, said, threshold, not suspects, remedy=remedy)


def score_holds(
    difference: BootstrapDifference,
    bounds: tuple[float, float],
    equal: EqualCost,
    spending: Spending,
    rules: GateRules,
    power: Power,
    *,
    where: str = "",
) -> GateCheck:
    """Check the score at the champion's cost: shown to be good enough, shown not to be, or neither.

    Parameters
    ----------
    difference
        Challenger minus champion, with its 95 % interval.
    bounds
        Lower bound at the level that is spent, and upper bound at `REJECT_LEVEL`.
    equal
        The challenger at the champion's cost.
    spending
        The level, and the number of the test.
    rules
        The thresholds.
    power
        What so many prompts can show.
    where
        Who is judged on which prompts, as a clause that follows; empty for both routers on gate prompts.
    """
    low, high = bounds
    caveat = "" if equal.is_reached else "; it cannot be as cheap, so its cheapest choices were compared"
    tested = f"challenger {spending.ordinal} of this champion"
    if spending.is_regraded:
        tested = "the champion itself under newer grades, which spends nothing"
    passed = low >= -rules.epsilon
    upper = "" if passed else f"; upper bound {high:+.4f} at level {REJECT_LEVEL:g}"
    remedy = f"[gate] epsilon = {rules.epsilon:g} (this needs at least {_up(-low)})"
    is_undecided = not passed and high >= -rules.epsilon
    if is_undecided and power.prompts_needed is not None:
        remedy += f", or about {power.prompts_needed:,} {power.judging}s (there are {power.n_prompts:,})"
    return GateCheck(
        "score at the champion's cost, against the champion",
        f"{difference.mean:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f}); lower bound "
        f"{low:+.4f} at level {spending.level:.2g}, {tested}{caveat}{upper}{where}",
        f"lower bound at least {-rules.epsilon:+.4f}",
        passed,
        is_undecided=is_undecided,
        remedy=remedy,
    )


def cost_holds(found: RouterMeasure, before: RouterMeasure, rules: GateRules) -> GateCheck:
    """Check that the challenger, as it would serve, is not much more expensive than the champion."""
    change = cost_change(found, before)
    needed = f"[gate] max_cost_increase = {rules.max_cost_increase:g} (this needs at least {_up(change)})"
    return GateCheck(
        "cost per prompt at its own operating point, against the champion",
        f"{change:+.1%}",
        f"at most {rules.max_cost_increase:+.1%}",
        change <= rules.max_cost_increase,
        remedy=f"{needed}, or a larger [routing] cost_weight",
    )


def cost_change(found: RouterMeasure, before: RouterMeasure) -> float:
    """Return how much more one router costs per prompt than another, as a share; 1 where the other is free."""
    return found.cost_usd / before.cost_usd - 1 if before.cost_usd > 0 else float(found.cost_usd > 0)


def shares_hold(found: RouterMeasure, before: RouterMeasure, rules: GateRules) -> GateCheck:
    """Check that no LLM gets more of the traffic than allowed, unless it already had more."""
    had = {key for key, share in before.shares if share > rules.max_share}
    over = [share for key, share in found.shares if share > rules.max_share and key not in had]
    key, share = max(found.shares, key=lambda one: one[1])
    threshold = f"at most {rules.max_share:.0%}, unless it had more under the champion"
    remedy = f"[gate] max_share = {rules.max_share:g}" + (f" (this needs at least {_up(max(over))})" if over else "")
    return GateCheck("largest share of the gate prompts", f"{share:.1%} ({key})", threshold, not over, remedy=remedy)


def _up(value: float) -> str:
    """Write a number rounded up to four decimals, so that the setting it is meant for is large enough."""
    return f"{math.ceil(value * 1e4 - 1e-9) / 1e4:g}"
