"""What monitoring reads every few seconds, in one snapshot and without scanning the outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, type_coerce
from sqlalchemy.types import BigInteger

from registry.db.columns import from_pico_usd
from registry.db.database import Database, Unit
from registry.db.schema import LEASE
from registry.db.tables import alias, charge, lease, ledger, ledger_head, llm, outbox, outcome, promotion, router, run
from registry.outcomes import JUDGING
from registry.promotion_records import GateRecord
from registry.runs import Lease, Run, Runs
from routing.strict_json import canonical_json

_PLAN = "plan"
"""Key under which a run that is still active keeps, in place of its summary, the calls that it planned."""
_ENDED_WELL = ("completed", "attention")
_ALIAS_EVENTS = ("router:alias:drifted", "router:alias:repaired")


@dataclass(frozen=True)
class EndpointFigures:
    """What the latest run did at one endpoint, in all its attempts.

    Attributes
    ----------
    calls
        Calls whose cost is booked.
    spent_usd, reserved_usd
        What they cost, and what is reserved for calls that were never answered.
    """

    endpoint: str
    calls: int
    spent_usd: Decimal
    reserved_usd: Decimal


@dataclass(frozen=True)
class FailureCount:
    """How many answers the latest run still lacks at one endpoint because of one kind of failure."""

    endpoint: str
    kind: str
    count: int


@dataclass(frozen=True)
class LlmCount:
    """How many LLMs of one endpoint are in one state."""

    endpoint: str
    status: str
    count: int


@dataclass(frozen=True)
class Waiting:
    """How many entries wait, and since when the oldest one has waited."""

    count: int
    since_at: datetime | None


@dataclass(frozen=True)
class Champion:
    """The router that serves: its version in MLflow, None until it is published there, and since when it serves."""

    version: int | None
    since_at: datetime


@dataclass(frozen=True)
class MonitoringSnapshot:
    """The state of the registry at one moment.

    Attributes
    ----------
    moment
        When, by the clock that all users of the registry share.
    run, finished
        The run that was started last, and the last one that ended as completed or with attention.
    runs_of_day
        How many runs look at the same day as `run`: more than one means different settings.
    planned_calls, missing_calls
        Calls that `run` planned in this attempt, and those not answered yet; None unless it is running.
    endpoints, failures
        What `run` did, by endpoint.
    lease
        Who holds the right to run a night.
    parts_alive, parts_silent
        How many profiles other processes are making for `run` with a sign of life in time, and how many without.
    llms
        Known LLMs by endpoint and state.
    outbox, unpublished, reviews
        Alias moves still to be sent to MLflow, versions it does not have, and promotions that wait for a person.
    champion
        Who serves; None before the first.
    ledger_events
        Number of the last event.
    is_head_whole
        Whether the last event of the ledger is the one that was noted as its head.
    aliases_noted
        By alias, whether it was last noted as moved by hand (rather than repaired) since `finished` ended.
    undecided
        On how many of the promotions that wait the gate could not decide.
    """

    moment: datetime
    run: Run | None
    finished: Run | None
    runs_of_day: int
    planned_calls: int | None
    missing_calls: int | None
    endpoints: tuple[EndpointFigures, ...]
    failures: tuple[FailureCount, ...]
    lease: Lease
    parts_alive: int
    parts_silent: int
    llms: tuple[LlmCount, ...]
    outbox: Waiting
    unpublished: int
    reviews: Waiting
    champion: Champion | None
    ledger_events: int
    is_head_whole: bool
    aliases_noted: Mapping[str, bool]
    undecided: int = 0


class Monitoring:
    """Read the snapshot, and note what only a running night knows."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def read(self, now: datetime) -> MonitoringSnapshot:
        """Read everything in one transaction.

        Parameters
        ----------
        now
            The present moment by this machine's clock.
        """
        with self._database.read() as unit:
            last, finished = self._latest(unit), self._latest(unit, run.c.status.in_(_ENDED_WELL))
            planned, missing = (None, None) if last is None else self._queue(unit, last)
            head, is_head_whole = _head(unit)
            moment = self._database.shared_time(now, unit)
            parts = [Lease(*row) for row in unit.execute(select(lease).where(lease.c.name != LEASE)) if row.run_id]
            alive = sum(part.is_held(moment) for part in parts)
            return MonitoringSnapshot(
                moment=moment,
                run=last,
                finished=finished,
                runs_of_day=0 if last is None else _count(unit, run.c.as_of == last.as_of),
                planned_calls=planned,
                missing_calls=missing,
                endpoints=() if last is None else _endpoints(unit, last.id),
                failures=() if last is None else _failures(unit, last.id),
                lease=self._runs.current_lease(unit),
                parts_alive=alive,
                parts_silent=len(parts) - alive,
                llms=tuple(LlmCount(*row) for row in unit.execute(_LLMS)),
                outbox=_waiting(unit, outbox.c.created_at, outbox.c.done_at.is_(None)),
                unpublished=_count(unit, router.c.mlflow_version.is_(None)),
                reviews=_waiting(unit, promotion.c.requested_at, promotion.c.status == "requested"),
                undecided=_undecided(unit),
                champion=_champion(unit),
                ledger_events=head,
                is_head_whole=is_head_whole,
                aliases_noted=_aliases_noted(unit, None if finished is None else finished.finished_at),
            )

    def note_plan(self, held: Run, calls: int) -> None:
        """Note how many calls an attempt of a run is about to make; its summary replaces this note in the end.

        Parameters
        ----------
        held
            The run as it was started.
        calls
            Calls that ask LLMs; those that judge the answers are not included.

        Raises
        ------
        RunAlreadyActive
            When another run has taken the lease over.
        """

        def note(unit: Unit) -> None:
            self._runs.require_lease(held, unit)
            before = int(unit.execute(_asked_calls(held.id)).scalar_one())
            plan = {"attempt": held.attempt, "calls": calls, "calls_before": before}
            unit.execute(run.update().where(run.c.id == held.id).values(summary_json=canonical_json({_PLAN: plan})))

        self._database.repeated(note)

    def _latest(self, unit: Unit, *conditions: ColumnElement[bool]) -> Run | None:
        query = select(run.c.id).where(*conditions).order_by(run.c.lease_number.desc()).limit(1)
        number = unit.execute(query).scalar()
        return None if number is None else self._runs.get(number, unit=unit)

    def _queue(self, unit: Unit, last: Run) -> tuple[int | None, int | None]:
        """Return the calls that a running attempt planned, and how many are not made yet."""
        plan = json.loads(last.summary_json or "{}").get(_PLAN)
        if last.status != "active" or plan is None or plan["attempt"] != last.attempt:
            return None, None
        made = int(unit.execute(_asked_calls(last.id)).scalar_one()) - plan["calls_before"]
        return plan["calls"], max(0, plan["calls"] - made)


