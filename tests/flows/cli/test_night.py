"""Nights on the command line: listed, shown, and cancelled."""

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from registry.store import Registry
from tests.commands import Uniroute
from tests.registry.samples import start_night

KEY = "night:2024-09-01:abc"


def test_a_bare_noun_is_its_list_with_the_options_of_the_list(home: Path, uniroute: Uniroute) -> None:
    assert uniroute("night").out == uniroute("night", "list").out
    assert [row["key"] for row in uniroute("night", "--json", "--limit", "1").data] == [KEY]
    assert "Commands:" in uniroute("night", "--help").out


def test_a_night_is_shown_by_key_by_day_and_as_the_latest(home: Path, uniroute: Uniroute) -> None:
    found = [uniroute("night", "show", name, "--json").data for name in (KEY, "2024-09-01", "latest")]
    assert found[0] == found[1] == found[2]
    assert (found[0]["key"], found[0]["status"], found[0]["verdict"]) == (KEY, "completed", "fine")
    text = uniroute("night", "show").out
    assert text.startswith("fine\n")
    assert f"next: uniroute night events {KEY}" in text
    refused = uniroute("night", "show", "2020-01-01")
    assert (refused.code, refused.out) == (2, "")


def test_the_events_of_a_night_are_those_of_its_time(home: Path, registry: Registry, uniroute: Uniroute) -> None:
    registry.ledger.append("llm:status:excluded", "x", actor="me", now=datetime(2025, 1, 1, tzinfo=UTC))
    rows = uniroute("night", "events", "--json").data
    assert {"router:promotion:applied"} <= {row["event"] for row in rows}
    assert "llm:status:excluded" not in {row["event"] for row in rows}
    assert uniroute("night", "events", "--sort", "-number", "--limit", "1", "--json").data == rows[-1:]


def test_a_night_that_is_not_running_cannot_be_cancelled(home: Path, registry: Registry, uniroute: Uniroute) -> None:
    before = registry.ledger.count()
    refused = uniroute("night", "cancel", KEY, "--reason", "too dear")
    assert refused.code == 2
    assert "it is completed" in refused.err
    assert registry.ledger.count() == before


def test_a_running_night_on_this_host_is_signalled_and_the_ledger_says_by_whom(
    home: Path, registry: Registry, uniroute: Uniroute
) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        facts = {"host": socket.gethostname(), "pid": sleeper.pid, "now": datetime.now(UTC)}
        run = start_night(registry, "night:now", **facts)
        would = uniroute("night", "cancel", "--dry-run", "--reason", "too dear")
        assert (would.code, sleeper.poll()) == (0, None)
        assert registry.ledger.events(event="run:night:") == ()
        asked = uniroute("night", "cancel", "night:now", "--reason", "too dear", "--json").data
        assert asked["was_signalled"]
        assert sleeper.wait(30) == -signal.SIGTERM
    finally:
        sleeper.kill()
        sleeper.wait()
    (event,) = registry.ledger.events(event="run:night:")
    assert (event.event, event.subject, event.reason) == ("run:night:cancel_requested", "night:now", "too dear")
    assert json.loads(event.payload_json)["lease"] == run.lease_number


def test_a_night_elsewhere_reads_in_the_ledger_that_it_must_stop(
    home: Path, registry: Registry, uniroute: Uniroute
) -> None:
    from flows.night.cancel import is_cancelled

    run = start_night(registry, "night:now", host="elsewhere", pid=os.getpid(), now=datetime.now(UTC))
    assert not is_cancelled(registry, run)
    asked = uniroute("night", "cancel", "night:now", "--reason", "too dear")
    assert "It will notice within 20 s." in asked.out
    assert is_cancelled(registry, run)
    registry.runs.finish(run, "interrupted", "stopped", "{}", datetime.now(UTC))
    again = start_night(registry, "night:now", now=datetime.now(UTC))
    assert not is_cancelled(registry, again)
