"""Derive LLMs, prices and status from what a catalog lists, and report what changed.

Absence is believed only from a complete fetch that did not shrink; what the catalog lists is kept raw in any case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, bindparam, func, select

from registry.db.columns import plain_text, text_bytes
from registry.db.database import Database, Unit, chunks, ids_of
from registry.db.tables import catalog_fetch, listing, listing_text, llm
from registry.listings import CatalogDiff, CatalogFetch, DatedDiff, Listing, Repricing
from registry.prices import (
    Price,
    drop_held,
    held_prices,
    hold,
    implausible_change,
    prices_in_force,
    put_first_prices,
    put_in_force,
)
from routing.strict_json import canonical_json

LARGEST_SHRINKAGE = 0.2
"""A fetch that lists fewer than 80 % of the LLMs known from its catalog must be confirmed by that of a second day."""

_MAX_ID_CHARACTERS = 300


@dataclass(frozen=True)
class _PriceMove:
    """The outcome of one listed price: the change, if there is one, and why it is held, if it is."""

    change: Repricing | None = None
    doubt: str | None = None


@dataclass(frozen=True)
class _Known:
    """What the registry knew before the fetch."""

    rows: Mapping[str, Row]
    prices: Mapping[int, Price]
    held: Mapping[int, Price]


def record_fetch(database: Database, unit: Unit, run_id: int, fetch: CatalogFetch, on: date, rank: int) -> CatalogDiff:
    """Keep a fetch and apply it; see `LLMs.record_fetch`."""
    before = _diff_of_run(unit, run_id, fetch.catalog)
    is_repeated = select(catalog_fetch.c.id).where(
        catalog_fetch.c.run_id == run_id,
        catalog_fetch.c.catalog == fetch.catalog,
        catalog_fetch.c.digest == fetch.digest,
    )
    if before is not None and unit.execute(is_repeated).first() is not None:
        return before
    rows = unit.execute(select(llm).order_by(llm.c.id)).fetchall()
    numbers = [row.id for row in rows]
    known = _Known({row.key: row for row in rows}, prices_in_force(unit, numbers), held_prices(unit))
    usable = _first_of_each_key(fetch.listings)
    suspicion = _suspicion(unit, fetch, len(usable), known, on)
    diff = CatalogDiff(fetch.catalog, is_suspicious=suspicion)
    if not _is_outdated(unit, fetch.catalog, on):
        diff = _apply(unit, fetch.catalog, usable, known, on, rank, suspicion)
    whole = diff if before is None else _merge(before, diff)
    _keep_raw(database, unit, run_id, fetch, on, whole)
    return whole


def _apply(
    unit: Unit,
    catalog: str,
    usable: Mapping[str, Listing],
    known: _Known,
    on: date,
    rank: int,
    suspicion: str | None,
) -> CatalogDiff:
    end_of_day = datetime.combine(on, time.max, tzinfo=UTC)
    visible = [one for one in usable.values() if one.released_at is None or one.released_at <= end_of_day]
    new = [one for one in visible if one.llm_key not in known.rows]
    _insert(unit, new, on, rank)
    returned, repriced, held, updates = [], [], [], []
    for one in visible:
        row = known.rows.get(one.llm_key)
        if row is None:
            continue
        is_back = row.status == "withdrawn" and row.status_reason is None
        if row.catalog != catalog and rank >= row.catalog_rank and not is_back:
            continue
        move = _reprice(unit, one, row.id, known, on)
        if move.change is not None:
            repriced.append(move.change)
            held += [one.llm_key] if move.doubt else []
        returned += [one.llm_key] if is_back else []
        updates.append(_update(one, row, on, rank, move.doubt, is_back))
    if updates:
        unit.execute(llm.update().where(llm.c.id == bindparam("number")), updates)
    withdrawn = [] if suspicion else _withdraw(unit, catalog, usable, known)
    keys = tuple(one.llm_key for one in new)
    return CatalogDiff(catalog, keys, tuple(withdrawn), tuple(returned), tuple(repriced), tuple(held), suspicion)


def _reprice(unit: Unit, one: Listing, number: int, known: _Known, on: date) -> _PriceMove:
    """Compare the listed price with the one in force, and put it in force or hold it."""
    before, waiting, after = known.prices.get(number), known.held.get(number), _listed_price(one, on)
    if _same(before, after):
        if waiting is not None:
            drop_held(unit, number)
        return _PriceMove()
    doubt = implausible_change(before, after) if before is not None and after is not None else None
    if doubt is None or after is None:
        put_in_force(unit, number, after, on, one.catalog)
    elif _same(waiting, after):
        return _PriceMove(None, doubt)
    else:
        hold(unit, number, after, on, one.catalog)
    return _PriceMove(Repricing(one.llm_key, before, after), doubt)


def _listed_price(one: Listing, on: date) -> Price | None:
    pair = (one.input_usd_per_mtok, one.output_usd_per_mtok)
    if one.refusal is not None or any(not _is_usable(amount) for amount in pair):
        return None
    return Price(*pair, on, one.catalog)


def _is_usable(amount: Decimal | None) -> bool:
    return amount is not None and amount.is_finite() and amount >= 0


def _same(one: Price | None, other: Price | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.input_usd_per_mtok, one.output_usd_per_mtok) == (other.input_usd_per_mtok, other.output_usd_per_mtok)


def _refusal(one: Listing) -> str | None:
    """Return the catalog's refusal; an unusable price is always given as one."""
    if one.refusal is not None:
        return one.refusal
    pair = (one.input_usd_per_mtok, one.output_usd_per_mtok)
    if None in pair:
        return "price missing"
    return None if all(_is_usable(amount) for amount in pair) else "price is not a finite, non-negative number"


