"""The rows of promotions: read, written with their ledger events, and checked against what serves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from registry.db.database import Database, Unit
from registry.db.tables import alias, outbox, promotion
from registry.errors import NotFound, PromotionRefused, StalePromotion
from registry.ledger import Ledger, LedgerEvent
from registry.promotion_records import (
    NO_GATE,
    OPEN,
    REJECT,
    GateRecord,
    GateTest,
    Promotion,
    gate_test,
    is_refresh,
    promotion_of,
    require_reason,
    same_person,
    spends_nothing,
)
from registry.routers import Routers

_SHORTEST_DIGEST = 8
REFRESHED = "router:refreshed"
"""The ledger event by which the champion is replaced by itself as it can serve."""


@dataclass(frozen=True)
class OutboxEntry:
    """A move of an alias that has to reach MLflow; entries are delivered in order."""

    id: int
    alias: str
    router_digest: str
    ledger_number: int
    created_at: datetime
    attempts: int
    last_error: str | None
    done_at: datetime | None


class Outbox:
    """Move aliases together with the entry that brings the move to MLflow, and track the delivery of entries."""

    def __init__(self, database: Database, events: Ledger) -> None:
        self._database = database
        self._events = events

    def pending(self) -> tuple[OutboxEntry, ...]:
        """Return the entries that have yet to reach MLflow, in order."""
        with self._database.read() as unit:
            rows = unit.execute(select(outbox).where(outbox.c.done_at.is_(None)).order_by(outbox.c.id))
            return tuple(OutboxEntry(*row) for row in rows)

    def delivered(self) -> Mapping[str, str]:
        """Return, by alias, the router whose move was delivered to MLflow last."""
        query = select(outbox.c.alias, outbox.c.router_digest).where(outbox.c.done_at.is_not(None))
        with self._database.read() as unit:
            return {row.alias: row.router_digest for row in unit.execute(query.order_by(outbox.c.id))}

    def mark_done(self, entry_id: int, *, now: datetime) -> None:
        """Note that an entry was delivered to MLflow; repeating it changes nothing."""
        with self._database.write() as unit:
            unit.execute(
                outbox.update()
                .where(outbox.c.id == entry_id, outbox.c.done_at.is_(None))
                .values(done_at=now, attempts=outbox.c.attempts + 1, last_error=None)
            )

    def mark_undelivered(self, entry_id: int, error: str) -> None:
        """Note that an entry could not be delivered to MLflow; it stays pending."""
        with self._database.write() as unit:
            unit.execute(
                outbox.update()
                .where(outbox.c.id == entry_id, outbox.c.done_at.is_(None))
                .values(attempts=outbox.c.attempts + 1, last_error=error[:2000])
            )

    def _point(self, unit: Unit, name: str, router_digest: str, event: LedgerEvent, now: datetime) -> None:
        pointed = {"name": name, "router_digest": router_digest, "moved_at": now}
        unit.execute(self._database.upsert(alias), pointed)
        entry = {"alias": name, "router_digest": router_digest, "ledger_number": event.number}
        unit.execute(outbox.insert().values(**entry, created_at=now, attempts=0))


class PromotionRows(Outbox):
    """Read promotions, and store each change of one together with its event."""

    def __init__(self, database: Database, events: Ledger, routers: Routers) -> None:
        super().__init__(database, events)
        self._routers = routers

    def get(self, promotion_id: int, *, unit: Unit | None = None) -> Promotion:
        """Return one promotion.

        Raises
        ------
        NotFound
            When there is none of that number.
        """
        with self._database.read(unit) as opened:
            row = opened.execute(select(promotion).where(promotion.c.id == promotion_id)).first()
        if row is None:
            raise NotFound(f"there is no promotion {promotion_id}", hint="uniroute promotion list")
        return promotion_of(row)

    def find(self, name: str) -> Promotion:
        """Return a promotion by its number, or the latest one of a router by the router's digest, version or alias.

        Raises
        ------
        NotFound
            When there is none.
        """
        if name.isdecimal() and len(name) < _SHORTEST_DIGEST:
            return self.get(int(name))
        digest = self._routers.get(name).digest
        query = select(promotion.c.id).where(promotion.c.router_digest == digest).order_by(promotion.c.id.desc())
        with self._database.read() as unit:
            number = unit.execute(query.limit(1)).scalar()
        if number is None:
            raise NotFound(f"router {digest[:12]} was never put forward", hint="uniroute promotion list")
        return self.get(number)

    def list(self, *, status: str | None = None, limit: int | None = None) -> tuple[Promotion, ...]:
        """Return promotions, the newest first."""
        query = select(promotion).order_by(promotion.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(promotion.c.status == status)
        with self._database.read() as unit:
            return tuple(promotion_of(row) for row in unit.execute(query))

    def close_refreshes(self, *, actor: str, now: datetime, reason: str) -> None:
        """Close open requests of refreshes, because what they would let serve is outdated."""
        with self._database.write() as unit:
            self._supersede_open(unit, actor, now, reason, refreshes=True)

    def tested_against(self, champion: str, *, unit: Unit | None = None) -> tuple[GateTest, ...]:
        """Return the tests at the gate against a champion, in their order: which router, and on which evidence.

        The same router on the same evidence is the same test, however often it was made. A champion that only was
        graded again or refreshed is no challenger of itself, and continues the account that it replaces.

        Parameters
        ----------
        champion
            Digest of the champion.
        unit
            The transaction to join.
        """
        with self._database.read(unit) as opened:
            line, i = [champion], 0
            while i < len(line):
                line += [one for one in self._continued_by(opened, line[i]) if one not in line]
                i += 1
            return self._tested(opened, line)

    def refreshed_from(self, router_digest: str, *, unit: Unit | None = None) -> str:
        """Return the router whose vectors a refreshed one has: itself unless its first promotion was a refresh."""
        with self._database.read(unit) as opened:
            seen = [router_digest]
            while True:
                query = (
                    select(promotion.c.expected_champion, promotion.c.gate_json)
                    .where(promotion.c.router_digest == seen[-1], promotion.c.kind == "promotion")
                    .order_by(promotion.c.id)
                )
                first = opened.execute(query.limit(1)).first()
                if first is None or not is_refresh(first.gate_json) or first.expected_champion in seen:
                    return seen[-1]
                seen.append(first.expected_champion)

    def last_gate(self, router_digest: str) -> GateRecord | None:
        """Return what the gate found when a router was last put to it; None for one that never was."""
        query = (
            select(promotion.c.gate_passed, promotion.c.gate_json)
            .where(promotion.c.router_digest == router_digest, promotion.c.gate_json != NO_GATE)
            .order_by(promotion.c.id.desc())
            .limit(1)
        )
        with self._database.read() as unit:
            row = unit.execute(query).first()
        return None if row is None else GateRecord(*row)

    def _tested(self, unit: Unit, champions: Sequence[str]) -> tuple[GateTest, ...]:
        query = (
            select(promotion.c.router_digest, promotion.c.gate_json)
            .where(promotion.c.expected_champion.in_(champions))
            .where(promotion.c.kind == "promotion", promotion.c.gate_json != NO_GATE)
            .order_by(promotion.c.id)
        )
        rows = unit.execute(query)
        tests = (gate_test(*row) for row in rows if not spends_nothing(row.gate_json))
        return tuple(dict.fromkeys(tests))

    def _continued_by(self, unit: Unit, champion: str) -> list[str]:
        """Return the champions that another one replaced only because it was graded again or refreshed."""
        query = (
            select(promotion.c.expected_champion, promotion.c.gate_json)
            .where(promotion.c.router_digest == champion, promotion.c.status == "applied")
            .where(promotion.c.kind == "promotion", promotion.c.expected_champion.is_not(None))
            .order_by(promotion.c.id)
        )
        return [row.expected_champion for row in unit.execute(query) if spends_nothing(row.gate_json)]

    def traffic(self, router_digest: str) -> Mapping[str, float]:
        """Return the share of the gate prompts that a router sends to each LLM, as last measured; empty if never.

        Parameters
        ----------
        router_digest
            The router.
        """
        query = (
            select(promotion.c.gate_json)
            .where(promotion.c.router_digest == router_digest, promotion.c.gate_json != NO_GATE)
            .order_by(promotion.c.id.desc())
        )
        with self._database.read() as unit:
            found = (json.loads(text).get("shares") for text in unit.execute(query).scalars())
            shares = next((one for one in found if one), ())
        return {one["llm"]: float(one["share"]) for one in shares}

    def is_refused(self, router_digest: str) -> bool:
        """Whether a router was rejected, by the gate or by a person, or vetoed, since it last became the champion.

        One that the gate could not decide on, and that still waits for a person, was not.

        Parameters
        ----------
        router_digest
            The router.
        """
        query = (
            select(promotion.c.status)
            .where(promotion.c.router_digest == router_digest)
            .where(promotion.c.status.in_(("applied", "rejected")))
            .order_by(promotion.c.id.desc())
        )
        with self._database.read() as unit:
            return unit.execute(query.limit(1)).scalar() == "rejected" or self.is_vetoed(router_digest)

    def is_vetoed(self, router_digest: str) -> bool:
        """Whether a person has decided against a router since it last became the champion.

        That is: rejected it although the gate passed or left it to them, or rolled back from it.

        Parameters
        ----------
        router_digest
            The router.
        """
        query = (
            select(promotion)
            .where(or_(promotion.c.router_digest == router_digest, promotion.c.expected_champion == router_digest))
            .order_by(promotion.c.id.desc())
        )
        with self._database.read() as unit:
            for row in unit.execute(query):
                if row.router_digest != router_digest:
                    if row.kind == "rollback":
                        return True
                elif row.status == "applied":
                    return False
                elif row.status == "rejected" and promotion_of(row).gate.decision != REJECT:
                    return True
        return False

    def require_open(
        self, promotion_id: int, *, approver: str | None = None, is_compared: bool = True, unit: Unit | None = None
    ) -> Promotion:
        """Return a promotion that can still be decided.

        Parameters
        ----------
        promotion_id
            Which one.
        approver
            Who wants to approve it where requester and approver must be two people; None where one is enough.
        is_compared
            Whether the champion must still be the one it was compared with.
        unit
            The transaction to join.

        Raises
        ------
        PromotionRefused
            When requester and approver must be two and are one.
        StalePromotion
            When it is no longer open, or another router is the champion by now.
        """
        with self._database.read(unit) as opened:
            current = self.get(promotion_id, unit=opened)
            self._require_open(current)
            if is_compared:
                self._require_champion(opened, current.expected_champion, f"promotion {promotion_id}")
        if approver is not None and same_person(approver, current.requested_by):
            raise PromotionRefused(
                f"{approver} requested promotion {promotion_id} and may not approve it: [gate] two_person is on",
                unchanged="No alias was moved.",
                hint=f"ask another person to type: uniroute promotion approve {promotion_id} --reason TEXT",
            )
        return current

    def refuse_champion(self, router_digest: str, champion: str | None) -> None:
        """Refuse a router that is already the champion.

        Raises
        ------
        PromotionRefused
            When it is the champion.
        """
        if router_digest == champion:
            raise PromotionRefused(
                f"router {router_digest[:12]} is already the champion", unchanged="No alias was moved."
            )

    def _decide(
        self,
        promotion_id: int,
        status: str,
        actor: str,
        reason: str,
        now: datetime,
        facts: Mapping[str, str] | None,
        unit: Unit,
    ) -> Promotion:
        require_reason(reason)
        current = self.get(promotion_id, unit=unit)
        if current.status == status:
            return current
        self._require_open(current)
        if status == "approved":
            self._require_champion(unit, current.expected_champion, f"promotion {promotion_id}")
        row = {"status": status, "decided_by": actor, "decided_at": now, "reason": reason}
        unit.execute(promotion.update().where(promotion.c.id == promotion_id).values(row))
        self._note(unit, current, status, actor, reason, now, **(facts or {}))
        return self.get(promotion_id, unit=unit)

    def _insert(self, unit: Unit, row: Mapping[str, Any], facts: Mapping[str, str] | None) -> Promotion:
        number = unit.execute(promotion.insert().values(kind="promotion", **row)).inserted_primary_key[0]
        made = self.get(number, unit=unit)
        self._note(unit, made, made.status, made.requested_by, made.reason or "", made.requested_at, **(facts or {}))
        return made

    def _note(
        self, unit: Unit, one: Promotion, action: str, actor: str, reason: str, now: datetime, **facts: Any
    ) -> LedgerEvent:
        payload = {
            "promotion": one.id,
            "kind": one.kind,
            "expected_champion": one.expected_champion,
            "gate_passed": one.gate.passed,
            "gate_digest": one.gate.digest,
            "report_digest": one.report_digest,
            # Only where it says more than `gate_passed`: the events of all others are as they always were.
            **({"gate_verdict": one.gate.verdict} if one.gate.is_undecided else {}),
            **facts,
        }
        event = REFRESHED if one.is_refresh and action == "applied" else f"router:{one.kind}:{action}"
        return self._events.append(
            event, one.router_digest, actor=actor, now=now, reason=reason, payload=payload, unit=unit
        )

    def _move_champion(
        self,
        unit: Unit,
        one: Promotion,
        actor: str,
        reason: str,
        now: datetime,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        before = self._routers.aliases(unit=unit)
        moves = {"champion": [before.champion, one.router_digest]}
        if before.champion is not None:
            moves["previous"] = [before.previous, before.champion]
        event = self._note(unit, one, "applied", actor, reason, now, aliases=moves, **(facts or {}))
        for name, (_, after) in moves.items():
            self._point(unit, name, str(after), event, now)

    def _supersede_open(
        self, unit: Unit, actor: str, now: datetime, reason: str, *, refreshes: bool | None = None
    ) -> None:
        """Close open requests: all, or only those of refreshes, or only those of challengers."""
        for row in unit.execute(select(promotion).where(promotion.c.status.in_(OPEN))).fetchall():
            if refreshes is not None and is_refresh(row.gate_json) is not refreshes:
                continue
            facts = {"status": "superseded", "decided_by": actor, "decided_at": now, "reason": reason}
            unit.execute(promotion.update().where(promotion.c.id == row.id).values(facts))
            self._note(unit, promotion_of(row), "superseded", actor, reason, now)

    def _twin(
        self, unit: Unit, router_digest: str, expected_champion: str | None, gate: GateRecord, run_id: int | None
    ) -> Promotion | None:
        """Find the same request: still open; for a run, also one it rejected before it was killed, or a person did."""
        rows = unit.execute(
            select(promotion).where(promotion.c.router_digest == router_digest).order_by(promotion.c.id.desc())
        )
        for one in (promotion_of(row) for row in rows):
            is_settled = (
                run_id is not None
                and one.status == "rejected"
                and (one.run_id == run_id or one.gate.decision != REJECT)
            )
            if (one.status in OPEN or is_settled) and (one.expected_champion, one.gate) == (expected_champion, gate):
                return one
        return None

    def _require_open(self, one: Promotion) -> None:
        if one.status not in OPEN:
            raise StalePromotion(
                f"promotion {one.id} is {one.status} and can no longer be decided",
                unchanged="No alias was moved.",
                hint=f"uniroute promotion request {one.router_digest[:12]}",
            )

    def _require_champion(self, unit: Unit, expected: str | None, subject: str) -> None:
        serving = self._routers.aliases(unit=unit).champion
        if serving != expected:
            compared = "no champion" if expected is None else f"router {expected[:12]}"
            raise StalePromotion(
                f"{subject} was compared with {compared}, but the champion now is "
                f"{'none' if serving is None else f'router {serving[:12]}'}",
                unchanged="No alias was moved.",
                hint="compare with the present champion and request again",
            )

    def _has_served(self, unit: Unit, router_digest: str) -> bool:
        query = select(promotion.c.id).where(
            promotion.c.router_digest == router_digest, promotion.c.status == "applied"
        )
        return unit.execute(query.limit(1)).first() is not None
