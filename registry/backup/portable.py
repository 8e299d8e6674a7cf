"""The rows of a registry in a form that every database it runs on can write and read: one line of JSON per row.

The lines of a table are in the order of its primary key, byte by byte, and values are written in one way only: two
registries with the same rows have the same lines and therefore the same digest, whatever database they are on.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    Float,
    LargeBinary,
    Select,
    String,
    Table,
    select,
    type_coerce,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from registry.db.columns import UtcDateTime
from registry.db.database import Unit
from registry.db.tables import metadata, schema_file
from registry.errors import RegistryCorrupt
from routing.strict_json import parse_json

_AT_ONCE = 2000

KINDS: dict[str, TypeEngine[Any]] = {
    "int": BigInteger(),
    "float": Float(53),
    "bool": Boolean(create_constraint=False),
    "text": String(),
    "bytes": LargeBinary(),
    "date": Date(),
    "time": UtcDateTime(),
}
"""Kind of a column, and the type that transports it unchanged, without the meaning the code gives it."""

_TO_JSON: dict[str, Callable[[Any], Any]] = {
    "bytes": lambda value: base64.b64encode(value).decode("ascii"),
    "date": date.isoformat,
    "time": lambda value: value.astimezone(UTC).isoformat(timespec="microseconds"),
    "float": float,
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "bytes": base64.b64decode,
    "date": date.fromisoformat,
    "time": datetime.fromisoformat,
    "float": float,
}


@dataclass(frozen=True)
class PortableTable:
    """Name and columns of a table, with the kind of each column."""

    name: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class TableDigest:
    """How many rows a table has, and the SHA-256 of their lines."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """All rows of a registry at one moment.

    Attributes
    ----------
    schema
        The revision that shaped the tables.
    tables
        One digest per table, parents before children.
    """

    schema: str
    tables: tuple[TableDigest, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over schema, names, counts and digests: equal for equal registries, on whatever database."""
        lines = [self.schema, *(f"{one.name} {one.rows} {one.sha256}" for one in self.tables)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def rows(self) -> int:
        """How many rows there are in all."""
        return sum(one.rows for one in self.tables)


def data_tables() -> tuple[Table, ...]:
    """Return every table that holds data, parents before children."""
    return tuple(table for table in metadata.sorted_tables if table is not schema_file)


@functools.cache
def portable(table: Table) -> PortableTable:
    """Describe a table of this code."""
    return PortableTable(
        table.name,
        tuple(column.name for column in table.columns),
        tuple(_kind(column) for column in table.columns),
    )


def _kind(column: Column[Any]) -> str:
    if isinstance(column.type, UtcDateTime):
        return "time"
    plain = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    python = plain.python_type
    return {int: "int", float: "float", bool: "bool", str: "text", bytes: "bytes", date: "date"}[python]


def lines_of(unit: Unit, table: Table) -> Iterator[str]:
    """Write the rows of a table, one line each, in the order of its key."""
    query = _query(table).order_by(*(_bytewise(unit, column) for column in table.primary_key))
    for values in _written(unit, table, query):
        yield json.dumps(values, separators=(",", ":"), allow_nan=False)


def values_of(unit: Unit, table: Table, *conditions: ColumnElement[bool]) -> Iterator[list[Any]]:
    """Return the values of rows as their lines would write them, in whatever order the database finds them."""
    return _written(unit, table, _query(table).where(*conditions))


@functools.cache  # the end of a night asks for every table several times
def _query(table: Table) -> Select[Any]:
    kinds = portable(table).kinds
    return select(
        *(
            type_coerce(column, KINDS[kind]).label(column.name)
            for column, kind in zip(table.columns, kinds, strict=True)
        )
    )


def _written(unit: Unit, table: Table, query: Select[Any]) -> Iterator[list[Any]]:
    encoders = [(place, _TO_JSON[kind]) for place, kind in enumerate(portable(table).kinds) if kind in _TO_JSON]
    with unit.execute(query.execution_options(yield_per=_AT_ONCE)) as rows:
        for row in rows:
            written = list(row)
            for place, encode in encoders:
                if written[place] is not None:
                    written[place] = encode(written[place])
            yield written


def _bytewise(unit: Unit, column: Column[Any]) -> Any:
    """Order text by its bytes: a server orders it by its own locale."""
    is_text_on_server = isinstance(column.type, String | TypeDecorator) and unit.dialect.name == "postgresql"
    return column.collate("C") if is_text_on_server and _kind(column) == "text" else column


def read_row(line: str, shape: PortableTable) -> list[Any]:
    """Read a line that `lines_of` wrote.

    Raises
    ------
    RegistryCorrupt
        When it is not a row of that table.
    """
    try:
        row = parse_json(line)
        if len(row) != len(shape.columns):
            raise ValueError
        for place, kind in enumerate(shape.kinds):
            decode = _FROM_JSON.get(kind)
            if decode is not None and row[place] is not None:
                row[place] = decode(row[place])
    except (ValueError, TypeError) as error:
        raise RegistryCorrupt(f"a row of {shape.name} cannot be read", unchanged="Nothing was written.") from error
    return row


class LineDigest:
    """Count and digest the lines of one table as they pass."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._digest = hashlib.sha256()
        self._rows = 0

    def add(self, line: str) -> str:
        """Add one more line, and return it."""
        self._digest.update(line.encode("ascii") + b"\n")
        self._rows += 1
        return line

    @property
    def result(self) -> TableDigest:
        """Count and digest of the lines so far."""
        return TableDigest(self._name, self._rows, self._digest.hexdigest())


def contents(unit: Unit, schema: str) -> Contents:
    """Digest every row that a transaction sees."""
    found = []
    for table in data_tables():
        digest = LineDigest(table.name)
        for line in lines_of(unit, table):
            digest.add(line)
        found.append(digest.result)
    return Contents(schema, tuple(found))


def is_empty(unit: Unit, tables: Sequence[Table]) -> bool:
    """Whether none of these tables has a row."""
    return all(unit.execute(select(1).select_from(table).limit(1)).first() is None for table in tables)
