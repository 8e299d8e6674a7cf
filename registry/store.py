"""The registry: opens the database, keeps its schema in step with the code, and gives one repository per aggregate."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sqlalchemy import column, inspect, select, table

import sql

from .charges import Charges
from .database import Database, Tracer, Unit
from .errors import SchemaMismatch
from .ledger import Ledger
from .llms import LLMs
from .outcomes import Outcomes
from .promotions import Promotions
from .prompts import Prompts
from .routers import Routers
from .runs import Runs
from .standings import Standing, leaderboard
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
    llms, prompts, outcomes, charges, runs, routers, promotions, ledger
        One repository per aggregate.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.ledger = Ledger(database)
        self.runs = Runs(database, self.ledger)
        self.llms = LLMs(database, self.ledger, self.runs)
        self.prompts = Prompts(database)
        self.charges = Charges(database, self.runs)
        self.outcomes = Outcomes(database, self.runs, self.charges)
        self.routers = Routers(database, self.runs, self.ledger)
        self.promotions = Promotions(database, self.ledger, self.routers)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        migrate: bool = True,
        tracer: Tracer | None = None,
        busy_timeout_s: float = 30.0,
    ) -> Registry:
        """Open a registry.

        Parameters
        ----------
        url
            ``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``.
        migrate
            Whether to bring the schema up to date, and to create a missing SQLite file. Without it an older schema can
            only be asked for its `schema_status`, and a newer one only be read.
        tracer
            Called with text and parameters of every SQL statement.
        busy_timeout_s
            How long a writer waits for its turn, in seconds.

        Raises
        ------
        NotFound
            When the file is missing and `migrate` is false.
        RegistryBusy
            When the database stays locked.
        RegistryCorrupt
            When the file is no database, or a damaged one.
        SchemaMismatch
            When a schema to migrate is newer than the code, was edited, or belongs to another application.
        """
        database = Database(url, create=migrate, tracer=tracer, busy_timeout_s=busy_timeout_s)
        registry = cls(database)
        try:
            registry._meet_schema(migrate)
        except BaseException:
            registry.close()
            raise
        return registry

    def _meet_schema(self, migrate: bool) -> None:
        status = self.schema_status()
        if migrate and not status.is_current:
            self.migrate()
        elif status.is_newer or status.changed:
            self._database.write_refusal = self._too_new(status) if status.is_newer else self._edited(status)
        elif status.pending:
            self._database.write_refusal = self._database.read_refusal = SchemaMismatch(
                f"{self._database.name} lacks {len(status.pending)} migrations, the first is {status.pending[0]}",
                unchanged="Nothing was read or written.",
                hint="uniroute db migrate",
            )

    @property
    def name(self) -> str:
        """Where it is, as it may be shown: every secret is masked."""
        return self._database.name

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

    def damages(self) -> tuple[str, ...]:
        """Look through the whole database; give one line for each damage found.

        Raises
        ------
        RegistryCorrupt
            When it is too damaged to be looked through.
        """
        return self._database.damages()

    def leaderboard(self, prompt_set_digest: str | None = None) -> tuple[Standing, ...]:
        """Give how each LLM did on one prompt set, the best first.

        Parameters
        ----------
        prompt_set_digest
            The prompt set; that of the latest run when omitted.
        """
        return leaderboard(self._database, prompt_set_digest)

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
        views = sql.views()
        migrations = {one.name for one in sql.migrations()}
        ours = {name for name in unit.execute(select(schema_file.c.name)).scalars() if name not in migrations}
        for name in sorted(ours & set(inspect(unit).get_view_names())):
            unit.exec_driver_sql(f"DROP VIEW {name}")
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
