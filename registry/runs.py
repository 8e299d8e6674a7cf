"""Runs and the lease: at most one night at a time, and a night that lost its lease can write no more.

A run is one row per run key; starting the same key again (after a kill, or by hand) is the next attempt of that run.
Every start draws the next lease number: it fences off a holder that slept through the end of its lease. The lease runs
by the clock of the database server, so that machines whose clocks differ agree on when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, select

from registry.db.database import Database, Unit
from registry.db.schema import LEASE
from registry.db.tables import RUN_STATUSES, catalog_fetch, charge, lease, run
from registry.errors import NotFound, RunAlreadyActive
from registry.ledger import Ledger
from registry.ledger.facts import reopen, seal_facts
from routing.errors import InvalidInput

_OF_THIS_PROCESS = ("lease_s", "part", "part_number")


@dataclass(frozen=True)
class Run:
    """One night.

    Attributes
    ----------
    id
        Row number.
    key
        ``night:DATE:SETTINGS-HASH``; one row per key.
    as_of
        The day for which the night reads catalogs and prices.
    status
        ``active``, ``completed``, ``attention``, ``failed`` or ``interrupted``.
    attempt
        How often this key was started, from 1.
    lease_number
        The fencing token of this attempt.
    lease_s
        How long the lease lasts after a heartbeat, in seconds; 0 when the run was only read.
    part, part_number
        The part of the run assigned to this process, with its own fencing token (`registry.run_leases`); empty and 0
        for the process that holds the whole run.
    settings_hash, settings_json
        The rules under which it ran.
    prompt_set_digest
        The prompts it asked, once known.
    host, pid
        Where it runs.
    started_at, finished_at
        First start and last end, in UTC.
    verdict
        One line for people.
    summary_json
        The figures for machines.
    """

    id: int
    key: str
    as_of: date
    status: str
    attempt: int
    lease_number: int
    settings_hash: str
    settings_json: str
    prompt_set_digest: str | None
    host: str
    pid: int
    started_at: datetime
    finished_at: datetime | None
    verdict: str | None
    summary_json: str | None
    lease_s: float = 0.0
    part: str = ""
    part_number: int = 0


@dataclass(frozen=True)
class Lease:
    """The holder of the right to run a night; `run_id` is None when it is free."""

    name: str
    number: int
    run_id: int | None
    host: str | None
    pid: int | None
    held_since_at: datetime | None
    heartbeat_at: datetime | None
    expires_at: datetime | None

    def is_held(self, now: datetime) -> bool:
        """Whether a holder's lease is still alive at that moment."""
        return self.run_id is not None and self.expires_at is not None and self.expires_at > now


