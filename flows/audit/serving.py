"""Which router served when, by whose decision and on what evidence: read from the ledger, checked against the rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.audit.moments import Span
from flows.audit.replay import ChampionPeriod, Replay, replay
from registry.errors import NotFound, RegistryCorrupt
from registry.promotion_records import NO_GATE
from routing.errors import InvalidInput

if TYPE_CHECKING:
    from registry.promotions import Promotion
    from registry.store import Registry

_VERIFY = "uniroute audit verify"


def trusted_replay(registry: Registry) -> Replay:
    """Play back the ledger after checking that it was not changed.

    Raises
    ------
    RegistryCorrupt
        The ledger was changed.
    """
    found = registry.ledger.verify()
    problem = found.problem
    if not problem:
        played = replay(registry.ledger.events())
        if not played.problems:
            return played
        problem = played.problems[0]
    raise RegistryCorrupt(
        f"The ledger cannot be trusted: {problem}.", unchanged="Nothing was answered from it.", hint=_VERIFY
    )


def served_in(registry: Registry, span: Span, now: datetime) -> tuple[dict[str, Any], ...]:
    """Return every router that served in a span, the earliest first, with the decision and its evidence.

    Raises
    ------
    InvalidInput
        The span is in the future.
    NotFound
        No router served in the span.
    RegistryCorrupt
        The ledger or the row of a promotion was changed.
    """
    if span.since_at > now:
        raise InvalidInput(f"{span.text} is in the future.", hint="uniroute router history")
    played = trusted_replay(registry)
    found = [
        (period, until)
        for period, until in zip(played.periods, _ends(played.periods), strict=True)
        if period.since_at <= span.until_at and (until is None or until > span.since_at)
    ]
    if not found:
        first = "there has been no champion yet"
        if played.periods:
            first = f"the first became champion at {_moment(played.periods[0].since_at)}"
        raise NotFound(f"No router served on {span.text}: {first}.", hint="uniroute router history")
    return tuple(_with_evidence(registry, played, period, until) for period, until in found)


def history(registry: Registry) -> tuple[dict[str, Any], ...]:
    """Return every change of the champion, the earliest first.

    Raises
    ------
    RegistryCorrupt
        The ledger was changed.
    """
    played = trusted_replay(registry)
    return tuple(
        _change(registry, period, until) | _gate_facts(_deciding(registry, played, period)) | {"replaced": replaced}
        for period, until, replaced in zip(played.periods, _ends(played.periods), _before(played.periods), strict=True)
    )


def _gate_facts(deciding: Promotion) -> dict[str, Any]:
    """Return whether the gate passed a router, and its verdict; None where the router never reached the gate."""
    is_judged = deciding.gate.details_json != NO_GATE
    return {"gate_passed": deciding.gate.passed, "verdict": deciding.gate.verdict if is_judged else None}


def _ends(periods: Sequence[ChampionPeriod]) -> list[datetime | None]:
    return [*(period.since_at for period in periods[1:]), *([None] if periods else [])]


def _before(periods: Sequence[ChampionPeriod]) -> list[str | None]:
    return [None, *(period.router_digest for period in periods[:-1])][: len(periods)]


def _change(registry: Registry, period: ChampionPeriod, until: datetime | None) -> dict[str, Any]:
    record = registry.routers.get(period.router_digest)
    return {
        "version": record.mlflow_version,
        "digest": record.digest,
        "since": _moment(period.since_at),
        "until": None if until is None else _moment(until),
        "kind": period.kind,
        "actor": period.actor,
        "reason": period.reason,
        "promotion": period.promotion_id,
        "ledger_event": period.event_number,
    }


def _with_evidence(
    registry: Registry, played: Replay, period: ChampionPeriod, until: datetime | None
) -> dict[str, Any]:
    record = registry.routers.get(period.router_digest)
    run = registry.runs.get(record.run_id)
    deciding = _deciding(registry, played, period)
    details = json.loads(deciding.gate.details_json)
    return _change(registry, period, until) | {
        "allowed_by": {
            "requested_by": deciding.requested_by,
            "requested_at": _moment(deciding.requested_at),
            "decided_by": deciding.decided_by,
            "decided_at": None if deciding.decided_at is None else _moment(deciding.decided_at),
        },
        "evidence": {
            "promotion": deciding.id,
            **_gate_facts(deciding),
            "gate_checks": details.get("checks", []),
            "gate_digest": deciding.gate.digest,
            "metrics": dict(record.metrics),
            "report_digest": deciding.report_digest,
            "run": run.key,
            "as_of": run.as_of.isoformat(),
            "settings_hash": run.settings_hash,
            "prompt_set": record.prompt_set_digest,
            "embedder": record.embedder_key,
            "cluster_map": record.cluster_map_digest,
            "llms": list(record.llm_keys),
        },
    }


def _deciding(registry: Registry, played: Replay, period: ChampionPeriod) -> Promotion:
    """Return the promotion that put the router to the gate; for a rollback, the router's last one before it.

    Raises
    ------
    RegistryCorrupt
        The row is not what the ledger says.
    """
    number = period.promotion_id
    if period.kind == "rollback":
        gated = [
            one
            for one, trail in played.trails.items()
            if one < number
            and (trail.router_digest, trail.kind, trail.status) == (period.router_digest, "promotion", "applied")
        ]
        number = max(gated, default=number)
    found, trail = registry.promotions.get(number), played.trails[number]
    if trail.gate_digest not in (None, found.gate.digest) or found.report_digest != trail.report_digest:
        raise RegistryCorrupt(
            f"The evidence of promotion {number} is not what the ledger recorded.",
            unchanged="Nothing was answered from it.",
            hint=_VERIFY,
        )
    return found


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
