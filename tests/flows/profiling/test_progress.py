"""The progress line: what is left counts, and what will not be asked tonight does not."""

from decimal import Decimal
from io import StringIO

import pytest

from flows.profiling.progress import Outlook, Progress


class Planned:
    """Stands in for a planned profile: a key and a number of prompts."""

    def __init__(self, key, n):
        self.llm, self.prompts = self, (None,) * n
        self.key = key


class Plan:
    def __init__(self, **calls):
        self.profiles = [Planned(key, n) for key, n in calls.items()]
        self.calls = sum(calls.values())


@pytest.mark.parametrize(
    ("outlook", "eta"),
    [
        (Outlook(), "ETA 02:30"),
        (Outlook(stopped=frozenset({"b"})), "ETA 00:50"),
        (Outlook(limited_s={"b": 20.0}), "ETA 00:50"),
        (Outlook(limited_s={"b": 240.0}), "ETA 04:00"),
        (Outlook(frozenset({"a", "b"})), "ETA 00:00"),
    ],
)
def test_the_eta_counts_what_will_be_asked_and_what_patience_is_left(monkeypatch, outlook, eta):
    progress = Progress(Plan(a=100, b=100), Decimal(20), stream=StringIO())
    monkeypatch.setattr(Progress, "elapsed_s", 50.0)
    monkeypatch.setattr(progress, "_outlook", lambda: outlook)
    progress.seen({"a": 50, "b": 0}, Decimal(1))
    assert progress.line().endswith(eta)


def test_calls_of_a_profile_that_ended_early_elsewhere_are_not_waited_for(monkeypatch):
    progress = Progress(Plan(a=100, b=100), Decimal(20), stream=StringIO())
    monkeypatch.setattr(Progress, "elapsed_s", 50.0)
    progress.leave("b")
    progress.seen({"a": 50, "b": 0}, Decimal(1))
    assert progress.line().endswith("ETA 00:50")


def test_while_nothing_is_answered_the_eta_is_what_patience_is_left(monkeypatch):
    progress = Progress(Plan(a=10), Decimal(20), stream=StringIO())
    monkeypatch.setattr(progress, "_outlook", lambda: Outlook(limited_s={"a": 300.0}))
    assert progress.line().endswith("0/10 calls  $0.00/$20.00  0/s  ETA 05:00")


def test_open_calls_never_have_an_eta_of_zero_and_a_slow_last_call_is_waited_for(monkeypatch):
    clock_s = [1000.0]
    monkeypatch.setattr("flows.profiling.progress.time.monotonic", lambda: clock_s[0])
    progress = Progress(Plan(a=1000), Decimal(20), stream=StringIO())
    clock_s[0] += 10
    progress.seen({"a": 999}, Decimal(1))
    assert progress.line().endswith("999/1,000 calls  $1.00/$20.00  100/s  ETA 00:01")
    clock_s[0] += 45
    progress.seen({"a": 999}, Decimal(1))
    assert progress.line().endswith("ETA 00:45"), "nothing has been answered for so long"
    progress.seen({"a": 1000}, Decimal(1))
    assert progress.line().endswith("ETA 00:00")