class Runs:
    """Start, keep alive, finish and read runs."""

    def __init__(self, database: Database, events: Ledger) -> None:
        self._database = database
        self._events = events

    def start(
        self,
        key: str,
        *,
        as_of: date,
        settings_hash: str,
        settings_json: str,
        host: str,
        pid: int,
        now: datetime,
        lease_s: float,
        prompt_set_digest: str | None = None,
        holder_is_gone: Callable[[Lease], bool] | None = None,
    ) -> Run:
        """Take the lease and start the run of this key, or its next attempt.

        Parameters
        ----------
        key
            The run key.
        as_of
            The day for which the night reads catalogs and prices.
        settings_hash, settings_json
            The rules under which it runs.
        host, pid
            Where it runs, for the message to a second start.
        now
            The present moment.
        lease_s
            How long the lease lasts without a heartbeat, in seconds.
        prompt_set_digest
            The prompts it will ask, when already frozen.
        holder_is_gone
            Asked about a lease that is still alive: True when its holder is known to be dead, for example because its
            process no longer exists on this host. Without it a lease is taken over only after it expired.

        Raises
        ------
        RunAlreadyActive
            While another holder's lease is alive.
        """
        if not (0 < lease_s < float("inf")):
            raise InvalidInput(f"a lease of {lease_s} s is not a positive, finite time")
        with self._database.write() as unit:
            unit.execute(self._database.insert_missing(lease, [lease.c.name]).values(name=LEASE, number=0))
            now = self._database.shared_time(now, unit)
            held = self._free_lease(unit, now, holder_is_gone)
            self.forget_parts(unit)
            number = held.number + 1
            facts = {"settings_hash": settings_hash, "settings_json": settings_json, "host": host, "pid": pid}
            if prompt_set_digest is not None:
                facts["prompt_set_digest"] = prompt_set_digest
            run_id = self._begin_attempt(unit, key, as_of, now, {**facts, "lease_number": number})
            self.hold(unit, replace(held, number=number), run_id=run_id, host=host, pid=pid, now=now, lease_s=lease_s)
            if held.run_id is not None:
                self._record_take_over(unit, held, key, host, now)
            return replace(self.get(key, unit=unit), lease_s=lease_s)

    def require_free(self, now: datetime, *, holder_is_gone: Callable[[Lease], bool] | None = None) -> None:
        """Refuse what `start` would refuse now, before anything slow is opened for a night.

        Parameters
        ----------
        now, holder_is_gone
            As for `start`.

        Raises
        ------
        RunAlreadyActive
            While another holder's lease is alive.
        """
        with self._database.read() as unit:
            self._free_lease(unit, self._database.shared_time(now, unit), holder_is_gone)

    def _free_lease(self, unit: Unit, now: datetime, holder_is_gone: Callable[[Lease], bool] | None) -> Lease:
        held = self.current_lease(unit)
        if held.is_held(now) and not (holder_is_gone is not None and holder_is_gone(held)):
            raise self._already_active(held, unit)
        return held

    def _begin_attempt(self, unit: Unit, key: str, as_of: date, now: datetime, facts: dict[str, Any]) -> int:
        known = unit.execute(select(run).where(run.c.key == key)).first()
        if known is None:
            row = {"key": key, "as_of": as_of, "attempt": 1, "started_at": now, "status": "active", **facts}
            return unit.execute(run.insert().values(row)).inserted_primary_key[0]
        reopen(unit, run, run.c.id == known.id)
        for table in (charge, catalog_fetch):  # the next attempt adds to them
            reopen(unit, table, table.c.run_id == known.id)
        again = {"attempt": known.attempt + 1, "status": "active", "finished_at": None, **facts}
        unit.execute(run.update().where(run.c.id == known.id).values(again))
        return known.id

    def _record_take_over(self, unit: Unit, held: Lease, key: str, host: str, now: datetime) -> None:
        former = unit.execute(select(run.c.key).where(run.c.id == held.run_id)).scalar_one()
        unended = (run.c.id == held.run_id, run.c.status == "active", run.c.key != key)
        reopen(unit, run, *unended)
        ended = {"status": "interrupted", "finished_at": now, "verdict": "its lease was taken over"}
        unit.execute(run.update().where(*unended).values(ended))
        self._events.append(
            "run:lease:taken_over",
            key,
            actor=host,
            now=now,
            reason="the holder stopped without giving the lease back",
            payload={"former_run": former, "former_host": held.host, "former_pid": held.pid, "lease": held.number + 1},
            unit=unit,
        )

    def heartbeat(self, held: Run, now: datetime) -> None:
        """Prolong the lease of a run, or of the part of it assigned to this process.

        Raises
        ------
        RunAlreadyActive
            When another holder has taken it over.
        """

        def prolong(unit: Unit) -> None:
            self.require_lease(held, unit)
            there = self._database.shared_time(now, unit)
            until = there + timedelta(seconds=held.lease_s)
            mine = lease.c.name == (held.part or LEASE)
            unit.execute(lease.update().where(mine).values(heartbeat_at=there, expires_at=until))

        self._database.repeated(prolong)

    def finish(self, held: Run, status: str, verdict: str, summary: str, now: datetime) -> Run:
        """Close a run, put what was written under a digest of the ledger, and release the lease.

        Parameters
        ----------
        held
            The run as `start` returned it.
        status
            ``completed``, ``attention``, ``failed`` or ``interrupted``.
        verdict
            One line for people.
        summary
            The figures as JSON.
        now
            The present moment.

        Raises
        ------
        RunAlreadyActive
            When another run has taken over the lease.
        """
        if status not in RUN_STATUSES[1:]:
            raise InvalidInput(f"a run cannot end as {status!r}", hint=f"one of {', '.join(RUN_STATUSES[1:])}")

        def close(unit: Unit) -> Run:
            self.require_lease(held, unit)
            facts = {"status": status, "verdict": verdict, "summary_json": summary, "finished_at": now}
            unit.execute(run.update().where(run.c.id == held.id).values(facts))
            unit.execute(
                lease.update().where(lease.c.name == LEASE).values(run_id=None, host=None, pid=None, expires_at=None)
            )
            self.forget_parts(unit)
            seal_facts(unit, self._events, held.key, actor=held.host, now=now)
            return self.get(held.id, unit=unit)

        return self._database.repeated(close)

    def require_lease(self, held: Run | int, unit: Unit) -> Run:
        """Refuse the writes of a run that lost its lease.

        Parameters
        ----------
        held
            The run as `start` returned it, or only its number; a bare number is not checked.
        unit
            The transaction in which the writes happen.

        Raises
        ------
        NotFound
            When there is no such run.
        RunAlreadyActive
            When another run has taken over the lease, or another process the part of the run.
        """
        if isinstance(held, int):
            return self.get(held, unit=unit)
        current = self.current_lease(unit)
        if current.number != held.lease_number or current.run_id != held.id:
            fate = "released its lease" if current.number == held.lease_number else "lost its lease to a newer run"
            raise RunAlreadyActive(
                f"run {held.key}, attempt {held.attempt}, {fate} and can write no more",
                unchanged="Nothing of this write was kept.",
                hint="start the night again",
            )
        if held.part and self.current_lease(unit, held.part).number != held.part_number:
            raise RunAlreadyActive(
                f"{held.part} of run {held.key} was assigned to another process, and this one can write no more",
                unchanged="Nothing of this write was kept.",
                hint="nothing: the other process continues with it",
            )
        return held

    def require_no_night(self, unit: Unit, now: datetime, *, unchanged: str, hint: str) -> None:
        """Refuse what must not happen during a night.

        Parameters
        ----------
        unit
            The transaction in which it would happen.
        now
            The present moment.
        unchanged, hint
            For the error: what was left as it is, and what to type.

        Raises
        ------
        RunAlreadyActive
            While a night is running.
        """
        held = self.current_lease(unit)
        if held.is_held(self._database.shared_time(now, unit)):
            raise RunAlreadyActive(
                f"a night is running on {held.host} (process {held.pid})", unchanged=unchanged, hint=hint
            )

    def lease(self) -> Lease:
        """Read the holder of the lease."""
        with self._database.read() as unit:
            return self.current_lease(unit)

    def get(self, key: str | int, *, unit: Unit | None = None) -> Run:
        """Return the run of a key or a number.

        Raises
        ------
        NotFound
            When there is none.
        """
        column = run.c.id if isinstance(key, int) else run.c.key
        with self._database.read(unit) as opened:
            row = opened.execute(select(run).where(column == key)).first()
        if row is None:
            raise NotFound(f"there is no run {key}", hint="uniroute night list")
        return _run(row)

    def list(self, *, limit: int | None = None) -> tuple[Run, ...]:
        """Return runs, the latest first."""
        with self._database.read() as unit:
            query = select(run).order_by(run.c.lease_number.desc()).limit(limit)
            return tuple(_run(row) for row in unit.execute(query))

    def latest(self, *, status: str | None = None) -> Run | None:
        """Return the run that was started last, optionally among those of one status."""
        query = select(run).order_by(run.c.lease_number.desc()).limit(1)
        if status is not None:
            query = query.where(run.c.status == status)
        with self._database.read() as unit:
            row = unit.execute(query).first()
        return None if row is None else _run(row)

    def current_lease(self, unit: Unit, name: str = LEASE) -> Lease:
        """Read the holder of the lease of that name, in an open transaction."""
        row = unit.execute(select(lease).where(lease.c.name == name)).first()
        return Lease(*row) if row is not None else Lease(name, 0, None, None, None, None, None, None)

    def hold(self, unit: Unit, held: Lease, *, run_id: int, host: str, pid: int, now: datetime, lease_s: float) -> None:
        """Grant a lease to a process, under the number of `held`; `now` is by the shared clock."""
        facts = {"number": held.number, "run_id": run_id, "host": host, "pid": pid}
        times = {"held_since_at": now, "heartbeat_at": now, "expires_at": now + timedelta(seconds=lease_s)}
        unit.execute(lease.update().where(lease.c.name == held.name).values(facts | times))

    @staticmethod
    def forget_parts(unit: Unit) -> None:
        """Delete the leases of parts: they end with the attempt of the run that assigned them."""
        unit.execute(lease.delete().where(lease.c.name != LEASE))

    def _already_active(self, held: Lease, unit: Unit) -> RunAlreadyActive:
        active = unit.execute(select(run.c.key).where(run.c.id == held.run_id)).scalar_one()
        since = f"{held.held_since_at:%Y-%m-%d %H:%M:%S} UTC"
        until = f"{held.expires_at:%H:%M:%S} UTC"
        return RunAlreadyActive(
            f"run {active} is already active since {since} on {held.host} (process {held.pid})",
            unchanged="Nothing was started.",
            hint=f"wait for it; without a sign of life its lease ends at {until}",
        )


def _run(row: Row) -> Run:
    fields = row._mapping
    return Run(**{name: fields[name] for name in Run.__dataclass_fields__ if name not in _OF_THIS_PROCESS})
