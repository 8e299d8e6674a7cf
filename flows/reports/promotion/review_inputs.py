"""The inputs of a promotion report: two routers, the recorded answers, and what the registry says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flows.gate.measure import GateOutcomes
from flows.gate.verdict import GateCheck
from flows.gate.worth import Worth
from flows.reports.promotion.evidence import Version
from flows.reports.promotion.particulars import NewLLM, NightSpend
from registry.outcomes import Readability
from registry.prompts import Prompt
from routing.baselines import ZeroRouter
from routing.router import Router


class Completions(Protocol):
    """Reads the completions of an LLM."""

    def __call__(self, llm_key: str, prompts: Sequence[Prompt]) -> Mapping[str, str]:
        """Return the kept completions by prompt digest."""
        ...


@dataclass(frozen=True, eq=False)
class Contender:
    """A router with what the registry says about it."""

    router: Router
    number: int
    made_at: datetime
    as_of: date


@dataclass(frozen=True, eq=False)
class ReviewInputs:
    """Everything that the evidence is computed from; the same inputs give the same evidence.

    Attributes
    ----------
    challenger, champion
        The routers; no champion before the first promotion.
    passed, checks, metrics, worth
        What the gate found, as stored with the promotion; no worth before it was measured.
    outcomes
        Outcomes of the LLMs of both routers on the gate prompts for which all of them have a score.
    gate_prompts
        The prompts of the rows of `outcomes`.
    known_prompts, known_embeddings
        The prompts that clusters are shown with, and ``(n, dim)`` float32; hidden prompts are not among them.
    champion_embeddings
        The same prompts for a champion with another embedder; None otherwise.
    zero_router
        The prompt-blind baseline over the challenger's LLMs; None without a common representative prompt.
    completions
        Reads the completions of an LLM.
    new_llms
        What is known of the LLMs that only the challenger has; `share` is not read.
    spend, trend
        Spend of the night, and the routers so far.
    stale_prices
        LLMs of the challenger that no catalog has listed for more than a week.
    readability
        By LLM key, how many of its answers to the gate prompts could be read.
    graders
        Grader label and how many gate prompts it grades.
    is_recorded
        Whether the answers are recorded ones, from the sandbox.
    facts
        Name and content of what all this rests on.
    refresh
        What changed, when it puts forward the champion itself as it can serve; empty for a challenger.
    """

    challenger: Contender
    champion: Contender | None
    passed: bool
    checks: tuple[GateCheck, ...]
    metrics: Mapping[str, float]
    worth: Worth | None
    outcomes: GateOutcomes
    gate_prompts: tuple[Prompt, ...]
    known_prompts: tuple[Prompt, ...]
    known_embeddings: NDArray[np.float32]
    champion_embeddings: NDArray[np.float32] | None
    zero_router: ZeroRouter | None
    completions: Completions
    new_llms: tuple[NewLLM, ...]
    spend: NightSpend | None
    trend: tuple[Version, ...]
    stale_prices: tuple[str, ...]
    readability: Mapping[str, Readability]
    graders: tuple[tuple[str, int], ...]
    is_recorded: bool
    facts: tuple[tuple[str, str], ...]
    refresh: str = ""
    undecided: str = ""

    @property
    def new_keys(self) -> tuple[str, ...]:
        """The LLMs that only the challenger has; none without a champion."""
        if self.champion is None:
            return ()
        known = set(self.champion.router.keys)
        return tuple(key for key in self.challenger.router.keys if key not in known)
