"""The gate: a challenger is measured against the champion on gate prompts, which nothing was ever fitted on.

Both routers are judged on the same prompts, with the scores and costs that were really recorded for the LLM each of
them chooses, and on one cost axis: the mean cost of the dearest LLM of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.baselines import ZeroRouter
from routing.deferral import (
    BootstrapDifference,
    DeferralCurve,
    aiq,
    area,
    deferral_curve,
    paired_bootstrap,
    peak,
    qnc,
)
from routing.router import Router

_MIN_LLMS = 2


@dataclass(frozen=True, eq=False)
class GateOutcomes:
    """What the LLMs of both routers really did on the gate prompts.

    Attributes
    ----------
    keys
        LLM keys, one a column.
    embeddings
        ``(n, dim)`` float32, the gate prompts that every LLM has a score for.
    scores, costs_usd
        ``(n, m)`` recorded score in [0, 1] and cost in USD.
    n_dropped
        Gate prompts left out because some LLM has no score there.
    """

    keys: tuple[str, ...]
    embeddings: NDArray[np.float32]
    scores: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    n_dropped: int

    @property
    def reference_cost_usd(self) -> float:
        """Mean cost of the dearest LLM: 1 on the relative cost axis."""
        return float(self.costs_usd.mean(axis=0).max())

    @property
    def best_score(self) -> float:
        """Mean score of the most accurate LLM."""
        return float(self.scores.mean(axis=0).max())

    def columns(self, keys: Sequence[str]) -> list[int]:
        """Give the columns of these LLMs."""
        return [self.keys.index(key) for key in keys]


@dataclass(frozen=True, eq=False)
class RouterMeasure:
    """How a router does on gate prompts.

    Attributes
    ----------
    score, cost_usd
        Mean recorded score and USD per prompt at the router's own cost weight.
    area, qnc, qnc_is_reached, peak, aiq
        Of the deferral curve, as `routing.deferral` defines them.
    curve
        The deferral curve.
    scores, costs_usd
        ``(n,)`` recorded score and cost of the chosen LLM, prompt by prompt.
    shares
        Share of the gate prompts each LLM gets, in the order of the router's keys.
    """

    score: float
    cost_usd: float
    area: float
    qnc: float
    qnc_is_reached: bool
    peak: float
    aiq: float
    curve: DeferralCurve
    scores: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class GateCheck:
    """One condition of the gate, with what was found and what was asked."""

    name: str
    value: str
    threshold: str
    passed: bool


@dataclass(frozen=True, eq=False)
class GateResult:
    """The gate's verdict and the evidence for it."""

    checks: tuple[GateCheck, ...]
    challenger: RouterMeasure
    champion: RouterMeasure | None
    zero_router: DeferralCurve
    difference: BootstrapDifference | None
    outcomes: GateOutcomes

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class GateRules:
    """The thresholds of the gate.

    Attributes
    ----------
    epsilon
        How much score, in [0, 1], the lower bound may fall below the champion's at the champion's cost.
    max_cost_increase
        How much dearer than the champion, as a share, the challenger may be at its own operating point.
    min_coverage
        Share of the gate prompts that every LLM must have a score for.
    resamples, seed
        Of the paired bootstrap.
    """

    epsilon: float
    max_cost_increase: float
    min_coverage: float
    resamples: int
    seed: int


def measure(router: Router, outcomes: GateOutcomes) -> RouterMeasure:
    """Measure a router on gate prompts with the outcomes that were recorded."""
    columns = outcomes.columns(router.keys)
    scores, costs_usd = outcomes.scores[:, columns], outcomes.costs_usd[:, columns]
    expected = router.expected(outcomes.embeddings)
    curve = deferral_curve(
        expected.errors, expected.costs_usd, scores, costs_usd, reference_cost_usd=outcomes.reference_cost_usd
    )
    chosen = router.route(outcomes.embeddings).llm_index
    rows = np.arange(len(chosen))
    reached = qnc(curve, outcomes.best_score)
    counts = np.bincount(chosen, minlength=len(router.keys))
    return RouterMeasure(
        score=float(scores[rows, chosen].mean()),
        cost_usd=float(costs_usd[rows, chosen].mean()),
        area=area(curve),
        qnc=reached.value,
        qnc_is_reached=reached.reached,
        peak=peak(curve),
        aiq=aiq(curve),
        curve=curve,
        scores=scores[rows, chosen],
        costs_usd=costs_usd[rows, chosen],
        shares=tuple((key, float(count / len(chosen))) for key, count in zip(router.keys, counts, strict=True)),
    )


