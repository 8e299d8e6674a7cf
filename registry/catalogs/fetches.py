"""Derive LLMs, prices and status from what the catalogs of a night list, and report what changed.

Absence is believed only from a complete fetch that did not shrink, and only where no catalog that could not be read may
still list the LLM, or where the endpoint's own list lacks it on two nights. What a catalog lists is kept raw anyway.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from sqlalchemy import Row, bindparam, func, select

from registry.catalogs import raw
from registry.catalogs.absences import unlisted_by_endpoint
from registry.catalogs.diffs import merged, unreported_diff
from registry.catalogs.offers import Offer, RankedListing, SameNames, offer_of
from registry.db.database import Database, Unit, chunks, ids_of
from registry.db.tables import catalog_fetch, listing, llm
from registry.listings import LEFT_OUT, CatalogDiff, CatalogFetch, Repricing, UnreadCatalog
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

LARGEST_SHRINKAGE = 0.2
"""A fetch that lists fewer than 80 % of the LLMs known from its catalog must be confirmed by that of a second day."""


@dataclass(frozen=True)
class _PriceMove:
    """The outcome of one listed price: the change, if there is one, and why it is held, if it is."""

    change: Repricing | None = None
    doubt: str | None = None


@dataclass(frozen=True)
class _Known:
    """What the registry knew before the night's fetches."""

    rows: Mapping[str, Row]
    prices: Mapping[int, Price]
    held: Mapping[int, Price]


@dataclass
class _Changes:
    """What changed, collected for the diff of one catalog."""

    new: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    repriced: list[Repricing] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)

    def as_diff(self, fetch: CatalogFetch, suspicion: str | None) -> CatalogDiff:
        parts = (self.new, self.withdrawn, self.returned, self.repriced, self.held)
        return CatalogDiff(fetch.catalog, *map(tuple, parts), suspicion, len(fetch.left_out), tuple(self.unlisted))


def record_fetches(
    database: Database,
    unit: Unit,
    run_id: int,
    fetches: Sequence[CatalogFetch],
    on: date,
    unread: Sequence[UnreadCatalog] | None,
) -> tuple[CatalogDiff, ...]:
    """Keep the fetches of a night and apply them together; see `LLMs.record_fetches`."""
    earlier = {fetch.catalog: unreported_diff(unit, run_id, fetch.catalog) for fetch in fetches}
    repeated = {fetch.catalog for fetch in fetches if raw.is_repeated(unit, run_id, fetch)}
    own = {name: one.diff for name, one in earlier.items() if one is not None and one.run_id == run_id}
    if all(fetch.catalog in repeated and fetch.catalog in own for fetch in fetches):
        return tuple(own[fetch.catalog] for fetch in fetches)
    rows = unit.execute(select(llm).order_by(llm.c.id)).fetchall()
    known = _Known({row.key: row for row in rows}, prices_in_force(unit, [row.id for row in rows]), held_prices(unit))
    suspicions = {fetch.catalog: _suspicion(unit, fetch, known, on) for fetch in fetches}
    current = [fetch for fetch in fetches if not _is_outdated(unit, fetch.catalog, on)]
    present = _Night(unit, on, known, current, suspicions, unread)
    changes = present.apply()
    whole = []
    for fetch in fetches:
        diff = changes[fetch.catalog].as_diff(fetch, suspicions[fetch.catalog])
        before = earlier[fetch.catalog]
        diff = diff if before is None else merged(before.diff, diff, present.hidden)
        raw.keep(database, unit, run_id, fetch, on, diff, before, is_kept=fetch.catalog in repeated)
        whole.append(diff)
    return tuple(whole)


