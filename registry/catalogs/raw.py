"""Catalog fetches as they are kept: each row as fetched, and what the fetch changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import date

from sqlalchemy import select

from registry.catalogs.diffs import EarlierDiff, diff_json
from registry.db.columns import plain_text, text_bytes
from registry.db.database import Database, Unit
from registry.db.tables import catalog_fetch, listing, listing_text, llm
from registry.ledger.facts import reopen
from registry.listings import CatalogDiff, CatalogFetch, Listing

_MAX_ID_CHARACTERS = 300


def first_of_each_key(listings: Iterable[Listing]) -> dict[str, Listing]:
    """Return the listings with a usable id, by key; of several with one id, the first."""
    usable: dict[str, Listing] = {}
    for one in listings:
        if plain_text(one.llm_id, _MAX_ID_CHARACTERS) == one.llm_id:
            usable.setdefault(one.llm_key, one)
    return usable


def n_listed(fetch: CatalogFetch) -> int:
    """Return how many LLMs a catalog lists, with those that the settings leave out."""
    return len(first_of_each_key(fetch.listings)) + len(fetch.left_out)


def is_repeated(unit: Unit, run_id: int, fetch: CatalogFetch) -> bool:
    """Whether this run has kept the very same fetch already."""
    same = select(catalog_fetch.c.id).where(
        catalog_fetch.c.run_id == run_id,
        catalog_fetch.c.catalog == fetch.catalog,
        catalog_fetch.c.digest == fetch.digest,
    )
    return unit.execute(same).first() is not None


def keep(
    database: Database,
    unit: Unit,
    run_id: int,
    fetch: CatalogFetch,
    on: date,
    diff: CatalogDiff,
    before: EarlierDiff | None,
    *,
    is_kept: bool,
) -> None:
    """Keep a fetch raw, with what it changed; of one that is kept already, only the diff is new."""
    if is_kept:
        if before is not None and before.diff != diff:
            earlier, stored = catalog_fetch.c.id == before.fetch_id, diff_json(diff, None)
            reopen(unit, catalog_fetch, earlier)
            unit.execute(catalog_fetch.update().where(earlier).values(diff_json=stored))
        return
    continues = before.fetch_id if before is not None and before.run_id != run_id else None
    fetch_id = unit.execute(
        catalog_fetch.insert().values(
            run_id=run_id,
            catalog=fetch.catalog,
            fetched_on=on,
            digest=fetch.digest,
            is_complete=fetch.is_complete,
            suspicion=diff.is_suspicious,
            n_listings=n_listed(fetch),
            n_quarantined=len(fetch.quarantined),
            diff_json=diff_json(diff, continues),
        )
    ).inserted_primary_key[0]
    _keep_raw(database, unit, fetch_id, fetch)


def _keep_raw(database: Database, unit: Unit, fetch_id: int, fetch: CatalogFetch) -> None:
    numbers = {row.key: row.id for row in unit.execute(select(llm.c.key, llm.c.id))}
    kept = [(one.llm_key, one.refusal, False, one.raw) for one in fetch.listings]
    kept += [(None, one.reason, True, one.raw) for one in fetch.quarantined]
    if not kept:
        return
    texts = {hashlib.sha256(text_bytes(raw)).hexdigest(): raw for *_, raw in kept}
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
