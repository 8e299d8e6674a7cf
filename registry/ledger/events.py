"""The ledger: append-only events, each hashed together with the one before it.

Triggers refuse UPDATE and DELETE; working around them breaks the chain, and `Ledger.verify` reports where. A chain that
was cut off at its end is whole in itself; it is found out by the row `ledger_head`, written with every event, and by
heads that were noted elsewhere (MLflow's tags). A chain that was written anew is found out by signed heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Result, Row, Select, String, func, select, type_coerce

from registry.db.columns import plain_text, text_bytes
from registry.db.database import Database, Unit
from registry.db.redaction import KEY, REDACTION
from registry.db.tables import ledger, ledger_head, signed_head
from registry.errors import RegistryBusy, RegistryError
from routing.strict_json import canonical_json

GENESIS = "0" * 64
"""The hash that the first event names as the previous one."""

_HEAD = "ledger"
_AT_ONCE = 1000


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

    @property
    def moment(self) -> str:
        """The time in the one form that is hashed: ISO 8601, UTC, microseconds."""
        return self.at.astimezone(UTC).isoformat(timespec="microseconds")

    @property
    def content_hash(self) -> str:
        """The hash that this event must have, by its content."""
        words = (self.event, self.subject, self.actor, self.reason, self.payload_json)
        return _hash(self.number, self.at, *words, self.previous_hash)


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
        # As the columns store them, because they are hashed.
        subject, actor, reason, payload = REDACTION.clean((subject, actor, reason, payload), KEY)
        subject, actor = plain_text(subject, 500), plain_text(actor, 200)
        with self._database.write(unit) as opened:
            last = opened.execute(select(ledger).order_by(ledger.c.number.desc()).limit(1)).first()
            number, previous = (last.number + 1, last.hash) if last is not None else (1, GENESIS)
            payload_json = canonical_json(payload or {})
            digest = _hash(number, now, event, subject, actor, reason, payload_json, previous)
            row = LedgerEvent(number, now, event, subject, actor, reason, payload_json, previous, digest)
            opened.execute(ledger.insert().values(vars(row)))
            head = {"name": _HEAD, "number": number, "hash": digest}
            opened.execute(self._database.upsert(ledger_head), head)
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
        """Return events in order; with `limit`, the latest ones.

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

    def head(self) -> tuple[int, str]:
        """Return number and hash of the last event: noted elsewhere, they reveal a shortened ledger."""
        with self._database.read() as unit:
            last = unit.execute(select(ledger).order_by(ledger.c.number.desc()).limit(1)).first()
        return (0, GENESIS) if last is None else (last.number, last.hash)

    def verify(self, *, noted_heads: Mapping[str, str] | None = None) -> LedgerCheck:
        """Walk the whole chain, and look for every noted head.

        Parameters
        ----------
        noted_heads
            Hashes of heads noted earlier, each with the place where it was noted; a chain that was cut off at its end,
            or written anew, no longer contains them.
        """
        previous, number = GENESIS, 0
        sought = {digest: place for digest, place in (noted_heads or {}).items() if digest != GENESIS}
        try:
            with self._database.read() as unit:
                with self._walk(unit) as rows:
                    for row in rows:
                        found, problem = _checked(row, number + 1, previous)
                        if problem:
                            return LedgerCheck(False, number, previous, number + 1, problem)
                        previous, number = found.hash, found.number
                        sought.pop(previous, None)
                stated = unit.execute(
                    select(ledger_head.c.number, ledger_head.c.hash).where(ledger_head.c.name == _HEAD)
                ).first()
        except RegistryBusy:
            raise
        except (RegistryError, ValueError, TypeError, AttributeError):
            unreadable = self._first_unreadable(number + 1)
            return LedgerCheck(False, number, previous, unreadable, f"event {unreadable} cannot be read")
        problem = _problem_of_head(None if stated is None else (stated.number, stated.hash), number, previous)
        if not problem and sought:
            problem = f"the head noted in {min(sought.values())} is no longer part of the chain"
        return LedgerCheck(not problem, number, previous, number + 1 if problem else None, problem)

    def _walk(self, unit: Unit) -> Result[Any]:
        return unit.execute(self._stored().order_by(ledger.c.number).execution_options(yield_per=_AT_ONCE))

    def _stored(self) -> Select[Any]:
        # SQLite keeps times as text, and more than one spelling is read as the same time.
        spelt = [type_coerce(ledger.c.at, String).label("at_spelt")] if self._database.is_sqlite else []
        return select(ledger, *spelt)

    def _first_unreadable(self, number: int) -> int:
        """Find the event that kept a batch from being read."""
        while number < 2**31:
            try:
                with self._database.read() as unit:
                    row = unit.execute(self._stored().where(ledger.c.number == number)).first()
                    _checked(row, number, row.previous_hash)
            except (RegistryError, ValueError, TypeError, AttributeError):
                break
            number += 1
        return number

    def count(self) -> int:
        """Count the events."""
        with self._database.read() as unit:
            return unit.execute(select(func.count()).select_from(ledger)).scalar_one()


@dataclass(frozen=True)
class SignedHead:
    """The ledger's last event at some moment, with a signature.

    Attributes
    ----------
    number, hash
        The event.
    signed_at
        When it was signed, in UTC.
    signature_json
        The signed statement, which is what counts: the other cells must say what is in it.
    """

    number: int
    hash: str
    signed_at: datetime
    signature_json: str


class SignedHeads:
    """Store and read signed heads of the ledger: who rewrites it would have to sign again, too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, head: SignedHead, *, unit: Unit | None = None) -> None:
        """Store a signed head; one of the same event is replaced."""
        with self._database.write(unit) as opened:
            opened.execute(self._database.upsert(signed_head), vars(head))

    def list(self, *, unit: Unit | None = None) -> tuple[SignedHead, ...]:
        """Return all signed heads, in the order of the ledger."""
        with self._database.read(unit) as opened:
            rows = opened.execute(select(signed_head).order_by(signed_head.c.number)).fetchall()
            return tuple(SignedHead(*row) for row in rows)


def _checked(row: Row, number: int, previous: str) -> tuple[LedgerEvent, str]:
    """Read a row, and describe what is wrong with it as the event of that number; empty when nothing is."""
    found = LedgerEvent(*row[: len(LedgerEvent.__dataclass_fields__)])
    if found.number != number:
        return found, f"event {number} is missing"
    if found.previous_hash != previous:
        return found, f"event {number} does not follow the event before it"
    spelt = row._mapping.get("at_spelt")
    is_spelt_as_written = spelt is None or spelt == f"{found.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"
    is_whole = found.hash == found.content_hash and is_spelt_as_written
    return found, "" if is_whole else f"event {number} was changed after it was written"


def _problem_of_head(stated: tuple[int, str] | None, number: int, last: str) -> str:
    """Compare the recorded last event with the last event of the chain."""
    if stated is None:
        return "" if number == 0 else "the registry no longer says which event is the last"
    if stated[0] > number:
        gone = f"event {stated[0]} is" if stated[0] == number + 1 else f"events {number + 1} to {stated[0]} are"
        return f"{gone} missing from the end"
    return "" if stated == (number, last) else f"the registry says that event {stated[0]} is the last, another one is"


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
