"""The closing state of a night: spend, pending promotions, champion, ledger integrity, and conflicting settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flows.reports.usage import ceilings_passed
from flows.versions.champion_state import champion_state
from registry.charges import EndpointSpend, PurposeSpend
from registry.runs import Run
from registry.store import Registry

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.outcomes import UsageFacts

_NIGHTS_SHOWN = 7
_LOOKED_BACK = 30
# The sections that shape what is asked, of whom, and what results; budgets and paces are often set for one night only.
_RULES = ("prompts", "embedder", "routing", "judge", "catalog", "endpoint", "gate")


@dataclass(frozen=True)
class ClosingState:
    """The state of registry, ledger and disk at the end of a night.

    Attributes
    ----------
    by_endpoint, by_purpose
        Spend of the night in all its attempts.
    nightly_usd
        USD spent by the last nights, this one last.
    waiting_promotion
        Number of the promotion that waits for a decision; None when none does.
    champion_version, champion_since_at
        MLflow's version of the champion, and since when it serves; None before the first, and the version also while
        it is not in MLflow.
    ledger_events
        Number of the ledger's events.
    ledger_problem
        What is wrong with the ledger; empty when its chain is unbroken.
    free_bytes
        Free space on the disk of the home folder.
    settings_conflict
        The other deployment's night that alternates with this one under other settings; empty when there is none.
    ceilings_passed
        Which ceilings of the budget the night ended above, in lines.
    champion_warning
        That the champion rests on LLMs that cannot serve, and the share of prompts that goes to them; else empty.
    """

    by_endpoint: tuple[EndpointSpend, ...]
    by_purpose: tuple[PurposeSpend, ...]
    nightly_usd: tuple[Decimal, ...]
    waiting_promotion: int | None
    champion_version: int | None
    champion_since_at: datetime | None
    ledger_events: int
    ledger_problem: str
    free_bytes: int
    settings_conflict: str = ""
    ceilings_passed: tuple[str, ...] = ()
    champion_warning: str = ""


def closing_state(night: Night, usage: Mapping[str, UsageFacts]) -> ClosingState:
    """Read the closing state of a night; `usage` holds, by LLM key, the facts on tonight's answers."""
    registry = night.registry
    spend = registry.outcomes.spend(night.run)
    nights = registry.runs.list(limit=_NIGHTS_SHOWN)
    waiting = registry.promotions.list(status="requested", limit=1)
    champion = registry.routers.aliases().champion
    made = [one for one in registry.promotions.list(status="applied") if one.router_digest == champion]
    ledger = registry.ledger.verify()
    return ClosingState(
        by_endpoint=spend.by_endpoint,
        by_purpose=spend.by_purpose,
        nightly_usd=tuple(registry.outcomes.spend(run).total_usd for run in reversed(nights)),
        waiting_promotion=waiting[0].id if waiting else None,
        champion_version=None if champion is None else registry.routers.get(champion).mlflow_version,
        champion_since_at=max((one.applied_at for one in made if one.applied_at is not None), default=None),
        ledger_events=ledger.n_events,
        ledger_problem="" if ledger.is_intact else ledger.problem,
        free_bytes=shutil.disk_usage(night.settings.home).free,
        settings_conflict=settings_conflict(registry, night.run),
        ceilings_passed=ceilings_passed(night, usage),
        champion_warning="" if (state := champion_state(registry, night.as_of)) is None else state.warning,
    )


def settings_conflict(registry: Registry, run: Run) -> str:
    """Return which night has alternated with a run's settings under settings of its own; empty when none has.

    Settings that were changed once and stay are no conflict: the earlier ones do not return.

    Parameters
    ----------
    registry
        The registry that all nights share.
    run
        The night to check.

    Returns
    -------
    str
        The other night's key, host, and the sections of the settings that differ.
    """
    own = _rules(run)
    others: list[tuple[Run, list[str]]] = []
    for before in registry.runs.list(limit=_LOOKED_BACK):
        if before.lease_number >= run.lease_number:
            continue
        other_rules = _rules(before)
        differing = sorted(name for name in _RULES if own.get(name) != other_rules.get(name))
        if differing:
            others.append((before, differing))
        elif others:
            other, sections = others[0]
            return f"{other.key} on {other.host} ran with a different {' and '.join(f'[{name}]' for name in sections)}"
    return ""


def _rules(run: Run) -> dict[str, Any]:
    content = json.loads(run.settings_json)
    return {name: content.get(name) for name in _RULES}
