"""The evidence of a promotion report as plain values: every number and text that a page or a figure shows.

Nothing here knows of HTML, files or databases. Texts from outside (names, prompts, completions) are kept as they are;
they are sanitised where they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from flows.gate.verdict import GateCheck
from flows.gate.worth import Worth
from flows.reports.promotion.particulars import Cluster, Flow, HeatRow, NewLLM, NightSpend, RouteChange
from routing.deferral import BootstrapDifference, DeferralCurve

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two routers and how it does on the gate prompts.

    Attributes
    ----------
    digest, number
        Identity, and the registry's count of routers.
    n_llms, cost_weight
        Number of LLMs to choose from, and the errors that one USD is worth to it.
    made_at, as_of
        When it was made, and the day of its night.
    score, cost_usd
        Mean recorded score and USD per prompt at its own cost weight.
    area
        Under the deferral curve.
    curve
        The deferral curve.
    """

    digest: str
    number: int
    n_llms: int
    cost_weight: float
    made_at: datetime
    as_of: date
    score: float
    cost_usd: float
    area: float
    curve: DeferralCurve


@dataclass(frozen=True)
class CostAtQuality:
    """The cost at which the challenger is as good as the champion.

    Attributes
    ----------
    change
        Cost against the champion's, as a share; -0.2 is a fifth cheaper. None when it never gets as good.
    low, high
        95 % bootstrap interval; `high` is None when in more than 2.5 % of the resamples it never gets as good.
    reached
        Share of the resamples in which it gets as good.
    n
        Prompts.
    is_free
        Whether the champion costs nothing, so that no cost can be compared with its own.
    """

    change: float | None
    low: float | None
    high: float | None
    reached: float
    n: int
    is_free: bool = False


@dataclass(frozen=True)
class Headline:
    """The three numbers of a promotion, and the two at the routers' own operating points."""

    score_at_equal_cost: BootstrapDifference
    cost_at_equal_score: CostAtQuality
    route_change: BootstrapDifference
    own_score: BootstrapDifference
    own_cost_usd: BootstrapDifference


@dataclass(frozen=True, eq=False)
class Band:
    """Challenger minus champion in score at equal cost, with a pointwise 95 % interval.

    Attributes
    ----------
    costs_usd, difference, low, high
        ``(p,)`` mean USD per prompt, and score differences there.
    n, n_resamples
        Number of prompts, and of resamples.
    """

    costs_usd: F64
    difference: F64
    low: F64
    high: F64
    n: int
    n_resamples: int


@dataclass(frozen=True)
class LLMPoint:
    """One LLM on the gate prompts.

    Attributes
    ----------
    key
        The LLM.
    score, cost_usd
        Mean recorded score and USD per prompt.
    repriced_cost_usd
        Mean USD per prompt at the new prices, when they changed since the champion was made.
    is_new, is_gone
        Whether only the challenger, or only the champion, may choose it.
    is_dominated
        Whether another LLM of the challenger is at least as good and cheaper, or better at no more cost.
    is_on_frontier
        Whether it is on the non-decreasing hull.
    share_before, share_after
        Share of the gate prompts it gets from champion and challenger; None when it is not in that router.
    unreadable_share
        Share of its answers in which no answer could be read, in [0, 1]; None when unknown.
    """

    key: str
    score: float
    cost_usd: float
    repriced_cost_usd: float | None
    is_new: bool
    is_gone: bool
    is_dominated: bool
    is_on_frontier: bool
    share_before: float | None
    share_after: float | None
    unreadable_share: float | None = None


@dataclass(frozen=True)
class Effect:
    """What one new LLM contributes: the challenger with it, compared with the challenger without it.

    Attributes
    ----------
    key
        The new LLM.
    score
        Score at the champion's cost that would be lost without it.
    own_score, own_cost_usd
        What it changes at the challenger's own cost weight, in score and USD per prompt.
    share
        Share of the gate prompts that it gets.
    """

    key: str
    score: BootstrapDifference
    own_score: BootstrapDifference
    own_cost_usd: float
    share: float


@dataclass(frozen=True, eq=False)
class Stability:
    """How often decisions stay the same when the vectors are drawn again from their standard errors.

    Attributes
    ----------
    agreement
        ``(n,)`` share of the draws, by gate prompt, in which the same LLM is chosen.
    n_draws
        Number of draws.
    """

    agreement: F64
    n_draws: int

    @property
    def mean(self) -> float:
        """Mean agreement over the gate prompts, in [0, 1]."""
        return float(self.agreement.mean())

    @property
    def unsure(self) -> float:
        """Share of the prompts with less than 70 % agreement."""
        return float((self.agreement < 0.7).mean())


@dataclass(frozen=True)
class Version:
    """One router of the registry, for the trend; `served` says whether it has been champion."""

    number: int
    digest: str
    made_at: datetime
    n_llms: int
    score: float | None
    cost_usd: float | None
    area: float | None
    served: bool


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that a promotion report shows.

    Attributes
    ----------
    challenger, champion
        The two routers; no champion before the first promotion.
    passed, checks, worth
        What the gate found, as stored with the promotion.
    headline, band, effects
        The comparison; None, or nothing, without a champion.
    zero_router
        The prompt-blind baseline over the challenger's LLMs.
    llms
        Every LLM of both, the best first.
    heat
        One row per LLM of the challenger, the best first; its cells in the order of `clusters`.
    clusters
        The largest first.
    flows, changes
        Where the prompts go whose route changes, and examples of them.
    new_llms
        The LLMs that only the challenger has.
    spend, stability, trend
        Money, certainty and history.
    n_changed
        How many gate prompts change their route.
    n_gate, n_dropped, n_known
        Gate prompts for which every LLM has a score, those left out, and prompts that clusters are shown with.
    stale_prices
        LLMs of the challenger that no catalog has listed for more than a week.
    limitations
        What the reader must not conclude, one sentence each.
    facts
        Name and content of what all this rests on.
    refresh
        What changed, when it puts forward the champion itself as it can serve; empty for a challenger.
    undecided
        Why the gate is undecided and what would decide it; empty when it is decided.
    """

    challenger: Side
    champion: Side | None
    passed: bool
    checks: tuple[GateCheck, ...]
    worth: Worth | None
    headline: Headline | None
    band: Band | None
    effects: tuple[Effect, ...]
    zero_router: DeferralCurve | None
    llms: tuple[LLMPoint, ...]
    heat: tuple[HeatRow, ...]
    clusters: tuple[Cluster, ...]
    flows: tuple[Flow, ...]
    changes: tuple[RouteChange, ...]
    n_changed: int
    new_llms: tuple[NewLLM, ...]
    spend: NightSpend | None
    stability: Stability
    trend: tuple[Version, ...]
    n_gate: int
    n_dropped: int
    n_known: int
    stale_prices: tuple[str, ...]
    limitations: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    refresh: str = ""
    undecided: str = ""