def _asked_calls(run_id: int) -> Select[Any]:
    counted = func.coalesce(func.sum(charge.c.calls), 0)
    return select(type_coerce(counted, BigInteger)).where(charge.c.run_id == run_id, charge.c.purpose != JUDGING)


_LLMS = select(llm.c.endpoint, llm.c.status, func.count()).group_by(llm.c.endpoint, llm.c.status)


def failures_of(run_id: int) -> Select[Any]:
    """Count the failures of a run by endpoint and kind; an index of failures alone makes this quick."""
    return (
        select(llm.c.endpoint, outcome.c.failure, func.count())
        .join_from(outcome, llm, outcome.c.llm_id == llm.c.id)
        .where(outcome.c.run_id == run_id, outcome.c.failure.is_not(None))
        .group_by(llm.c.endpoint, outcome.c.failure)
    )


def _failures(unit: Unit, run_id: int) -> tuple[FailureCount, ...]:
    return tuple(FailureCount(*row) for row in unit.execute(failures_of(run_id)))


def _endpoints(unit: Unit, run_id: int) -> tuple[EndpointFigures, ...]:
    rows = unit.execute(
        select(
            llm.c.endpoint,
            func.sum(charge.c.calls),
            func.sum(type_coerce(charge.c.cost_picousd, BigInteger)),
            func.sum(type_coerce(charge.c.reserved_picousd, BigInteger)),
        )
        .join_from(charge, llm)
        .where(charge.c.run_id == run_id)
        .group_by(llm.c.endpoint)
    )
    return tuple(EndpointFigures(row[0], int(row[1]), from_pico_usd(row[2]), from_pico_usd(row[3])) for row in rows)


def _count(unit: Unit, condition: ColumnElement[bool]) -> int:
    return unit.execute(select(func.count()).where(condition)).scalar_one()


def _waiting(unit: Unit, since: ColumnElement[datetime], condition: ColumnElement[bool]) -> Waiting:
    count, oldest = unit.execute(select(func.count(), func.min(since)).where(condition)).one()
    return Waiting(count, oldest)


def _undecided(unit: Unit) -> int:
    waiting = select(promotion.c.gate_passed, promotion.c.gate_json).where(promotion.c.status == "requested")
    return sum(GateRecord(*row).is_undecided for row in unit.execute(waiting))


def _champion(unit: Unit) -> Champion | None:
    row = unit.execute(
        select(router.c.mlflow_version, alias.c.moved_at)
        .join_from(alias, router, alias.c.router_digest == router.c.digest)
        .where(alias.c.name == "champion")
    ).first()
    return None if row is None else Champion(*row)


def _head(unit: Unit) -> tuple[int, bool]:
    """Return the number of the last event, and whether the ledger still ends where it was noted to end."""
    columns = (ledger.c.number, ledger.c.hash)
    last: Row | None = unit.execute(select(*columns).order_by(ledger.c.number.desc()).limit(1)).first()
    noted: Row | None = unit.execute(select(ledger_head.c.number, ledger_head.c.hash)).first()
    is_whole = (None if last is None else tuple(last)) == (None if noted is None else tuple(noted))
    return (0 if last is None else last.number), is_whole


def _aliases_noted(unit: Unit, since: datetime | None) -> dict[str, bool]:
    query = select(ledger.c.event, ledger.c.payload_json).where(ledger.c.event.in_(_ALIAS_EVENTS))
    if since is not None:
        query = query.where(ledger.c.at > since)
    rows = unit.execute(query.order_by(ledger.c.number))
    return {str(json.loads(row.payload_json)["alias"]): row.event == _ALIAS_EVENTS[0] for row in rows}
