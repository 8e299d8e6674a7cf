"""Absence: a catalog lists an LLM that its endpoint does not know.

Tonight's router does without it. On the second night within a week it is withdrawn, until a person accepts it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from flows.endpoints.kinds import KIND
from flows.profiling.results import Quarantine
from registry.ledger import LedgerEvent

if TYPE_CHECKING:
    from flows.night.context import Night
    from flows.profiling.results import CanaryOutcome, ProfileOutcome

ACTOR = "night"
_NOTED = "llm:absence:noted"
_KIND = "not_found"
_MEMORY = timedelta(days=7)


@dataclass(frozen=True)
class Absence:
    """An LLM that its endpoint does not know, and whether it is withdrawn for that."""

    llm_key: str
    is_withdrawn: bool


def note_absences(
    night: Night, profiles: Sequence[ProfileOutcome], canaries: Sequence[CanaryOutcome]
) -> tuple[Absence, ...]:
    """Note in the ledger whom tonight's calls did not find, and withdraw whom an earlier night did not find either."""
    missed = {found.llm_key for found in (*profiles, *canaries) if found.stopped_for == _KIND}
    absences = []
    for llm_key in sorted(missed | absent_tonight(night)):
        nights = [_night_of(event) for event in night.registry.ledger.events(event=_NOTED, subject=llm_key)]
        if night.as_of not in nights:
            payload = {"night": night.as_of.isoformat()}
            reason = "its endpoint does not know it"
            night.registry.ledger.append(
                _NOTED, llm_key, actor=ACTOR, now=night.clock(), reason=reason, payload=payload
            )
        is_confirmed = any(timedelta(0) < night.as_of - one <= _MEMORY for one in nights)
        if is_confirmed and night.registry.llms.get(llm_key).status == "available":
            reason = "its endpoint did not know it on two nights within a week"
            night.registry.llms.set_status(llm_key, "withdrawn", reason, actor=ACTOR, now=night.clock())
        absences.append(Absence(llm_key, is_confirmed))
    return tuple(absences)


def absent_tonight(night: Night) -> set[str]:
    """Give the keys of the LLMs that tonight's calls did not find, those of a killed attempt of this night included."""
    noted = night.registry.ledger.events(event=_NOTED)
    return {event.subject for event in noted if _night_of(event) == night.as_of}


def _night_of(event: LedgerEvent) -> date:
    return date.fromisoformat(json.loads(event.payload_json)["night"])


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
