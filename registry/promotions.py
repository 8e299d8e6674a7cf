"""Promotions: who may serve is a row with a history, and moving an alias is one transaction.

The registry is the truth. MLflow follows through the outbox, as often as it takes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from routing.errors import InvalidInput

from .database import Database, Unit
from .errors import NotFound, RegistryError, StalePromotion
from .ledger import Ledger, LedgerEvent
from .outbox import Outbox, OutboxEntry
from .promotion_records import OPEN, GateResult, Promotion, gate_result, promotion_of
from .routers import Routers
from .tables import promotion

__all__ = ["GateResult", "OutboxEntry", "Promotion", "Promotions", "gate_result"]


class Promotions(Outbox):
    """Request, decide and apply promotions; hand out what MLflow has to be told."""

    def __init__(self, database: Database, events: Ledger, routers: Routers) -> None:
        super().__init__(database, events)
        self._routers = routers

    def set_challenger(
        self, router_digest: str, *, actor: str, now: datetime, reason: str = "", unit: Unit | None = None
    ) -> None:
        """Let the alias ``challenger`` point to a router; nothing happens when it already does.

        Parameters
        ----------
        router_digest
            The router that is put forward.
        actor
            Who says so.
        now
            The present moment.
        reason
            Why.
        unit
            The transaction to join.

        Raises
        ------
        NotFound
            When there is no such router.
        """
        with self._database.write(unit) as opened:
            self._routers.get(router_digest, unit=opened)
            before = self._routers.aliases(unit=opened).challenger
            if before == router_digest:
                return
            facts = {"alias": "challenger", "before": before, "after": router_digest}
            event = self._events.append(
                "router:alias:moved", router_digest, actor=actor, now=now, reason=reason, payload=facts, unit=opened
            )
            self._point(opened, "challenger", router_digest, event, now)

    def request(
        self,
        router_digest: str,
        expected_champion: str | None,
        gate: GateResult,
        *,
        actor: str,
        now: datetime,
        reason: str = "",
        report_digest: str | None = None,
        run_id: int | None = None,
        unit: Unit | None = None,
    ) -> Promotion:
        """Ask that a router become the champion; other open requests are superseded.

        Asking again with the same champion and the same gate result gives the promotion that is still open, or that the
        same run already rejected.

        Parameters
        ----------
        router_digest
            Who wants to serve.
        expected_champion
            Digest of the champion it was compared with; None when nobody serves.
        gate
            What the gate found.
        actor
            Who asks.
        now
            The present moment.
        reason
            Why.
        report_digest
            What a reviewer will see.
        run_id
            The night that asks.
        unit
            The transaction to join.

        Raises
        ------
        NotFound
            When there is no such router.
        StalePromotion
            When another router is the champion by now.
        RegistryError
            When the router is the champion already.
        """
        with self._database.write(unit) as opened:
            self._routers.get(router_digest, unit=opened)
            self._require_champion(opened, expected_champion, f"the request for router {router_digest[:12]}")
            if router_digest == expected_champion:
                raise RegistryError(f"router {router_digest[:12]} is the champion already")
            same = self._twin(opened, router_digest, expected_champion, gate, run_id)
            if same is not None:
                return same
            self._supersede_open(opened, actor, now, f"router {router_digest[:12]} was put forward")
            row = {
                "router_digest": router_digest,
                "expected_champion": expected_champion,
                "gate_json": gate.details_json,
                "gate_passed": gate.passed,
                "report_digest": report_digest,
                "requested_by": actor,
                "requested_at": now,
                "reason": reason,
                "run_id": run_id,
            }
            return self._insert(opened, row, actor, now, reason)

    def approve(self, promotion_id: int, *, actor: str, reason: str, now: datetime) -> Promotion:
        """Approve an open promotion; `apply` then moves the alias.

        Raises
        ------
        InvalidInput
            For an empty reason.
        StalePromotion
            When it is no longer open, or another router is the champion by now.
        """
        return self._decide(promotion_id, "approved", actor, reason, now)

    def reject(self, promotion_id: int, *, actor: str, reason: str, now: datetime) -> Promotion:
        """Reject an open promotion; nothing that serves changes.

        Raises
        ------
        InvalidInput
            For an empty reason.
        StalePromotion
            When it is no longer open.
        """
        return self._decide(promotion_id, "rejected", actor, reason, now)

    def mark_failed(self, promotion_id: int, *, actor: str, reason: str, now: datetime) -> Promotion:
        """Close an open promotion whose router turned out not to load."""
        return self._decide(promotion_id, "failed", actor, reason, now)

    def apply(
        self,
        promoted: Promotion | int,
        *,
        actor: str,
        reason: str,
        now: datetime,
        unit: Unit | None = None,
    ) -> Promotion:
        """Move the alias ``champion``: compare-and-set, ``previous``, ledger event and outbox in one transaction.

        Applying a promotion that is applied already and whose router still is the champion changes nothing.

        Parameters
        ----------
        promoted
            The promotion or its number.
        actor
            Who decides.
        reason
            Why; must not be empty.
        now
            The present moment.
        unit
            The transaction to join.

        Raises
        ------
        InvalidInput
            For an empty reason.
        StalePromotion
            When it is no longer open, or another router is the champion by now.
        """
        _require_reason(reason)
        number = promoted if isinstance(promoted, int) else promoted.id
        with self._database.write(unit) as opened:
            current = self.get(number, unit=opened)
            serving = self._routers.aliases(unit=opened).champion
            if current.status == "applied" and serving == current.router_digest:
                return current
            self._require_open(current)
            self._require_champion(opened, current.expected_champion, f"promotion {number}")
            facts = {"status": "applied", "applied_at": now, "reason": reason}
            if current.decided_by is None:
                facts |= {"decided_by": actor, "decided_at": now}
            opened.execute(promotion.update().where(promotion.c.id == number).values(facts))
            self._move_champion(opened, current, actor, reason, now)
            return self.get(number, unit=opened)

    def rollback(self, *, actor: str, reason: str, now: datetime, to: str | None = None) -> Promotion:
        """Make an earlier router the champion again, at once and without a gate.

        Parameters
        ----------
        actor
            Who decides.
        reason
            Why; must not be empty.
        now
            The present moment.
        to
            Digest of the router; the one of alias ``previous`` when omitted.

        Raises
        ------
        InvalidInput
            For an empty reason.
        NotFound
            When there is nothing to go back to.
        RegistryError
            When the router is the champion already.
        """
        _require_reason(reason)
        with self._database.write() as unit:
            aliases = self._routers.aliases(unit=unit)
            target = to or aliases.previous
            if target is None:
                raise NotFound("there is no previous router to go back to", hint="uniroute router list")
            target = self._routers.get(target, unit=unit).digest
            if target == aliases.champion:
                raise RegistryError(f"router {target[:12]} is the champion already")
            self._supersede_open(unit, actor, now, "the champion was rolled back")
            row = {
                "router_digest": target,
                "expected_champion": aliases.champion,
                "kind": "rollback",
                "status": "applied",
                "gate_json": "{}",
                "gate_passed": False,
                "requested_by": actor,
                "requested_at": now,
                "decided_by": actor,
                "decided_at": now,
                "applied_at": now,
                "reason": reason,
            }
            number = unit.execute(promotion.insert().values(row)).inserted_primary_key[0]
            made = self.get(number, unit=unit)
            self._move_champion(unit, made, actor, reason, now)
            return made

    def get(self, promotion_id: int, *, unit: Unit | None = None) -> Promotion:
        """Give one promotion.

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

    def list(self, *, status: str | None = None, limit: int | None = None) -> tuple[Promotion, ...]:
        """Give promotions, the newest first."""
        query = select(promotion).order_by(promotion.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(promotion.c.status == status)
        with self._database.read() as unit:
            return tuple(promotion_of(row) for row in unit.execute(query))

    def _decide(self, promotion_id: int, status: str, actor: str, reason: str, now: datetime) -> Promotion:
        _require_reason(reason)
        with self._database.write() as unit:
            current = self.get(promotion_id, unit=unit)
            if current.status == status:
                return current
            self._require_open(current)
            if status == "approved":
                self._require_champion(unit, current.expected_champion, f"promotion {promotion_id}")
            facts = {"status": status, "decided_by": actor, "decided_at": now, "reason": reason}
            unit.execute(promotion.update().where(promotion.c.id == promotion_id).values(facts))
            self._note(unit, current, status, actor, reason, now)
            return self.get(promotion_id, unit=unit)

    def _insert(self, unit: Unit, row: dict[str, Any], actor: str, now: datetime, reason: str) -> Promotion:
        number = unit.execute(
            promotion.insert().values(kind="promotion", status="requested", **row)
        ).inserted_primary_key[0]
        made = self.get(number, unit=unit)
        self._note(unit, made, "requested", actor, reason, now)
        return made

    def _note(
        self, unit: Unit, one: Promotion, action: str, actor: str, reason: str, now: datetime, **facts: Any
    ) -> LedgerEvent:
        payload = {
            "promotion": one.id,
            "kind": one.kind,
            "expected_champion": one.expected_champion,
            "gate_passed": one.gate.passed,
            "report_digest": one.report_digest,
            **facts,
        }
        event = f"router:{one.kind}:{action}"
        return self._events.append(
            event, one.router_digest, actor=actor, now=now, reason=reason, payload=payload, unit=unit
        )

    def _move_champion(self, unit: Unit, one: Promotion, actor: str, reason: str, now: datetime) -> None:
        before = self._routers.aliases(unit=unit)
        moves = {"champion": [before.champion, one.router_digest]}
        if before.champion is not None:
            moves["previous"] = [before.previous, before.champion]
        event = self._note(unit, one, "applied", actor, reason, now, aliases=moves)
        for name, (_, after) in moves.items():
            self._point(unit, name, str(after), event, now)

    def _supersede_open(self, unit: Unit, actor: str, now: datetime, reason: str) -> None:
        for row in unit.execute(select(promotion).where(promotion.c.status.in_(OPEN))).fetchall():
            facts = {"status": "superseded", "decided_by": actor, "decided_at": now, "reason": reason}
            unit.execute(promotion.update().where(promotion.c.id == row.id).values(facts))
            self._note(unit, promotion_of(row), "superseded", actor, reason, now)

    def _twin(
        self, unit: Unit, router_digest: str, expected_champion: str | None, gate: GateResult, run_id: int | None
    ) -> Promotion | None:
        """Find the same request: still open, or already rejected in the same run (which was killed and resumed)."""
        rows = unit.execute(
            select(promotion).where(promotion.c.router_digest == router_digest).order_by(promotion.c.id.desc())
        )
        for one in (promotion_of(row) for row in rows):
            is_same_run = run_id is not None and one.run_id == run_id and one.status == "rejected"
            if (one.status in OPEN or is_same_run) and (one.expected_champion, one.gate) == (expected_champion, gate):
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


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidInput("a decision needs a reason", unchanged="Nothing was decided.", hint="--reason TEXT")