class _Night:
    """Apply the fetches of one night.

    Parameters
    ----------
    unit
        The transaction.
    on
        The day of the night.
    known
        What the registry knew before.
    fetches
        What was read.
    suspicions
        By catalog, why absence from it means nothing; None when it does.
    unread
        The catalogs of the settings that were not read; None when any other may be one.
    """

    def __init__(
        self,
        unit: Unit,
        on: date,
        known: _Known,
        fetches: Sequence[CatalogFetch],
        suspicions: Mapping[str, str | None],
        unread: Sequence[UnreadCatalog] | None,
    ) -> None:
        self._unit = unit
        self._on = on
        self._known = known
        self._fetches = {fetch.catalog: fetch for fetch in fetches}
        self._suspicions = suspicions
        self._unread = unread
        self._listed: defaultdict[str, list[RankedListing]] = defaultdict(list)
        self._in_catalog: dict[str, set[str]] = {}
        self._left_out: dict[str, tuple[int, str]] = {}
        self._changes: defaultdict[str, _Changes] = defaultdict(_Changes)
        self._updates: list[dict[str, Any]] = []
        for fetch in fetches:
            usable = raw.first_of_each_key(fetch.listings)
            self._in_catalog[fetch.catalog] = {*usable, *fetch.left_out}
            for key, one in usable.items():
                self._listed[key].append(RankedListing(fetch.precedence, one))
            for key, reason in fetch.left_out.items():
                self._left_out[key] = min(
                    self._left_out.get(key, (fetch.precedence, reason)), (fetch.precedence, reason)
                )
        self._unlisted = unlisted_by_endpoint(unit, on, fetches, unread, known.rows)
        for key in self._unlisted.two_nights:
            # What others say of an LLM counts for nothing once its endpoint has dropped it.
            self._listed.pop(key, None)
        for key, catalog in self._unlisted.first_night.items():
            if known.rows[key].status == "available":
                self._changes[catalog].unlisted.append(key)
        self._names = SameNames()
        self.hidden: dict[str, str] = {}

    def apply(self) -> Mapping[str, _Changes]:
        """Write what the fetches mean; return what changed, by catalog."""
        offers = self._visible_offers()
        for key, row in self._known.rows.items():
            if (price := self._known.prices.get(row.id)) is not None:
                self._names.add(key, price)
        for key, offer in offers.items():
            if offer.price is not None:
                self._names.add(key, offer.price)
        self._insert({key: offer for key, offer in offers.items() if key not in self._known.rows})
        for key, offer in offers.items():
            if (row := self._known.rows.get(key)) is not None:
                self._update(offer, row)
        if self._updates:
            self._unit.execute(llm.update().where(llm.c.id == bindparam("number")), self._updates)
        self._withdraw()
        return self._changes

    def _visible_offers(self) -> dict[str, Offer]:
        """Combine what is listed; hide what the settings leave out, and skip what is not released yet."""
        end_of_day = datetime.combine(self._on, time.max, tzinfo=UTC)
        offers, hidden = {}, {}
        for key in {**self._listed, **self._left_out}:
            ranked = self._listed.get(key, [])
            reason = self._reason_to_hide(key, ranked)
            if reason is not None:
                hidden[key] = reason
            elif ranked:
                offer = offer_of(ranked, self._on)
                if offer.listing.released_at is None or offer.listing.released_at <= end_of_day:
                    offers[key] = offer
        self.hidden = hidden
        rows = {key: self._known.rows[key] for key in hidden if key in self._known.rows}
        updates = [
            {"number": row.id, "refusal": hidden[key]} for key, row in rows.items() if row.refusal != hidden[key]
        ]
        if updates:
            self._unit.execute(llm.update().where(llm.c.id == bindparam("number")), updates)
        return offers

    def _reason_to_hide(self, key: str, ranked: Sequence[RankedListing]) -> str | None:
        """Return why the settings leave an LLM out: the catalog of the lowest precedence that lists it decides."""
        wanted = min((one.precedence for one in ranked), default=None)
        unwanted, reason = self._left_out.get(key, (None, None))
        for catalog in self._unread or ():
            endpoint, _, llm_id = key.partition(":")
            said = catalog.leaves_out(llm_id) if catalog.endpoint == endpoint else None
            if said is not None and (unwanted is None or catalog.precedence < unwanted):
                unwanted, reason = catalog.precedence, said
        if unwanted is None or (wanted is not None and wanted <= unwanted):
            return None
        row = self._known.rows.get(key)
        is_wanted_elsewhere = (
            row is not None
            and row.refusal not in LEFT_OUT
            and row.catalog_rank <= unwanted
            and self._is_silent(row.catalog, key)
        )
        return None if is_wanted_elsewhere else reason

    def _is_silent(self, catalog: str, key: str) -> bool:
        """Whether a catalog may list an LLM although it does not do so tonight."""
        fetch = self._fetches.get(catalog)
        if fetch is not None:
            return not fetch.is_complete and key not in self._in_catalog[catalog]
        is_outdated = catalog in self._suspicions
        return is_outdated or self._unread is None or any(one.name == catalog for one in self._unread)

    def _precedence_of(self, catalog: str) -> int:
        if catalog in self._fetches:
            return self._fetches[catalog].precedence
        return next((one.precedence for one in self._unread or () if one.name == catalog), 0)

    def _insert(self, new: Mapping[str, Offer]) -> None:
        if not new:
            return
        doubts = {key: offer.doubt or self._named_doubt(key, offer.price) for key, offer in new.items()}
        rows = [
            {
                **_facts(offer, self._on),
                "key": key,
                "endpoint": offer.listing.endpoint,
                "llm_id": offer.listing.llm_id,
                "first_seen_on": self._on,
                "status": "available",
                "refusal": doubts[key] or offer.refusal,
            }
            for key, offer in new.items()
        ]
        self._unit.execute(llm.insert(), rows)
        numbers = ids_of(self._unit, llm.c.key, llm.c.id, list(new))
        priced = {key: offer.price for key, offer in new.items() if offer.price is not None}
        put_first_prices(self._unit, {numbers[key]: price for key, price in priced.items() if doubts[key] is None})
        for key, offer in new.items():
            changes = self._changes[offer.listing.catalog]
            changes.new.append(key)
            if key in priced and doubts[key] is not None:
                hold(self._unit, numbers[key], priced[key], self._on, priced[key].catalog)
                changes.held.append(key)

    def _named_doubt(self, key: str, price: Price | None) -> str | None:
        return None if price is None else self._names.doubt(key, price)

    def _update(self, offer: Offer, row: Row) -> None:
        is_back = row.status == "withdrawn" and row.status_reason is None
        is_ours = row.catalog == offer.listing.catalog or offer.precedence < row.catalog_rank
        if not is_ours and not is_back and self._is_silent(row.catalog, row.key):
            return
        catalog = offer.listing.catalog
        move, refusal = self._price_move(offer, row)
        if move.change is not None:
            source = move.change.after.catalog if move.change.after is not None else catalog
            self._changes[source].repriced.append(move.change)
            if move.doubt is not None:
                self._changes[source].held.append(row.key)
        if is_back:
            self._changes[catalog].returned.append(row.key)
        facts = {
            **_facts(offer, self._on),
            "number": row.id,
            "refusal": move.doubt or refusal,
            "status": "available" if is_back else row.status,
        }
        self._updates.append(facts)

    def _price_move(self, offer: Offer, row: Row) -> tuple[_PriceMove, str | None]:
        """Compare the listed price with the one in force, and put it in force or hold it; return the refusal, too."""
        before, waiting = self._known.prices.get(row.id), self._known.held.get(row.id)
        if before is not None and self._is_kept(before, offer, row.key):
            refusal = None if offer.is_price_unknown else offer.refusal
            return _PriceMove(), row.refusal if waiting is not None else refusal
        after = offer.price
        if _same(before, after):
            if waiting is not None:
                drop_held(self._unit, row.id)
            return _PriceMove(), offer.refusal
        doubt = None
        if after is not None:
            doubt = (implausible_change(before, after) if before is not None else None) or offer.doubt
            doubt = doubt or self._named_doubt(row.key, after)
        if doubt is None or after is None:
            put_in_force(self._unit, row.id, after, self._on, offer.listing.catalog if after is None else after.catalog)
        elif _same(waiting, after):
            return _PriceMove(None, doubt), offer.refusal
        else:
            hold(self._unit, row.id, after, self._on, after.catalog)
        return _PriceMove(Repricing(row.key, before, after), doubt), offer.refusal

    def _is_kept(self, before: Price, offer: Offer, key: str) -> bool:
        """Whether the price in force stays because its catalog, which decides, could not be read."""
        if not self._is_silent(before.catalog, key) or (offer.price is None and not offer.is_price_unknown):
            return False
        return offer.price is None or self._precedence_of(before.catalog) < self._precedence_of(offer.price.catalog)

    def _withdraw(self) -> None:
        still_listed, dropped = self._keys_of_unread(), self._unlisted.two_nights
        gone = [
            row
            for key, row in self._known.rows.items()
            if row.status == "available"
            and key not in self._left_out
            and (
                key in dropped
                or (
                    row.catalog in self._fetches
                    and self._suspicions[row.catalog] is None
                    and key not in self._listed
                    and key not in still_listed
                )
            )
        ]
        for part in chunks([row.id for row in gone]):
            values = {"status": "withdrawn", "status_reason": None}
            self._unit.execute(llm.update().where(llm.c.id.in_(part)).values(values))
        for row in gone:
            self._changes[dropped.get(row.key, row.catalog)].withdrawn.append(row.key)

    def _keys_of_unread(self) -> set[str]:
        """Return what the catalogs that could not be read, or not wholly, listed when they last were."""
        silent = [one.name for one in self._unread or ()]
        silent += [name for name, fetch in self._fetches.items() if not fetch.is_complete]
        keys: set[str] = set()
        for catalog in silent:
            whole = catalog_fetch.c.is_complete.is_(True)
            latest = select(func.max(catalog_fetch.c.id)).where(catalog_fetch.c.catalog == catalog, whole)
            fetch_id = self._unit.execute(latest).scalar()
            rows = select(listing.c.llm_key).where(listing.c.fetch_id == fetch_id, listing.c.llm_key.is_not(None))
            keys |= set(self._unit.execute(rows).scalars())
        return keys


def _same(one: Price | None, other: Price | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.input_usd_per_mtok, one.output_usd_per_mtok) == (other.input_usd_per_mtok, other.output_usd_per_mtok)


def _facts(offer: Offer, on: date) -> dict[str, Any]:
    one = offer.listing
    return {
        "last_seen_on": on,
        "catalog_rank": offer.precedence,
        "canonical_id": one.canonical_id,
        "name": one.name,
        "catalog": one.catalog,
        "released_at": one.released_at,
        "deprecated_at": one.deprecated_at,
        "context_tokens": one.context_tokens,
    }


def _suspicion(unit: Unit, fetch: CatalogFetch, known: _Known, on: date) -> str | None:
    if _is_outdated(unit, fetch.catalog, on):
        return "dated before the latest fetch of this catalog"
    if not fetch.is_complete:
        return "incomplete fetch"
    n_listed = raw.n_listed(fetch)
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
