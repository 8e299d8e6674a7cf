"""The gate: a challenger is measured against the champion on gate prompts, on which nothing was ever fitted.

Both routers are judged on the same prompts, with the scores and costs recorded for the LLM each of them chooses, and on
one cost axis: the mean cost of the most expensive LLM of either. Equal evidence gives equal verdicts. The texts of the
checks are stored with every promotion and compared when it is requested again, so their wording does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.gate.alpha_spending import Spending
from flows.gate.measure import GateOutcomes, RouterMeasure, at_cost_of, measure
from flows.gate.worth import Worth, against_champion, worth_of
from flows.profiling.contamination import LEAST_GAP, SIGNIFICANCE
from registry.errors import PromotionRefused
from routing.baselines import ZeroRouter
from routing.deferral import BootstrapDifference, DeferralCurve, paired_bootstrap
from routing.equal_cost import EqualCost
from routing.errors import named
from routing.resampling import paired_lower_bound
from routing.router import Router
from routing.strict_json import canonical_json

if TYPE_CHECKING:
    from flows.config.settings import Settings

_MIN_LLMS = 2
SHOWN_ONLY = "shown only"


@dataclass(frozen=True)
class GateCheck:
    """One condition of the gate, with the value found and the threshold."""

    name: str
    value: str
    threshold: str
    passed: bool


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


@dataclass(frozen=True)
class GateRules:
    """The thresholds of the gate.

    Attributes
    ----------
    epsilon
        How much score, in [0, 1], the lower bound may fall below the champion's at the champion's cost.
    max_cost_increase
        How much more expensive than the champion, as a share, the challenger may be at its own operating point.
    max_share
        Share of the gate prompts that no LLM may exceed, unless it already does under the champion.
    min_coverage
        Share of the gate prompts that every LLM must have a score for.
    resamples, seed
        For the paired bootstrap.
    policy_digest
        SHA-256 of the settings that these come from, including who may decide.
    """

    epsilon: float
    max_cost_increase: float
    max_share: float
    min_coverage: float
    resamples: int
    seed: int
    policy_digest: str = ""

    @classmethod
    def of(cls, settings: Settings) -> GateRules:
        """Take the thresholds from the settings."""
        wanted, routing = settings.gate, settings.routing
        # By alias: the digest of a policy keeps the names that its settings had when they were first stored.
        gate = wanted.model_dump(mode="json", by_alias=True, exclude=set(wanted.unset_additions()))
        content = {"gate": gate, "min_coverage": routing.min_coverage, "seed": routing.seed}
        return cls(
            epsilon=wanted.epsilon,
            max_cost_increase=wanted.max_cost_increase,
            max_share=wanted.max_share,
            min_coverage=routing.min_coverage,
            resamples=wanted.resamples,
            seed=routing.seed,
            policy_digest=hashlib.sha256(canonical_json(content).encode()).hexdigest(),
        )


@dataclass(frozen=True, eq=False)
class GateResult:
    """The gate's verdict and the evidence for it.

    Attributes
    ----------
    checks
        Every condition.
    challenger, champion
        Measures of both; None for the champion when no router serves.
    zero_router
        Curve of the prompt-blind baseline; None when it was not requested.
    difference
        Score of the challenger at the champion's cost minus the champion's, with its 95 % interval.
    lower_bound
        Lower bound of that difference at the level of `spending`: what the verdict rests on.
    route_change
        Share of the gate prompts that go to another LLM than before.
    spending
        The part of the chance of a wrong promotion that this test may spend.
    rules
        The thresholds.
    outcomes
        The recorded outcomes on gate prompts.
    against
        Digest of the champion as it was published; None without one.
    worth
        How the challenger compares with always using one LLM, and with the champion.
    """

    checks: tuple[GateCheck, ...]
    challenger: RouterMeasure
    champion: RouterMeasure | None
    zero_router: DeferralCurve | None
    difference: BootstrapDifference | None
    outcomes: GateOutcomes
    rules: GateRules
    worth: Worth
    lower_bound: float | None = None
    route_change: float | None = None
    spending: Spending | None = None
    against: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def judge(
    challenger: Router,
    champion: Router | None,
    outcomes: GateOutcomes,
    rules: GateRules,
    *,
    spending: Spending,
    zero_router: ZeroRouter | None = None,
    newcomers: Sequence[NewcomerGap] = (),
    unavailable: Sequence[str] = (),
) -> GateResult:
    """Judge a challenger; without a champion it only has to be sound in itself.

    Parameters
    ----------
    challenger, champion
        The routers; `outcomes` holds the LLMs of both.
    outcomes
        The recorded outcomes on gate prompts.
    rules
        The thresholds.
    spending
        The level at which the comparison with the champion is made.
    zero_router
        The prompt-blind baseline over the challenger's LLMs, fitted on representative prompts.
    newcomers
        The LLMs that only the challenger has.
    unavailable
        LLMs of the challenger that may no longer be routed to.

    Raises
    ------
    PromotionRefused
        There is nothing to measure or to compare with, or the challenger expects something that is not a finite number.
    """
    checks = (
        _finite_numbers(challenger, outcomes),
        _enough_llms(challenger),
        _all_available(unavailable),
        _enough_prompts(outcomes, rules),
        _newcomers_believed(newcomers),
    )
    zero = _zero_curve(zero_router, challenger, outcomes) if zero_router is not None else None
    found = measure(challenger, outcomes)
    worth = worth_of(challenger, found, outcomes, resamples=rules.resamples, seed=rules.seed)
    alone = GateResult(checks, found, None, zero, None, outcomes, rules, worth)
    return alone if champion is None else _compare(alone, challenger, champion, spending)


def _compare(alone: GateResult, challenger: Router, champion: Router, spending: Spending) -> GateResult:
    """Add the result of the comparison with the champion."""
    found, outcomes, rules = alone.challenger, alone.outcomes, alone.rules
    if not outcomes.known(champion):
        raise PromotionRefused(
            f"router {challenger.digest[:12]} cannot be compared with the champion: none of the champion's LLMs has a "
            "score on these gate prompts under the present settings",
            unchanged="Answers are kept, and the champion stays as it is.",
            hint="Keep the champion's [[endpoint]] and prompts, or start in a new home: UNIROUTE_HOME=FOLDER",
        )
    before = measure(champion, outcomes)
    equal = at_cost_of(before, challenger, outcomes)
    bound = lower_bound(equal, before, spending, rules)
    route_change = float(np.mean([one != other for one, other in zip(found.chosen, before.chosen, strict=True)]))
    difference = paired_bootstrap(equal.scores, before.scores, n_resamples=rules.resamples, seed=rules.seed)
    compared = (
        _score_holds(difference, bound, equal, spending, rules),
        _cost_holds(found, before, rules),
        _shares_hold(found, before, rules),
        GateCheck("gate prompts that go to another LLM than before", f"{route_change:.1%}", SHOWN_ONLY, True),
    )
    return replace(
        alone,
        checks=alone.checks + compared,
        champion=before,
        difference=difference,
        lower_bound=bound,
        route_change=route_change,
        spending=spending,
        worth=replace(
            alone.worth,
            champion=against_champion(found, before, resamples=rules.resamples, seed=rules.seed),
        ),
    )


def lower_bound(equal: EqualCost, before: RouterMeasure, spending: Spending, rules: GateRules) -> float:
    """Return the lower bound of the score at the champion's cost, minus the champion's, at the level to be spent."""
    return paired_lower_bound(
        equal.scores, before.scores, level=spending.level, seed=rules.seed, n_resamples=rules.resamples
    )


def _zero_curve(zero_router: ZeroRouter, challenger: Router, outcomes: GateOutcomes) -> DeferralCurve:
    columns = outcomes.columns(challenger.keys)
    scores, costs_usd = outcomes.scores[:, columns], outcomes.costs_usd[:, columns]
    return zero_router.curve(scores, costs_usd, reference_cost_usd=outcomes.reference_cost_usd)


def _finite_numbers(router: Router, outcomes: GateOutcomes) -> GateCheck:
    """Refuse before measuring: an infinite price or vector makes every later number meaningless."""
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


def _enough_llms(router: Router) -> GateCheck:
    count = len(router.keys)
    return GateCheck("LLMs to choose from", str(count), f"at least {_MIN_LLMS}", count >= _MIN_LLMS)


def _all_available(unavailable: Sequence[str]) -> GateCheck:
    found = "all" if not unavailable else f"not {named(unavailable)}"
    return GateCheck("LLMs that may be routed to", found, "all", not unavailable)


def _enough_prompts(outcomes: GateOutcomes, rules: GateRules) -> GateCheck:
    kept = len(outcomes.embeddings)
    total = kept + outcomes.n_dropped
    return GateCheck(
        "gate prompts with a score from every LLM",
        f"{kept} of {total}",
        f"at least {rules.min_coverage:.0%}",
        kept >= rules.min_coverage * total,
    )


def _newcomers_believed(newcomers: Sequence[NewcomerGap]) -> GateCheck:
    """Apply the test for contamination to the LLMs that the champion does not have."""
    suspects = [one for one in newcomers if one.is_suspicious]
    measured = [one for one in newcomers if one.gap is not None]
    worst = max(suspects or measured, key=lambda one: (one.gap or 0.0, one.llm_key), default=None)
    said = f"{len(measured)} of {len(newcomers)} new LLMs measured"
    if worst is not None:
        said += f", widest {worst.llm_key}: {worst.gap:+.3f} (p = {worst.p_value:.1e})"
    threshold = f"none at least {LEAST_GAP:+.3f} with p at most {SIGNIFICANCE:g}"
    return GateCheck("representative score above hidden score, new LLMs", said, threshold, not suspects)


def _score_holds(
    difference: BootstrapDifference, bound: float, equal: EqualCost, spending: Spending, rules: GateRules
) -> GateCheck:
    caveat = "" if equal.is_reached else "; it cannot be as cheap, so its cheapest choices were compared"
    tested = f"challenger {spending.ordinal} of this champion"
    if spending.is_regraded:
        tested = "the champion itself under newer grades, which spends nothing"
    return GateCheck(
        "score at the champion's cost, against the champion",
        f"{difference.mean:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f}); lower bound "
        f"{bound:+.4f} at level {spending.level:.2g}, {tested}{caveat}",
        f"lower bound at least {-rules.epsilon:+.4f}",
        bound >= -rules.epsilon,
    )


def _cost_holds(found: RouterMeasure, before: RouterMeasure, rules: GateRules) -> GateCheck:
    change = found.cost_usd / before.cost_usd - 1 if before.cost_usd > 0 else float(found.cost_usd > 0)
    return GateCheck(
        "cost per prompt at its own operating point, against the champion",
        f"{change:+.1%}",
        f"at most {rules.max_cost_increase:+.1%}",
        change <= rules.max_cost_increase,
    )


def _shares_hold(found: RouterMeasure, before: RouterMeasure, rules: GateRules) -> GateCheck:
    """Check that no LLM gets more of the traffic than allowed, unless it already had more."""
    had = {key for key, share in before.shares if share > rules.max_share}
    over = [key for key, share in found.shares if share > rules.max_share and key not in had]
    key, share = max(found.shares, key=lambda one: one[1])
    threshold = f"at most {rules.max_share:.0%}, unless it had more under the champion"
    return GateCheck("largest share of the gate prompts", f"{share:.1%} ({key})", threshold, not over)


def version_metrics(gate: GateResult) -> dict[str, float]:
    """Return the metrics of a version: its own and, where there is a champion, the champion's and their difference.

    Those that set score against cost are left out where no LLM costs anything.
    """
    metrics = _measures("", gate.challenger)
    if gate.champion is not None:
        metrics |= _measures("champion_", gate.champion)
    if gate.difference is not None:
        metrics |= {
            "score_difference_at_equal_cost": gate.difference.mean,
            "score_difference_low": gate.difference.low,
            "score_difference_high": gate.difference.high,
        }
    return metrics | {"gate_prompts": float(len(gate.outcomes.embeddings)), "gate_passed": float(gate.passed)}


def _measures(prefix: str, found: RouterMeasure) -> dict[str, float]:
    metrics = {"score": found.score, "cost_usd_per_1k": found.cost_usd * 1000}
    if not found.is_free:
        metrics |= {"area": found.area, "qnc": found.qnc, "qnc_reached": float(found.qnc_is_reached)}
    metrics["peak"] = found.peak
    if not found.is_free:
        metrics["aiq"] = found.aiq
    return {f"{prefix}{name}": value for name, value in metrics.items()}


def gate_as_json(gate: GateResult) -> dict[str, Any]:
    """Return the gate's checks and figures as data for the registry."""
    return {
        "passed": gate.passed,
        "checks": [
            {"name": check.name, "value": check.value, "threshold": check.threshold, "passed": check.passed}
            for check in gate.checks
        ],
        "metrics": version_metrics(gate),
        "gate_prompts": len(gate.outcomes.embeddings),
        "gate_prompts_dropped": gate.outcomes.n_dropped,
        "shares": [{"llm": key, "share": share} for key, share in gate.challenger.shares],
        "route_change": gate.route_change,
        "lower_bound": gate.lower_bound,
        "spending": None if gate.spending is None else asdict(gate.spending),
        "rules": asdict(gate.rules),
        "worth": gate.worth.as_data(),
    }
