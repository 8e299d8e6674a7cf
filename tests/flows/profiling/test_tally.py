"""Empty answers in a row are counted in the order in which they were asked for."""

from dataclasses import replace

from flows.profiling.tally import Tally
from tests.registry.samples import outcome, prompts

ANSWER = outcome("l", prompts(1)[0], completion="The answer is (A).")
NOTHING = [
    replace(ANSWER, completion="", score=0.0),
    replace(ANSWER, completion="<think>(A)?</think> \n", score=0.0),
    replace(ANSWER, completion=None, score=None, failure="empty"),
]
TIMEOUT = replace(ANSWER, completion=None, score=None, failure="timeout")


def counted(*outcomes, order=None):
    """Count outcomes that were asked for in this order, and arrive in another."""
    tally = Tally()
    numbers = [tally.begin() for _ in outcomes]
    for position in order or range(len(outcomes)):
        tally.end(numbers[position], outcomes[position])
    return tally.empty_in_a_row


def test_every_kind_of_nothing_counts_and_an_answer_begins_anew():
    assert counted(*NOTHING) == 3
    assert counted(*NOTHING, ANSWER, NOTHING[0]) == 1


def test_calls_that_were_not_answered_neither_count_nor_begin_anew():
    assert counted(NOTHING[0], TIMEOUT, None, NOTHING[1]) == 2


def test_empty_answers_that_arrive_together_are_not_in_a_row_for_that():
    assert counted(NOTHING[0], ANSWER, NOTHING[1], ANSWER, NOTHING[2], order=[1, 3, 0, 2, 4]) == 1
    assert counted(NOTHING[0], ANSWER, order=[0]) == 1
    assert counted(ANSWER, NOTHING[0], NOTHING[1], order=[1, 2]) == 0, "the first may still be answered"
