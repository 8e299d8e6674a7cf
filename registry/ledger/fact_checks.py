"""Whether the rows of the nights are those that were put under the digests of the ledger: one scan of each table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Table, func, select

from registry.db.database import Database, Unit
from registry.db.seals import OPEN
from registry.db.tables import SEALED_TABLES, completion, llm_price, run
from registry.errors import RegistryBusy, RegistryError, counted
from registry.ledger import LedgerEvent
from registry.ledger.facts import PRUNED, RETIRED, SEALED, WORDS, RowSum, digests_of_former, stored_sums, sums_by_seal

_MOST_PROBLEMS = 100


@dataclass(frozen=True)
class FactsCheck:
    """What a comparison of the rows with the digests in the ledger found, and what it covers.

    Attributes
    ----------
    problems
        One line for each table of each night that is not what it was, at most 100.
    n_nights, n_rows
        Nights whose rows are under a digest, and how many rows those are.
    n_pruned, n_replaced
        Rows that the retention deleted, and that later nights replaced: their digests are kept.
    n_open
        Rows written or replaced since the last night ended, which the next one puts under a digest.
    n_unknown_nights, unknown_until, n_unknown
        Nights of older releases, which kept no digest; the day of the last of them; and their rows.
    """

    problems: tuple[str, ...]
    n_nights: int
    n_rows: int
    n_pruned: int
    n_replaced: int
    n_open: int
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
        self._left: defaultdict[str, int] = defaultdict(int)

    def result(self) -> FactsCheck:
        former, n_pruned, n_replaced = self._former()
        n_rows = n_open = n_unknown = 0
        for table in SEALED_TABLES:
            try:
                found = sums_by_seal(self._unit, table)
            except RegistryBusy:
                raise
            except (RegistryError, ValueError, TypeError, AttributeError, OverflowError):
                self._problems.append(f"rows of {WORDS[table.name]} cannot be read")
                continue
            n_open += self._open_rows(table, found.pop(OPEN, RowSum()).n_rows)
            n_unknown += found.pop(None, RowSum()).n_rows
            n_rows += sum(one.n_rows for one in found.values())
            known = {seal: one for seal, one in found.items() if seal is not None}
            self._compare(table, known, former.get(table.name, {}))
        n_unknown_nights, until = self._unknown_nights()
        return FactsCheck(
            tuple(self._problems[:_MOST_PROBLEMS]),
            len({one.subject for one in self._seals.values()}),
            n_rows,
            n_pruned,
            n_replaced,
            n_open,
            n_unknown_nights,
            until,
            n_unknown,
        )

    def _former(self) -> tuple[Mapping[str, Mapping[int, RowSum]], int, int]:
        """Check the sums kept of former rows; return them by table and seal, and how many were pruned and replaced."""
        stored = list(stored_sums(self._unit))
        stated = {number: payload.get(RETIRED) for number, payload in self._payloads.items()}
        found = digests_of_former(one for one in stored if one[2] != OPEN)
        for number in sorted({*found, *(number for number, digest in stated.items() if digest is not None)}):
            if found.get(number) != stated.get(number):
                self._problems.append(f"what is kept of replaced or pruned rows is not what event {number} says")
        former: defaultdict[str, defaultdict[int, RowSum]] = defaultdict(lambda: defaultdict(RowSum))
        counts = {PRUNED: 0, SEALED: 0}
        for name, seal, ended, one in stored:
            former[name][seal] += one
            is_pruned = ended in self._endings and self._endings[ended].event == PRUNED
            counts[PRUNED if is_pruned else SEALED] += one.n_rows
            self._left[name] += one.n_rows if ended == OPEN else 0
        return former, counts[PRUNED], counts[SEALED]

    def _open_rows(self, table: Table, n_here: int) -> int:
        """Return how many rows of a table no digest covers yet.

        What left its digest since the last night ended was changed where it is, so that it is among the open rows: sums
        that nobody wrote down in the ledger yet must not excuse a row that was removed.
        """
        n_left = self._left[table.name]
        # A price that waited for review is dropped, and the text of an answer that is asked again may be pruned.
        was_pruned = any(number > max(self._seals, default=0) for number in self._endings)
        may_go = table is llm_price or (table is completion and was_pruned)
        if n_left > n_here and not may_go:
            gone = f"{counted(n_left - n_here, 'row')} removed since the last night ended"
            self._problems.append(f"{WORDS[table.name]}: {gone} ({n_left} left their digests, {n_here} are here)")
        return max(n_here, n_left)

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


def _difference(stated: int, found: int, count: str) -> str:
    if found < stated:
        return f"{counted(stated - found, 'row')} removed ({count} left)"
    if found > stated:
        return f"{counted(found - stated, 'row')} added ({count})"
    return f"changed ({count}, and their digest differs)"
