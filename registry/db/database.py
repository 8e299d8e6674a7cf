"""One database behind the registry: connections, transactions, and all that differs between SQLite and PostgreSQL.

Writers take turns. On SQLite a write transaction starts with BEGIN IMMEDIATE, because a deferred one loses updates
silently or fails when it upgrades its lock; on PostgreSQL it starts with one advisory lock, which gives the same order.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Table, create_engine, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.dml import Insert

from registry import clock
from registry.db import postgres
from registry.db.driver_errors import DriverFailure, registry_error
from registry.db.redaction import KEY, REDACTION
from registry.db.url_masking import mask_secrets, mask_url
from registry.db.urls import parse_registry_url, prepare_file
from registry.errors import RegistryBusy, RegistryCorrupt, RegistryError, counted
from routing.errors import UnirouteError

Unit = Connection
"""One open transaction; repositories' methods take it as `unit` to join it."""

Tracer = Callable[[str, Any], None]
Found = TypeVar("Found")

_LONGEST_PAUSE_S = 1.0
"""Pause between two attempts at a transaction that a server aborted, in seconds."""


class Database:
    """Open one registry database and run transactions on it.

    Parameters
    ----------
    url
        SQLAlchemy URL, for example ``sqlite:///uniroute.db`` or ``postgresql://user@host/name``.
    create
        Whether a missing SQLite file may be created.
    tracer
        Called with the text and the parameters of every statement.
    busy_timeout_s
        How long a writer waits for the lock before `RegistryBusy`, in seconds.

    Raises
    ------
    NotFound
        When the SQLite file is missing and `create` is false.
    RegistryError
        When the URL cannot be used.
    """

    def __init__(
        self, url: str, *, create: bool = True, tracer: Tracer | None = None, busy_timeout_s: float = 30.0
    ) -> None:
        self.url = parse_registry_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.write_error: UnirouteError | None = None
        self.read_error: UnirouteError | None = None
        self._busy_timeout_s = busy_timeout_s
        self._writing = threading.local()
        if self.is_sqlite:
            prepare_file(self.url, create)
        options = {} if self.is_sqlite else {"pool_pre_ping": True, "connect_args": postgres.connect_options(self.url)}
        try:
            self.engine = create_engine(self.url, hide_parameters=True, **options)
        except ModuleNotFoundError as error:
            raise RegistryError(
                f"the driver for {self.name} is not installed ({error.name})", hint=f"pip install {error.name}"
            ) from error
        self._driver: Any = self.engine.dialect.loaded_dbapi
        self._listen(tracer)

    @property
    def name(self) -> str:
        """The database as it may be shown: every secret is masked."""
        return mask_url(self.url)

    def _listen(self, tracer: Tracer | None) -> None:
        if self.is_sqlite:
            event.listen(self.engine, "connect", self._on_sqlite_connect)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            event.listen(self.engine, "connect", self._on_server_connect, insert=True)
            event.listen(self.engine, "begin", self._begin_on_server)
        event.listen(self.engine, "connect", _remember_process)
        event.listen(self.engine, "checkout", _refuse_inherited)
        event.listen(self.engine, "before_cursor_execute", _mask_keys, retval=True)
        if tracer is not None:

            def trace(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
                tracer(statement, parameters)

            event.listen(self.engine, "before_cursor_execute", trace)

    def _on_sqlite_connect(self, connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own
        connection.execute(f"PRAGMA busy_timeout = {int(self._busy_timeout_s * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        _enter_wal(connection, self._busy_timeout_s)
        connection.execute("PRAGMA synchronous = NORMAL")

    def _on_server_connect(self, connection: Any, _record: Any) -> None:
        try:
            postgres.require_suitable(connection, self.name)
        except RegistryError:
            connection.close()
            raise
        before = clock.machine_time()
        clock.follow(postgres.time_of_day(connection), before, clock.machine_time())

    def _begin_on_server(self, connection: Connection) -> None:
        if connection.get_execution_options().get("uniroute_reads_only"):
            connection.exec_driver_sql(postgres.BEGIN_READING)
        else:
            connection.exec_driver_sql(postgres.begin_writing(self._busy_timeout_s))

    def write(self, unit: Unit | None = None) -> AbstractContextManager[Unit]:
        """Open a write transaction, or join the one that is passed in.

        Raises
        ------
        RegistryBusy
            When other writers held the database longer than the time-out.
        """
        return nullcontext(unit) if unit is not None else self._new_write()

    def read(self, unit: Unit | None = None) -> AbstractContextManager[Unit]:
        """Open a transaction that sees one state of the database, or join the one that is passed in."""
        return nullcontext(unit) if unit is not None else self._new_read()

    @contextmanager
    def _new_write(self) -> Iterator[Unit]:
        if self.write_error is not None:
            raise self.write_error
        if getattr(self._writing, "is_open", False):
            raise RegistryError("a unit is already open in this thread", hint="pass it on as unit=...")
        self._writing.is_open = True
        try:
            with self.translated_errors(), self.engine.begin() as connection:
                yield connection
                self._writing.is_committing = True
        finally:
            self._writing.is_open = self._writing.is_committing = False

    def repeated(self, work: Callable[[Unit], Found], unit: Unit | None = None) -> Found:
        """Run some work in one write transaction, and all of it again when a server aborted the transaction.

        A deadlock, a failed serialization, a lost connection and a server that restarts leave nothing behind, so the
        work is repeated, for as long as a writer waits for the lock. Only a connection lost during the commit is not
        repeated: there is no telling then whether the work was kept.

        Parameters
        ----------
        work
            Called with the transaction; changes nothing but the database.
        unit
            The transaction to join; the code that opened it decides about repeating.

        Raises
        ------
        RegistryBusy
            When it took too long.
        """
        if unit is not None:
            return work(unit)
        deadline, pause_s = time.monotonic() + self._busy_timeout_s, 0.05
        while True:
            try:
                with self.write() as opened:
                    return work(opened)
            except RegistryBusy as error:
                if not error.may_repeat or time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def shared_time(self, now: datetime, unit: Unit) -> datetime:
        """Return a moment by the clock that all users of the database share, even when this machine's clock jumped.

        A server has one clock; on SQLite all users are on one machine anyway. Differences below a second are ignored.

        Parameters
        ----------
        now
            The present moment by `registry.clock`.
        unit
            An open transaction.
        """
        if self.is_sqlite:
            return now
        before = clock.now()
        there = unit.exec_driver_sql(postgres.TIME_OF_DAY).scalar_one()
        here = before + (clock.now() - before) / 2
        return now + timedelta(seconds=round((there - here).total_seconds()))

    @contextmanager
    def _new_read(self) -> Iterator[Unit]:
        if self.read_error is not None:
            raise self.read_error
        with self.read_schema() as reader:
            yield reader

    @contextmanager
    def read_schema(self) -> Iterator[Unit]:
        """Open a reading transaction, whatever the state of the schema."""
        with self.translated_errors(), self.engine.connect() as connection:
            reader = connection.execution_options(uniroute_reads_only=True)
            with reader.begin():
                yield reader

    @contextmanager
    def migration(self) -> Iterator[Unit]:
        """Open the write transaction of a migration: all of it is applied or nothing.

        SQLite rebuilds tables to alter them; dropping the old one would cascade, so foreign keys are off meanwhile and
        checked before the commit.
        """
        with self.translated_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                _outside_transaction(connection, "PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
                    if self.is_sqlite:
                        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                        if broken:
                            raise RegistryCorrupt(
                                f"the migration would leave {counted(len(broken), 'row')} without a parent"
                            )
            finally:
                if self.is_sqlite:
                    _outside_transaction(connection, "PRAGMA foreign_keys = ON")

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Translate errors of the drivers into errors of the registry; no statement or parameter enters the text."""
        try:
            yield
        except StatementError as error:
            if isinstance(error.orig, UnirouteError):  # a column type refused the value
                raise error.orig from None
            is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
            raise self._translated(error.orig, isinstance(error, IntegrityError), is_lost) from error
        except self._driver.Error as error:  # of a driver that was used without SQLAlchemy
            raise self._translated(error, isinstance(error, self._driver.IntegrityError)) from error
        except PoolTimeout as error:
            raise RegistryBusy(f"no connection to {self.name} became free in time", hint="try again later") from error

    def _translated(self, error: BaseException | None, is_integrity: bool, is_lost: bool = False) -> RegistryError:
        is_commit = getattr(self._writing, "is_committing", False)
        failure = DriverFailure(error, self.name, self._busy_timeout_s, is_integrity, is_lost, is_commit)
        translated = registry_error(failure)
        translated.message = mask_secrets(translated.message, self.url)
        translated.args = (translated.message,)
        return translated

    def damages(self) -> tuple[str, ...]:
        """Check the whole database; return one line for each damage found. PostgreSQL checks itself."""
        if not self.is_sqlite:
            return ()
        with self.read_schema() as unit:
            pages = [str(row[0]) for row in unit.exec_driver_sql("PRAGMA integrity_check(20)") if row[0] != "ok"]
            orphans = unit.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(20)
        return (*pages, *(f"a row of {row[0]} has lost its parent in {row[2]}" for row in orphans))

    def size_bytes(self) -> int:
        """Return the size of the database, in bytes."""
        pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        whole = "SELECT pg_database_size(current_database())"
        with self.read_schema() as unit:
            return int(unit.exec_driver_sql(pages if self.is_sqlite else whole).scalar_one())

    def release_space(self, *tables: str) -> None:
        """Free the space of deleted rows: SQLite's file shrinks, a server reuses it for new rows.

        Parameters
        ----------
        tables
            Where rows were deleted; names from this code, never input.
        """
        with self.translated_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                _outside_transaction(connection, "VACUUM")
                _outside_transaction(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
                return
            at_once = connection.execution_options(isolation_level="AUTOCOMMIT")
            driver: Any = at_once.connection.dbapi_connection
            driver.execute(f"VACUUM (ANALYZE) {', '.join(tables)}")

    def insert(self, table: Table) -> Any:
        """Start an INSERT that can carry ON CONFLICT, in the dialect of this database."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def upsert(self, table: Table, *, where: Any = None, keep: Sequence[Column[Any]] = ()) -> Insert:
        """Build an INSERT that replaces the row of the same primary key.

        Parameters
        ----------
        table
            The table to write to.
        where
            Condition on the stored row; where it is false the stored row stays.
        keep
            Columns whose stored value stays.
        """
        statement = self.insert(table)
        kept = {column.name for column in (*table.primary_key, *keep)}
        new = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in kept}
        return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new, where=where)

    def insert_missing(self, table: Table, index_elements: Sequence[Column[Any]]) -> Insert:
        """Build an INSERT that leaves an existing row of the same key as it is."""
        return self.insert(table).on_conflict_do_nothing(index_elements=list(index_elements))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def append_only(table: str, *, is_sqlite: bool) -> tuple[str, ...]:
    """Return the statements that make a table refuse UPDATE and DELETE.

    Parameters
    ----------
    table
        Name of the table; a constant from this code, never input.
    is_sqlite
        Whether to write SQLite's trigger syntax or PostgreSQL's.
    """
    if is_sqlite:
        return tuple(
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            for verb in ("UPDATE", "DELETE")
        )
    return (
        f"CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only' USING ERRCODE = '23000'; END $$",
        f"CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only()",
    )


def _begin_sqlite(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("uniroute_reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _enter_wal(connection: Any, patience_s: float) -> None:
    """Switch to the write-ahead log; processes that open a new file at the same time have to take turns."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret


def _outside_transaction(connection: Connection, pragma: str) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.execute(pragma)


def _remember_process(_connection: Any, record: Any) -> None:
    record.info["pid"] = os.getpid()


def _mask_keys(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, context: Any, _many: bool
) -> tuple[str, Any]:
    """Store no key, whichever way it came here; what is hashed before it is stored was masked where it came in."""
    is_written = context is not None and (context.isinsert or context.isupdate)
    return statement, REDACTION.clean(parameters, KEY) if is_written else parameters


def _refuse_inherited(_connection: Any, record: Any, proxy: Any) -> None:
    """Drop a connection inherited through a fork: two processes must never share one."""
    if record.info["pid"] != os.getpid():
        record.dbapi_connection = proxy.dbapi_connection = None
        raise DisconnectionError("the connection belongs to another process")


def chunks(values: Sequence[Any], size: int = 500) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces that fit into one statement's parameters."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def ids_of(unit: Unit, key: Column[Any], number: Column[int], keys: Sequence[str]) -> Mapping[str, int]:
    """Look up row numbers by key; unknown keys are absent from the answer."""
    found: dict[str, int] = {}
    for part in chunks(list(dict.fromkeys(keys))):
        found.update({row[0]: row[1] for row in unit.execute(select(key, number).where(key.in_(part)))})
    return found
