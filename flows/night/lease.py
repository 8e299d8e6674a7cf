"""The lease of a night: heartbeats while a process works, and how the lease of a process that died is taken over."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from flows.errors import Interrupted
from flows.logs import announce, log_event
from flows.night.cancel import HEARTBEATS_PER_LEASE, is_cancelled
from flows.night.context import Night
from registry.errors import RegistryBusy, RunAlreadyActive
from registry.runs import Lease, Run, Runs
from routing.errors import UnirouteError

_LOOK_EVERY_S = 1.0
_TAKEN_OVER = "run:lease:taken_over"


async def start_after_a_crash(runs: Runs, start: Callable[[], Run]) -> Run:
    """Start a night again whose former attempt died, perhaps on another machine, where that cannot be seen from here.

    Parameters
    ----------
    runs
        The runs of the registry.
    start
        Takes the lease.

    Raises
    ------
    RunAlreadyActive
        The holder of the lease is alive: the lease was prolonged, or passed to another holder.
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
    """Keep the lease of the night's run, or of its part, alive during the block, and obey ``uniroute night cancel``."""
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
    """Whether the holder of a lease is known to be dead: a process of this host that no longer exists."""
    if lease.host != socket.gethostname() or lease.pid is None:
        return False
    try:
        os.kill(lease.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def log_take_over(night: Night) -> None:
    """Log it if this attempt took the lease from a holder that had vanished."""
    for event in night.registry.ledger.events(subject=night.run_key, event=_TAKEN_OVER, limit=1):
        facts = json.loads(event.payload_json)
        if facts["lease"] == night.run.lease_number:
            former = {"former_run": facts["former_run"], "former_host": facts["former_host"]}
            log_event("lease_taken_over", level=logging.WARNING, run=night.run_key, **former)


@contextmanager
def logged_loss(night: Night) -> Iterator[None]:
    """Log why a heartbeat failed; a lost lease is raised, a busy registry is asked again at the next heartbeat."""
    try:
        yield
    except RunAlreadyActive as error:
        log_event("lease_lost", level=logging.ERROR, run=night.run_key, reason=error.message)
        raise
    except RegistryBusy as error:
        log_event("heartbeat_missed", level=logging.WARNING, run=night.run_key, reason=error.message)


@asynccontextmanager
async def held_lease(night: Night, *, restarted: bool = False) -> AsyncIterator[None]:
    """Take the lease of the night; a failure within the block is written into the run before it is raised.

    The block keeps the lease alive with `kept_alive`, and no longer than until it closes the run.
    """
    wanted = night.settings.night

    def start() -> Run:
        return night.registry.runs.start(
            night.run_key,
            as_of=night.as_of,
            settings_hash=night.settings.digest,
            settings_json=night.settings.canonical(),
            prompt_set_digest=night.prompt_set.digest,
            host=socket.gethostname(),
            pid=os.getpid(),
            now=night.clock(),
            lease_s=wanted.lease_s,
            holder_is_gone=is_gone,
        )

    night.run = await start_after_a_crash(night.registry.runs, start) if restarted else start()
    announce("started", run=night.run_key, night=night.as_of, attempt=night.run.attempt)
    log_take_over(night)
    try:
        yield
    except BaseException as error:
        is_ours = isinstance(error, UnirouteError)
        reason = error.message if is_ours else type(error).__name__
        was_stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
        status = "interrupted" if was_stopped else "failed"
        night.registry.runs.finish(night.run, status, verdict=reason, summary="{}", now=night.clock())
        log_event("finished", level=logging.ERROR, run=night.run_key, status=status, reason=reason)
        raise
