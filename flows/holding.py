"""Holding a lease: signs of life while a process works, and how the lease of one that died is taken over."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from flows.milestones import logged_loss
from flows.night import Night
from flows.retrospect import HEARTBEATS_PER_LEASE, is_cancelled
from registry.errors import RunAlreadyActive
from registry.runs import Lease, Run, Runs

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


@asynccontextmanager
async def kept_alive(night: Night) -> AsyncIterator[None]:
    """Prolong the lease of the night's run, or of its part, and hear of ``uniroute night cancel``, in the block."""
    beating = asyncio.create_task(_heartbeat(night, night.run.lease_s / HEARTBEATS_PER_LEASE))
    try:
        yield
    finally:
        beating.cancel()


async def _heartbeat(night: Night, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        with logged_loss(night):
            await asyncio.to_thread(night.registry.runs.heartbeat, night.run, night.clock())
            if await asyncio.to_thread(is_cancelled, night.registry, night.run):
                night.interruption.request("uniroute night cancel")


def is_gone(lease: Lease) -> bool:
    """Tell whether the holder of a lease is known to be dead: a process of this host that no longer exists."""
    if lease.host != socket.gethostname() or lease.pid is None:
        return False
    try:
        os.kill(lease.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
