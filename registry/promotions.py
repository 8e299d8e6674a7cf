"""Promotions: which router may serve is a row with a history, and moving an alias is one transaction.

The registry is the truth. MLflow follows through the outbox, in as many attempts as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select

from registry.db.database import Unit
from registry.db.tables import promotion
from registry.errors import NotFound, PromotionRefused
from registry.promotion_records import (
    CHAMPION_REFRESHED,
    NO_GATE,
    REJECT,
    GateRecord,
    Promotion,
    gate_result,
    is_refresh,
    promotion_of,
    require_reason,
)
from registry.promotion_rows import OutboxEntry, PromotionRows
from registry.routers import RouterRecord

__all__ = ["GateRecord", "OutboxEntry", "Promotion", "Promotions", "gate_result"]


class Promotions(PromotionRows):
    """Request, decide and apply promotions; track the moves of aliases that have to reach MLflow."""

    def set_challenger(
        self, router_digest: str, *, actor: str, now: datetime, reason: str = "", unit: Unit | None = None
    ) -> None:
        """Point the alias ``challenger`` at a router; nothing happens when it already does.

        Parameters
        ----------
        router_digest
            The router that is put forward.
        actor
            Who puts it forward.
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
        gate: GateRecord,
        *,
        actor: str,
        now: datetime,
        reason: str = "",
        report_digest: str | None = None,
        run_id: int | None = None,
        facts: Mapping[str, str] | None = None,
        unit: Unit | None = None,
    ) -> Promotion:
        """Ask that a router become the champion; other open requests are superseded.

        Repeating a request with the same champion and the same gate result returns the promotion that is still open, or
        that the same run already rejected.

        Parameters
        ----------
        router_digest, expected_champion
            The router put forward, and the champion it was compared with; None when there is none.
        gate
            What the gate found.
        actor, now, reason
            Who asks, when and why.
        report_digest
            What a reviewer will see.
        run_id
            The night that asks.
        facts
            Further facts for the ledger, such as the account it was requested from.
        unit
            The transaction to join.

        Raises
        ------
        NotFound
            When there is no such router.
        StalePromotion
            When another router is the champion by now.
        PromotionRefused
            When the router is already the champion.
        """
        with self._database.write(unit) as opened:
            self._routers.get(router_digest, unit=opened)
            self._require_champion(opened, expected_champion, f"the request for router {router_digest[:12]}")
            self.refuse_champion(router_digest, expected_champion)
            same = self._twin(opened, router_digest, expected_champion, gate, run_id)
            if same is not None:
                return same
            reason_now = f"router {router_digest[:12]} was put forward"
            self._supersede_open(opened, actor, now, reason_now, refreshes=is_refresh(gate.details_json))
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
            return self._insert(opened, row | {"status": "requested"}, facts)

    def note_failure(
        self,
        router_digest: str,
        expected_champion: str | None,
        *,
        actor: str,
        reason: str,
        now: datetime,
        facts: Mapping[str, str] | None = None,
    ) -> Promotion:
        """Note a request that failed before the gate, because the router does not load; open requests stay open.

        Parameters
        ----------
        router_digest, expected_champion, actor, now, facts
            As for `request`.
        reason
            What is wrong with it; must not be empty.
        """
        require_reason(reason)
        row = {
            "router_digest": router_digest,
            "expected_champion": expected_champion,
            "status": "requested",
            "gate_json": NO_GATE,
            "gate_passed": False,
            "requested_by": actor,
            "requested_at": now,
        }
        with self._database.write() as unit:
            asked = self._insert(unit, row, facts)
            return self._decide(asked.id, "failed", actor, reason, now, facts, unit)

    def approve(
        self,
        promotion_id: int,
        *,
        actor: str,
        reason: str,
        now: datetime,
        two_person: bool = False,
        facts: Mapping[str, str] | None = None,
        unit: Unit | None = None,
    ) -> Promotion:
        """Approve an open promotion; `apply` then moves the alias.

        Parameters
        ----------
        promotion_id
            Which one.
        actor
            Who decides.
        reason
            Why; must not be empty.
        now
            The present moment.
        two_person
            Whether requester and approver must be two people.
        facts
            Further facts for the ledger.
        unit
            The transaction to join.

        Raises
        ------
        InvalidInput
            For an empty reason.
        PromotionRefused
            When requester and approver must be two and are one.
        StalePromotion
            When it is no longer open, or another router is the champion by now.
        """
        with self._database.write(unit) as opened:
            self.require_open(promotion_id, approver=actor if two_person else None, unit=opened)
            return self._decide(promotion_id, "approved", actor, reason, now, facts, opened)

    def reject(
        self,
        promotion_id: int,
        *,
        actor: str,
        reason: str,
        now: datetime,
        facts: Mapping[str, str] | None = None,
    ) -> Promotion:
        """Reject an open promotion; nothing that serves changes.

        Raises
        ------
        InvalidInput
            For an empty reason.
        StalePromotion
            When it is no longer open.
        """
        with self._database.write() as unit:
            return self._decide(promotion_id, "rejected", actor, reason, now, facts, unit)

    def mark_failed(self, promotion_id: int, *, actor: str, reason: str, now: datetime) -> Promotion:
        """Close an open promotion whose router turned out not to load."""
        with self._database.write() as unit:
            return self._decide(promotion_id, "failed", actor, reason, now, None, unit)

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

        Applying a promotion that was already applied and whose router is still the champion changes nothing.

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
        require_reason(reason)
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
            # A refresh closes challengers too, to be judged again; a challenger leaves nothing of it to refresh.
            superseded = CHAMPION_REFRESHED if current.is_refresh else "another router became the champion"
            self._supersede_open(opened, actor, now, superseded)
            return self.get(number, unit=opened)

    def refresh(
        self,
        router_digest: str,
        champion: str,
        gate: GateRecord,
        *,
        actor: str,
        reason: str,
        now: datetime,
        run_id: int | None = None,
        report_digest: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Promotion:
        """Replace the champion by itself as it can serve: compare-and-set, one event, and open requests superseded.

        Parameters
        ----------
        router_digest, champion
            The refreshed router, and the champion that it replaces.
        gate
            What was checked and what changed; see `registry.promotion_records.is_refresh`.
        actor, reason, now, run_id, report_digest, facts
            As for `request`; the reason must not be empty.

        Raises
        ------
        InvalidInput
            For an empty reason.
        NotFound
            When there is no such router.
        StalePromotion
            When another router is the champion by now.
        """
        require_reason(reason)
        with self._database.write() as unit:
            self._routers.get(router_digest, unit=unit)
            self._require_champion(unit, champion, f"the refresh {router_digest[:12]}")
            self.refuse_champion(router_digest, champion)
            self._supersede_open(unit, actor, now, CHAMPION_REFRESHED)
            row = {
                "router_digest": router_digest,
                "expected_champion": champion,
                "kind": "promotion",
                "gate_json": gate.details_json,
                "gate_passed": gate.passed,
                "report_digest": report_digest,
                "run_id": run_id,
            }
            return self._apply_at_once(unit, row, actor, reason, now, facts)

    def to_judge_again(self, champion: str, former: str) -> tuple[Promotion, ...]:
        """Return the challengers whose open requests a refresh closed and that were not judged since.

        `champion` replaced `former`.
        """
        closed = (
            select(promotion)
            .where(promotion.c.status == "superseded", promotion.c.reason == CHAMPION_REFRESHED)
            .where(promotion.c.expected_champion == former)
            .order_by(promotion.c.id)
        )
        with self._database.read() as unit:
            since = map(promotion_of, unit.execute(select(promotion).where(promotion.c.expected_champion == champion)))
            # One that the gate turns down stays open only when its night was killed before it was rejected.
            done = {one.router_digest for one in since if one.status != "requested" or one.gate.decision != REJECT}
            found = tuple(map(promotion_of, unit.execute(closed)))
        return tuple(one for one in found if not one.is_refresh and one.router_digest not in {champion, *done})

    def rollback(
        self,
        *,
        actor: str,
        reason: str,
        now: datetime,
        to: str | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> Promotion:
        """Make an earlier champion the champion again, at once and without the gate.

        Parameters
        ----------
        actor
            Who decides.
        reason
            Why; must not be empty.
        now
            The present moment.
        to
            Digest, version or alias of a router that was champion before; the one of alias ``previous`` when omitted.
        facts
            Further facts for the ledger.

        Raises
        ------
        InvalidInput
            For an empty reason.
        NotFound
            When there is nothing to roll back to.
        PromotionRefused
            When the router is already the champion, or never was.
        """
        require_reason(reason)
        with self._database.write() as unit:
            target = self.rollback_target(to, unit=unit).digest
            self._supersede_open(unit, actor, now, "the champion was rolled back")
            row = {
                "router_digest": target,
                "expected_champion": self._routers.aliases(unit=unit).champion,
                "kind": "rollback",
                "gate_json": NO_GATE,
                "gate_passed": False,
            }
            return self._apply_at_once(unit, row, actor, reason, now, facts)

    def _apply_at_once(
        self,
        unit: Unit,
        row: Mapping[str, Any],
        actor: str,
        reason: str,
        now: datetime,
        facts: Mapping[str, str] | None,
    ) -> Promotion:
        """Store a promotion that one person or night requests, decides and applies in one moment, and apply it."""
        decided = {"status": "applied", "reason": reason, "requested_by": actor, "decided_by": actor}
        moments = dict.fromkeys(("requested_at", "decided_at", "applied_at"), now)
        number = unit.execute(promotion.insert().values({**row, **decided, **moments})).inserted_primary_key[0]
        made = self.get(number, unit=unit)
        self._move_champion(unit, made, actor, reason, now, facts)
        return made

    def rollback_target(self, to: str | None = None, *, unit: Unit | None = None) -> RouterRecord:
        """Return the router that `rollback` would make the champion, or refuse as it would.

        Parameters
        ----------
        to
            As for `rollback`.
        unit
            The transaction to join.
        """
        with self._database.read(unit) as opened:
            aliases = self._routers.aliases(unit=opened)
            wanted = to or aliases.previous
            if wanted is None:
                raise NotFound("there is no previous router to roll back to", hint="uniroute router list")
            target = self._routers.get(wanted, unit=opened)
            self.refuse_champion(target.digest, aliases.champion)
            if target.digest != aliases.previous and not self._has_served(opened, target.digest):
                raise PromotionRefused(
                    f"router {target.digest[:12]} was never the champion, so there is no rolling back to it",
                    unchanged="No alias was moved.",
                    hint=f"uniroute promotion request {target.digest[:12]}",
                )
            return target
