"""The registry: opens the database, keeps its schema current, and has one repository per aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Self

from registry.backup.backups import Backups
from registry.charges import Charges
from registry.db.database import Database, Tracer, Unit
from registry.db.schema import ALEMBIC, Schema, SchemaStatus
from registry.errors import SchemaMismatch, counted
from registry.leaderboard import LeaderboardRow, leaderboard
from registry.ledger import Ledger, LedgerEvent, SignedHeads
from registry.ledger.fact_checks import FactsCheck, check_facts
from registry.llms import LLMs
from registry.monitoring import Monitoring
from registry.outcomes import Outcomes
from registry.promotions import Promotions
from registry.prompts import Prompts
from registry.prompts.prompt_orders import PromptOrders
from registry.pruning import Pruning
from registry.routers import Routers
from registry.run_leases import RunParts
from registry.runs import Runs

__all__ = ["Registry", "SchemaStatus"]


class Registry:
    """Everything that must survive the night; safe to use from several threads.

    Each public method of a repository is one transaction of its own, unless it is passed a `unit` to join.

    Attributes
    ----------
    llms, prompts, prompt_orders, outcomes, charges, runs, parts, routers, promotions, ledger
        One repository per aggregate.
    backups
        Copies of the whole registry in files and other databases.
    pruning
        Deletes what is no longer needed.
    monitoring
        What monitoring reads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = Schema(database)
        self.backups = Backups(database, self._schema)
        self.ledger = Ledger(database)
        self.signed_heads = SignedHeads(database)
        self.runs = Runs(database, self.ledger)
        self.parts = RunParts(database, self.runs)
        self.pruning = Pruning(database, self.ledger, self.runs)
        self.llms = LLMs(database, self.ledger, self.runs)
        self.prompts = Prompts(database)
        self.prompt_orders = PromptOrders(database, self.runs)
        self.charges = Charges(database, self.runs)
        self.outcomes = Outcomes(database, self.runs, self.charges)
        self.routers = Routers(database, self.runs, self.ledger)
        self.promotions = Promotions(database, self.ledger, self.routers)
        self.monitoring = Monitoring(database, self.runs)

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
            Whether to bring the schema up to date, and to create a missing SQLite file. Without it an older schema
            only answers `schema_status`, and a newer one can only be read.
        tracer
            Called with text and parameters of every SQL statement.
        busy_timeout_s
            How long a writer waits for the lock, in seconds.

        Raises
        ------
        NotFound
            When the file is missing and `migrate` is false.
        RegistryBusy
            When the database stays locked.
        RegistryCorrupt
            When the file is no database, or a damaged one.
        RunAlreadyActive
            When there is something to migrate while a night is running.
        SchemaMismatch
            When a schema to migrate is newer than the code, was edited, or belongs to another application.
        """
        database = Database(url, create=migrate, tracer=tracer, busy_timeout_s=busy_timeout_s)
        registry = cls(database)
        try:
            registry._check_schema(migrate)
        except BaseException:
            registry.close()
            raise
        return registry

    @classmethod
    def unmade(cls, url: str) -> Registry:
        """Open a registry that need not exist yet, without creating it: for `Backups.restore` and `Backups.copy_to`.

        Parameters
        ----------
        url
            As for `open`.
        """
        return cls(Database(url))

    def _check_schema(self, migrate: bool) -> None:
        status = self.schema_status()
        if migrate and not status.is_current:
            self.migrate()
        elif status.is_newer or status.changed:
            refusal = self._schema.too_new(status.current) if status.is_newer else self._schema.edited(status)
            self._database.write_error = refusal
        elif status.pending:
            self._database.write_error = self._database.read_error = SchemaMismatch(
                f"{self._database.name} lacks {counted(len(status.pending), 'migration')}, "
                f"the first is {status.pending[0]}",
                unchanged="Nothing was read or written.",
                hint="uniroute db migrate",
            )

    @property
    def name(self) -> str:
        """Its location as it may be shown: every secret is masked."""
        return self._database.name

    def schema_status(self) -> SchemaStatus:
        """Compare the schema of the database with that of the code, without changing either."""
        with self._database.read_schema() as unit:
            return self._schema.status(unit)

    def require_usable(self, status: SchemaStatus) -> None:
        """Refuse a schema that a night could not write to, even after it has applied what is pending.

        Raises
        ------
        SchemaMismatch
            When it is newer than the code, or was edited.
        """
        self._schema.require_ours(status)

    def migrate(self) -> SchemaStatus:
        """Apply pending migrations and renew the views, all in one transaction.

        Raises
        ------
        RunAlreadyActive
            While a night is running and there is something to migrate.
        SchemaMismatch
            When the schema is newer than the code, was edited, or belongs to another application.
        """
        with ALEMBIC, self._database.migration() as unit:
            status = self._schema.status(unit)
            self._schema.require_ours(status)
            self._schema.require_no_night(status, unit)
            self._schema.upgrade(unit)
            self._schema.renew_views(unit)
        self._database.write_error = self._database.read_error = None
        return self.schema_status()

    def shared_time(self, now: datetime) -> datetime:
        """Convert a moment of this machine's clock to the clock that all users share, by which leases run.

        Parameters
        ----------
        now
            The present moment by this machine's clock.
        """
        with self._database.read() as unit:
            return self._database.shared_time(now, unit)

    def damages(self) -> tuple[str, ...]:
        """Check the whole database; return one line for each damage found.

        Raises
        ------
        RegistryCorrupt
            When it is too damaged to be checked.
        """
        return self._database.damages()

    def check_facts(self, events: Sequence[LedgerEvent]) -> FactsCheck:
        """Compare the rows that nights wrote with the digests in the ledger; see `registry.ledger.facts`.

        Parameters
        ----------
        events
            The whole ledger, whose chain was found intact.
        """
        return check_facts(self._database, events)

    def leaderboard(self, prompt_set_digest: str | None = None) -> tuple[LeaderboardRow, ...]:
        """Return how each LLM did on one prompt set, the best first.

        Parameters
        ----------
        prompt_set_digest
            The prompt set; that of the latest run when omitted.
        """
        return leaderboard(self._database, prompt_set_digest)

    def unit(self) -> AbstractContextManager[Unit]:
        """Open one write transaction as a context manager; pass it on as ``unit=`` to the repositories' methods."""
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
