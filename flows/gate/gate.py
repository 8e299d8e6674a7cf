"""The gate: a challenger is measured against the champion on gate prompts, on which nothing was ever fitted.

Both routers are judged on the same prompts, with the scores and costs recorded for the LLM each of them chooses, and on
one cost axis: the mean cost of the most expensive LLM of either. Equal evidence gives equal verdicts. The texts of the
checks are stored with every promotion and compared when it is requested again, so their wording does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flows.gate.alpha_spending import Spending
from flows.gate.checks import (
    NewcomerGap,
    all_available,
    cost_change,
    cost_holds,
    enough_llms,
    enough_prompts,
    finite_numbers,
    newcomers_believed,
    score_holds,
    shares_hold,
)
from flows.gate.cross_fit import OFF, CrossFit, Judged, judged
from flows.gate.floors import floor_checks
from flows.gate.measure import GateOutcomes, RouterMeasure, at_cost_of, measure
from flows.gate.power import Power, power_of
from flows.gate.verdict import (
    LEAST_SAVING,
    REJECT_LEVEL,
    SHOWN_ONLY,
    GateCheck,
    GateRules,
    decision_of,
    verdict_of,
)
from flows.gate.worth import Worth, against_champion, worth_of
from registry.errors import PromotionRefused
from registry.promotion_records import PROMOTE
from routing.baselines import ZeroRouter
from routing.deferral import BootstrapDifference, DeferralCurve
from routing.router import Router


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
        Score of the challenger at the champion's cost minus the champion's on the prompts that judge, with its 95 %
        interval: the mean of `judged`, which every headline shows.
    judged
        The differences that the verdict rests on: those of gate prompts and, by cross-fit, of representative ones.
    lower_bound
        Lower bound of the mean of `judged` at the level of `spending`: what a promotion rests on.
    upper_bound
        Upper bound of it at `flows.gate.verdict.REJECT_LEVEL`: what a rejection rests on.
    power
        What so many prompts can show; None without a champion.
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
    evidence
        Digest of the recorded scores that the test rests on: on the same ones it is the same test.
    """

    checks: tuple[GateCheck, ...]
    challenger: RouterMeasure
    champion: RouterMeasure | None
    zero_router: DeferralCurve | None
    difference: BootstrapDifference | None
    outcomes: GateOutcomes
    rules: GateRules
    worth: Worth
    judged: Judged | None = None
    lower_bound: float | None = None
    route_change: float | None = None
    spending: Spending | None = None
    against: str | None = None
    upper_bound: float | None = None
    power: Power | None = None
    evidence: str | None = None

    @property
    def verdict(self) -> str:
        """``promote``, ``reject`` or ``undecided``: what the evidence says."""
        return verdict_of(self.checks)

    @property
    def passed(self) -> bool:
        """Whether every check passed; an undecided challenger has not passed."""
        return self.verdict == PROMOTE

    @property
    def decision(self) -> str:
        """``promote``, ``reject`` or ``review``: what the settings make of the verdict."""
        return decision_of(self.verdict, self.rules, is_cheaper_and_no_worse=self._is_cheaper_and_no_worse)

    @property
    def _is_cheaper_and_no_worse(self) -> bool:
        """Whether it costs less and scores, as measured, no more than epsilon less: at equal cost, and as it serves."""
        if self.champion is None or self.difference is None:
            return False
        served = self.challenger.score - self.champion.score
        is_no_worse = min(self.difference.mean, served) >= -self.rules.epsilon and self.difference.high >= 0
        return is_no_worse and cost_change(self.challenger, self.champion) <= -LEAST_SAVING


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
    representative: Callable[[], CrossFit | str] = lambda: OFF,
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
    representative
        Returns what the representative prompts say, or why they do not judge.

    Raises
    ------
    PromotionRefused
        There is nothing to measure or to compare with, or the challenger expects something that is not a finite number.
    """
    checks = (
        finite_numbers(challenger, outcomes),
        enough_llms(challenger),
        all_available(unavailable),
        enough_prompts(outcomes, rules),
        newcomers_believed(newcomers),
    )
    zero = _zero_curve(zero_router, challenger, outcomes) if zero_router is not None else None
    found = measure(challenger, outcomes)
    checks += floor_checks(challenger, found, outcomes, rules)
    worth = worth_of(challenger, found, outcomes, resamples=rules.resamples, seed=rules.seed)
    alone = GateResult(checks, found, None, zero, None, outcomes, rules, worth)
    return alone if champion is None else _compare(alone, challenger, champion, spending, representative)


def _compare(
    alone: GateResult,
    challenger: Router,
    champion: Router,
    spending: Spending,
    representative: Callable[[], CrossFit | str],
) -> GateResult:
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
    resampling = {"seed": rules.seed, "n_resamples": rules.resamples}
    evidence = judged(equal, before, representative(), **resampling)
    difference = evidence.interval(**resampling)
    bounds = evidence.lower_bound(spending.level, **resampling), evidence.upper_bound(REJECT_LEVEL, **resampling)
    power = power_of(
        evidence.differences,
        epsilon=rules.epsilon,
        level=spending.next_level,
        reject_level=REJECT_LEVEL,
        judging=evidence.judging,
    )
    route_change = float(np.mean([one != other for one, other in zip(found.chosen, before.chosen, strict=True)]))
    compared = (
        score_holds(difference, bounds, equal, spending, rules, power, where=evidence.sentence),
        cost_holds(found, before, rules),
        shares_hold(found, before, rules),
        GateCheck("gate prompts that go to another LLM than before", f"{route_change:.1%}", SHOWN_ONLY, True),
    )
    return replace(
        alone,
        checks=alone.checks + compared,
        champion=before,
        difference=difference,
        judged=evidence,
        lower_bound=bounds[0],
        upper_bound=bounds[1],
        power=power,
        route_change=route_change,
        spending=spending,
        worth=replace(
            alone.worth,
            champion=against_champion(found, before, resamples=rules.resamples, seed=rules.seed),
        ),
    )


def _zero_curve(zero_router: ZeroRouter, challenger: Router, outcomes: GateOutcomes) -> DeferralCurve:
    columns = outcomes.columns(challenger.keys)
    scores, costs_usd = outcomes.scores[:, columns], outcomes.costs_usd[:, columns]
    return zero_router.curve(scores, costs_usd, reference_cost_usd=outcomes.reference_cost_usd)


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
            "score_difference_prompts": float(gate.difference.n),
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
    rules = gate.rules
    return {
        "passed": gate.passed,
        "verdict": gate.verdict,
        "decision": gate.decision,
        "checks": [asdict(check) for check in gate.checks],
        "metrics": version_metrics(gate),
        "gate_prompts": len(gate.outcomes.embeddings),
        "gate_prompts_dropped": gate.outcomes.n_dropped,
        "shares": [{"llm": key, "share": share} for key, share in gate.challenger.shares],
        "route_change": gate.route_change,
        "lower_bound": gate.lower_bound,
        "upper_bound": gate.upper_bound,
        "power": None if gate.power is None else asdict(gate.power),
        "evidence": gate.evidence,
        "spending": None if gate.spending is None else asdict(gate.spending),
        "judged": None if gate.judged is None else gate.judged.as_data(seed=rules.seed, n_resamples=rules.resamples),
        "rules": asdict(gate.rules),
        "worth": gate.worth.as_data(),
    }
