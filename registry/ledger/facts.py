"""What the nights wrote, under digests of the ledger: rows that are changed, removed or added later do not fit them.

When a night ends, every row that was written since the last one is put under a seal: an event of the ledger with one
digest per table. The digest of a set of rows is that of the sum of their own digests (4,096 bits each, modulo 2**4096:
AdHash of Bellare and Micciancio, 1997), so that it depends on no order, and a row that is pruned or replaced leaves
nothing behind but its part of the sum. What the registry itself replaces later - a failure that is asked again, an LLM
that a catalog lists anew, a price that is accepted - it first takes out of its seal with `reopen`; the new row is under
the seal of the next night. The sums of former rows are under a seal, too: that of the night that replaced them, or the
event that records the pruning.

A digest covers the columns that have a value. A column that a later schema adds to these tables must therefore be NULL
in the rows that are there.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam, func, select, update

from registry.backup.portable import portable, values_of
from registry.db.database import Unit, chunks
from registry.db.seals import OPEN, retired_rows
from registry.db.tables import SEALED_TABLES, completion, outcome
from registry.ledger import Ledger
from routing.strict_json import canonical_json

SEALED = "run:facts:sealed"
"""The ledger event of a night's end; its payload holds the digests of what was written since the one before."""
PRUNED = "registry:retention:pruned"
"""The ledger event of what the retention deleted; its payload holds the digest of the sums that are kept of it."""

UNKNOWN = "unknown"
"""Key, in the payload of a night's end, of how many rows of each table are of an older release, under no digest."""

RETIRED = "retired"
"""Key, in the payload of both, of the digest of the sums of former rows; None when there are none."""

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "run": "run summaries",
        "llm": "LLMs",
        "llm_price": "prices",
        "catalog_fetch": "catalog fetches",
        "listing_text": "listing texts",
        "listing": "listings",
        "prompt": "prompts",
        "prompt_set": "prompt sets",
        "prompt_set_member": "prompt set members",
        "embedding": "embeddings",
        "protocol": "protocols",
        "outcome": "outcomes",
        "completion": "completions",
        "charge": "charges",
        "cluster_map": "cluster maps",
        "cluster_map_array": "cluster map arrays",
        "feature_vector": "feature vectors",
        "router": "routers",
        "router_llm": "router members",
        "router_metric": "router metrics",
        "prompt_order": "prompt orders",
        "prompt_order_member": "prompts of prompt orders",
        "asked_scope": "scopes of profiles",
    }
)
"""What people call the rows of each sealed table."""

REPLACED = frozenset(
    {"run", "llm", "llm_price", "catalog_fetch", "embedding", "outcome", "completion", "charge", "router"}
)
"""The tables of which the registry replaces rows; rows of the others stay as they are, until they are pruned."""

_BYTES = 512


@dataclass(frozen=True)
class RowSum:
    """How many rows a set has, and the sum of their digests."""

    n_rows: int = 0
    total: int = 0

    def __add__(self, other: RowSum) -> RowSum:
        return RowSum(self.n_rows + other.n_rows, (self.total + other.total) % 2 ** (8 * _BYTES))

    @property
    def stored(self) -> bytes:
        """The sum as bytes, the least significant first."""
        return self.total.to_bytes(_BYTES, "little")

    @property
    def digest(self) -> str:
        """SHA-256 of the sum."""
        return hashlib.sha256(self.stored).hexdigest()


def row_number(table: str, names: Iterable[str], values: Iterable[Any]) -> int:
    """Return the digest of a row as a number of 4,096 bits: SHAKE-256 of its table and its columns with a value.

    Parameters
    ----------
    table
        Name of its table.
    names, values
        Its columns, with values as a backup writes them: equal for equal rows on every database.
    """
    facts = {name: value for name, value in zip(names, values, strict=True) if value is not None and name != "seal"}
    line = json.dumps([table, facts], sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.shake_256(line.encode("ascii")).digest(_BYTES), "little")


def sums_by_seal(unit: Unit, table: Table, *conditions: ColumnElement[bool]) -> dict[int | None, RowSum]:
    """Read rows of a table once, and return by seal how many there are and the sum of their digests."""
    names = portable(table).columns
    place = names.index("seal")
    counts: defaultdict[int | None, int] = defaultdict(int)
    totals: defaultdict[int | None, int] = defaultdict(int)
    for values in values_of(unit, table, *conditions):
        seal = values[place]
        counts[seal] += 1
        if seal is not None:
            totals[seal] += row_number(table.name, names, values)
    return {seal: RowSum(n) + RowSum(0, totals[seal]) for seal, n in counts.items()}


def reopen(unit: Unit, table: Table, *conditions: ColumnElement[bool]) -> None:
    """Take rows out of their seals before a decision changes or deletes them; what is written now is sealed next.

    Parameters
    ----------
    unit
        The transaction in which they are changed.
    table
        One of those in `REPLACED`.
    conditions
        Which rows.
    """
    assert table.name in REPLACED, f"a verification takes replaced rows of {table.name} for removed ones"
    for seal, found in _under_seal(unit, table, conditions).items():
        _retire(unit, table.name, seal, OPEN, found)
    unit.execute(update(table).where(*conditions).values(seal=OPEN))


