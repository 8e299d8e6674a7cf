"""The registry's figures as samples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from flows.endpoints import kinds
from flows.endpoints.kinds import FAILURE_RULES
from flows.metrics.listed import MOST_ENDPOINTS, OTHER, Samples
from flows.reports.night_record import NightRecord, read_night
from flows.text import sanitize
from registry.db.tables import LLM_STATUSES, RUN_STATUSES
from registry.monitoring import MonitoringSnapshot
from registry.runs import Run

KINDS = frozenset({*FAILURE_RULES, kinds.SUBSTITUTED, "grading", "judging"})
"""Every kind of failure that a night can record; anything else counts as `OTHER`."""


def add_registry_figures(samples: Samples, snapshot: MonitoringSnapshot) -> None:
    """Note every figure of a snapshot of the registry."""
    samples.put("read_timestamp_seconds", snapshot.moment.timestamp())
    if snapshot.run is not None:
        _note_night(samples, snapshot, snapshot.run)
    _note_last_success(samples, snapshot)
    _note_endpoints(samples, snapshot)
    _note_lease(samples, snapshot)
    samples.put("outbox_pending", snapshot.outbox.count)
    samples.put("outbox_age_seconds", _age(snapshot, snapshot.outbox.since_at))
    samples.put("versions_unpublished", snapshot.unpublished)
    samples.put("promotions_waiting", snapshot.reviews.count)
    samples.put("promotions_undecided", snapshot.undecided)
    samples.put("promotions_waiting_age_seconds", _age(snapshot, snapshot.reviews.since_at))
    samples.put("ledger_events", snapshot.ledger_events)
    if snapshot.champion is not None:
        samples.put("champion_version", snapshot.champion.version)
        samples.put("champion_age_seconds", _age(snapshot, snapshot.champion.since_at))


def _note_night(samples: Samples, snapshot: MonitoringSnapshot, run: Run) -> None:
    for status in RUN_STATUSES:
        samples.put("night_status", run.status == status, status)
    samples.put("night_attempt", run.attempt)
    samples.put("night_age_seconds", _age(snapshot, run.started_at))
    ended_at = run.finished_at or snapshot.moment
    samples.put("night_duration_seconds", max(0.0, (ended_at - run.started_at).total_seconds()))
    samples.put("nights_of_day", snapshot.runs_of_day)
    samples.put("night_budget_usd", _figure(_parsed(run.settings_json), "budget", "night_usd"))
    samples.put("night_planned_calls", snapshot.planned_calls)
    samples.put("night_missing_calls", snapshot.missing_calls)


def _note_last_success(samples: Samples, snapshot: MonitoringSnapshot) -> None:
    """Note what the last night that ended well recorded."""
    record = NightRecord()
    if snapshot.finished is not None:
        samples.put("night_success_age_seconds", _age(snapshot, snapshot.finished.finished_at))
        record = _record(snapshot.finished)
        samples.put("night_attention", len(record.attention))
        samples.put("llms_drifted", len(record.drifted))
        samples.put("night_free_bytes", None if record.closing is None else record.closing.free_bytes)
    problem = record.closing is not None and record.closing.ledger_problem
    samples.put("ledger_intact", snapshot.is_head_whole and not problem)
    drifted = {drift.partition(" ")[0] for drift in record.router.alias_drifts} if record.router is not None else set()
    moved = {name for name, is_drifted in snapshot.aliases_noted.items() if is_drifted}
    samples.put("alias_drifts", len((drifted | moved) - (set(snapshot.aliases_noted) - moved)))


def _note_endpoints(samples: Samples, snapshot: MonitoringSnapshot) -> None:
    label = _bounded([*(one.endpoint for one in snapshot.endpoints), *(one.endpoint for one in snapshot.llms)])
    for one in snapshot.endpoints:
        samples.put("night_calls", one.calls, label(one.endpoint))
        samples.put("night_spent_usd", float(one.spent_usd), label(one.endpoint))
        samples.put("night_reserved_usd", float(one.reserved_usd), label(one.endpoint))
    for found in snapshot.failures:
        kind = found.kind if found.kind in KINDS else OTHER
        samples.put("night_failures", found.count, label(found.endpoint), kind)
    for known in snapshot.llms:
        status = known.status if known.status in LLM_STATUSES else OTHER
        samples.put("llms", known.count, label(known.endpoint), status)


def _note_lease(samples: Samples, snapshot: MonitoringSnapshot) -> None:
    held = snapshot.lease
    samples.put("lease_number", held.number)
    samples.put("lease_held", held.run_id is not None)
    samples.put("parts_alive", snapshot.parts_alive)
    samples.put("parts_silent", snapshot.parts_silent)
    if held.run_id is None:
        return
    samples.put("lease_held_seconds", _age(snapshot, held.held_since_at))
    samples.put("lease_heartbeat_age_seconds", _age(snapshot, held.heartbeat_at))
    if held.expires_at is not None:
        samples.put("lease_expires_in_seconds", (held.expires_at - snapshot.moment).total_seconds())


def _age(snapshot: MonitoringSnapshot, since_at: datetime | None) -> float | None:
    return None if since_at is None else max(0.0, (snapshot.moment - since_at).total_seconds())


def _record(run: Run) -> NightRecord:
    """Return what a night stored; what cannot be read has no figures."""
    try:
        return read_night(run)
    except ValueError:
        return NightRecord()


def _parsed(text: str | None) -> dict[str, Any]:
    """Read the JSON that a run recorded; text that cannot be read has no figures."""
    try:
        content = json.loads(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _figure(content: dict[str, Any], section: str, name: str) -> float | None:
    value = (content.get(section) or {}).get(name)
    return None if value is None else float(value)


def _bounded(names: Iterable[str]) -> Callable[[str], str]:
    """Return how to label an endpoint: by its sanitized name, or `OTHER` beyond the first `MOST_ENDPOINTS`."""
    known = sorted({sanitize(name) for name in names})[:MOST_ENDPOINTS]

    def label(name: str) -> str:
        shown = sanitize(name)
        return shown if shown in known else OTHER

    return label
