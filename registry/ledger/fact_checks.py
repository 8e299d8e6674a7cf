"""Whether the rows of the nights are those that were put under the digests of the ledger: one scan of each table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Table, func, select

from registry.db.database import Database, Unit
from registry.db.seals import OPEN
from registry.db.tables import SEALED_TABLES, run
from registry.errors import RegistryBusy, RegistryError, counted
from registry.ledger import LedgerEvent
from registry.ledger.facts import (
    PRUNED,
    REPLACED,
    RETIRED,
    SEALED,
    UNKNOWN,
    WORDS,
    RowSum,
    digests_of_former,
    stored_sums,
    sums_by_seal,
)

_MOST_PROBLEMS = 100
# By table, the member of the event's payload that says how many of its rows were pruned; no others ever are.
_PRUNED_AS = {"completion": "completions", "listing": "listings", "listing_text": "listing_texts"}


@dataclass(frozen=True)
class FactsCheck:
    """What a comparison of the rows with the digests in the ledger found, and what it covers.

    Attributes
    ----------
    problems
        One line for each table of each night that is not what it was, at most 100.
    n_nights, n_rows
        Nights whose rows are under a digest, and how many rows those are.
    n_pruned
        Rows that the retention deleted: their digests are kept.
    replaced
        How many rows later nights replaced, by table: their digests are kept.
    n_open, n_replaced_since
        Rows written, and replaced, since the last night ended; the next one puts that under a digest.
    n_unknown_nights, unknown_until, n_unknown
        Nights of older releases, which kept no digest; the day of the last of them; and their rows.
    """

    problems: tuple[str, ...]
    n_nights: int
    n_rows: int
    n_pruned: int
    replaced: Mapping[str, int]
    n_open: int
    n_replaced_since: int
    n_unknown_nights: int
    unknown_until: date | None
    n_unknown: int


def check_facts(database: Database, events: Sequence[LedgerEvent]) -> FactsCheck:
    """Compare every row that is under a digest with it.

    Parameters
    ----------
    database
        The database.
    events
        The whole ledger, whose chain was found intact.
    """
    with database.read() as unit:
        return _Check(unit, events).result()


class _Check:
    def __init__(self, unit: Unit, events: Sequence[LedgerEvent]) -> None:
        self._unit = unit
        self._seals = {one.number: one for one in events if one.event == SEALED}
        self._endings = self._seals | {one.number: one for one in events if one.event == PRUNED}
        self._payloads: dict[int, dict[str, Any]] = {
            number: json.loads(one.payload_json) for number, one in self._endings.items()
        }
        self._problems: list[str] = []

    def result(self) -> FactsCheck:
        stored = list(stored_sums(self._unit))
        former = self._former(stored)
        n_rows = 0
        n_open, n_unknown = dict.fromkeys(WORDS, 0), dict.fromkeys(WORDS, 0)
        for table in SEALED_TABLES:
            try:
                found = sums_by_seal(self._unit, table)
            except RegistryBusy:
                raise
            except (RegistryError, ValueError, TypeError, AttributeError, OverflowError):
                self._problems.append(f"rows of {WORDS[table.name]} cannot be read")
                continue
            n_open[table.name] = found.pop(OPEN, RowSum()).n_rows
            n_unknown[table.name] = found.pop(None, RowSum()).n_rows
            n_rows += sum(one.n_rows for one in found.values())
            known = {seal: one for seal, one in found.items() if seal is not None}
            self._compare(table, known, former.get(table.name, {}))
        gone = self._gone(stored)
        self._judge_replaced(gone, n_open)
        self._judge_unknown(n_unknown)
        n_unknown_nights, until = self._unknown_nights()
        return FactsCheck(
            problems=tuple(self._problems[:_MOST_PROBLEMS]),
            n_nights=len({one.subject for one in self._seals.values()}),
            n_rows=n_rows,
            n_pruned=sum(n for ended, by in gone.items() if self._is_pruning(ended) for n in by.values()),
            replaced=_added_up(by for ended, by in gone.items() if ended in self._seals),
            n_open=sum(n_open.values()),
            n_replaced_since=sum(gone.get(OPEN, {}).values()),
            n_unknown_nights=n_unknown_nights,
            unknown_until=until,
            n_unknown=sum(n_unknown.values()),
        )

    def _former(self, stored: Sequence[tuple[str, int, int, RowSum]]) -> Mapping[str, Mapping[int, RowSum]]:
        """Check the sums kept of former rows; return them by table and seal."""
        stated = {number: payload.get(RETIRED) for number, payload in self._payloads.items()}
        found = digests_of_former(one for one in stored if one[2] != OPEN)
        for number in sorted({*found, *(number for number, digest in stated.items() if digest is not None)}):
            if found.get(number) != stated.get(number):
                self._problems.append(f"what is kept of replaced or pruned rows is not what event {number} says")
        former: defaultdict[str, defaultdict[int, RowSum]] = defaultdict(lambda: defaultdict(RowSum))
        for name, seal, _, one in stored:
            former[name][seal] += one
        return former

    def _gone(self, stored: Sequence[tuple[str, int, int, RowSum]]) -> Mapping[int, Mapping[str, int]]:
        """Return how many former rows there are of each table, by the event that ended them."""
        gone: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for name, _, ended, one in stored:
            gone[ended][name] += one.n_rows
        return gone

    def _is_pruning(self, ended: int) -> bool:
        return ended in self._endings and self._endings[ended].event == PRUNED

    def _is_pruned_before(self, ended: int) -> bool:
        """Whether something was pruned since the night before an event that ends a night, or before now."""
        until = max(self._endings, default=0) + 1 if ended == OPEN else ended
        since = max((number for number in self._seals if number < until), default=0)
        return any(self._is_pruning(number) for number in range(since + 1, until))

    def _judge_replaced(self, gone: Mapping[int, Mapping[str, int]], n_open: Mapping[str, int]) -> None:
        """Find removed rows that were made to look pruned or replaced: the registry has reasons for either.

        What is replaced is written again, so that there are at least as many new rows.
        """
        for ended, counts in sorted(gone.items()):
            payload = self._payloads.get(ended, {})
            if self._is_pruning(ended):
                most = {name: payload.get(key, 0) for name, key in _PRUNED_AS.items()}
            else:
                tables = payload.get("tables", {})
                written = n_open if ended == OPEN else {name: tables.get(name, {}).get("rows", 0) for name in WORDS}
                most = {name: n for name, n in written.items() if name in REPLACED}
                # A price that waits for review is dropped, and the text of a failure that is asked again may be pruned.
                most["llm_price"] = counts.get("llm_price", 0)
                if self._is_pruned_before(ended):
                    most["completion"] = counts.get("outcome", 0)
            what = "since the last night" if ended == OPEN else f"as event {ended} records it"
            for name, n in sorted(counts.items()):
                if n > most.get(name, 0):
                    done = "pruned" if self._is_pruning(ended) else "replaced"
                    said = f"{counted(n - most.get(name, 0), 'row')} removed, not {done} {what}"
                    self._problems.append(f"{WORDS.get(name, name)}: {said}")

    def _judge_unknown(self, n_unknown: Mapping[str, int]) -> None:
        """Find rows that claim to be of an older release: since it was left, there can only be fewer of them."""
        number = max((one for one, payload in self._payloads.items() if UNKNOWN in payload), default=None)
        if number is None:
            return
        stated = self._payloads[number][UNKNOWN]
        for name, n in n_unknown.items():
            if n > stated.get(name, 0):
                said = f"{counted(n - stated.get(name, 0), 'row')} added without a digest since event {number}"
                self._problems.append(f"{WORDS[name]}: {said}")

    def _compare(self, table: Table, found: Mapping[int, RowSum], former: Mapping[int, RowSum]) -> None:
        word = WORDS[table.name]
        for seal in sorted({*found, *former} - set(self._seals)):
            self._problems.append(f"{word} name event {seal}, which holds no digest of them")
        for seal, event in self._seals.items():
            stated = self._payloads[seal]["tables"].get(table.name, {"rows": 0, "digest": RowSum().digest})
            here, gone = found.get(seal, RowSum()), former.get(seal, RowSum())
            whole = here + gone
            if (whole.n_rows, whole.digest) == (stated["rows"], stated["digest"]):
                continue
            kept = f" and {gone.n_rows} pruned or replaced" if gone.n_rows else ""
            said = _difference(stated["rows"], whole.n_rows, f"{here.n_rows}{kept} of {counted(stated['rows'], 'row')}")
            self._problems.append(f"{word} of {event.subject} (event {seal}): {said}")

    def _unknown_nights(self) -> tuple[int, date | None]:
        query = select(func.count(), func.max(run.c.as_of)).where(run.c.seal.is_(None))
        try:
            n_nights, until = self._unit.execute(query).one()
        except (ValueError, TypeError):  # a day that is none, among those that cannot be read
            return 0, None
        return n_nights, until


def _added_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    whole: defaultdict[str, int] = defaultdict(int)
    for one in counts:
        for name, n in one.items():
            whole[name] += n
    return dict(whole)


def _difference(stated: int, found: int, count: str) -> str:
    if found < stated:
        return f"{counted(stated - found, 'row')} removed ({count} left)"
    if found > stated:
        return f"{counted(found - stated, 'row')} added ({count})"
    return f"changed ({count}, and their digest differs)"
