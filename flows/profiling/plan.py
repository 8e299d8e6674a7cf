"""The plan of a night: what would be asked and what that would cost, before anything is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from types import MappingProxyType

import numpy as np

from registry.errors import NotFound
from registry.llms import LLM, Price
from registry.prompts import Prompt
from routing.tokens import estimated_input_tokens

_CHAT_FRAME_TOKENS = 16
_EXPECTED_OUTPUT_TOKENS = 300
_PER_MTOK = Decimal(1_000_000)


@dataclass(frozen=True)
class PlannedProfile:
    """What one LLM would be asked tonight.

    Attributes
    ----------
    llm
        The LLM.
    prompts
        The prompts without a score yet.
    known
        How many prompts of the profile already have a score.
    expected_usd, worst_usd
        Cost in USD at the output length seen so far, and if every answer were as long as allowed.
    is_drifted
        Whether it is asked again because its canaries changed.
    """

    llm: LLM
    prompts: tuple[Prompt, ...]
    known: int
    expected_usd: Decimal
    worst_usd: Decimal
    is_drifted: bool = False

    @property
    def is_new(self) -> bool:
        """Whether the LLM has no score at all yet."""
        return self.known == 0 and not self.is_drifted


@dataclass(frozen=True)
class PlannedRegrades:
    """Stored answers of one LLM that a newer grader or a judge has yet to grade; the LLM is not asked again.

    Attributes
    ----------
    llm_key
        The LLM.
    by_rule, by_judge
        How many a rule grades at once, and how many the judge is asked about.
    kept
        How many keep their grade, because their text is not kept any more.
    worst_usd
        What judging could cost at most, in USD.
    unreadable
        In how many no answer could be read, so that the judge is asked to decide.
    """

    llm_key: str
    by_rule: int
    by_judge: int
    kept: int
    worst_usd: Decimal
    unreadable: int = 0


@dataclass(frozen=True)
class PlannedOrder:
    """By which order LLMs that are new are asked representative prompts; the fields are keys of stored JSON.

    Attributes
    ----------
    digest, strategy
        The order, and how it was made.
    n_asked, n_prompts
        How many prompts each is asked, and how many there are.
    n_known
        Number of LLMs whose answers the choice rests on.
    expected_loss
        By number of answers, the area that is expected to be lost against asking all; empty where nothing is known.
    """

    digest: str
    strategy: str
    n_asked: int
    n_prompts: int
    n_known: int = 0
    expected_loss: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NightPlan:
    """What a night would ask: LLMs that lack answers, LLMs that are deferred, and LLMs that cannot be routed to.

    Attributes
    ----------
    profiles
        The LLMs that lack answers.
    deferred
        New LLMs above the cap.
    unroutable
        LLMs that cannot be routed to.
    complete
        How many LLMs have nothing missing.
    canaries
        What complete LLMs are asked again.
    regrades
        What is graded again, without asking LLMs.
    worth
        By the key of a new LLM, what it may gain the router per prompt; the order of the profiles. Empty when nothing
        is expected of new LLMs: then those released earliest come first.
    order
        By which order LLMs that are new are asked; None when none of them is, or they are asked all prompts.
    """

    profiles: tuple[PlannedProfile, ...]
    deferred: tuple[LLM, ...]
    unroutable: tuple[LLM, ...]
    complete: int
    canaries: tuple[PlannedProfile, ...] = ()
    regrades: tuple[PlannedRegrades, ...] = ()
    worth: Mapping[str, float] = field(default_factory=dict)
    order: PlannedOrder | None = None

    @property
    def asks_judge_again(self) -> bool:
        """Whether stored answers wait for the judge."""
        return any(one.by_judge for one in self.regrades)

    @property
    def has_routable(self) -> bool:
        """Whether there is any LLM that can be routed to."""
        return bool(self.complete or self.profiles or self.deferred)

    @property
    def calls(self) -> int:
        """Number of calls, without canaries."""
        return sum(len(profile.prompts) for profile in self.profiles)

    @property
    def canary_calls(self) -> int:
        """Number of calls for canaries."""
        return sum(len(canary.prompts) for canary in self.canaries)

    @property
    def expected_usd(self) -> Decimal:
        """Cost at the output length seen so far, in USD."""
        return sum((planned.expected_usd for planned in (*self.profiles, *self.canaries)), Decimal(0))

    @property
    def worst_usd(self) -> Decimal:
        """Cost if every answer were as long as allowed, in USD."""
        return sum((planned.worst_usd for planned in (*self.profiles, *self.canaries)), Decimal(0))


def cost_usd(price: Price, input_tokens: int, output_tokens: int) -> Decimal:
    """Return the cost of a call in USD at a price."""
    return (price.input_usd_per_mtok * input_tokens + price.output_usd_per_mtok * output_tokens) / _PER_MTOK


def chosen(llms: Sequence[LLM], only: Collection[str] | None) -> list[LLM]:
    """Return the LLMs that are named by key or id; all of them when none is named.

    Raises
    ------
    NotFound
        A name belongs to no available LLM.
    """
    if not only:
        return list(llms)
    known = {name for llm in llms for name in (llm.key, llm.llm_id)}
    unknown = sorted(set(only) - known)
    if unknown:
        raise NotFound(
            f"No available LLM is called {', '.join(unknown)}.",
            unchanged="Nothing was called.",
            hint="uniroute llm list --status available",
        )
    return [llm for llm in llms if llm.key in only or llm.llm_id in only]


def plan_night(
    llms: Sequence[LLM],
    on: date,
    missing: Mapping[str, tuple[Prompt, ...]],
    n_prompts: Mapping[str, int],
    *,
    max_new: int,
    max_tokens: Mapping[str, int],
    seen_output_tokens: float | None,
    canaries: Mapping[str, tuple[Prompt, ...]] = MappingProxyType({}),
    drifted: Collection[str] = (),
    worth: Mapping[str, float] = MappingProxyType({}),
) -> NightPlan:
    """Plan what to ask.

    Parameters
    ----------
    llms
        Every LLM that is available, as the registry knows them.
    on
        The day of the night: an LLM that is retired by then is not asked.
    missing
        By LLM key, the prompts without a score.
    n_prompts
        By LLM key, how many prompts a complete profile has.
    max_new
        The most LLMs without any score that one night takes on: the first in order.
    max_tokens
        By endpoint, the maximum output tokens of one answer.
    seen_output_tokens
        Mean output tokens of the answers in the registry; ``None`` when there are none yet.
    canaries
        By LLM key, the prompts that complete LLMs are asked again.
    drifted
        Keys of the LLMs that are asked again because they changed.
    worth
        By the key of a new LLM, what it may gain the router. LLMs whose profile was begun come first, then new ones by
        this, then new ones of which nothing is expected. Empty: all in the order of their release.
    """
    routable = sorted(
        (llm for llm in llms if llm.is_routable_on(on)),
        key=lambda llm: (*_worth_order(llm, missing[llm.key], n_prompts[llm.key], worth), *_release_order(llm)),
    )
    profiles: list[PlannedProfile] = []
    deferred: list[LLM] = []
    taken = 0
    for llm in routable:
        prompts = missing[llm.key]
        if not prompts:
            continue
        known = n_prompts[llm.key] - len(prompts)
        is_new = known == 0 and llm.key not in drifted
        if is_new and taken >= max_new:
            deferred.append(llm)
            continue
        taken += is_new
        profile = _planned(llm, prompts, known, max_tokens[llm.endpoint], seen_output_tokens)
        profiles.append(replace(profile, is_drifted=llm.key in drifted))
    return NightPlan(
        profiles=tuple(profiles),
        deferred=tuple(deferred),
        unroutable=tuple(llm for llm in llms if not llm.is_routable_on(on)),
        complete=len(routable) - len(profiles) - len(deferred),
        canaries=tuple(
            _planned(llm, canaries[llm.key], n_prompts[llm.key], max_tokens[llm.endpoint], seen_output_tokens)
            for llm in routable
            if llm.key in canaries
        ),
        worth=dict(worth),
    )


def _planned(
    llm: LLM, prompts: tuple[Prompt, ...], known: int, max_tokens: int, seen_output_tokens: float | None
) -> PlannedProfile:
    assert llm.price is not None, "only a priced LLM is routable"
    of_texts = float(estimated_input_tokens([prompt.text for prompt in prompts]).sum(dtype=np.float64))
    input_tokens = round(of_texts) + _CHAT_FRAME_TOKENS * len(prompts)
    expected = round(seen_output_tokens if seen_output_tokens is not None else _EXPECTED_OUTPUT_TOKENS)
    return PlannedProfile(
        llm=llm,
        prompts=prompts,
        known=known,
        expected_usd=cost_usd(llm.price, input_tokens, min(expected, max_tokens) * len(prompts)),
        worst_usd=cost_usd(llm.price, input_tokens, max_tokens * len(prompts)),
    )


def _worth_order(
    llm: LLM, lacking: Collection[Prompt], n_prompts: int, worth: Mapping[str, float]
) -> tuple[int, float]:
    if not worth or len(lacking) < n_prompts:
        return 0, 0.0
    return (1, -worth[llm.key]) if llm.key in worth else (2, 0.0)


def _release_order(llm: LLM) -> tuple[str, str]:
    return (llm.released_at.isoformat() if llm.released_at is not None else "9999", llm.key)
