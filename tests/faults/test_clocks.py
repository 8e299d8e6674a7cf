"""Workers whose clocks are wrong: they follow the clock of the registry's server in all they write (fault F07)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from tests.registry.samples import freeze, know_llms, outcome, start_night

WORKER = """
import json, sys
from datetime import UTC, datetime, timedelta
from registry import clock

skew = timedelta(seconds=float(sys.argv[2]))
clock.machine_time = lambda: datetime.now(UTC) + skew

from flows.night.context import utc_now
from registry.errors import RunAlreadyActive
from registry.pruning import Retention
from registry.store import Registry
from tests.registry.samples import start_night

with Registry.open(sys.argv[1]) as registry:
    print("ready", flush=True)
    for line in sys.stdin:
        match line.strip():
            case "append":
                registry.ledger.append("test:row:added", sys.argv[2], actor="t", now=utc_now())
            case "start":
                try:
                    held = start_night(registry, f"night:{utc_now().date()}", now=utc_now(), as_of=utc_now().date())
                    print(held.key, end=" ")
                except RunAlreadyActive:
                    print("active", end=" ")
            case "finish":
                print(registry.runs.finish(held, "completed", "fine", "{}", utc_now()).finished_at.isoformat(), end=" ")
            case "prune":
                print(registry.pruning.prune(Retention(30, 30), utc_now(), actor="t").rows, end=" ")
        print("done", flush=True)
"""
YEAR = timedelta(days=365)


@pytest.fixture(params=["postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Run these tests on PostgreSQL alone: on SQLite all processes are on one machine."""
    return request.param


def test_f07_workers_a_year_apart_keep_the_ledger_in_order_one_lease_and_one_run_key_for_a_day(url, registry, in_child):
    now = datetime.now(UTC)
    run = start_night(registry, "night:before", now=now)
    (key,) = know_llms(registry, run, "a")
    prompt = freeze(registry).prompts[0]
    registry.outcomes.record(run, [outcome(key, prompt, asked_at=now)])
    registry.runs.finish(run, "completed", "fine", "{}", now)
    early, late = (in_child(WORKER, url, skew.total_seconds()) for skew in (-YEAR, YEAR))
    assert [worker.stdout.readline() for worker in (early, late)] == ["ready\n", "ready\n"]

    def send(worker, order: str) -> str:
        worker.stdin.write(f"{order}\n")
        worker.stdin.flush()
        return worker.stdout.readline().removesuffix("done\n").strip()

    for worker in (late, early, late, early):
        send(worker, "append")
    assert send(late, "prune") == "0", "what is a day old is not a year old"
    assert send(late, "start") == f"night:{datetime.now(UTC).date()}"
    assert send(early, "start") == "active"
    ended = datetime.fromisoformat(send(late, "finish"))
    assert send(early, "start") == f"night:{datetime.now(UTC).date()}", "the same run, and its next attempt"
    send(early, "finish")

    assert abs(ended - datetime.now(UTC)) < timedelta(minutes=2)
    (again,) = [one for one in registry.runs.list() if one.key != "night:before"]
    assert (again.attempt, again.as_of) == (2, datetime.now(UTC).date())
    moments = [event.at for event in registry.ledger.events()]
    assert len(moments) >= 4
    # Differences below a second are left as they are.
    assert all(after - before > timedelta(seconds=-1.5) for before, after in pairwise(moments))
    assert registry.ledger.verify().is_intact
