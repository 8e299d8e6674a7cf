"""LLMs that the list of their own endpoint lacks although another catalog, such as a price map, still names them.

A price map or a file names LLMs for years after an endpoint has dropped them. So the endpoint's own list is believed,
but only about LLMs that it listed before, and only when it is complete and lacks them on two nights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Row, func, select

from registry.catalogs.raw import first_of_each_key, n_listed
from registry.db.database import Unit, chunks
from registry.db.tables import catalog_fetch, listing
from registry.listings import ENDPOINT_PRECEDENCE, CatalogFetch, UnreadCatalog


@dataclass(frozen=True)
class Unlisted:
    """By LLM key, the endpoint's own catalog that lacks an LLM: tonight for the first time, or on two nights."""

    first_night: Mapping[str, str] = field(default_factory=dict)
    two_nights: Mapping[str, str] = field(default_factory=dict)


def unlisted_by_endpoint(
    unit: Unit,
    on: date,
    fetches: Sequence[CatalogFetch],
    unread: Sequence[UnreadCatalog] | None,
    rows: Mapping[str, Row],
) -> Unlisted:
    """Return which LLMs their endpoint's own list lacks tonight.

    Parameters
    ----------
    unit
        The transaction.
    on
        The day of the night.
    fetches
        What was read, without catalogs dated before their latest fetch.
    unread
        The catalogs that could not be read; None when any other may be one.
    rows
        By key, the LLMs that the registry knows. Those on which a person or a check decided stay as decided.
    """
    own = [one for one in fetches if one.precedence == ENDPOINT_PRECEDENCE]
    unsure = {one.endpoint for one in unread or () if one.precedence == ENDPOINT_PRECEDENCE}
    unsure |= {one.endpoint for fetch in own if not fetch.is_complete for one in fetch.listings}
    present = {key for fetch in own for key in (*first_of_each_key(fetch.listings), *fetch.left_out)}
    named = {key for fetch in fetches for key in first_of_each_key(fetch.listings)}
    doubtful = {
        key
        for key in named - present
        if (row := rows.get(key)) is not None and row.status_reason is None and row.endpoint not in unsure
    }
    first, both = {}, {}
    for fetch in own if doubtful and unread is not None else ():
        if not fetch.is_complete or not n_listed(fetch):
            continue
        last_list = _last_list(unit, fetch.catalog, on)
        for key in _ever_listed(unit, fetch.catalog, doubtful, rows):
            (first if key in last_list else both)[key] = fetch.catalog
    return Unlisted(first, both)


def _last_list(unit: Unit, catalog: str, on: date) -> set[str]:
    """Return what a catalog listed on the last day before, when it was complete."""
    days = (catalog_fetch.c.catalog == catalog, catalog_fetch.c.is_complete.is_(True), catalog_fetch.c.fetched_on < on)
    latest = select(func.max(catalog_fetch.c.id)).where(*days).scalar_subquery()
    return set(unit.execute(select(listing.c.llm_key).where(listing.c.fetch_id == latest)).scalars()) - {None}


def _ever_listed(unit: Unit, catalog: str, keys: Collection[str], rows: Mapping[str, Row]) -> set[str]:
    """Return which of these LLMs a catalog has listed on any day whose listing is kept."""
    found: set[str] = set()
    for part in chunks([rows[key].id for key in sorted(keys)]):
        query = (
            select(listing.c.llm_key)
            .distinct()
            .join(catalog_fetch, catalog_fetch.c.id == listing.c.fetch_id)
            .where(catalog_fetch.c.catalog == catalog, listing.c.llm_id.in_(part))
        )
        found |= set(unit.execute(query).scalars())
    return found
