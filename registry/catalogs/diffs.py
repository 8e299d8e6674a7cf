"""What each fetch changed, as it is stored; changes that no night has reported yet are part of the next night's."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from sqlalchemy import select

from registry.db.database import Unit
from registry.db.tables import catalog_fetch, run
from registry.listings import CatalogDiff, DatedDiff, Repricing
from registry.prices import Price
from routing.strict_json import canonical_json

_REPORTED = ("completed", "attention")


@dataclass(frozen=True)
class EarlierDiff:
    """A stored diff that the next one of its catalog continues.

    Attributes
    ----------
    fetch_id
        Row number of its fetch.
    run_id
        Run of its fetch.
    digest
        Digest of the document.
    diff
        What changed.
    """

    fetch_id: int
    run_id: int
    digest: str
    diff: CatalogDiff


def unreported_diff(unit: Unit, run_id: int, catalog: str) -> EarlierDiff | None:
    """Return the latest diff of a catalog if it belongs to this run, or to one that told nobody what changed.

    The next night then reports both: neither a plan (``--plan``) nor a night that failed may make it say "0 new".
    """
    row = unit.execute(
        select(
            catalog_fetch.c.id,
            catalog_fetch.c.run_id,
            catalog_fetch.c.digest,
            catalog_fetch.c.diff_json,
            run.c.status,
            run.c.summary_json,
        )
        .join(run, run.c.id == catalog_fetch.c.run_id)
        .where(catalog_fetch.c.catalog == catalog)
        .order_by(catalog_fetch.c.id.desc())
        .limit(1)
    ).first()
    if row is None or (row.run_id != run_id and row.status in _REPORTED and not _is_plan(row.summary_json)):
        return None
    return EarlierDiff(row.id, row.run_id, row.digest, diff_from_json(row.diff_json))


def _is_plan(summary_json: str | None) -> bool:
    summary = json.loads(summary_json or "{}")
    return isinstance(summary, dict) and summary.get("is_plan_only") is True


def diffs_since(unit: Unit, since: date) -> tuple[DatedDiff, ...]:
    """Return what each run changed from a day on, the earliest first; see `LLMs.diffs_since`."""
    rows = unit.execute(
        select(
            catalog_fetch.c.id,
            catalog_fetch.c.run_id,
            catalog_fetch.c.catalog,
            catalog_fetch.c.fetched_on,
            catalog_fetch.c.diff_json,
        )
        .where(catalog_fetch.c.fetched_on >= since)
        .order_by(catalog_fetch.c.id)
    ).fetchall()
    continued = {json.loads(row.diff_json).get("continues") for row in rows}
    # The last fetch of a run already states what the whole run changed.
    latest = {
        (row.run_id, row.catalog): DatedDiff(row.fetched_on, diff_from_json(row.diff_json))
        for row in rows
        if row.id not in continued
    }
    return tuple(sorted(latest.values(), key=lambda one: one.on))


def merged(before: CatalogDiff, after: CatalogDiff, hidden: Collection[str] = ()) -> CatalogDiff:
    """Join the changes of two fetches, as if they had been a single fetch; what the settings now hide is left out."""
    if hidden:
        before = _without(before, hidden)
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
        after.n_left_out,
        after.unlisted,
    )


def _without(diff: CatalogDiff, hidden: Collection[str]) -> CatalogDiff:
    return replace(
        diff,
        new=tuple(key for key in diff.new if key not in hidden),
        returned=tuple(key for key in diff.returned if key not in hidden),
        repriced=tuple(one for one in diff.repriced if one.llm_key not in hidden),
        held=tuple(key for key in diff.held if key not in hidden),
    )


def diff_json(diff: CatalogDiff, continues: int | None) -> str:
    """Return a diff as it is stored; `continues` is the fetch of an earlier run whose diff it includes."""

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
            "n_left_out": diff.n_left_out,
        }
        | ({"unlisted": diff.unlisted} if diff.unlisted else {})
        | ({} if continues is None else {"continues": continues})
    )


def diff_from_json(text: str) -> CatalogDiff:
    """Read a stored diff."""

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
        stored.get("n_left_out", 0),
        tuple(stored.get("unlisted", ())),
    )
