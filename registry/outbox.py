"""The outbox: aliases moved in the registry that MLflow has yet to be told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from .database import Database, Unit
from .ledger import Ledger, LedgerEvent
from .tables import alias, outbox


@dataclass(frozen=True)
class OutboxEntry:
    """An alias that MLflow must be told of; entries are worked off in order."""

    id: int
    alias: str
    router_digest: str
    ledger_number: int
    created_at: datetime
    attempts: int
    last_error: str | None
    done_at: datetime | None


class Outbox:
    """Move aliases together with the message to MLflow, and hand those messages out."""

    def __init__(self, database: Database, events: Ledger) -> None:
        self._database = database
        self._events = events

    def pending(self) -> tuple[OutboxEntry, ...]:
        """Give what MLflow still has to be told, in order."""
        with self._database.read() as unit:
            rows = unit.execute(select(outbox).where(outbox.c.done_at.is_(None)).order_by(outbox.c.id))
            return tuple(OutboxEntry(*row) for row in rows)

    def delivered(self) -> Mapping[str, str]:
        """Give, by alias, the router that MLflow was last told of."""
        query = select(outbox.c.alias, outbox.c.router_digest).where(outbox.c.done_at.is_not(None))
        with self._database.read() as unit:
            return {row.alias: row.router_digest for row in unit.execute(query.order_by(outbox.c.id))}

    def mark_done(self, entry_id: int, *, now: datetime) -> None:
        """Note that MLflow was told; saying so again changes nothing."""
        with self._database.write() as unit:
            unit.execute(
                outbox.update()
                .where(outbox.c.id == entry_id, outbox.c.done_at.is_(None))
                .values(done_at=now, attempts=outbox.c.attempts + 1, last_error=None)
            )

    def mark_undelivered(self, entry_id: int, error: str) -> None:
        """Note that MLflow could not be told; the entry stays pending."""
        with self._database.write() as unit:
            unit.execute(
                outbox.update()
                .where(outbox.c.id == entry_id, outbox.c.done_at.is_(None))
                .values(attempts=outbox.c.attempts + 1, last_error=error[:2000])
            )

    def _point(self, unit: Unit, name: str, router_digest: str, event: LedgerEvent, now: datetime) -> None:
        pointed = {"name": name, "router_digest": router_digest, "moved_at": now}
        unit.execute(self._database.upsert(alias), pointed)
        told = {"alias": name, "router_digest": router_digest, "ledger_number": event.number}
        unit.execute(outbox.insert().values(**told, created_at=now, attempts=0))