def _insert(unit: Unit, new: Sequence[Listing], on: date, rank: int) -> None:
    if not new:
        return
    rows = [
        {
            **_facts(one, on, rank),
            "key": one.llm_key,
            "endpoint": one.endpoint,
            "llm_id": one.llm_id,
            "first_seen_on": on,
            "status": "available",
            "refusal": _refusal(one),
        }
        for one in new
    ]
    unit.execute(llm.insert(), rows)
    numbers = ids_of(unit, llm.c.key, llm.c.id, [one.llm_key for one in new])
    priced = {numbers[one.llm_key]: price for one in new if (price := _listed_price(one, on)) is not None}
    put_first_prices(unit, priced)


def _update(one: Listing, row: Row, on: date, rank: int, doubt: str | None, is_back: bool) -> dict[str, Any]:
    return {
        **_facts(one, on, rank),
        "number": row.id,
        "refusal": doubt or _refusal(one),
        "status": "available" if is_back else row.status,
    }


def _facts(one: Listing, on: date, rank: int) -> dict[str, Any]:
    return {
        "last_seen_on": on,
        "catalog_rank": rank,
        "canonical_id": one.canonical_id,
        "name": one.name,
        "catalog": one.catalog,
        "released_at": one.released_at,
        "deprecated_at": one.deprecated_at,
        "context_tokens": one.context_tokens,
    }


def _withdraw(unit: Unit, catalog: str, usable: Mapping[str, Listing], known: _Known) -> list[str]:
    gone = [
        row
        for key, row in known.rows.items()
        if row.catalog == catalog and row.status == "available" and key not in usable
    ]
    for part in chunks([row.id for row in gone]):
        unit.execute(llm.update().where(llm.c.id.in_(part)).values(status="withdrawn", status_reason=None))
    return [row.key for row in gone]


def _first_of_each_key(listings: Iterable[Listing]) -> dict[str, Listing]:
    usable: dict[str, Listing] = {}
    for one in listings:
        if plain_text(one.llm_id, _MAX_ID_CHARACTERS) == one.llm_id:
            usable.setdefault(one.llm_key, one)
    return usable


def _suspicion(unit: Unit, fetch: CatalogFetch, n_listed: int, known: _Known, on: date) -> str | None:
    if _is_outdated(unit, fetch.catalog, on):
        return "dated before the latest fetch of this catalog"
    if not fetch.is_complete:
        return "incomplete fetch"
    mine = [row for row in known.rows.values() if row.catalog == fetch.catalog and row.status == "available"]
    if n_listed >= (1 - LARGEST_SHRINKAGE) * len(mine):
        return None
    last = unit.execute(
        select(catalog_fetch)
        .where(catalog_fetch.c.catalog == fetch.catalog, catalog_fetch.c.is_complete.is_(True))
        .where(catalog_fetch.c.fetched_on < on)
        .order_by(catalog_fetch.c.id.desc())
        .limit(1)
    ).first()
    if last is not None and last.suspicion is not None and n_listed >= (1 - LARGEST_SHRINKAGE) * last.n_listings > 0:
        return None  # a second day confirms it: the catalog did shrink
    return f"shrank from {len(mine)} to {n_listed} LLMs"


def _is_outdated(unit: Unit, catalog: str, on: date) -> bool:
    latest = unit.execute(
        select(func.max(catalog_fetch.c.fetched_on)).where(catalog_fetch.c.catalog == catalog)
    ).scalar()
    return latest is not None and on < latest


