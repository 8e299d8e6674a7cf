"""Whole registries: into a file, out of one, and from one database to another, without losing a row.

A backup is what one transaction sees, so a night may continue writing meanwhile. It is read back by any database the
registry runs on, in one transaction: all of it is there afterwards, or nothing.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from sqlalchemy import inspect

import sql
from registry.backup.portable import Contents, contents, data_tables, is_empty
from registry.backup.streams import Header, continue_numbering, export, load, read_header
from registry.db.database import Database, Unit
from registry.db.schema import ALEMBIC, Schema
from registry.errors import NotFound, RegistryCorrupt, RegistryError

_NOTHING = "Nothing was written."
LONGEST_LINE = 2**28
"""Characters of a line that are read at most: far more than any row has, and far less than a machine's memory."""


class Backups:
    """Write a registry to a file or to another database, and read it from a file."""

    def __init__(self, database: Database, schema: Schema) -> None:
        self._database = database
        self._schema = schema

    def contents(self) -> Contents:
        """Digest every row of the registry."""
        with self._database.read() as unit:
            return contents(unit, self._revision(unit))

    def write(self, file: Path, now: datetime) -> int:
        """Write a backup; a night may continue meanwhile.

        Parameters
        ----------
        file
            A file that does not exist yet; only its owner may read it, for it holds prompts and answers.
        now
            The present moment.

        Returns
        -------
        int
            How many bytes the file has.

        Raises
        ------
        RegistryError
            When the file exists or cannot be written.
        """
        with _new_file(file) as lines, self._database.read() as unit:
            for line in export(unit, self._revision(unit), now):
                lines.write(line + "\n")
        return file.stat().st_size

    def restore(self, file: Path) -> Contents:
        """Read a backup into this registry, which must be empty; it is brought to the schema of this code.

        Raises
        ------
        NotFound
            When there is no such file.
        RegistryCorrupt
            When the file is damaged or was cut off.
        RegistryError
            When the registry is not empty.
        SchemaMismatch
            When the backup was made by a newer version of uniroute.
        """
        with _backup_lines(file) as lines:
            return self._load(lines)

    def inspect(self, file: Path) -> Contents:
        """Read a whole backup and compare every digest, without writing anything.

        Raises
        ------
        NotFound, RegistryCorrupt, SchemaMismatch
            As `restore` does.
        """
        with _backup_lines(file) as lines:
            return load(None, self._known_header(lines), lines)

    def copy_to(self, target: Backups, now: datetime) -> Contents:
        """Copy every row to another registry, which must be empty or hold these very rows already.

        Parameters
        ----------
        target
            The other registry.
        now
            The present moment.

        Returns
        -------
        Contents
            Contents of the other registry, read back from it.

        Raises
        ------
        RegistryError
            When the other registry holds anything else.
        """
        with self._database.read() as unit:
            revision = self._revision(unit)
            theirs = target.contents_or_none()
            if theirs is not None and theirs == contents(unit, revision):
                return theirs
            return target._load(export(unit, revision, now))

    def contents_or_none(self) -> Contents | None:
        """Digest every row; None for a database without tables, or with those of another schema."""
        with self._database.read_schema() as unit:
            status = self._schema.status(unit)
            is_current = status.current == status.head
            return contents(unit, status.head) if is_current else None

    def _revision(self, unit: Unit) -> str:
        status = self._schema.status(unit)
        if status.is_newer:
            raise self._schema.too_new(status.current)
        if status.current != status.head:
            raise RegistryError(
                f"{self._database.name} has schema {status.current}, this version of uniroute {status.head}",
                unchanged=_NOTHING,
                hint="uniroute db migrate",
            )
        return status.head

    def _known_header(self, lines: Iterator[str]) -> Header:
        header = read_header(next(lines, ""))
        if header.schema not in {one.revision for one in sql.migrations()}:
            raise self._schema.too_new(header.schema)
        return header

    def _load(self, lines: Iterator[str]) -> Contents:
        header = self._known_header(lines)
        with ALEMBIC, self._database.migration() as unit:
            self._make_room(unit, header.schema)
            loaded = load(unit, header, lines)
            continue_numbering(unit)
            if header.schema == sql.migrations()[-1].revision and contents(unit, header.schema) != loaded:
                raise RegistryCorrupt(f"{self._database.name} does not return what was written", unchanged=_NOTHING)
            self._schema.upgrade(unit)
            self._schema.renew_views(unit)
        self._database.write_error = self._database.read_error = None
        return loaded

    def _make_room(self, unit: Unit, revision: str) -> None:
        """Bring an empty database to the schema that the rows have."""
        status = self._schema.status(unit)
        self._schema.require_ours(status)
        there = set(inspect(unit).get_table_names())
        if not is_empty(unit, [table for table in data_tables() if table.name in there]):
            raise RegistryError(
                f"{self._database.name} holds rows already",
                unchanged=_NOTHING,
                hint="name an empty database: rows of two registries are never mixed",
            )
        if status.current is not None and status.current > revision:
            raise RegistryError(
                f"{self._database.name} has schema {status.current}, the backup has {revision}",
                unchanged=_NOTHING,
                hint="name a database without tables",
            )
        self._schema.upgrade(unit, revision)


@contextmanager
def _backup_lines(file: Path) -> Iterator[Iterator[str]]:
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            yield _bounded(lines)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", hint="uniroute db backup FILE") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RegistryCorrupt(
            f"{file} is not a backup, or a damaged one ({error})", unchanged=_NOTHING, hint="use another backup"
        ) from error
    except MemoryError:
        raise RegistryCorrupt(
            f"{file} holds a row that needs more memory than this process has",
            unchanged=_NOTHING,
            hint="use another backup, or give the process more memory",
        ) from None


def _bounded(lines: TextIO) -> Iterator[str]:
    """Yield lines without their ends; one that is longer than any row is no row, and may fill the memory."""
    while line := lines.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"a line of more than {LONGEST_LINE:,} characters")
        yield line.rstrip("\n")


@contextmanager
def _new_file(file: Path) -> Iterator[TextIO]:
    """Write a compressed file that gets its name only when it is complete and on disk."""
    if file.exists():
        raise RegistryError(f"{file} already exists", unchanged="It was left as it is.", hint="name another file")
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:  # noqa: PTH123 - its mode
            with gzip.open(raw, "wt", encoding="ascii", compresslevel=6) as lines:
                yield lines
            os.fsync(raw.fileno())
        part.rename(file)
    except OSError as error:
        raise RegistryError(f"{file} cannot be written ({error.strerror})", hint="name another file") from error
    finally:
        part.unlink(missing_ok=True)
