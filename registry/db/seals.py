"""Which digest of the ledger a row is under: a column of every sealed table, and what is kept of rows that left it.

A seal is the ledger event with which a night ends; it holds one digest per table (`registry.ledger.facts`). The column
``seal`` of a row is the number of that event, `OPEN` from when the row is written until the night ends, and NULL in
rows that an older release wrote, of which no digest is known.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, LargeBinary, String, Table, text

from registry.db.conventions import metadata

OPEN = 0
"""Not under a seal yet: written, or changed by a decision, since the last night ended."""

retired_rows = Table(
    "retired_rows",
    metadata,
    Column("table_name", String(60), primary_key=True),
    Column("seal", Integer, primary_key=True, autoincrement=False),
    # The ledger event with which they were pruned, or of the night in which they were replaced; OPEN until it ends.
    Column("ended", Integer, primary_key=True, autoincrement=False),
    Column("n_rows", Integer, nullable=False),
    Column("digest_sum", LargeBinary, nullable=False),
)


def sealed(*tables: Table, indexed: tuple[Table, ...]) -> tuple[Table, ...]:
    """Add the column ``seal`` to tables, and an index of the open rows to the large ones; return the tables."""
    is_open = text(f"seal = {OPEN}")
    for table in tables:
        table.append_column(Column("seal", Integer, default=OPEN))
    for table in indexed:
        Index(f"ix_{table.name}_open", table.c.seal, sqlite_where=is_open, postgresql_where=is_open)
    return tables
