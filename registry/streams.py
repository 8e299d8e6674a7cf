"""A whole registry as lines of text: a header, the rows of each table and their digest, and the digest of all."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from .database import Unit
from .errors import RegistryCorrupt
from .loading import load_rows
from .portable import KINDS, Contents, LineDigest, PortableTable, TableDigest, data_tables, lines_of, portable, read_row

FORMAT = 1
"""The form of the lines; readers refuse any other."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Header:
    """The first line: which schema the rows have, and which columns they fill."""

    schema: str
    tables: tuple[PortableTable, ...]


def export(unit: Unit, schema: str, now: datetime) -> Iterator[str]:
    """Write everything that a transaction sees."""
    tables = data_tables()
    described = [asdict(portable(table)) for table in tables]
    yield json.dumps({"uniroute_backup": FORMAT, "schema": schema, "made_at": now.isoformat(), "tables": described})
    found = []
    for table in tables:
        digest = LineDigest(table.name)
        for line in lines_of(unit, table):
            yield digest.add(line)
        found.append(digest.result)
        yield json.dumps(asdict(digest.result))
    yield json.dumps({"digest": Contents(schema, tuple(found)).digest})


def read_header(line: str) -> Header:
    """Read the first line.

    Raises
    ------
    RegistryCorrupt
        When it does not begin a backup, or one of another form.
    """
    try:
        told = json.loads(line)
        if told["uniroute_backup"] != FORMAT:
            raise ValueError(f"it has form {told['uniroute_backup']!r}")
        tables = tuple(PortableTable(one["name"], tuple(one["columns"]), tuple(one["kinds"])) for one in told["tables"])
        for one in tables:
            # They become part of statements, and a backup is a file that anybody may have written.
            is_plain = all(_NAME.fullmatch(name) for name in (one.name, *one.columns))
            if not is_plain or not set(one.kinds) <= set(KINDS) or len(one.kinds) != len(one.columns):
                raise ValueError(f"the table {one.name!r} is not described as it should be")
        return Header(str(told["schema"]), tables)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"its first line is no head: {error}") from error


def load(unit: Unit | None, header: Header, lines: Iterator[str]) -> Contents:
    """Read the rows of every table into an open transaction, and compare every digest.

    Parameters
    ----------
    unit
        The transaction; without one the rows are only looked through.
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
        raise _damaged("its last line does not fit the rows before it")
    return found


class _TableReader:
    """Read the rows of one table up to the line that tells their digest."""

    def __init__(self, shape: PortableTable, lines: Iterator[str]) -> None:
        self._shape = shape
        self._lines = lines
        self._digest = LineDigest(shape.name)
        self._told: dict[str, Any] | None = None

    def rows(self) -> Iterator[list[Any]]:
        for line in self._lines:
            if line.startswith("{"):
                self._told = _mark(line)
                return
            yield read_row(self._digest.add(line), self._shape)

    def checked(self) -> TableDigest:
        if self._told is None:
            raise _damaged(f"it ends among the rows of {self._shape.name}")
        if self._told != asdict(self._digest.result):
            raise _damaged(f"the rows of {self._shape.name} are not those that were written")
        return self._digest.result


def _mark(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise _damaged("a line of it is cut off") from error


def _damaged(why: str) -> RegistryCorrupt:
    return RegistryCorrupt(f"the backup is damaged: {why}", unchanged="Nothing was written.", hint="use another backup")
