"""Rows in bulk: COPY on PostgreSQL, many rows per statement on SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import column, insert, table, text

from .database import Unit
from .portable import KINDS, PortableTable, data_tables

_AT_ONCE = 1000


def load_rows(unit: Unit, shape: PortableTable, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows to a table, in the order of its columns.

    Parameters
    ----------
    unit
        An open write transaction.
    shape
        The table; names come from this code or from a file whose names were compared with it.
    rows
        Values as `KINDS` carries them.
    """
    if unit.dialect.name == "postgresql":
        driver: Any = unit.connection.dbapi_connection
        names = ", ".join(f'"{name}"' for name in shape.columns)
        with driver.cursor() as cursor, cursor.copy(f'COPY "{shape.name}" ({names}) FROM STDIN') as copy:
            for row in rows:
                copy.write_row(row)
        return
    target = table(
        shape.name, *(column(name, KINDS[kind]) for name, kind in zip(shape.columns, shape.kinds, strict=True))
    )
    for part in _parts(rows):
        unit.execute(insert(target), [dict(zip(shape.columns, row, strict=True)) for row in part])


def _parts(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    waiting = iter(rows)
    while part := list(islice(waiting, _AT_ONCE)):
        yield part


def continue_numbering(unit: Unit) -> None:
    """Let a server number new rows after those that were loaded; SQLite does so by itself."""
    if unit.dialect.name != "postgresql":
        return
    for one in data_tables():
        if "id" not in one.columns:
            continue
        unit.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{one.name}', 'id'), greatest(max(id), 1), max(id) IS NOT NULL) "  # noqa: S608
                f'FROM "{one.name}"'
            )
        )
