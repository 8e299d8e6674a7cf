"""Nights that are started again because they crashed: when that may begin, and when enough is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flows.errors import PrerequisiteError
from registry.errors import NotFound, RunAlreadyActive
from registry.runs import Run, Runs

MOST_ATTEMPTS = 3
_LOOK_EVERY_S = 1.0


async def start_after_a_crash(runs: Runs, key: str, start: Callable[[], Run]) -> Run:
    """Start a night whose former attempt died, as soon as the lease of the dead has ended.

    Parameters
    ----------
    runs
        The runs of the registry.
    key
        The run key of the night.
    start
        Takes the lease.

    Raises
    ------
    PrerequisiteError
        The night crashed too often for another try without a person.
    RunAlreadyActive
        The holder of the lease lives: it prolonged the lease, or gave way to another one.
    """
    _refuse_a_series(runs, key)
    first = runs.lease()
    while True:
        try:
            return start()
        except RunAlreadyActive:
            now = runs.lease()
            if (now.number, now.heartbeat_at) != (first.number, first.heartbeat_at):
                raise
        await asyncio.sleep(_LOOK_EVERY_S)


def _refuse_a_series(runs: Runs, key: str) -> None:
    try:
        attempts = runs.get(key).attempt
    except NotFound:
        return
    if attempts >= MOST_ATTEMPTS:
        raise PrerequisiteError(
            f"The night {key} was started {attempts} times and crashed; it is not started again by itself.",
            unchanged="Answers so far are kept; the champion stays as it is.",
            hint="Look into the log of the worker, then: uniroute night run",
        )
