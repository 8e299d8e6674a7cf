"""Prices of LLMs: exact, effective-dated, and held back when a change is too large to believe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Row, and_, select

from registry.db.database import Unit
from registry.db.tables import llm_price
from registry.ledger.facts import reopen

LARGEST_CHANGE = 10
"""A price that changes by more than this factor waits for review: catalogs mix up units."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens, in force from `since` on."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    since: date
    catalog: str


def prices_in_force(unit: Unit, llm_numbers: Iterable[int], as_of: date | None = None) -> dict[int, Price]:
    """Return the price in force per LLM number; LLMs without a usable price are absent.

    Parameters
    ----------
    unit
        The transaction to read in.
    llm_numbers
        Row numbers of LLMs.
    as_of
        The day; the latest price when omitted.
    """
    wanted = set(llm_numbers)
    query = select(llm_price).where(llm_price.c.is_held.is_(False)).order_by(llm_price.c.since_on)
    if as_of is not None:
        query = query.where(llm_price.c.since_on <= as_of)
    if len(wanted) == 1:
        query = query.where(llm_price.c.llm_id == next(iter(wanted)))
    latest: dict[int, Row] = {row.llm_id: row for row in unit.execute(query) if row.llm_id in wanted}
    return {number: price_of(row) for number, row in latest.items() if row.input_usd_per_mtok is not None}


def price_of(row: Row) -> Price:
    """Read a price row."""
    return Price(row.input_usd_per_mtok, row.output_usd_per_mtok, row.since_on, row.catalog)


def implausible_change(before: Price, after: Price) -> str | None:
    """Return why a new price must be reviewed before it counts; None when it may count at once.

    A fall of both prices to zero is believed: a catalog's zero only gets here when the user allow-listed it as free.
    """
    pairs = (
        ("input", before.input_usd_per_mtok, after.input_usd_per_mtok),
        ("output", before.output_usd_per_mtok, after.output_usd_per_mtok),
    )
    if after.input_usd_per_mtok == after.output_usd_per_mtok == 0:
        return None
    for side, old, new in pairs:
        if (old == 0) != (new == 0):
            return f"{side} price changed from {old} to {new}, held for review"
        if old != new and not (old <= new * LARGEST_CHANGE and new <= old * LARGEST_CHANGE):
            return f"{side} price changed x{new / old:.3g}, held for review"
    return None


def put_in_force(unit: Unit, llm_number: int, price: Price | None, since: date, catalog: str) -> None:
    """Write the price that counts from a day on; None means that no usable price is known from then on."""
    _replace(unit, llm_number, price, since, catalog, is_held=False)
    drop_held(unit, llm_number)


def put_first_prices(unit: Unit, prices: Mapping[int, Price]) -> None:
    """Write the prices of LLMs that had none before, by LLM number."""
    rows = [
        {
            "llm_id": number,
            "since_on": price.since,
            "catalog": price.catalog,
            "input_usd_per_mtok": price.input_usd_per_mtok,
            "output_usd_per_mtok": price.output_usd_per_mtok,
            "is_held": False,
        }
        for number, price in prices.items()
    ]
    if rows:
        unit.execute(llm_price.insert(), rows)


def hold(unit: Unit, llm_number: int, price: Price, since: date, catalog: str) -> None:
    """Store a price for review without putting it in force."""
    drop_held(unit, llm_number)
    _replace(unit, llm_number, price, since, catalog, is_held=True)


def held_prices(unit: Unit) -> dict[int, Price]:
    """Return the prices that wait for review, by LLM number."""
    rows = unit.execute(select(llm_price).where(llm_price.c.is_held.is_(True)))
    return {row.llm_id: price_of(row) for row in rows}


def drop_held(unit: Unit, llm_number: int) -> None:
    """Delete the price of one LLM that waits for review."""
    waiting = (llm_price.c.llm_id == llm_number, llm_price.c.is_held.is_(True))
    reopen(unit, llm_price, *waiting)
    unit.execute(llm_price.delete().where(*waiting))


def _replace(unit: Unit, llm_number: int, price: Price | None, since: date, catalog: str, *, is_held: bool) -> None:
    same = and_(llm_price.c.llm_id == llm_number, llm_price.c.since_on == since, llm_price.c.is_held.is_(is_held))
    reopen(unit, llm_price, same)
    unit.execute(llm_price.delete().where(same))
    unit.execute(
        llm_price.insert().values(
            llm_id=llm_number,
            since_on=since,
            catalog=catalog,
            input_usd_per_mtok=None if price is None else price.input_usd_per_mtok,
            output_usd_per_mtok=None if price is None else price.output_usd_per_mtok,
            is_held=is_held,
        )
    )
