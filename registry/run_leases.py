"""Parts of a run: the profile of one LLM, handed to a process of its own.

Such a process writes under the lease of the whole run and also under one of its own. So at most one process asks an LLM
at a time, on any machine; a process that was thought dead and wakes up can write no more; and when the run itself is
taken over, all its parts end with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, select

from registry.db.database import Database, Unit, ids_of
from registry.db.schema import LEASE
from registry.db.tables import lease, llm, outcome
from registry.errors import NotFound, PartAlreadyHeld
from registry.runs import Lease, Run, Runs
from routing.errors import InvalidInput

_PREFIX = "profile:"


@dataclass(frozen=True)
class PartState:
    """Progress of the profile of one LLM in the present attempt of a run.

    Attributes
    ----------
    is_held
        Whether a process holds it and gives signs of life.
    is_silent
        Whether a process holds it and has given none for longer than its lease.
    asked, scored
        How many prompts have an outcome of this attempt, and how many of these a score.
    """

    is_held: bool
    is_silent: bool
    asked: int
    scored: int


class RunParts:
    """Take parts of a run, return them, and see how far they are."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def take(
        self,
        run_key: str,
        lease_number: int,
        llm_key: str,
        *,
        host: str,
        pid: int,
        now: datetime,
        lease_s: float,
        holder_is_gone: Callable[[Lease], bool] | None = None,
    ) -> Run:
        """Take the profile of one LLM.

        Parameters
        ----------
        run_key, lease_number
            The run, and the number of the lease under which its holder assigns parts.
        llm_key
            The LLM.
        host, pid, now, lease_s, holder_is_gone
            As in `Runs.start`, for the lease of this part.

        Returns
        -------
        Run
            The run, to write under; `Runs.heartbeat` prolongs the lease of the part.

        Raises
        ------
        NotFound
            When there is no such run or LLM.
        RunAlreadyActive
            When the run has ended or was taken over.
        PartAlreadyHeld
            When another process holds this part.
        """
        if not (0 < lease_s < float("inf")):
            raise InvalidInput(f"a lease of {lease_s} s is not a positive, finite time")
        with self._database.write() as unit:
            run = replace(self._runs.get(run_key, unit=unit), lease_number=lease_number, lease_s=lease_s)
            self._runs.require_lease(run, unit)
            name = self._names(unit, [llm_key])[llm_key]
            unit.execute(self._database.insert_missing(lease, [lease.c.name]).values(name=name, number=0))
            held, now = self._runs.current_lease(unit, name), self._database.shared_time(now, unit)
            if held.is_held(now) and not (holder_is_gone is not None and holder_is_gone(held)):
                raise PartAlreadyHeld(
                    f"{llm_key} is being profiled on {held.host} (process {held.pid})",
                    unchanged="Nothing was asked.",
                    hint=f"wait for it; without a sign of life its lease ends at {held.expires_at:%H:%M:%S} UTC",
                )
            next_holder = replace(held, number=held.number + 1)
            self._runs.hold(unit, next_holder, run_id=run.id, host=host, pid=pid, now=now, lease_s=lease_s)
        return replace(run, part=name, part_number=next_holder.number)

    def leave(self, held: Run) -> None:
        """Return a part; one that was assigned to another process meanwhile stays with it."""

        def leave(unit: Unit) -> None:
            mine = (lease.c.name == held.part) & (lease.c.number == held.part_number)
            unit.execute(lease.update().where(mine).values(run_id=None, host=None, pid=None, expires_at=None))

        self._database.repeated(leave)

    def states(self, run: Run, llm_keys: list[str], now: datetime) -> dict[str, PartState]:
        """Return the progress of the profiles of some LLMs, by LLM key."""
        with self._database.read() as unit:
            names = self._names(unit, llm_keys)
            numbers = {name: int(name.removeprefix(_PREFIX)) for name in names.values()}
            now = self._database.shared_time(now, unit)
            leases = {row[0]: Lease(*row) for row in unit.execute(select(lease).where(lease.c.name != LEASE))}
            counts = {
                row[0]: (row[1], row[2])
                for row in unit.execute(
                    select(outcome.c.llm_id, func.count(), func.count(outcome.c.score))
                    .where(outcome.c.llm_id.in_(list(numbers.values())), outcome.c.lease_number == run.lease_number)
                    .group_by(outcome.c.llm_id)
                )
            }
        found = {}
        for llm_key, name in names.items():
            part = leases.get(name)
            is_taken, is_alive = part is not None and part.run_id is not None, part is not None and part.is_held(now)
            asked, scored = counts.get(numbers[name], (0, 0))
            found[llm_key] = PartState(is_alive, is_taken and not is_alive, asked, scored)
        return found

    @staticmethod
    def _names(unit: Unit, llm_keys: list[str]) -> dict[str, str]:
        numbers = ids_of(unit, llm.c.key, llm.c.id, llm_keys)
        for llm_key in llm_keys:
            if llm_key not in numbers:
                raise NotFound(f"there is no LLM {llm_key!r}", unchanged="Nothing was asked.")
        return {llm_key: f"{_PREFIX}{numbers[llm_key]}" for llm_key in llm_keys}
