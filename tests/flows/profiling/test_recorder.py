"""Outcomes are committed in groups, and each caller learns whether its own was."""

import asyncio
import threading
from collections.abc import Sequence
from typing import cast

import pytest

from flows.profiling.recorder import OutcomeRecorder
from registry.outcomes import Outcome


def outcome(name: str) -> Outcome:
    return cast(Outcome, name)


def test_outcomes_that_arrive_during_a_commit_share_the_next_one() -> None:
    batches: list[list[Outcome]] = []
    first_may_end = threading.Event()

    def record(outcomes: Sequence[Outcome]) -> None:
        batches.append(list(outcomes))
        if len(batches) == 1:
            assert first_may_end.wait(10)

    async def night() -> None:
        recorder = OutcomeRecorder(record, linger_s=0.0)
        first = asyncio.create_task(recorder.add(outcome("a")))
        while not batches:
            await asyncio.sleep(0)
        others = [asyncio.create_task(recorder.add(outcome(name))) for name in "bc"]
        await asyncio.sleep(0)
        assert not first.done()
        first_may_end.set()
        await asyncio.gather(first, *others)

    asyncio.run(night())
    assert batches == [["a"], ["b", "c"]]


def test_a_failed_commit_reaches_its_callers_and_the_next_commit_is_tried() -> None:
    calls = 0

    def record(outcomes: Sequence[Outcome]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("disk full")

    async def night() -> None:
        recorder = OutcomeRecorder(record, linger_s=0.0)
        with pytest.raises(OSError, match="disk full"):
            await recorder.add(outcome("a"))
        await recorder.add(outcome("a"))

    asyncio.run(night())
    assert calls == 2
