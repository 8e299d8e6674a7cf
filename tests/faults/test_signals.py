"""A night that is asked to stop, or that was killed with calls in flight (claims C1, C2, C3, C7)."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from tests.fakes.endpoint import FakeEndpoint, FakeRequest
from tests.faults.tiny_night import FIRST, LLMS, ForkedCommand, TinyNight, answer
from tests.homes import with_prefect

LLM_USD = Decimal("0.00006")
PICO = 10**12
RUN = "SELECT status FROM run"
OUTCOMES = "SELECT count(*), count(score) FROM outcome"
RESERVED = "SELECT coalesce(sum(reserved_picousd), 0) FROM charge"


class Stopper:
    """Watch requests come in, and send the night signals at some of them."""

    def __init__(
        self,
        signals: dict[int, signal.Signals],
        step: Callable[[int], str | None] = lambda n: None,
        again_after_s: float = 0.0,
        to_group: bool = False,
    ) -> None:
        self.to_group = to_group
        self.signals = signals
        self.again_after_s = again_after_s
        self.step = step
        self.pid = 0
        self.seen = 0

    def choose(self, request: FakeRequest) -> str | None:
        self.seen += 1
        if self.seen in self.signals:
            (os.killpg if self.to_group else os.kill)(self.pid, self.signals[self.seen])
            if self.again_after_s:
                asyncio.get_running_loop().call_later(self.again_after_s, os.kill, self.pid, self.signals[self.seen])
        return self.step(self.seen)


@contextmanager
def night_with(folder: Path, template: Path, stopper: Stopper, **options: str) -> Iterator[TinyNight]:
    scripts = dict.fromkeys(LLMS, "ok")
    with FakeEndpoint(answer, scripts=scripts, choose=stopper.choose, latency_s=0.05) as endpoint:
        yield TinyNight.prepare(folder / "night", endpoint, template, concurrency=2, **options)


def stopped(night: TinyNight, stopper: Stopper) -> int:
    process = night.start(FIRST)
    stopper.pid = process.pid
    process.join(60)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_f02_a_signal_lets_calls_in_flight_finish_and_the_next_start_asks_the_rest(
    tmp_path: Path, template: Path, number: signal.Signals, code: int
) -> None:
    stopper = Stopper({5: number})
    with night_with(tmp_path, template, stopper) as night:
        assert stopped(night, stopper) == code, night.output()
        assert night.rows(RUN) == [("interrupted",)]
        assert night.rows("SELECT count(*) FROM lease WHERE run_id IS NOT NULL") == [(0,)]
        calls = night.planned_calls()
        assert 5 <= stopper.seen < calls / 2, "nothing more was begun"
        assert night.rows(OUTCOMES) == [(stopper.seen, stopper.seen)], "every answer was kept"
        assert night.rows(RESERVED) == [(0,)]
        assert "Resume where it stopped" in night.output()
        assert night.run(FIRST) == 0, night.output()
        assert (night.rows(OUTCOMES), stopper.seen) == ([(calls, calls)], calls), "nothing was asked twice"


def test_f02_a_call_that_outlives_the_grace_period_is_dropped_and_counted_at_its_worst_case(
    tmp_path: Path, template: Path
) -> None:
    stopper = Stopper({5: signal.SIGTERM}, step=lambda n: "hang" if n == 4 else None)
    with night_with(tmp_path, template, stopper, night="stop_grace_s = 0.5") as night:
        assert stopped(night, stopper) == 143, night.output()
        assert night.rows(RUN) == [("interrupted",)]
        ((kept, _),) = night.rows(OUTCOMES)
        assert kept >= 4, "who had answered was kept"
        assert night.rows(RESERVED)[0][0] > 0, "what the hanging call cost is not known"


def test_f03_a_second_signal_ends_the_grace_period_at_once(tmp_path: Path, template: Path) -> None:
    stopper = Stopper({4: signal.SIGINT}, step=lambda n: "hang" if n == 3 else None, again_after_s=0.5)
    with night_with(tmp_path, template, stopper, night="stop_grace_s = 3600") as night:
        assert stopped(night, stopper) == 130, night.output()
        assert night.rows(RUN) == [("interrupted",)]


@pytest.mark.slow
@pytest.mark.parametrize("to_group", [False, True], ids=["process", "group"])
def test_f02_the_command_ends_with_143_under_prefect_even_when_its_server_is_stopped_too(
    tmp_path: Path, template: Path, prefect_template: Path, to_group: bool
) -> None:
    stopper = Stopper({5: signal.SIGTERM}, to_group=to_group)
    with night_with(tmp_path, template, stopper) as night:
        with_prefect(night.folder / "home", prefect_template)
        prefect = str(night.folder / "home" / "prefect")
        command = ForkedCommand.start(night.folder, "night", "run", "--as-of", FIRST, PREFECT_HOME=prefect)
        stopper.pid = command.process.pid
        assert command.end().code == 143
        assert night.rows(RUN) == [("interrupted",)]
        assert night.rows(OUTCOMES) == [(stopper.seen, stopper.seen)]


def test_f98_an_answer_whose_cost_was_never_booked_counts_at_its_worst_case(tmp_path: Path, template: Path) -> None:
    stopper = Stopper({})
    with night_with(tmp_path, template, stopper) as night:
        assert night.run(FIRST, UNIROUTE_TEST_KILL_AT="answered#3") == -9
        ((reserved,),) = night.rows(RESERVED)
        ((kept, _),) = night.rows(OUTCOMES)
        assert kept < 3, "an answer was paid for and lost"
        (cost,) = {row[0] for row in unkilled_costs(tmp_path, template)}
        assert reserved >= (3 - kept) * cost, "what was lost is not forgotten"


def test_f98_a_night_started_again_counts_what_the_killed_one_may_have_spent_against_its_budget(
    tmp_path: Path, template: Path
) -> None:
    stopper = Stopper({})
    # Enough for one LLM's calls, were it not for the three whose cost was never booked.
    with night_with(tmp_path, template, stopper, more=f"[budget]\nllm_usd = {LLM_USD}") as night:
        assert night.run(FIRST, UNIROUTE_TEST_KILL_AT="answered#3") == -9
        assert night.run(FIRST) == 3, night.output()
        assert f"the ceiling of {LLM_USD} USD per llm is reached: fake:weak may cost" in night.output()
        assert night.rows(f"SELECT max(cost_picousd + reserved_picousd) <= {LLM_USD * PICO} FROM charge") == [(1,)]


def unkilled_costs(folder: Path, template: Path) -> list[tuple]:
    with night_with(folder / "whole", template, Stopper({})) as night:
        assert night.run(FIRST) == 0, night.output()
        return night.rows("SELECT DISTINCT cost_picousd FROM outcome WHERE llm_id = 1")
