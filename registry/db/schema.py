"""The schema of a registry: which one a database has, which one the code needs, and how to upgrade."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import column, inspect, select, table

import sql
from registry import clock
from registry.db.database import Database, Unit
from registry.db.tables import VERSION_TABLE, lease, metadata, schema_file
from registry.errors import RunAlreadyActive, SchemaMismatch, counted

LEASE = "night"
"""Name of the one lease that all nights of a registry share; all other leases are for parts of its run."""

ALEMBIC = threading.Lock()
"""Alembic keeps its context in a module: one migration per process at a time."""


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
        Applied migrations whose file was changed afterwards.
    stale_views
        Analyst views that are missing or differ from those of the code.
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


class Schema:
    """Inspect the schema of a database, and upgrade it inside a transaction of the caller."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def status(self, unit: Unit) -> SchemaStatus:
        """Compare the schema of the database with that of the code.

        Raises
        ------
        SchemaMismatch
            When the database belongs to another application.
        """
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

    def require_ours(self, status: SchemaStatus) -> None:
        """Refuse to write to a schema that is newer than the code, or was made by an edited migration.

        Raises
        ------
        SchemaMismatch
            Naming the revision or the migration.
        """
        if status.is_newer:
            raise self.too_new(status.current)
        if status.changed:
            raise self.edited(status)

    def require_no_night(self, status: SchemaStatus, unit: Unit) -> None:
        """Refuse to change the schema during a night, which an older version of the code may run; fence off a dead one.

        Raises
        ------
        RunAlreadyActive
            While a night's lease is alive.
        """
        if status.current is None or not status.pending:
            return
        # These columns exist since the first schema, whatever is pending.
        columns = (lease.c.run_id, lease.c.host, lease.c.pid, lease.c.expires_at)
        held = unit.execute(select(*columns).where(lease.c.name == LEASE)).first()
        if held is None or held.run_id is None:
            return
        if held.expires_at > self._database.shared_time(clock.now(), unit):
            raise RunAlreadyActive(
                f"a night is running on {held.host} (process {held.pid}), and {self._database.name} lacks "
                f"{counted(len(status.pending), 'migration')} that would change the schema under it",
                unchanged="Nothing was migrated.",
                hint=f"wait for it; without a sign of life its lease ends at {held.expires_at:%H:%M:%S} UTC",
            )
        unit.execute(lease.update().where(lease.c.name == LEASE).values(number=lease.c.number + 1))

    def upgrade(self, unit: Unit, revision: str = "head") -> None:
        """Apply the migrations up to a revision that the database lacks."""
        from alembic import command
        from alembic.config import Config

        pending = self.status(unit).pending
        wanted = [one for one in pending if revision == "head" or one <= revision]
        if not wanted:
            return
        config = Config()
        config.set_main_option("script_location", str(sql.migrations_folder()).replace("%", "%%"))
        config.attributes["connection"] = unit
        command.upgrade(config, wanted[-1])
        self._remember(unit, [one for one in sql.migrations() if one.revision in wanted])

    def renew_views(self, unit: Unit) -> None:
        """Replace the analyst views by those of the code."""
        views = sql.views()
        migrations = {one.name for one in sql.migrations()}
        ours = {name for name in unit.execute(select(schema_file.c.name)).scalars() if name not in migrations}
        for name in sorted(ours & set(inspect(unit).get_view_names())):
            unit.exec_driver_sql(f"DROP VIEW {name}")
        for one in views:
            unit.exec_driver_sql(f"CREATE VIEW {one.name} AS {one.text}")
        self._remember(unit, views)

    def _remember(self, unit: Unit, files: Sequence[sql.SchemaFile]) -> None:
        rows = [{"name": one.name, "sha256": one.sha256} for one in files]
        if rows:
            unit.execute(self._database.upsert(schema_file), rows)

    def too_new(self, revision: str | None) -> SchemaMismatch:
        """Return the error for a schema that the code does not know."""
        return SchemaMismatch(
            f"{self._database.name} has schema {revision}; this version of uniroute knows up to "
            f"{sql.migrations()[-1].revision}",
            unchanged="Nothing was written.",
            hint="install the newer version of uniroute",
        )

    def edited(self, status: SchemaStatus) -> SchemaMismatch:
        """Return the error for a schema made by an edited migration."""
        return SchemaMismatch(
            f"the migration {status.changed[0]} was edited after it was applied to {self._database.name}",
            unchanged="Nothing was written.",
            hint="restore the migration file, and add a new one for the change",
        )
