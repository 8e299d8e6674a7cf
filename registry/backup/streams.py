"""A whole registry as lines of text: a header, the rows of each table and their digest, and the digest of all."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import column, insert, table, text

from registry.backup.portable import (
    KINDS,
    Contents,
    LineDigest,
    PortableTable,
    TableDigest,
    data_tables,
    lines_of,
    portable,
    read_row,
)
from registry.db.database import Unit
from registry.errors import RegistryCorrupt
from routing.strict_json import InvalidJson, parse_json

FORMAT = 1
"""Version of the format of the lines; readers refuse any other."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Header:
    """The first line: which schema the rows have, and which columns they fill."""

    schema: str
    tables: tuple[PortableTable, ...]


def export(unit: Unit, schema: str, now: datetime) -> Iterator[str]:
    """Write everything that a transaction sees."""
    tables = data_tables()
    described = [asdict(portable(entry)) for entry in tables]
    yield json.dumps({"uniroute_backup": FORMAT, "schema": schema, "made_at": now.isoformat(), "tables": described})
    found = []
    for entry in tables:
        digest = LineDigest(entry.name)
        for line in lines_of(unit, entry):
            yield digest.add(line)
        found.append(digest.result)
        yield json.dumps(asdict(digest.result))
    yield json.dumps({"digest": Contents(schema, tuple(found)).digest})


def read_header(line: str) -> Header:
    """Read the first line.

    Raises
    ------
    RegistryCorrupt
        When it does not begin a backup, or one of another format.
    """
    try:
        header = parse_json(line)
        if header["uniroute_backup"] != FORMAT:
            raise ValueError(f"it has format {header['uniroute_backup']!r}")
        tables = tuple(
            PortableTable(one["name"], tuple(one["columns"]), tuple(one["kinds"])) for one in header["tables"]
        )
        for one in tables:
            # They become part of statements, and anyone may have written the file.
            is_plain = all(_NAME.fullmatch(name) for name in (one.name, *one.columns))
            if not is_plain or not set(one.kinds) <= set(KINDS) or len(one.kinds) != len(one.columns):
                raise ValueError(f"the table {one.name!r} is not described as it should be")
        return Header(str(header["schema"]), tables)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"its first line is not a header: {error}") from error


def load(unit: Unit | None, header: Header, lines: Iterator[str]) -> Contents:
    """Read the rows of every table into an open transaction, and compare every digest.

    Parameters
    ----------
    unit
        The transaction; without one the rows are only checked.
    header
        The first line.
    lines
        Those after it.

    Raises
    ------
    RegistryCorrupt
        When a line is missing, or was changed after it was written.
    """
    loaded = []
    for shape in header.tables:
        reader = _TableReader(shape, lines)
        if unit is None:
            deque(reader.rows(), maxlen=0)
        else:
            load_rows(unit, shape, reader.rows())
        loaded.append(reader.checked())
    found = Contents(header.schema, tuple(loaded))
    if _mark(next(lines, "{}")).get("digest") != found.digest:
        raise _damaged("its last line does not match the rows before it")
    return found


class _TableReader:
    """Read the rows of one table up to the line that states their digest."""

    def __init__(self, shape: PortableTable, lines: Iterator[str]) -> None:
        self._shape = shape
        self._lines = lines
        self._digest = LineDigest(shape.name)
        self._stated: dict[str, Any] | None = None

    def rows(self) -> Iterator[list[Any]]:
        for line in self._lines:
            if line.startswith("{"):
                self._stated = _mark(line)
                return
            yield read_row(self._digest.add(line), self._shape)

    def checked(self) -> TableDigest:
        if self._stated is None:
            raise _damaged(f"it ends among the rows of {self._shape.name}")
        if self._stated != asdict(self._digest.result):
            raise _damaged(f"the rows of {self._shape.name} are not those that were written")
        return self._digest.result


def _mark(line: str) -> dict[str, Any]:
    try:
        return parse_json(line)
    except InvalidJson as error:
        raise _damaged("one of its lines is cut off") from error


def _damaged(why: str) -> RegistryCorrupt:
    return RegistryCorrupt(f"the backup is damaged: {why}", unchanged="Nothing was written.", hint="use another backup")


_AT_ONCE = 1000


def load_rows(unit: Unit, shape: PortableTable, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows to a table, in the order of its columns.

    Parameters
    ----------
    unit
        An open write transaction.
    shape
        The table; names come from this code or from a file whose names were checked.
    rows
        Values as `KINDS` transports them.
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
    """Make a server number new rows after those that were loaded; SQLite does so by itself."""
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