def reopen_failures(unit: Unit, keys: Iterable[tuple[int, int, int]]) -> None:
    """Take failures, and the texts of those that could not be graded, out of their seals before they are replaced.

    Parameters
    ----------
    unit
        The transaction in which they are replaced.
    keys
        LLM, protocol and prompt of each answer that is about to be stored.
    """
    for llm_number, protocol_number, part in by_protocol(keys):
        key = (outcome.c.llm_id == llm_number, outcome.c.protocol_id == protocol_number)
        failed = select(outcome.c.prompt_id).where(*key, outcome.c.prompt_id.in_(part), outcome.c.failure.is_not(None))
        numbers = unit.execute(failed).scalars().all()
        for table in (outcome, completion) if numbers else ():
            key = (table.c.llm_id == llm_number, table.c.protocol_id == protocol_number)
            reopen(unit, table, *key, table.c.prompt_id.in_(numbers))


def by_protocol(keys: Iterable[tuple[int, int, int]]) -> Iterator[tuple[int, int, Sequence[int]]]:
    """Group keys of answers: LLM and protocol, with prompts no more than fit into a statement."""
    grouped: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for llm_number, protocol_number, prompt_number in keys:
        grouped[llm_number, protocol_number].append(prompt_number)
    for (llm_number, protocol_number), prompt_numbers in grouped.items():
        for part in chunks(prompt_numbers):
            yield llm_number, protocol_number, part


def retire(unit: Unit, kept: Mapping[Table, Mapping[int, RowSum]], ended: int) -> None:
    """Keep the sums of rows that were pruned, under the number of the event that records it."""
    for table, found in kept.items():
        for seal, one in found.items():
            _retire(unit, table.name, seal, ended, one)


def sums_to_keep(unit: Unit, table: Table, condition: ColumnElement[bool]) -> dict[Table, dict[int, RowSum]]:
    """Return what must be kept of rows before they are pruned: by table and seal, the sum of their digests."""
    return {table: _under_seal(unit, table, [condition])}


def digest_of_kept(kept: Mapping[Table, Mapping[int, RowSum]]) -> str | None:
    """Return the digest of sums that are kept, for the payload of the event; None when there are none."""
    return _digest((table.name, seal, one) for table, found in kept.items() for seal, one in found.items())


def seal_facts(unit: Unit, events: Ledger, run_key: str, *, actor: str, now: datetime) -> None:
    """Put everything that was written since the last seal under one: an event of the ledger.

    Parameters
    ----------
    unit
        The transaction in which a night ends.
    events
        The ledger.
    run_key
        The night.
    actor
        Who ends it.
    now
        When.
    """
    found = {table: sums_by_seal(unit, table, _is_open(table)).get(OPEN) for table in SEALED_TABLES}
    written = {table: one for table, one in found.items() if one is not None}
    tables = {table.name: {"rows": one.n_rows, "digest": one.digest} for table, one in written.items()}
    former = [(name, seal, one) for name, seal, ended, one in stored_sums(unit) if ended == OPEN]
    payload = {"tables": tables, RETIRED: _digest(former), UNKNOWN: _unknown_rows(unit)}
    event = events.append(SEALED, run_key, actor=actor, now=now, payload=payload, unit=unit)
    for table in written:
        unit.execute(update(table).where(_is_open(table)).values(seal=event.number))
    unit.execute(update(retired_rows).where(retired_rows.c.ended == OPEN).values(ended=event.number))


def stored_sums(unit: Unit) -> Iterator[tuple[str, int, int, RowSum]]:
    """Return the sums that are kept of former rows: table, seal, the event that ended them, and the sum."""
    for row in unit.execute(select(retired_rows)).fetchall():
        yield row.table_name, row.seal, row.ended, RowSum(row.n_rows, int.from_bytes(row.digest_sum, "little"))


def digests_of_former(sums: Iterable[tuple[str, int, int, RowSum]]) -> dict[int, str | None]:
    """Return, by the event that ended them, the digest of the sums kept of former rows."""
    by_event: defaultdict[int, list[tuple[str, int, RowSum]]] = defaultdict(list)
    for name, seal, ended, one in sums:
        by_event[ended].append((name, seal, one))
    return {ended: _digest(kept) for ended, kept in by_event.items()}


def _unknown_rows(unit: Unit) -> dict[str, int]:
    counts = {}
    for table in SEALED_TABLES:
        counts[table.name] = unit.execute(select(func.count()).where(table.c.seal.is_(None))).scalar_one()
    return {name: n for name, n in counts.items() if n}


def _is_open(table: Table) -> ColumnElement[bool]:
    # As the indexes of open rows have it: a parameter would not let a database use them.
    return table.c.seal == bindparam("open", OPEN, literal_execute=True)


def _digest(kept: Iterable[tuple[str, int, RowSum]]) -> str | None:
    lines = sorted([name, seal, one.n_rows, one.stored.hex()] for name, seal, one in kept)
    return hashlib.sha256(canonical_json(lines).encode()).hexdigest() if lines else None


def _under_seal(unit: Unit, table: Table, conditions: Iterable[ColumnElement[bool]]) -> dict[int, RowSum]:
    found = sums_by_seal(unit, table, table.c.seal > OPEN, *conditions)
    return {seal: one for seal, one in found.items() if seal is not None}


def _retire(unit: Unit, name: str, seal: int, ended: int, found: RowSum) -> None:
    key = {"table_name": name, "seal": seal, "ended": ended}
    known = unit.execute(select(retired_rows).filter_by(**key)).first()
    if known is None:
        values = {"n_rows": found.n_rows, "digest_sum": found.stored}
        unit.execute(retired_rows.insert().values(**key, **values))
        return
    whole = RowSum(known.n_rows, int.from_bytes(known.digest_sum, "little")) + found
    unit.execute(update(retired_rows).filter_by(**key).values(n_rows=whole.n_rows, digest_sum=whole.stored))
