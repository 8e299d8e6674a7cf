"""Faults of the lease: two nights at once, a holder that died, a holder that slept."""

import os
import signal
from datetime import timedelta

import pytest

from flows.cli.endings import ExitCode, exit_code_of
from registry.errors import RunAlreadyActive
from tests.fakes.endpoint import FakeEndpoint
from tests.registry.samples import NOW, start_night

ONE_NIGHT = """
import http.client, os, sys
from flows.cli.endings import report_error
from registry.errors import RegistryError
from registry.store import Registry
from tests.registry.samples import NOW, start_night

url, port = sys.argv[1:3]
with Registry.open(url) as registry:
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        held = start_night(registry, f"night:of:{os.getpid()}", pid=os.getpid())
    except RegistryError as error:
        sys.exit(report_error(error, as_json=False))
    call = http.client.HTTPConnection("127.0.0.1", int(port))
    call.request("GET", "/called")
    call.getresponse().read()
    print("called", flush=True)
    sys.stdin.readline()
    registry.runs.finish(held, "completed", "fine", "{}", NOW)
"""
HOLDER = """
import sys
from flows.cli.endings import report_error
from registry.errors import RegistryError
from registry.store import Registry
from tests.registry.samples import fetch, freeze, know_llms, listing, outcome, record_fetch, start_night, TODAY, NOW

with Registry.open(sys.argv[1]) as registry:
    held = start_night(registry, pid=4711)
    (key,) = know_llms(registry, held, "a")
    asked = freeze(registry).prompts
    registry.outcomes.record(held, [outcome(key, asked[0])])
    print("holds", flush=True)
    sys.stdin.readline()
    writes = [
        lambda: registry.outcomes.record(held, [outcome(key, asked[1])]),
        lambda: record_fetch(registry, held, fetch([listing("b")], "later"), TODAY),
        lambda: registry.runs.heartbeat(held, NOW),
        lambda: registry.runs.finish(held, "completed", "fine", "{}", NOW),
    ]
    for write in writes:
        try:
            write()
            print("written")
        except RegistryError as error:
            print(report_error(error, as_json=False))
"""
LATER = NOW + timedelta(seconds=61)


def test_f04_of_two_nights_at_once_one_calls_and_the_other_is_asked_to_come_back_later(url, registry, in_child):
    with FakeEndpoint(documents={"/called": {}}) as endpoint:
        nights = [in_child(ONE_NIGHT, url, endpoint.port) for _ in range(2)]
        assert [child.stdout.readline() for child in nights] == ["ready\n", "ready\n"]
        for child in nights:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.stdout.readline() for child in nights]
        assert sorted(said) == ["", "called\n"], "the second did not wait, and called no LLM"
        active, refused = sorted(nights, key=lambda child: said[nights.index(child)], reverse=True)
        assert refused.wait(30) == ExitCode.TRY_LATER
        message = refused.stderr.read()
        assert f"run night:of:{active.pid} is already active since 2024-09-01 02:00:00 UTC on host-a" in message
        assert active.communicate("done\n")[1] == ""
        assert active.returncode == 0
        assert len(endpoint.requests) == 1
    assert [run.key for run in registry.runs.list()] == [f"night:of:{active.pid}"]


def test_f05_a_night_whose_process_died_is_taken_over_when_its_lease_ends(url, registry, in_child):
    child = in_child(HOLDER, url)
    assert child.stdout.readline() == "holds\n"
    child.kill()
    child.wait()
    with pytest.raises(RunAlreadyActive) as caught:
        start_night(registry, pid=2, now=NOW + timedelta(seconds=59))
    assert exit_code_of(caught.value) == ExitCode.TRY_LATER
    assert "its lease ends at 02:01:00 UTC" in caught.value.hint
    again = start_night(registry, pid=2, now=LATER)
    assert (again.attempt, again.lease_number) == (2, 2)
    (event,) = registry.ledger.events(event="run:lease:taken_over")
    assert '"former_pid":4711' in event.payload_json
    assert registry.ledger.verify().is_intact
    spent = registry.outcomes.spend(again)
    assert spent.calls == 1, "what the dead night had recorded is there"


def test_f06_a_night_that_slept_through_the_end_of_its_lease_can_no_longer_write(url, registry, in_child):
    child = in_child(HOLDER, url)
    assert child.stdout.readline() == "holds\n"
    os.kill(child.pid, signal.SIGSTOP)
    newer = start_night(registry, "night:2024-09-02:abc", pid=2, now=LATER)
    os.kill(child.pid, signal.SIGCONT)
    out, err = child.communicate("wake up\n")
    assert out.split() == [str(int(ExitCode.TRY_LATER))] * 4, err
    assert err.count("lost its lease to a newer run") == 4
    assert [llm.key for llm in registry.llms.all()] == ["router:a"]
    assert registry.outcomes.spend(registry.runs.get("night:2024-09-01:abc")).calls == 1
    assert registry.runs.get("night:2024-09-01:abc").status == "interrupted"
    registry.runs.finish(newer, "completed", "fine", "{}", LATER)
