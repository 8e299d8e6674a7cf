"""What a registry may delete: texts of answers and raw listings that are old and that no decision rests on.

Scores, tokens, costs, prices, routers, promotions and the ledger stay forever, and of what is deleted the sums of its
digests (`registry.ledger.facts`): an auditor tells it from what was removed. Kept however old they are:

- answers of LLMs in a promotion that is still to be decided, for its reviewer reads them;
- the latest complete listing of each catalog, the listings of runs whose router has an alias or was in a promotion, and
  those in which a price began.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, select, union

from registry.db.database import Database, Unit
from registry.db.tables import (
    alias,
    catalog_fetch,
    completion,
    listing,
    listing_text,
    llm_price,
    outcome,
    promotion,
    router,
    router_llm,
)
from registry.ledger import Ledger
from registry.ledger.facts import PRUNED, RETIRED, digest_of_kept, retire, sums_to_keep
from registry.runs import Runs
from routing.errors import InvalidInput

_UNDECIDED = ("requested", "approved")


@dataclass(frozen=True)
class Retention:
    """How many days texts of answers and raw listings are kept; None keeps them forever."""

    completions_days: int | None
    listings_days: int | None

    def __post_init__(self) -> None:
        for name, days in asdict(self).items():
            if days is not None and days < 1:
                raise InvalidInput(f"{name} = {days} would delete what this night has just stored")


@dataclass(frozen=True)
class Pruned:
    """What was deleted, or would be.

    Attributes
    ----------
    completions, listings, listing_texts
        How many rows.
    content_bytes
        Total length of their texts.
    size_before_bytes, size_after_bytes
        How large the database was and is; equal when nothing was deleted.
    """

    completions: int
    listings: int
    listing_texts: int
    content_bytes: int
    size_before_bytes: int = 0
    size_after_bytes: int = 0

    @property
    def rows(self) -> int:
        """How many rows in all."""
        return self.completions + self.listings + self.listing_texts


class Pruning:
    """Delete by rule, and record what was deleted."""

    def __init__(self, database: Database, events: Ledger, runs: Runs) -> None:
        self._database = database
        self._events = events
        self._runs = runs

    def plan(self, retention: Retention, now: datetime) -> Pruned:
        """Report what would be deleted, without deleting anything."""
        with self._database.read() as unit:
            return self._counted(unit, retention, now)

    def prune(self, retention: Retention, now: datetime, *, actor: str) -> Pruned:
        """Delete what is old and not needed, record it in the ledger, and release the space.

        SQLite's file becomes smaller; a server keeps the space for rows to come.

        Parameters
        ----------
        retention
            How long things are kept.
        now
            The present moment.
        actor
            Who asked for it.

        Raises
        ------
        RunAlreadyActive
            While a night is running.
        """
        before = self._database.size_bytes()
        with self._database.write() as unit:
            self._runs.require_no_night(unit, now, unchanged="Nothing was deleted.", hint="prune when it is over")
            found = self._counted(unit, retention, now)
            if found.rows:
                self._delete(unit, retention, now, found, actor)
        if not found.rows:
            return Pruned(**(asdict(found) | {"size_before_bytes": before, "size_after_bytes": before}))
        self._database.release_space(completion.name, listing.name, listing_text.name)
        sizes = {"size_before_bytes": before, "size_after_bytes": self._database.size_bytes()}
        return Pruned(**(asdict(found) | sizes))

    def _counted(self, unit: Unit, retention: Retention, now: datetime) -> Pruned:
        texts = select(func.count(), func.coalesce(func.sum(func.length(completion.c.text)), 0)).select_from(completion)
        n_completions, completion_bytes = unit.execute(texts.where(_old_completions(retention, now))).one()
        old = _old_listings(retention, now)
        n_listings = unit.execute(select(func.count()).select_from(listing).where(old)).scalar_one()
        orphans = select(func.count(), func.coalesce(func.sum(func.length(listing_text.c.raw)), 0))
        n_texts, text_bytes = unit.execute(orphans.where(_only_in(old))).one() if n_listings else (0, 0)
        return Pruned(n_completions, n_listings, n_texts, int(completion_bytes) + int(text_bytes))

    def _delete(self, unit: Unit, retention: Retention, now: datetime, found: Pruned, actor: str) -> None:
        old, old_listings = _old_completions(retention, now), _old_listings(retention, now)
        kept = sums_to_keep(unit, completion, old)
        unit.execute(completion.delete().where(old))
        if found.listings:
            kept |= sums_to_keep(unit, listing, old_listings)
            unit.execute(listing.delete().where(old_listings))
            kept |= sums_to_keep(unit, listing_text, _unused_text())
            unit.execute(listing_text.delete().where(_unused_text()))
        counts = {name: value for name, value in asdict(found).items() if not name.startswith("size")}
        event = self._events.append(
            PRUNED,
            "registry",
            actor=actor,
            now=now,
            reason="older than the retention that the settings ask for",
            payload={**asdict(retention), **counts, RETIRED: digest_of_kept(kept)},
            unit=unit,
        )
        retire(unit, kept, event.number)


def _old_completions(retention: Retention, now: datetime) -> ColumnElement[bool]:
    if retention.completions_days is None:
        return completion.c.llm_id.is_(None)
    under_review = (
        select(router_llm.c.llm_id)
        .join_from(router_llm, router, router.c.id == router_llm.c.router_id)
        .join(promotion, router.c.digest.in_((promotion.c.router_digest, promotion.c.expected_champion)))
        .where(promotion.c.status.in_(_UNDECIDED))
    )
    of_old_outcome = exists().where(
        outcome.c.llm_id == completion.c.llm_id,
        outcome.c.protocol_id == completion.c.protocol_id,
        outcome.c.prompt_id == completion.c.prompt_id,
        outcome.c.asked_at < now - timedelta(days=retention.completions_days),
    )
    return and_(of_old_outcome, completion.c.llm_id.not_in(under_review))


def _old_listings(retention: Retention, now: datetime) -> ColumnElement[bool]:
    if retention.listings_days is None:
        return listing.c.fetch_id.is_(None)
    decided = union(
        select(alias.c.router_digest),
        select(promotion.c.router_digest),
        select(promotion.c.expected_champion).where(promotion.c.expected_champion.is_not(None)),
    )
    runs_decided_on = select(router.c.run_id).where(router.c.digest.in_(decided))
    latest = (
        select(func.max(catalog_fetch.c.id))
        .where(catalog_fetch.c.is_complete.is_(True))
        .group_by(catalog_fetch.c.catalog)
    )
    before: date = (now - timedelta(days=retention.listings_days)).date()
    old_fetches = select(catalog_fetch.c.id).where(
        catalog_fetch.c.fetched_on < before,
        catalog_fetch.c.run_id.not_in(runs_decided_on),
        catalog_fetch.c.id.not_in(latest),
    )
    began_a_price = exists().where(
        llm_price.c.llm_id == listing.c.llm_id,
        catalog_fetch.c.id == listing.c.fetch_id,
        llm_price.c.catalog == catalog_fetch.c.catalog,
        llm_price.c.since_on == catalog_fetch.c.fetched_on,
    )
    return and_(listing.c.fetch_id.in_(old_fetches), ~began_a_price)


def _only_in(old: ColumnElement[bool]) -> ColumnElement[bool]:
    """Texts that only the listings of a condition refer to."""
    used_by_others = exists().where(listing.c.text_digest == listing_text.c.digest, ~old)
    used = exists().where(listing.c.text_digest == listing_text.c.digest)
    return and_(used, ~used_by_others)


def _unused_text() -> ColumnElement[bool]:
    return ~exists().where(listing.c.text_digest == listing_text.c.digest)
