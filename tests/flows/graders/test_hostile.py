"""No answer, however it is made, costs more than linear time or brings a grader down."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.graders import GRADERS, Grade, grader

UNITS = [
    "1", "1,", "1,234", "1/", "1.", ".1", "1e", "10^", "10^{", "1 x ", "1 x 10^", r"\frac{", r"\frac{1}{",
    r"\boxed{", "-", "$", " ", "\n", "(", "*", "A", "A ", "(A", "a ", "answer is ", "answer is (", "Answer:",
    "answer: ** ", "answer is " + " " * 6, "answer to ", "A or ", "A, ", "wait, answer is B. ", "答案", "\\text{",
    "1 2/3 ", "1 234 ", "½", "####", "Question: ", "(a ", "[1]", "= ", "step 1 ", "-\n", "**", "**A", "<think>",
    "</think>", "<think></think>", "\u0130", "e\u0301", "\ud800",
]  # fmt: skip
SIZE = 16_384


@pytest.mark.parametrize("name", sorted(GRADERS))
@pytest.mark.parametrize("unit", UNITS)
def test_a_long_hostile_answer_is_graded_in_linear_time(name: str, unit: str) -> None:
    reference = {"choice": "A", "numeric": "1"}.get(name, unit * 40 + "z")

    for end in ("", "x", "1", "A"):
        started_s = time.process_time()
        grader(name).grade(unit * (SIZE // len(unit)) + end, reference)
        # Quadratic matching of 16 kB takes seconds; this takes hundredths.
        assert time.process_time() - started_s < 0.5


@pytest.mark.parametrize(("name", "reference", "said"), [("choice", "A", "Answer: A"), ("numeric", "7", r"\boxed{7}")])
def test_of_megabytes_the_beginning_and_the_end_are_searched(name: str, reference: str, said: str) -> None:
    flood = "(words) " * 80_000
    started_s = time.process_time()

    assert grader(name).grade(f"{said}\n{flood}", reference).score == 1.0
    assert grader(name).grade(f"{flood}\n{said}", reference).score == 1.0
    assert time.process_time() - started_s < 3


@pytest.mark.parametrize("name", ["exact", "contains"])
def test_a_long_reference_is_graded_in_linear_time_too(name: str) -> None:
    started_s = time.process_time()

    assert grader(name).grade("a" * SIZE, "a" * (SIZE // 2)) == Grade(0.0)
    assert time.process_time() - started_s < 0.5


@given(st.text(), st.sampled_from(sorted(GRADERS)))
def test_any_text_gets_a_score(completion: str, name: str) -> None:
    assert grader(name).grade(completion, "1" if name == "numeric" else "A").score in (0.0, 1.0)


@pytest.mark.parametrize("name", sorted(GRADERS))
def test_an_empty_answer_is_wrong_and_unreadable(name: str) -> None:
    assert grader(name).grade("", "1" if name == "numeric" else "A") == Grade(0.0, is_unreadable=True)
