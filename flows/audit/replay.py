"""The ledger played back: where the aliases point, who was champion when, and how every promotion ended.

The registry's rows must say the same; where they differ, one of the two was changed without the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from registry.promotion_rows import REFRESHED

if TYPE_CHECKING:
    from registry.ledger import LedgerEvent
    from registry.promotions import Promotion
    from registry.store import Registry

_MOVED = "router:alias:moved"
_DECIDED = ("approved", "rejected", "superseded", "failed")
_SHOWN = 12


@dataclass(frozen=True)
class ChampionPeriod:
    """The period of a router as champion; it ends where the next one begins.

    Attributes
    ----------
    router_digest
        The router.
    since_at
        Beginning, in UTC.
    promotion_id
        The promotion or rollback that made it champion.
    kind
        ``promotion``, ``refresh`` or ``rollback``.
    actor, reason
        The person or night that made it champion, and their reason.
    event_number
        Number of the ledger's event.
    """

    router_digest: str
    since_at: datetime
    promotion_id: int
    kind: str
    actor: str
    reason: str
    event_number: int


@dataclass
class PromotionTrail:
    """What the ledger's events say about one promotion."""

    router_digest: str
    kind: str
    expected_champion: str | None
    gate_passed: bool
    gate_digest: str | None
    report_digest: str | None
    status: str
    requested_by: str | None = None
    requested_at: datetime | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    applied_at: datetime | None = None
    reason: str = ""


@dataclass
class Replay:
    """The state after replaying the ledger.

    Attributes
    ----------
    aliases
        Router digest by alias.
    periods
        The champions' periods, in order.
    trails
        Promotions by number.
    problems
        Events that contradict earlier ones, one line each.
    """

    aliases: dict[str, str] = field(default_factory=dict)
    periods: list[ChampionPeriod] = field(default_factory=list)
    trails: dict[int, PromotionTrail] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def replay(events: Iterable[LedgerEvent]) -> Replay:
    """Play back the ledger, from its first event."""
    found = Replay()
    for event in events:
        source, _, action = event.event.rpartition(":")
        if event.event == _MOVED:
            facts = json.loads(event.payload_json)
            _move(found, event, {facts["alias"]: [facts["before"], facts["after"]]})
        elif event.event == REFRESHED:
            _follow(found, event, "applied", json.loads(event.payload_json))
        elif source in ("router:promotion", "router:rollback"):
            _follow(found, event, action, json.loads(event.payload_json))
    return found


def _follow(found: Replay, event: LedgerEvent, action: str, facts: dict[str, Any]) -> None:
    """Apply one event to the trail of its promotion."""
    number = facts["promotion"]
    stated = PromotionTrail(
        event.subject,
        facts["kind"],
        facts["expected_champion"],
        facts["gate_passed"],
        facts.get("gate_digest"),
        facts["report_digest"],
        action,
    )
    trail = found.trails.setdefault(number, stated)
    trail.gate_digest = trail.gate_digest or stated.gate_digest
    fixed = ("router_digest", "kind", "expected_champion", "gate_passed")
    for name in (*fixed, "gate_digest") if stated.gate_digest is not None else fixed:
        if getattr(trail, name) != getattr(stated, name):
            found.problems.append(f"event {event.number} names another {name.replace('_', ' ')} of promotion {number}")
    trail.status, trail.report_digest, trail.reason = action, facts["report_digest"], event.reason
    if action == "requested" or trail.requested_at is None:
        trail.requested_by, trail.requested_at = event.actor, event.at
    if action in _DECIDED or (action == "applied" and trail.decided_by is None):
        trail.decided_by, trail.decided_at = event.actor, event.at
    if action == "applied":
        trail.applied_at = event.at
        moves = facts["aliases"]
        _move(found, event, moves)
        kind = "refresh" if event.event == REFRESHED else facts["kind"]
        period = ChampionPeriod(moves["champion"][1], event.at, number, kind, event.actor, event.reason, event.number)
        found.periods.append(period)


def _move(found: Replay, event: LedgerEvent, moves: dict[str, list[str | None]]) -> None:
    for alias, (before, after) in moves.items():
        known = found.aliases.get(alias)
        if known != before:
            found.problems.append(f"event {event.number} moves {alias} from {_name(before)}, but it was {_name(known)}")
        found.aliases[alias] = str(after)


def disagreements(registry: Registry, events: Iterable[LedgerEvent]) -> tuple[str, ...]:
    """Compare the rows of aliases and promotions with the ledger; return one line per difference."""
    found = replay(events)
    lines = list(found.problems)
    rows = {name: digest for name, digest in vars(registry.routers.aliases()).items() if digest is not None}
    for alias in sorted({*rows, *found.aliases}):
        said, kept = found.aliases.get(alias), rows.get(alias)
        if said != kept:
            lines.append(f"{alias} points to {_name(kept)}; the ledger says {_name(said)}")
    promotions = {one.id: one for one in registry.promotions.list()}
    for number in sorted({*promotions, *found.trails}):
        lines += _differences(number, promotions.get(number), found.trails.get(number))
    return tuple(lines)


def _differences(number: int, row: Promotion | None, trail: PromotionTrail | None) -> list[str]:
    if row is None:
        return [f"promotion {number} is in the ledger but not in the registry"]
    if trail is None:
        return [f"promotion {number} is in the registry but not in the ledger"]
    names = ("router_digest", "kind", "expected_champion", "report_digest", "status", "requested_by", "requested_at")
    names += ("decided_by", "decided_at", "applied_at")
    pairs = {name: (getattr(row, name), getattr(trail, name)) for name in names}
    pairs |= {"gate passed": (row.gate.passed, trail.gate_passed), "reason": (row.reason or "", trail.reason)}
    if trail.gate_digest is not None:
        pairs["gate result"] = (row.gate.digest, trail.gate_digest)
    return [
        f"promotion {number}: {name.replace('_', ' ')} is {_name(kept)}; the ledger says {_name(said)}"
        for name, (kept, said) in pairs.items()
        if kept != said
    ]


def _name(value: object) -> str:
    text = "nothing" if value is None else str(value)
    is_digest = len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)
    return text[:_SHOWN] if is_digest else text
