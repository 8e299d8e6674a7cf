"""The ledger: append-only events, each hashed together with the one before it.

Triggers refuse UPDATE and DELETE; whoever works around them breaks the chain, and `Ledger.verify` says where.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from .columns import plain_text, text_bytes
from .database import Database, Unit
from .tables import ledger

GENESIS = "0" * 64
"""What the first event names as the hash before it."""


@dataclass(frozen=True)
class LedgerEvent:
    """One thing that happened and that an auditor may ask about.

    Attributes
    ----------
    number
        Position in the chain, from 1, without gaps.
    at
        When it happened, in UTC.
    event
        ``source:subject:action``, for example ``router:promotion:applied``.
    subject
        What it happened to: a router digest, a run key, an LLM key.
    actor
        Who did it.
    reason
        Why, in the actor's words.
    payload_json
        Further facts as canonical JSON.
    previous_hash, hash
        The chain, as SHA-256 in hexadecimal digits.
    """

    number: int
    at: datetime
    event: str
    subject: str
    actor: str
    reason: str
    payload_json: str
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class LedgerCheck:
    """Whether the chain is whole, and where it first is not."""

    is_intact: bool
    n_events: int
    head_hash: str
    broken_at: int | None = None
    problem: str = ""


class Ledger:
    """Append and read events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self,
        event: str,
        subject: str,
        *,
        actor: str,
        now: datetime,
        reason: str = "",
        payload: dict[str, Any] | None = None,
        unit: Unit | None = None,
    ) -> LedgerEvent:
        """Add one event at the end of the chain.

        Parameters
        ----------
        event
            ``source:subject:action``.
        subject
            What it happened to.
        actor
            Who did it.
        now
            When it happened.
        reason
            Why, in the actor's words.
        payload
            Further facts; must be JSON without NaN.
        unit
            The transaction to join.
        """
        subject, actor = plain_text(subject, 500), plain_text(actor, 200)  # as the columns keep them: they are hashed
        with self._database.write(unit) as opened:
            last = opened.execute(select(ledger).order_by(ledger.c.number.desc()).limit(1)).first()
            number, previous = (last.number + 1, last.hash) if last is not None else (1, GENESIS)
            payload_json = canonical_json(payload or {})
            digest = _hash(number, now, event, subject, actor, reason, payload_json, previous)
            row = LedgerEvent(number, now, event, subject, actor, reason, payload_json, previous, digest)
            opened.execute(ledger.insert().values(vars(row)))
            return row

    def events(
        self,
        *,
        subject: str | None = None,
        event: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        unit: Unit | None = None,
    ) -> tuple[LedgerEvent, ...]:
        """Give events in order; with `limit`, the latest ones.

        Parameters
        ----------
        subject
            Only events about this subject.
        event
            Only events of this kind; a kind may be cut after a colon (``router:promotion:``).
        since, until
            Only events at or after, before this moment.
        limit
            How many at most, counted from the end.
        unit
            The transaction to join.
        """
        query = select(ledger).order_by(ledger.c.number.desc())
        if subject is not None:
            query = query.where(ledger.c.subject == subject)
        if event is not None:
            query = query.where(ledger.c.event.startswith(event, autoescape=True))
        if since is not None:
            query = query.where(ledger.c.at >= since)
        if until is not None:
            query = query.where(ledger.c.at < until)
        if limit is not None:
            query = query.limit(limit)
        with self._database.read(unit) as opened:
            return tuple(LedgerEvent(*row) for row in reversed(opened.execute(query).fetchall()))

    def verify(self, *, expected_head: str | None = None) -> LedgerCheck:
        """Walk the whole chain.

        Parameters
        ----------
        expected_head
            A head hash noted earlier; a chain that was cut off at its end no longer contains it.
        """
        previous, number, has_expected = GENESIS, 0, expected_head in (None, GENESIS)
        with self._database.read() as unit:
            for row in unit.execute(select(ledger).order_by(ledger.c.number).execution_options(yield_per=1000)):
                found = LedgerEvent(*row)
                problem = _problem(found, number + 1, previous)
                if problem:
                    return LedgerCheck(False, number, previous, number + 1, problem)
                previous, number = found.hash, found.number
                has_expected = has_expected or found.hash == expected_head
        if not has_expected:
            return LedgerCheck(False, number, previous, number + 1, "the noted head is no longer part of the chain")
        return LedgerCheck(True, number, previous)

    def count(self) -> int:
        """Count the events."""
        with self._database.read() as unit:
            return unit.execute(select(func.count()).select_from(ledger)).scalar_one()


def canonical_json(value: Any) -> str:
    """Write JSON with sorted keys, without spaces, pure ASCII and without NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _problem(found: LedgerEvent, number: int, previous: str) -> str:
    if found.number != number:
        return f"event {number} is missing"
    if found.previous_hash != previous:
        return f"event {number} does not follow the event before it"
    expected = _hash(
        found.number,
        found.at,
        found.event,
        found.subject,
        found.actor,
        found.reason,
        found.payload_json,
        found.previous_hash,
    )
    return "" if found.hash == expected else f"event {number} was changed after it was written"


def _hash(
    number: int, at: datetime, event: str, subject: str, actor: str, reason: str, payload_json: str, previous: str
) -> str:
    moment = at.astimezone(UTC).isoformat(timespec="microseconds")
    fields = [str(number), moment, event, subject, actor, reason, payload_json, previous]
    digest = hashlib.sha256()
    for field in fields:
        data = text_bytes(field)
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
