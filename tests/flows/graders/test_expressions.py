"""Expressions are worked out in a process that no expression can keep."""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from flows.errors import GradingError
from flows.graders import expressions, grader
from flows.graders.expressions import mathematics, value_of

# Passes what is refused beforehand, and would take hours and all memory.
ENDLESS = r"((9999^{999})^{999})^{999}"


@pytest.fixture
def workers(monkeypatch):
    """Workers of this test's own."""
    own = expressions._Workers()
    monkeypatch.setattr(expressions, "_WORKERS", own)
    value_of.cache_clear()
    yield own
    own.end()
    value_of.cache_clear()


def test_values_are_exact_where_they_are_rational() -> None:
    assert value_of(r"\frac{1}{3}+\frac16") == Fraction(1, 2)
    assert value_of("0.1+0.2") == pytest.approx(Decimal("0.3"))
    assert value_of("2√3") == value_of(r"2\sqrt{3}") == pytest.approx(Decimal("3.4641016151377546"))


@pytest.mark.parametrize(
    "expression",
    ["", "(", "1+", r"\frac{1}{0}", r"\sqrt{-1}", "1" * 121, "9**9**9**9", "9^{9^{9}}", "2^{99999}", "99999!", "9!!"],
)
def test_what_has_no_value_or_too_large_a_one_has_none(expression: str) -> None:
    assert value_of(expression) is None


def test_only_mathematics_without_variables_and_names_reaches_the_parser() -> None:
    assert mathematics("3*(2+5) apples") == "3*(2+5)"
    assert mathematics(r"\frac{1}{2}\input{x}") == r"\frac{1}{2}"
    assert mathematics("__import__('os')") == ""
    assert mathematics("x^2") == ""


def test_no_process_is_started_for_plain_numbers(workers) -> None:
    for answer in ("42", r"\boxed{-\frac{1}{2}}", "The answer is 1,234.5 km", "9**9**9**9", "none"):
        grader("numeric").grade(answer, "1")
    assert workers._worker is None


def test_an_endless_expression_ends_with_its_process_and_the_next_is_answered_by_another(workers, monkeypatch) -> None:
    assert value_of("2^{10}") == 1024
    first = workers._worker._process
    assert value_of("3^{5}") == 243
    assert workers._worker._process is first, "one process serves all"

    started_s = time.monotonic()
    assert value_of(ENDLESS) is None
    assert time.monotonic() - started_s < expressions._ANSWER_S
    assert first.poll() is not None, "it is gone, with all it had taken"
    assert value_of("2^{11}") == 2048
    assert workers._worker._process is not first

    monkeypatch.setattr(expressions, "_MOST_LIMITS_HIT", 1)
    for growing in (r"(2^{3})^{4}", r"2^{3\cdot 4}", r"\sin(1)", "(1+2)!", "1000!"):
        assert value_of(growing) is None, "an LLM that keeps on answering so is not given more time"
    assert value_of(r"\frac{2}{3}+1") == Fraction(5, 3)
    assert value_of("2^{12}") == value_of("2^{13}/2") == 4096, "other LLMs do not pay for it"


def test_what_is_out_of_all_range_or_nested_without_end_has_no_value(workers) -> None:
    assert value_of(r"1\cdot\exp(\exp(20))") is None, "a number that no arithmetic here takes"
    assert value_of(r"1\cdot\exp(\exp(\exp(5)))") is None, "nor Decimal itself"
    assert value_of(r"1.5^{(99!)}") is None
    assert grader("numeric").grade(r"\boxed{1.5^{(99!)}}", "0.5").is_unreadable
    before = workers._worker._process
    for nested in ("(" * 40 + r"1+\sqrt{2}" + ")" * 40, r"1+\sin(\cos(\tan(\sin(\cos(\tan(\sin(1)))))))"):
        assert value_of(nested) is None
    assert workers._worker._process is before, "the parser takes exponential time for them, so it gets none"


def test_a_process_that_does_not_start_is_given_up_and_no_answer_is_counted_as_wrong(workers, monkeypatch) -> None:
    monkeypatch.setattr(expressions.sys, "executable", "/bin/true")
    started = []
    popen = expressions.subprocess.Popen
    monkeypatch.setattr(
        expressions.subprocess, "Popen", lambda *args, **more: started.append(1) or popen(*args, **more)
    )
    for number in range(6):
        with pytest.raises(GradingError, match="did not start"):
            value_of(f"{number}+1")
    assert len(started) == expressions._MOST_FAILED_STARTS


def test_an_answer_that_was_not_waited_for_is_not_that_to_the_next_expression(workers, monkeypatch) -> None:
    assert value_of("1+1") == 2
    with monkeypatch.context() as interrupted:
        interrupted.setattr(
            expressions._Worker, "_read", lambda self, within_s: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            value_of("20+1")
    assert value_of("30+1") == 31


def test_a_process_that_somebody_ended_is_replaced(workers) -> None:
    assert value_of("1+6") == 7
    workers._worker._process.kill()
    workers._worker._process.wait()
    assert value_of("2+6") == 8
    assert workers._limits_hit == 0


def test_all_threads_share_one_process_and_the_event_loop_stays_free(workers) -> None:
    sums = [f"{number}+{number}*2" for number in range(1, 25)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(value_of, sums)) == [3 * number for number in range(1, 25)]

    async def graded_meanwhile() -> int:
        answers = [f"\\boxed{{{number}+1}}" for number in range(40, 46)]
        grading = [asyncio.to_thread(grader("numeric").grade, answer, "42") for answer in answers]
        done = asyncio.gather(*grading)
        ticks = 0
        while not done.done():
            await asyncio.sleep(0)
            ticks += 1
        assert [grade.score for grade in done.result()] == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
        return ticks

    assert asyncio.run(graded_meanwhile()) > 1
    assert threading.active_count() < 20


def test_a_forked_process_does_not_talk_to_its_parents_worker(workers) -> None:
    assert value_of("5+6") == 11
    child = os.fork()
    if child == 0:
        os._exit(0 if workers._worker is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert value_of("6+6") == 12


def test_the_process_sees_no_secret(workers, monkeypatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-secret")

    assert value_of("7+6") == 13
    assert b"sk-secret" not in Path(f"/proc/{workers._worker._process.pid}/environ").read_bytes()


def test_a_process_that_does_not_start_is_a_failure_and_not_a_wrong_answer(workers, monkeypatch) -> None:
    monkeypatch.setattr(expressions.sys, "executable", "/bin/false")

    with pytest.raises(GradingError, match="did not start") as error:
        grader("numeric").grade(r"\boxed{2+5}", "7")
    assert error.value.unchanged == "the answer is not counted as wrong"