def judge(
    challenger: Router,
    champion: Router | None,
    outcomes: GateOutcomes,
    zero_router: ZeroRouter,
    rules: GateRules,
) -> GateResult:
    """Judge a challenger; without a champion it must only be sound in itself.

    Parameters
    ----------
    challenger, champion
        The routers; `outcomes` holds the LLMs of both.
    outcomes
        What was recorded on gate prompts.
    zero_router
        The prompt-blind baseline over the challenger's LLMs, fitted on representative prompts.
    rules
        The thresholds.
    """
    found = measure(challenger, outcomes)
    before = measure(champion, outcomes) if champion is not None else None
    checks = [_enough_llms(challenger), _enough_prompts(outcomes, rules)]
    difference = None
    if champion is not None and before is not None:
        difference = _difference_at_equal_cost(challenger, before, outcomes, rules)
        checks += [_score_holds(difference, rules), _cost_holds(found, before, rules)]
    return GateResult(
        checks=tuple(checks),
        challenger=found,
        champion=before,
        zero_router=_zero_curve(zero_router, challenger, outcomes),
        difference=difference,
        outcomes=outcomes,
    )


def _zero_curve(zero_router: ZeroRouter, challenger: Router, outcomes: GateOutcomes) -> DeferralCurve:
    columns = outcomes.columns(challenger.keys)
    scores, costs_usd = outcomes.scores[:, columns], outcomes.costs_usd[:, columns]
    return zero_router.curve(scores, costs_usd, reference_cost_usd=outcomes.reference_cost_usd)


def _enough_llms(router: Router) -> GateCheck:
    count = len(router.keys)
    return GateCheck("LLMs to choose from", str(count), f"at least {_MIN_LLMS}", count >= _MIN_LLMS)


def _enough_prompts(outcomes: GateOutcomes, rules: GateRules) -> GateCheck:
    kept = len(outcomes.embeddings)
    total = kept + outcomes.n_dropped
    return GateCheck(
        "gate prompts with a score from every LLM",
        f"{kept} of {total}",
        f"at least {rules.min_coverage:.0%}",
        kept >= rules.min_coverage * total,
    )


def _difference_at_equal_cost(
    challenger: Router, before: RouterMeasure, outcomes: GateOutcomes, rules: GateRules
) -> BootstrapDifference:
    """Bootstrap the paired difference in score when the challenger may spend what the champion spends."""
    columns = outcomes.columns(challenger.keys)
    rows = np.arange(len(outcomes.embeddings))
    weights = np.concatenate([[0.0], np.geomspace(1e-3, 1e9, 400)])
    for weight in weights:
        chosen = challenger.route(outcomes.embeddings, cost_weight=float(weight)).llm_index
        if outcomes.costs_usd[rows, np.asarray(columns)[chosen]].mean() <= before.cost_usd:
            break
    scores = outcomes.scores[rows, np.asarray(columns)[chosen]]
    return paired_bootstrap(scores, before.scores, n_resamples=rules.resamples, seed=rules.seed)


def _score_holds(difference: BootstrapDifference, rules: GateRules) -> GateCheck:
    return GateCheck(
        "score at the champion's cost, against the champion",
        f"{difference.mean:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f})",
        f"lower end at least {-rules.epsilon:+.4f}",
        difference.low >= -rules.epsilon,
    )


def _cost_holds(found: RouterMeasure, before: RouterMeasure, rules: GateRules) -> GateCheck:
    change = found.cost_usd / before.cost_usd - 1 if before.cost_usd > 0 else float(found.cost_usd > 0)
    return GateCheck(
        "cost per prompt at its own operating point, against the champion",
        f"{change:+.1%}",
        f"at most {rules.max_cost_increase:+.1%}",
        change <= rules.max_cost_increase,
    )
