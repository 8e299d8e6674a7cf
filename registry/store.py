"""The registry: opens the database, keeps its schema in step with the code, and gives one repository per aggregate."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sqlalchemy import column, inspect, select, table, text

import sql

from .database import Database, Tracer, Unit
from .errors import SchemaMismatch
from .ledger import Ledger
from .llms import LLMs
from .outcomes import Outcomes
from .promotions import Promotions
from .prompts import Prompts
from .routers import Routers
from .runs import Runs
from .tables import VERSION_TABLE, metadata, schema_file

_ALEMBIC = threading.Lock()  # Alembic keeps its context in a module: one migration per process at a time


@dataclass(frozen=True)
class SchemaStatus:
    """How the database's schema compares with the code's.

    Attributes
    ----------
    current
        The revision of the database; None when it has none yet.
    head
        The revision of the code.
    pending
        Migrations still to apply, in order.
    is_newer
        Whether the database knows a revision that the code does not.
    changed
        Applied migrations whose file is no longer what was applied.
    stale_views
        Analyst views that are missing or not the ones of the code.
    """

    current: str | None
    head: str
    pending: tuple[str, ...]
    is_newer: bool
    changed: tuple[str, ...] = ()
    stale_views: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether nothing needs to be done."""
        return not (self.pending or self.is_newer or self.changed or self.stale_views)


class Registry:
    """Everything that must survive the night; safe to use from several threads.

    Each public method of a repository is one transaction of its own, unless it is passed a `unit` to join.

    Attributes
    ----------
    llms, prompts, outcomes, runs, routers, promotions, ledger
        One repository per aggregate.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.ledger = Ledger(database)
        self.runs = Runs(database, self.ledger)
        self.llms = LLMs(database, self.ledger, self.runs)
        self.prompts = Prompts(database)
        self.outcomes = Outcomes(database, self.runs)
        self.routers = Routers(database, self.runs)
        self.promotions = Promotions(database, self.ledger, self.routers)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        migrate: bool = True,
        tracer: Tracer | None = None,
        busy_timeout_s: float = 30.0,
        read_only: bool = False,
    ) -> Registry:
        """Open a registry.

        Parameters
        ----------
        url
            ``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``.
        migrate
            Whether to bring the schema up to date, and to create a missing SQLite file.
        tracer
            Called with text and parameters of every SQL statement.
        busy_timeout_s
            How long a writer waits for its turn, in seconds.
        read_only
            Refuse writes, and in return open a registry of a newer schema.

        Raises
        ------
        NotFound
            When the file is missing and neither created nor migrated.
        RegistryBusy
            When the database stays locked.
        RegistryCorrupt
            When the file is no database, or a damaged one.
        SchemaMismatch
            When the schema is newer than the code, or a migration was edited after it was applied.
        """
        database = Database(url, create=migrate and not read_only, tracer=tracer, busy_timeout_s=busy_timeout_s)
        registry = cls(database)
        try:
            registry._meet_schema(migrate and not read_only, read_only)
        except BaseException:
            registry.close()
            raise
        return registry

    def _meet_schema(self, migrate: bool, read_only: bool) -> None:
        status = self.schema_status()
        if status.changed:
            raise self._edited(status)
        if status.is_newer and not read_only:
            raise self._too_new(status)
        if migrate and not status.is_current:
            self.migrate()
        elif status.pending:
            refusal = SchemaMismatch(
                f"{self._database.name} lacks {len(status.pending)} migrations, the first is {status.pending[0]}",
                unchanged="Nothing was read or written.",
                hint="uniroute db migrate",
            )
            self._database.write_refusal = self._database.read_refusal = refusal
        if read_only:
            self._database.write_refusal = SchemaMismatch(
                f"{self._database.name} was opened for reading only", unchanged="Nothing was written."
            )

    def schema_status(self) -> SchemaStatus:
        """Compare the schema of the database with that of the code, without changing either."""
        with self._database.read_schema() as unit:
            return self._status(unit)

    def migrate(self) -> SchemaStatus:
        """Apply pending migrations and renew the views, all in one transaction.

        Raises
        ------
        SchemaMismatch
            When the schema is newer than the code, was edited, or belongs to another application.
        """
        with _ALEMBIC, self._database.migration() as unit:
            status = self._status(unit)
            if status.is_newer:
                raise self._too_new(status)
            if status.changed:
                raise self._edited(status)
            if status.pending:
                self._upgrade(unit)
                self._remember(unit, [one for one in sql.migrations() if one.revision in status.pending])
            self._renew_views(unit)
        self._database.write_refusal = self._database.read_refusal = None
        return self.schema_status()

    def unit(self) -> AbstractContextManager[Unit]:
        """Give one write transaction as a context manager; pass it on as ``unit=`` to the repositories' methods."""
        return self._database.write()

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _status(self, unit: Unit) -> SchemaStatus:
        known = sql.migrations()
        head = known[-1].revision
        tables = set(inspect(unit).get_table_names())
        current = None
        if VERSION_TABLE in tables:
            current = unit.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
        if current is None and tables & set(metadata.tables):
            raise SchemaMismatch(
                f"{self._database.name} belongs to another application",
                unchanged="Nothing was changed.",
                hint="name a database of its own for the registry",
            )
        if current is not None and current not in {one.revision for one in known}:
            return SchemaStatus(current, head, (), True)
        applied: dict[str, str] = {}
        if schema_file.name in tables:
            applied = {row.name: row.sha256 for row in unit.execute(select(schema_file))}
        return SchemaStatus(
            current,
            head,
            tuple(one.revision for one in known if current is None or one.revision > current),
            False,
            tuple(one.name for one in known if applied.get(one.name, one.sha256) != one.sha256),
            tuple(one.name for one in sql.views() if applied.get(one.name) != one.sha256),
        )

    def _upgrade(self, unit: Unit) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(sql.migrations_folder()).replace("%", "%%"))
        config.attributes["connection"] = unit
        command.upgrade(config, "head")

    def _renew_views(self, unit: Unit) -> None:
        present = inspect(unit).get_view_names()
        views = sql.views()
        for name in sorted(set(present) & {one.name for one in views}):
            unit.execute(text(f"DROP VIEW {name}"))
        for one in views:
            unit.exec_driver_sql(f"CREATE VIEW {one.name} AS {one.text}")
        self._remember(unit, views)

    def _remember(self, unit: Unit, files: list[sql.SchemaFile] | tuple[sql.SchemaFile, ...]) -> None:
        rows = [{"name": one.name, "sha256": one.sha256} for one in files]
        if rows:
            unit.execute(self._database.upsert(schema_file), rows)

    def _too_new(self, status: SchemaStatus) -> SchemaMismatch:
        return SchemaMismatch(
            f"{self._database.name} has schema {status.current}; this version of uniroute knows up to {status.head}",
            unchanged="Nothing was written.",
            hint="install the newer version of uniroute",
        )

    def _edited(self, status: SchemaStatus) -> SchemaMismatch:
        return SchemaMismatch(
            f"the migration {status.changed[0]} was edited after it was applied to {self._database.name}",
            unchanged="Nothing was written.",
            hint="restore the migration file, and add a new one for the change",
        )
