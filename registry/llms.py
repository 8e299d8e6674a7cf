"""LLMs as the catalogs list them: identity, effective-dated prices, status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from shlex import quote

from sqlalchemy import ColumnElement, Row, func, or_, select

from registry.catalogs.diffs import diffs_since
from registry.catalogs.fetches import record_fetches
from registry.db.database import Database, Unit
from registry.db.tables import LLM_STATUSES, llm, llm_price
from registry.errors import NotFound
from registry.ledger import Ledger
from registry.ledger.facts import reopen
from registry.listings import (
    LEFT_OUT,
    CatalogDiff,
    CatalogFetch,
    DatedDiff,
    Listing,
    QuarantinedRow,
    Repricing,
    UnreadCatalog,
)
from registry.prices import Price, held_prices, price_of, prices_in_force, put_in_force
from registry.runs import Run, Runs
from routing.errors import InvalidInput

__all__ = [
    "LLM",
    "CatalogDiff",
    "CatalogFetch",
    "DatedDiff",
    "LLMs",
    "Listing",
    "Price",
    "QuarantinedRow",
    "Repricing",
    "UnreadCatalog",
]


@dataclass(frozen=True)
class LLM:
    """One routable language model, or the reason why it is not routable.

    Attributes
    ----------
    key
        ``endpoint:llm_id``.
    first_seen_on
        The day it was first visible to this registry.
    status
        ``available``, ``withdrawn``, ``quarantined`` or ``excluded``.
    status_reason
        Why it has that status, when a person or a check decided.
    refusal
        Why the catalog's facts do not allow routing to it; None when they do.
    price
        The price in force; None while unknown.
    """

    key: str
    endpoint: str
    llm_id: str
    canonical_id: str | None
    name: str
    catalog: str
    released_at: datetime | None
    deprecated_at: datetime | None
    first_seen_on: date
    last_seen_on: date
    context_tokens: int | None
    status: str
    status_reason: str | None
    refusal: str | None
    price: Price | None

    @property
    def is_left_out(self) -> bool:
        """Whether the settings leave it out: it is kept, but shown only on request."""
        return self.refusal in LEFT_OUT

    @property
    def is_routable(self) -> bool:
        """Whether it may be called: available, priced, and nothing speaks against it."""
        return self.status == "available" and self.refusal is None and self.price is not None

    def is_routable_on(self, day: date) -> bool:
        """Whether it may be called on a day: routable, and not past the announced day of its withdrawal."""
        return self.is_routable and (self.deprecated_at is None or self.deprecated_at.date() > day)

    def refusal_to_serve(self, day: date) -> str:
        """Return why a router must not send prompts to it on a day; empty when it may, as while a price is reviewed."""
        if self.status != "available":
            return f"{self.status}: {self.status_reason or 'no longer listed'}"
        if self.is_left_out:
            return str(self.refusal)
        if self.deprecated_at is not None and self.deprecated_at.date() <= day:
            return f"retired on {self.deprecated_at.date()}"
        return ""


class LLMs:
    """Read LLMs and their prices; record what catalogs list and what people decide."""

    def __init__(self, database: Database, events: Ledger, runs: Runs) -> None:
        self._database = database
        self._events = events
        self._runs = runs

    def record_fetches(
        self,
        run: Run | int,
        fetches: Sequence[CatalogFetch],
        on: date,
        *,
        unread: Sequence[UnreadCatalog] | None = None,
        unit: Unit | None = None,
    ) -> tuple[CatalogDiff, ...]:
        """Store the fetches of a night raw and derive LLMs, prices and status from them, in one transaction.

        The same fetches recorded again in the same run change nothing and return the same diffs; an amended one returns
        the changes of the whole run. Where several catalogs list one LLM, that of the lowest precedence decides its
        facts and its price, in whatever order they come.

        Parameters
        ----------
        run
            The run that fetched; a run that lost its lease is refused, a bare run number is not checked.
        fetches
            What the catalogs listed, each catalog once.
        on
            The day of the fetches; listings released later are kept but not visible yet.
        unread
            The catalogs of the settings that could not be read: what they said before stays. Catalogs that are in
            neither are no longer in the settings. When omitted, every other catalog counts as unread.
        unit
            The transaction to join.

        Returns
        -------
        tuple
            What changed, by catalog in the order of `fetches`, since the last night that reported it.
        """
        with self._database.write(unit) as opened:
            held = self._runs.require_lease(run, opened)
            return record_fetches(self._database, opened, held.id, fetches, on, unread)

    def all(self, status: str | None = None, *, as_of: date | None = None, unit: Unit | None = None) -> tuple[LLM, ...]:
        """Return every LLM by key.

        Parameters
        ----------
        status
            Only those of this status.
        as_of
            Only those seen by this day, with the price of that day.
        unit
            The transaction to join.
        """
        conditions: list[ColumnElement[bool]] = []
        if status is not None:
            conditions.append(llm.c.status == status)
        if as_of is not None:
            conditions.append(llm.c.first_seen_on <= as_of)
        return self._select(conditions, as_of, unit)

    def get(self, key: str, *, unit: Unit | None = None) -> LLM:
        """Return one LLM.

        Raises
        ------
        NotFound
            When no catalog ever listed it.
        """
        found = self._select([llm.c.key == key], None, unit)
        if not found:
            raise NotFound(f"there is no LLM {key!r}", hint="uniroute llm list")
        return found[0]

    def find(self, text: str) -> tuple[LLM, ...]:
        """Return the LLMs whose key, id or name contains a text, ignoring case; an exact key or id matches alone."""
        exact = self._select([or_(llm.c.key == text, llm.c.llm_id == text)], None, None)
        if exact:
            return exact
        part = text.lower()
        like = [func.lower(column).contains(part, autoescape=True) for column in (llm.c.key, llm.c.name)]
        return self._select([or_(*like)], None, None)

    def price_history(self, key: str) -> tuple[Price, ...]:
        """Return the prices that were in force, the oldest first."""
        with self._database.read() as unit:
            rows = unit.execute(
                select(llm_price)
                .join(llm)
                .where(llm.c.key == key, llm_price.c.is_held.is_(False), llm_price.c.input_usd_per_mtok.is_not(None))
                .order_by(llm_price.c.since_on)
            )
            return tuple(price_of(row) for row in rows)

    def first_prices(self) -> Mapping[str, Price]:
        """Return the first price of each LLM that was in force, by key; it never changes."""
        with self._database.read() as unit:
            rows = unit.execute(
                select(llm.c.key, llm_price)
                .join_from(llm_price, llm)
                .where(llm_price.c.is_held.is_(False), llm_price.c.input_usd_per_mtok.is_not(None))
                .order_by(llm_price.c.since_on.desc())
            )
            return {row.key: price_of(row) for row in rows}

    def held_price(self, key: str) -> Price | None:
        """Return the price that waits for review; None when none does."""
        with self._database.read() as unit:
            number = unit.execute(select(llm.c.id).where(llm.c.key == key)).scalar()
            return held_prices(unit).get(number)

    def diffs_since(self, since: date) -> tuple[DatedDiff, ...]:
        """Return what the catalogs changed from a day on, one entry per run and catalog, the earliest first."""
        with self._database.read() as unit:
            return diffs_since(unit, since)

    def set_status(self, key: str, status: str, reason: str, *, actor: str, now: datetime) -> LLM:
        """Change the status by decision and record it in the ledger; a later fetch does not lift it.

        Parameters
        ----------
        key
            The LLM.
        status
            ``available``, ``withdrawn``, ``quarantined`` or ``excluded``.
        reason
            Why; must not be empty.
        actor
            Who decided.
        now
            The present moment.

        Raises
        ------
        InvalidInput
            For an unknown status or an empty reason.
        NotFound
            When no catalog ever listed it.
        """
        if status not in LLM_STATUSES:
            raise InvalidInput(f"{status!r} is no status of an LLM", hint=f"one of {', '.join(LLM_STATUSES)}")
        if not reason.strip():
            raise InvalidInput("a status is changed for a reason", hint="--reason TEXT")
        with self._database.write() as unit:
            before = self.get(key, unit=unit)
            reopen(unit, llm, llm.c.key == key)
            unit.execute(llm.update().where(llm.c.key == key).values(status=status, status_reason=reason))
            facts = {"before": before.status, "after": status}
            self._events.append(
                f"llm:status:{status}", key, actor=actor, now=now, reason=reason, payload=facts, unit=unit
            )
            return self.get(key, unit=unit)

    def accept_price(self, key: str, *, actor: str, reason: str, now: datetime) -> LLM:
        """Put a held price in force and record it in the ledger.

        Raises
        ------
        NotFound
            When no price of this LLM waits for review.
        """
        with self._database.write() as unit:
            self.get(key, unit=unit)
            number = unit.execute(select(llm.c.id).where(llm.c.key == key)).scalar_one()
            accepted = held_prices(unit).get(number)
            if accepted is None:
                raise NotFound(f"no price of {key} waits for review", hint=f"uniroute llm show {quote(key)}")
            put_in_force(unit, number, accepted, accepted.since, accepted.catalog)
            reopen(unit, llm, llm.c.id == number)
            unit.execute(llm.update().where(llm.c.id == number).values(refusal=None))
            facts = {"input": str(accepted.input_usd_per_mtok), "output": str(accepted.output_usd_per_mtok)}
            self._events.append(
                "llm:price:accepted", key, actor=actor, now=now, reason=reason, payload=facts, unit=unit
            )
            return self.get(key, unit=unit)

    def _select(
        self, conditions: Sequence[ColumnElement[bool]], as_of: date | None, unit: Unit | None
    ) -> tuple[LLM, ...]:
        with self._database.read(unit) as opened:
            rows = opened.execute(select(llm).where(*conditions)).fetchall()
            rows.sort(key=lambda row: row.key)  # a server sorts text by the rules of its own language
            prices = prices_in_force(opened, [row.id for row in rows], as_of)
            return tuple(_llm(row, prices.get(row.id)) for row in rows)


def _llm(row: Row, price: Price | None) -> LLM:
    fields = row._mapping
    return LLM(**{name: fields[name] for name in LLM.__dataclass_fields__ if name != "price"}, price=price)
