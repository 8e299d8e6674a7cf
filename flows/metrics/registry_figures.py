"""What the registry says, as samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from flows.endpoints import kinds
from flows.endpoints.kinds import FAILURE_RULES
from flows.metrics.listed import MOST_ENDPOINTS, OTHER, Samples
from flows.text import sanitize
from registry.db.tables import LLM_STATUSES, RUN_STATUSES
from registry.monitoring import MonitoringSnapshot
from registry.runs import Run

KINDS = frozenset({*FAILURE_RULES, kinds.SUBSTITUTED, "grading", "judging"})
"""Every kind of failure that a night can write; anything else counts as `OTHER`."""


def add_registry_figures(samples: Samples, vitals: MonitoringSnapshot) -> None:
    """Note everything that the registry's vital signs say."""
    samples.put("read_timestamp_seconds", vitals.moment.timestamp())
    if vitals.run is not None:
        _note_night(samples, vitals, vitals.run)
    _note_last_success(samples, vitals)
    _note_endpoints(samples, vitals)
    _note_lease(samples, vitals)
    samples.put("outbox_pending", vitals.outbox.count)
    samples.put("outbox_age_seconds", _age(vitals, vitals.outbox.since_at))
    samples.put("versions_unpublished", vitals.unpublished)
    samples.put("promotions_waiting", vitals.reviews.count)
    samples.put("promotions_waiting_age_seconds", _age(vitals, vitals.reviews.since_at))
    samples.put("ledger_events", vitals.ledger_events)
    if vitals.champion is not None:
        samples.put("champion_version", vitals.champion.version)
        samples.put("champion_age_seconds", _age(vitals, vitals.champion.since_at))


def _note_night(samples: Samples, vitals: MonitoringSnapshot, run: Run) -> None:
    for status in RUN_STATUSES:
        samples.put("night_status", run.status == status, status)
    samples.put("night_attempt", run.attempt)
    samples.put("night_age_seconds", _age(vitals, run.started_at))
    ended_at = run.finished_at or vitals.moment
    samples.put("night_duration_seconds", max(0.0, (ended_at - run.started_at).total_seconds()))
    samples.put("nights_of_day", vitals.runs_of_day)
    samples.put("night_budget_usd", _figure(_parsed(run.settings_json), "budget", "night_usd"))
    samples.put("night_planned_calls", vitals.planned_calls)
    samples.put("night_missing_calls", vitals.missing_calls)


def _note_last_success(samples: Samples, vitals: MonitoringSnapshot) -> None:
    """Note what the last night that came to its end wrote down for later."""
    summary: dict[str, Any] = {}
    if vitals.finished is not None:
        samples.put("night_success_age_seconds", _age(vitals, vitals.finished.finished_at))
        summary = _parsed(vitals.finished.summary_json)
        samples.put("night_attention", len(summary.get("attention") or ()))
        samples.put("night_free_bytes", _figure(summary, "aftermath", "free_bytes"))
    problem = (summary.get("aftermath") or {}).get("ledger_problem")
    samples.put("ledger_intact", vitals.is_head_whole and not problem)
    drifted = {str(drift).partition(" ")[0] for drift in (summary.get("router") or {}).get("alias_drifts", ())}
    moved = {name for name, is_drifted in vitals.aliases_noted.items() if is_drifted}
    samples.put("alias_drifts", len((drifted | moved) - (set(vitals.aliases_noted) - moved)))


def _note_endpoints(samples: Samples, vitals: MonitoringSnapshot) -> None:
    label = _bounded([*(one.endpoint for one in vitals.endpoints), *(one.endpoint for one in vitals.llms)])
    for one in vitals.endpoints:
        samples.put("night_calls", one.calls, label(one.endpoint))
        samples.put("night_spent_usd", float(one.spent_usd), label(one.endpoint))
        samples.put("night_reserved_usd", float(one.reserved_usd), label(one.endpoint))
    for found in vitals.failures:
        kind = found.kind if found.kind in KINDS else OTHER
        samples.put("night_failures", found.count, label(found.endpoint), kind)
    for known in vitals.llms:
        status = known.status if known.status in LLM_STATUSES else OTHER
        samples.put("llms", known.count, label(known.endpoint), status)


def _note_lease(samples: Samples, vitals: MonitoringSnapshot) -> None:
    held = vitals.lease
    samples.put("lease_number", held.number)
    samples.put("lease_held", held.run_id is not None)
    samples.put("parts_alive", vitals.parts_alive)
    samples.put("parts_silent", vitals.parts_silent)
    if held.run_id is None:
        return
    samples.put("lease_held_seconds", _age(vitals, held.held_since_at))
    samples.put("lease_heartbeat_age_seconds", _age(vitals, held.heartbeat_at))
    if held.expires_at is not None:
        samples.put("lease_expires_in_seconds", (held.expires_at - vitals.moment).total_seconds())


def _age(vitals: MonitoringSnapshot, since_at: datetime | None) -> float | None:
    return None if since_at is None else max(0.0, (vitals.moment - since_at).total_seconds())


def _parsed(text: str | None) -> dict[str, Any]:
    """Read what a run wrote down; what cannot be read has no figures."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _figure(content: dict[str, Any], section: str, name: str) -> float | None:
    value = (content.get(section) or {}).get(name)
    return None if value is None else float(value)


def _bounded(names: Iterable[str]) -> Callable[[str], str]:
    """Give the label of an endpoint: its name made inert, or `OTHER` for all beyond the first so many."""
    known = sorted({sanitize(name) for name in names})[:MOST_ENDPOINTS]

    def label(name: str) -> str:
        shown = sanitize(name)
        return shown if shown in known else OTHER

    return label
