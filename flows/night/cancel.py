"""Ask a running night to stop: by a signal on its host, and through the ledger, which it reads from anywhere."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass
from datetime import datetime

from registry.errors import NotFound
from registry.runs import Run
from registry.store import Registry

CANCEL = "run:night:cancel_requested"
"""The event of the ledger that asks one attempt of a run to stop."""
HEARTBEATS_PER_LEASE = 3


@dataclass(frozen=True)
class Cancellation:
    """A night that was asked to stop, where it runs, and how soon it learns of the request."""

    run_key: str
    host: str
    pid: int
    was_signalled: bool
    heard_within_s: float


def find_run(registry: Registry, name: str) -> Run:
    """Return a run, given its key, its day (the latest run of that day) or ``latest``.

    Raises
    ------
    NotFound
        There is no such run.
    """
    runs = registry.runs.list(limit=1 if name == "latest" else None)
    found = next((run for run in runs if name in ("latest", run.key, run.as_of.isoformat())), None)
    if found is None:
        if name == "latest":
            raise NotFound("No night has run yet.", hint="uniroute night run")
        raise NotFound(f"There is no night {name!r}.", hint="uniroute night list")
    return found


def cancel_night(
    registry: Registry, name: str, reason: str, *, actor: str, now: datetime, is_dry_run: bool = False
) -> Cancellation:
    """Ask a running night to stop: by a signal if on this host, and through the ledger, which its heartbeat reads.

    Parameters
    ----------
    registry
        The registry whose lease the night holds.
    name
        The run, as for `find_run`.
    reason
        Why it is to stop.
    actor
        Who asks for it.
    now
        The present moment.
    is_dry_run
        Whether to only return which night this would reach.

    Raises
    ------
    NotFound
        That night is not running.
    """
    run, lease = find_run(registry, name), registry.runs.lease()
    if lease.run_id != run.id or not lease.is_held(registry.shared_time(now)):
        raise NotFound(
            f"Night {run.key} is not running: it is {run.status}.",
            unchanged="Nothing was changed.",
            hint="uniroute night list",
        )
    assert lease.expires_at is not None and lease.heartbeat_at is not None, "a held lease has both"
    within_s = (lease.expires_at - lease.heartbeat_at).total_seconds() / HEARTBEATS_PER_LEASE
    was_signalled = False
    if not is_dry_run:
        facts = {"lease": run.lease_number, "host": run.host, "pid": run.pid}
        registry.ledger.append(CANCEL, run.key, actor=actor, now=now, reason=reason, payload=facts)
        was_signalled = _signal(run)
    return Cancellation(run.key, run.host, run.pid, was_signalled, within_s)


def recall(registry: Registry, run: Run, *, now: datetime) -> None:
    """Ask all processes that work for this attempt of a run to stop, unless they have been asked already."""
    if not is_cancelled(registry, run):
        facts = {"lease": run.lease_number, "host": run.host, "pid": run.pid}
        reason = "the night that handed it out was stopped"
        registry.ledger.append(CANCEL, run.key, actor=run.host, now=now, reason=reason, payload=facts)


def is_cancelled(registry: Registry, run: Run) -> bool:
    """Whether this attempt of a run was asked to stop."""
    asked = registry.ledger.events(subject=run.key, event=CANCEL)
    return any(json.loads(event.payload_json)["lease"] == run.lease_number for event in asked)


def _signal(run: Run) -> bool:
    """Send SIGTERM to a night of this host whose lease is alive; return whether it could be sent."""
    if run.host != socket.gethostname():
        return False
    try:
        os.kill(run.pid, signal.SIGTERM)
    except OSError:
        return False
    return True
