"""What a router is worth on the gate prompts: against always using one LLM, and against the champion.

The single LLMs are chosen on the same prompts that they are then judged on, which favours them and never the router.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter

from flows.gate.measure import GateOutcomes, RouterMeasure
from routing.deferral import BootstrapDifference, paired_bootstrap
from routing.router import Router

NEAR_BEST: Final = 0.01
"""How much lower than the best single LLM's score, in [0, 1], another one's still counts as near it."""
DOMINANT_SHARE: Final = 0.95
"""A router that sends a larger share of the prompts to one LLM is not worth more than that LLM."""


@dataclass(frozen=True)
class Comparison:
    """A router against an alternative on the same prompts.

    Attributes
    ----------
    llm_key
        The LLM that answers all prompts in the alternative; empty when that is the champion.
    score, cost_usd
        Mean score of the alternative in [0, 1], and its mean USD per prompt.
    difference
        Mean score of the router at its own operating point minus the alternative's, with its 95 % interval.
    """

    llm_key: str
    score: float
    cost_usd: float
    difference: BootstrapDifference


@dataclass(frozen=True)
class Worth:
    """What a router earns at its own operating point.

    Attributes
    ----------
    score, cost_usd
        Mean score in [0, 1] and mean USD per prompt.
    n
        Number of gate prompts.
    busiest_key, busiest_share
        The LLM that most prompts go to, and their share.
    best
        Against the LLM with the highest mean score; of several, the cheapest.
    near_best
        Against the cheapest LLM whose score is at most `NEAR_BEST` lower than that.
    affordable
        Against the best of the LLMs that cost no more than the router; None when each costs more.
    champion
        Against the champion; None when no router serves.
    """

    score: float
    cost_usd: float
    n: int
    busiest_key: str
    busiest_share: float
    best: Comparison
    near_best: Comparison
    affordable: Comparison | None
    champion: Comparison | None = None

    def cost_change(self, other: Comparison) -> float | None:
        """Return the router's cost against an alternative's, as a share; None when the alternative is free."""
        return self.cost_usd / other.cost_usd - 1 if other.cost_usd > 0 else None

    @property
    def is_dominated_by_one(self) -> bool:
        """Whether more than `DOMINANT_SHARE` of the prompts go to one LLM."""
        return self.busiest_share > DOMINANT_SHARE

    @property
    def redundant_key(self) -> str | None:
        """The LLM over which routing shows no gain; None when it shows one.

        That is the LLM to which almost all prompts go, or one that costs no more and is not certain to score less.
        """
        if self.is_dominated_by_one:
            return self.busiest_key
        same_money = self.affordable
        return same_money.llm_key if same_money is not None and same_money.difference.low <= 0 else None

    @property
    def alone(self) -> Worth:
        """The same without the champion, for a router that is the champion itself."""
        return replace(self, champion=None)

    def as_data(self) -> dict[str, Any]:
        """Return it as plain data, as a promotion stores it."""
        return asdict(self)

    @classmethod
    def of_data(cls, stored: Mapping[str, Any] | None) -> Worth | None:
        """Read what `as_data` returned; None for a gate that was passed before this was measured."""
        return None if stored is None else _WORTH.validate_python(stored)


_WORTH = TypeAdapter(Worth)


def worth_of(router: Router, found: RouterMeasure, outcomes: GateOutcomes, *, resamples: int, seed: int) -> Worth:
    """Compare a router with the single LLMs it may choose from.

    Parameters
    ----------
    router
        The router; at least one of its LLMs is among the outcomes.
    found
        Its measure on `outcomes`.
    outcomes
        The recorded outcomes on gate prompts.
    resamples, seed
        For the paired bootstrap.
    """
    keys = outcomes.known(router)
    columns = outcomes.columns(keys)
    means, costs_usd = outcomes.scores[:, columns].mean(axis=0), outcomes.costs_usd[:, columns].mean(axis=0)

    def against(place: int) -> Comparison:
        scores = outcomes.scores[:, columns[place]]
        return Comparison(
            llm_key=keys[place],
            score=float(means[place]),
            cost_usd=float(costs_usd[place]),
            difference=paired_bootstrap(found.scores, scores, n_resamples=resamples, seed=seed),
        )

    places = range(len(keys))
    best = min(places, key=lambda place: (-means[place], costs_usd[place], keys[place]))
    # Means that differ by exactly the margin differ from it in their last bits.
    near = [place for place in places if means[place] >= means[best] - NEAR_BEST - 1e-12]
    cheapest = min(near, key=lambda place: (costs_usd[place], -means[place], keys[place]))
    # Two sums over the same prompts differ in their last bits.
    paid_for = [place for place in places if costs_usd[place] <= found.cost_usd * (1 + 1e-9)]
    affordable = min(paid_for, key=lambda place: (-means[place], costs_usd[place], keys[place]), default=None)
    busiest_key, busiest_share = max(found.shares, key=lambda one: one[1])
    against_best = against(best)
    return Worth(
        score=found.score,
        cost_usd=found.cost_usd,
        n=len(found.scores),
        busiest_key=busiest_key,
        busiest_share=busiest_share,
        best=against_best,
        near_best=against_best if cheapest == best else against(cheapest),
        affordable=None if affordable is None else against(affordable),
    )


def against_champion(found: RouterMeasure, champion: RouterMeasure, *, resamples: int, seed: int) -> Comparison:
    """Compare a router with the champion, each at its own operating point."""
    return Comparison(
        llm_key="",
        score=champion.score,
        cost_usd=champion.cost_usd,
        difference=paired_bootstrap(found.scores, champion.scores, n_resamples=resamples, seed=seed),
    )
