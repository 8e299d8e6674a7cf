"""Substitution: an endpoint that answers with another LLM than the one asked for has told us nothing about that one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flows.memorised import ACTOR, Quarantine

if TYPE_CHECKING:
    from flows.canary import CanaryOutcome
    from flows.night import Night, ProfileOutcome

KIND = "substituted"
"""The failure of an outcome whose answer came from another LLM."""


def quarantine_substituted(night: Night, endings: Iterable[ProfileOutcome | CanaryOutcome]) -> tuple[Quarantine, ...]:
    """Quarantine every LLM in whose place another one answered tonight; a person's decision is not undone.

    Parameters
    ----------
    night
        The night under way.
    endings
        How asking every LLM ended.
    """
    found = []
    for ending in endings:
        if ending.stopped_for != KIND or night.registry.llms.get(ending.llm_key).status_reason is not None:
            continue
        reason = f"may not be what is served under its name: {ending.stopped_by}"
        night.registry.llms.set_status(ending.llm_key, "quarantined", reason, actor=ACTOR, now=night.clock())
        found.append(Quarantine(ending.llm_key, reason))
    return tuple(found)