def _keep_raw(database: Database, unit: Unit, run_id: int, fetch: CatalogFetch, on: date, diff: CatalogDiff) -> None:
    fetch_id = unit.execute(
        catalog_fetch.insert().values(
            run_id=run_id,
            catalog=fetch.catalog,
            fetched_on=on,
            digest=fetch.digest,
            is_complete=fetch.is_complete,
            suspicion=diff.is_suspicious,
            n_listings=len(_first_of_each_key(fetch.listings)),
            n_quarantined=len(fetch.quarantined),
            diff_json=_diff_json(diff),
        )
    ).inserted_primary_key[0]
    numbers = {row.key: row.id for row in unit.execute(select(llm.c.key, llm.c.id))}
    kept = [(one.llm_key, one.refusal, False, one.raw) for one in fetch.listings]
    kept += [(None, one.reason, True, one.raw) for one in fetch.quarantined]
    texts = {hashlib.sha256(text_bytes(raw)).hexdigest(): raw for *_, raw in kept}
    if not kept:
        return
    unit.execute(
        database.insert_missing(listing_text, [listing_text.c.digest]),
        [{"digest": digest, "raw": raw} for digest, raw in texts.items()],
    )
    unit.execute(
        listing.insert(),
        [
            {
                "fetch_id": fetch_id,
                "position": position,
                "llm_id": None if key is None else numbers.get(key),
                "llm_key": key,
                "refusal": refusal,
                "is_quarantined": is_quarantined,
                "text_digest": hashlib.sha256(text_bytes(raw)).hexdigest(),
            }
            for position, (key, refusal, is_quarantined, raw) in enumerate(kept)
        ],
    )


def _diff_of_run(unit: Unit, run_id: int, catalog: str) -> CatalogDiff | None:
    stored = unit.execute(
        select(catalog_fetch.c.diff_json)
        .where(catalog_fetch.c.run_id == run_id, catalog_fetch.c.catalog == catalog)
        .order_by(catalog_fetch.c.id.desc())
        .limit(1)
    ).scalar()
    return None if stored is None else _diff_from_json(stored)


def diffs_since(unit: Unit, since: date) -> tuple[DatedDiff, ...]:
    """Return what each run changed from a day on, the earliest first; see `LLMs.diffs_since`."""
    rows = unit.execute(
        select(catalog_fetch.c.run_id, catalog_fetch.c.catalog, catalog_fetch.c.fetched_on, catalog_fetch.c.diff_json)
        .where(catalog_fetch.c.fetched_on >= since)
        .order_by(catalog_fetch.c.id)
    )
    # The last fetch of a run already states what the whole run changed.
    latest = {(row.run_id, row.catalog): DatedDiff(row.fetched_on, _diff_from_json(row.diff_json)) for row in rows}
    return tuple(sorted(latest.values(), key=lambda one: one.on))


def _merge(before: CatalogDiff, after: CatalogDiff) -> CatalogDiff:
    """Join the changes of two fetches of one run, as if they had been a single fetch."""
    gone, back = set(after.withdrawn), set(after.returned)
    came = {*before.new, *before.returned}
    latest = {one.llm_key: one for one in before.repriced}
    for one in after.repriced:
        latest[one.llm_key] = replace(one, before=latest[one.llm_key].before) if one.llm_key in latest else one
    settled = {one.llm_key for one in after.repriced}
    return CatalogDiff(
        after.catalog,
        tuple(key for key in dict.fromkeys(before.new + after.new) if key not in gone),
        tuple(key for key in before.withdrawn if key not in back)
        + tuple(key for key in after.withdrawn if key not in came),
        tuple(key for key in before.returned if key not in gone)
        + tuple(key for key in after.returned if key not in before.withdrawn),
        tuple(latest.values()),
        tuple(key for key in before.held if key not in settled) + after.held,
        after.is_suspicious,
    )


def _diff_json(diff: CatalogDiff) -> str:
    def price(one: Price | None) -> list[str] | None:
        if one is None:
            return None
        return [str(one.input_usd_per_mtok), str(one.output_usd_per_mtok), one.since.isoformat(), one.catalog]

    return canonical_json(
        {
            "catalog": diff.catalog,
            "new": diff.new,
            "withdrawn": diff.withdrawn,
            "returned": diff.returned,
            "repriced": [[one.llm_key, price(one.before), price(one.after)] for one in diff.repriced],
            "held": diff.held,
            "is_suspicious": diff.is_suspicious,
        }
    )


def _diff_from_json(text: str) -> CatalogDiff:
    def price(one: list[str] | None) -> Price | None:
        return None if one is None else Price(Decimal(one[0]), Decimal(one[1]), date.fromisoformat(one[2]), one[3])

    stored = json.loads(text)
    return CatalogDiff(
        stored["catalog"],
        tuple(stored["new"]),
        tuple(stored["withdrawn"]),
        tuple(stored["returned"]),
        tuple(Repricing(key, price(before), price(after)) for key, before, after in stored["repriced"]),
        tuple(stored["held"]),
        stored["is_suspicious"],
    )
