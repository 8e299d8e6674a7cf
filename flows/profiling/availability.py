"""Availability: whether the endpoint of a listed LLM knows it, and answers with it and not with another LLM.

An LLM that its endpoint does not know is left out of tonight's router. On the second night within a week, or at once
when the endpoint's own list lacks it too, it is withdrawn, until a person accepts it again. An LLM in whose place
another one answered, or that answers nothing many times in a row, is quarantined at once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from flows.endpoints.kinds import EMPTY, SUBSTITUTED
from flows.profiling.results import ACTOR, Quarantine
from registry.ledger import LedgerEvent

if TYPE_CHECKING:
    from flows.night.context import Night
    from flows.profiling.results import CanaryOutcome, ProfileOutcome

_NOTED = "llm:absence:noted"
_NOT_FOUND = "not_found"
_MEMORY = timedelta(days=7)
_REASONS = {SUBSTITUTED: "may not be what is served under its name", EMPTY: "does not answer"}


@dataclass(frozen=True)
class UnavailableLLM:
    """An LLM that its endpoint does not know, and whether it is withdrawn because of that."""

    llm_key: str
    is_withdrawn: bool


def note_unavailable(
    night: Night,
    profiles: Sequence[ProfileOutcome],
    canaries: Sequence[CanaryOutcome],
    unlisted: Collection[str] = (),
) -> tuple[UnavailableLLM, ...]:
    """Note in the ledger which LLMs tonight's calls did not find, and withdraw those of which that is confirmed.

    Parameters
    ----------
    night
        The night under way.
    profiles, canaries
        How the calls to every LLM ended.
    unlisted
        Keys of the LLMs that their endpoint's own list lacks tonight: that confirms what a single night's calls say.
    """
    missed = {found.llm_key for found in (*profiles, *canaries) if found.stopped_for == _NOT_FOUND}
    unavailable = []
    for llm_key in sorted(missed | unavailable_tonight(night)):
        nights = [_night_of(event) for event in night.registry.ledger.events(event=_NOTED, subject=llm_key)]
        if night.as_of not in nights:
            payload = {"night": night.as_of.isoformat()}
            reason = "its endpoint does not know it"
            night.registry.ledger.append(
                _NOTED, llm_key, actor=ACTOR, now=night.clock(), reason=reason, payload=payload
            )
        is_known_from_before = any(timedelta(0) < night.as_of - one <= _MEMORY for one in nights)
        is_confirmed = is_known_from_before or llm_key in unlisted
        if is_confirmed and night.registry.llms.get(llm_key).status == "available":
            reason = "its endpoint did not know it on two nights within a week"
            if not is_known_from_before:
                reason = "its endpoint neither knows it nor lists it any more"
            night.registry.llms.set_status(llm_key, "withdrawn", reason, actor=ACTOR, now=night.clock())
        unavailable.append(UnavailableLLM(llm_key, is_confirmed))
    return tuple(unavailable)


def unavailable_tonight(night: Night) -> set[str]:
    """Return the keys of the LLMs that calls of this night did not find, including those of a killed attempt."""
    noted = night.registry.ledger.events(event=_NOTED)
    return {event.subject for event in noted if _night_of(event) == night.as_of}


def quarantine_unanswered(night: Night, outcomes: Iterable[ProfileOutcome | CanaryOutcome]) -> tuple[Quarantine, ...]:
    """Quarantine every LLM in whose place another one, or nothing, answered tonight; leave a person's decision alone.

    Parameters
    ----------
    night
        The night under way.
    outcomes
        How the profile, or the canaries, of every LLM ended.
    """
    found = []
    for outcome in outcomes:
        if outcome.stopped_for not in _REASONS or night.registry.llms.get(outcome.llm_key).status_reason is not None:
            continue
        reason = f"{_REASONS[outcome.stopped_for]}: {outcome.stopped_by}"
        night.registry.llms.set_status(outcome.llm_key, "quarantined", reason, actor=ACTOR, now=night.clock())
        found.append(Quarantine(outcome.llm_key, reason))
    return tuple(found)


def _night_of(event: LedgerEvent) -> date:
    return date.fromisoformat(json.loads(event.payload_json)["night"])
