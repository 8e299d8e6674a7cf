"""What a champion can still serve: without the LLMs that can no longer serve, and at the prices in force.

A refresh keeps map and vectors, so it claims nothing new about any LLM, and needs no statistical gate. It never adds an
LLM: one that returns comes back by the next challenger.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from routing.decisions import RoutedLLM
from routing.errors import named
from routing.router import Router

if TYPE_CHECKING:
    from registry.llms import LLM
    from registry.store import Registry

LEAST_COST_CHANGE = 0.01
"""Prices in force make a refresh due when they change the champion's expected cost by more than this share."""

_SHOWN = 5


@dataclass(frozen=True)
class Standing:
    """What is known today of one LLM of a champion.

    Attributes
    ----------
    refusal
        Why it can no longer serve; empty when it can.
    input_usd_per_mtok, output_usd_per_mtok
        The prices in force; None when none is known, and the champion's own then stay.
    """

    refusal: str = ""
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None

    @classmethod
    def of(cls, llm: LLM, on: date) -> Standing:
        """Read the standing of an LLM on a day; a price that waits for review changes nothing."""
        refusal = llm.refusal_to_serve(on)
        if llm.price is None:
            return cls(refusal)
        return cls(refusal, float(llm.price.input_usd_per_mtok), float(llm.price.output_usd_per_mtok))


@dataclass(frozen=True)
class DroppedLLM:
    """An LLM of the champion that can no longer serve, and the share of the representative prompts that it gets."""

    llm_key: str
    reason: str
    share: float


@dataclass(frozen=True)
class RepricedLLM:
    """An LLM whose price in force is not the champion's: USD per million tokens, input and output."""

    llm_key: str
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Refresh:
    """A champion as it can serve today.

    Attributes
    ----------
    champion
        The champion as it was published.
    router
        The champion without `dropped` and at the prices in force; None when nothing is left to serve.
    dropped, repriced
        What changed.
    cost_change
        How much more the champion's own choices cost at the prices in force, as a share; infinite when they were free.
    """

    champion: Router
    router: Router | None
    dropped: tuple[DroppedLLM, ...]
    repriced: tuple[RepricedLLM, ...]
    cost_change: float

    @property
    def is_due(self) -> bool:
        """Whether a refresh should replace the champion now."""
        return bool(self.dropped) or abs(self.cost_change) > LEAST_COST_CHANGE

    @property
    def dead_share(self) -> float:
        """Share of the representative prompts that the champion sends to LLMs that cannot serve."""
        return float(sum(one.share for one in self.dropped))

    @property
    def traffic(self) -> tuple[tuple[str, float], ...]:
        """Share of the representative prompts that each LLM of the refreshed router gets; none without one."""
        return () if self.router is None else tuple(zip(self.router.keys, traffic_of(self.router), strict=True))

    @property
    def cost_text(self) -> str:
        """How much more the champion's own choices cost at the prices in force, in words."""
        return "not free any more" if np.isinf(self.cost_change) else f"{self.cost_change:+.1%}"

    @property
    def reason(self) -> str:
        """What changed, in one line."""
        parts = [f"without {named((one.llm_key for one in self.dropped), _SHOWN)}"] if self.dropped else []
        if abs(self.cost_change) > LEAST_COST_CHANGE:
            changed = "which were free" if np.isinf(self.cost_change) else f"expected cost {self.cost_text}"
            parts.append(
                f"at the prices in force of {named((one.llm_key for one in self.repriced), _SHOWN)} ({changed})"
            )
        return " and ".join(parts) or "nothing changed"


def refresh_of(champion: Router, standings: Mapping[str, Standing]) -> Refresh:
    """Return a champion as it can serve under the present standings of its LLMs.

    Parameters
    ----------
    champion
        The router that serves.
    standings
        By LLM key; an LLM without one is unknown to the registry and cannot serve.
    """
    known = {key: standings.get(key, Standing("unknown to the registry")) for key in champion.keys}
    shares = dict(zip(champion.keys, traffic_of(champion), strict=True))
    dropped = tuple(DroppedLLM(key, one.refusal, shares[key]) for key, one in known.items() if one.refusal)
    priced = [
        llm
        if (now := known[llm.key]).input_usd_per_mtok is None or now.output_usd_per_mtok is None
        else replace(llm, input_usd_per_mtok=now.input_usd_per_mtok, output_usd_per_mtok=now.output_usd_per_mtok)
        for llm in champion.llms
    ]
    pairs = [(before, _prices(before), _prices(after)) for before, after in zip(champion.llms, priced, strict=True)]
    repriced = tuple(
        RepricedLLM(llm.key, old, new) for llm, old, new in pairs if old != new and not known[llm.key].refusal
    )
    kept = tuple(llm for llm in priced if not known[llm.key].refusal)
    if not kept:
        return Refresh(champion, None, dropped, (), 0.0)
    # What cannot serve costs nothing either way: only the price of what stays makes a refresh due.
    by_key = {llm.key: llm for llm in kept}
    at_new_prices = replace(champion, llms=tuple(by_key.get(llm.key, llm) for llm in champion.llms))
    router = replace(at_new_prices, llms=kept) if dropped or repriced else champion
    return Refresh(champion, router, dropped, repriced, _cost_change(champion, at_new_prices) if repriced else 0.0)


def refresh_today(registry: Registry, champion: Router, on: date, *, without: Collection[str] = ()) -> Refresh:
    """Return a champion as it can serve on a day, by what the registry knows of its LLMs, and without some of them."""
    wanted = set(champion.keys)
    standings = {llm.key: Standing.of(llm, on) for llm in registry.llms.all() if llm.key in wanted}
    missing = {key: replace(standings[key], refusal="its endpoint does not know it") for key in wanted & {*without}}
    return refresh_of(champion, standings | missing)


def traffic_of(router: Router) -> list[float]:
    """Return the share of the representative prompts that each of a router's LLMs gets, in its order."""
    errors, costs = router.expected_on_calibration()
    if not len(errors):
        return [1 / len(router.keys)] * len(router.keys)
    counts = np.bincount(_choices(router, errors, costs), minlength=len(router.keys))
    return (counts / counts.sum()).tolist()


def _prices(llm: RoutedLLM) -> tuple[float, float]:
    return llm.input_usd_per_mtok, llm.output_usd_per_mtok


def _choices(router: Router, errors: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argmin(np.clip(errors, 0, 1) + router.cost_weight * costs, axis=1)


def _cost_change(before: Router, after: Router) -> float:
    """Return how much more the choices of one router cost at the prices of the other, as a share."""
    errors, costs = before.expected_on_calibration()
    _, new_costs = after.expected_on_calibration()
    if not len(errors):
        changes = [
            abs(new / old - 1) if old else float("inf")
            for one, other in zip(before.llms, after.llms, strict=True)
            for old, new in zip(_prices(one), _prices(other), strict=True)
            if old != new
        ]
        return max(changes, default=0.0)
    rows, chosen = np.arange(len(errors)), _choices(before, errors, costs)
    paid, would_pay = float(costs[rows, chosen].sum()), float(new_costs[rows, chosen].sum())
    if paid == 0:
        return float("inf") if would_pay else 0.0
    return would_pay / paid - 1
