"""Nights that are started again because they crashed: as soon as the lease of the dead has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from registry.errors import RunAlreadyActive
from registry.runs import Run, Runs

_LOOK_EVERY_S = 1.0


async def start_after_a_crash(runs: Runs, start: Callable[[], Run]) -> Run:
    """Start a night whose former attempt died, perhaps on another machine, where nobody can see that it did.

    Parameters
    ----------
    runs
        The runs of the registry.
    start
        Takes the lease.

    Raises
    ------
    RunAlreadyActive
        The holder of the lease lives: it prolonged the lease, or gave way to another one.
    """
    first = runs.lease()
    while True:
        try:
            return start()
        except RunAlreadyActive:
            now = runs.lease()
            if (now.number, now.heartbeat_at) != (first.number, first.heartbeat_at):
                raise
        await asyncio.sleep(_LOOK_EVERY_S)
