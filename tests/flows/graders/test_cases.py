"""Answers that people reported elsewhere, with the right score."""

import json
import re
from pathlib import Path

import pytest

from flows.errors import GradingError
from flows.graders import grader
from flows.graders.judge import says_nothing, verdict

CASES = json.loads((Path(__file__).parents[2] / "data" / "grader-cases.json").read_text(encoding="utf-8"))
GRADED = [case for case in CASES if case["area"].startswith("grader ")]


@pytest.mark.parametrize("case", GRADED, ids=[case["id"] for case in GRADED])
def test_the_score_of_a_reported_answer(case: dict[str, str]) -> None:
    name = case["area"].removeprefix("grader ")
    assert grader(name).grade(case["answer"], case["reference"]).score == float(case["expected"])


def test_every_case_of_the_graders_and_the_judge_is_here() -> None:
    areas = [case["area"] for case in CASES]
    assert {area: areas.count(area) for area in areas} == {
        "grader choice": 30,
        "grader numeric": 28,
        "grader contains": 8,
        "grader exact": 6,
        "judge": 7,
    }


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Solution", "solution", False),
        ("Solution.", "a solution", True),
        ("<think>?</think>Final answer", "Final answer", False),
        ("Thought process:", "", True),
        ("", "", True),
        ("...", "solution", True),
        ("解", "解", False),
        ("Let us solve this problem step by step", "", False),
    ],
)
def test_an_answer_that_equals_the_reference_says_something(answer: str, reference: str, expected: bool) -> None:
    assert says_nothing(answer, reference) is expected


@pytest.mark.parametrize(
    "reply",
    [
        "It agrees.\nabc123 RIGHT",
        "```\nabc123 RIGHT\n```",
        "```text\nIt agrees.\nabc123 RIGHT\n```\n\n",
        "~~~\nabc123 RIGHT\n~~~",
        r"\boxed{abc123 RIGHT}",
        r"$\boxed{\text{abc123 RIGHT}}$.",
        "\\[\n\\boxed{abc123 RIGHT}\n\\]",
        "> **abc123 RIGHT**",
        "`abc123 RIGHT`.",
    ],
)
def test_a_verdict_is_read_in_whatever_it_is_wrapped(reply: str) -> None:
    assert verdict(reply, "abc123") == 1.0
    assert verdict(reply.replace("RIGHT", "WRONG"), "abc123") == 0.0


@pytest.mark.parametrize(
    "reply",
    [
        "abc123 RIGHT\nabc123 WRONG",
        "```\nabc123 RIGHT\n```\nabc123 WRONG",
        "abc123 RIGHT, unless it is not",
        "```\nabc123 RIGHT\n```\nOr is it?",
        "RIGHT",
        "```\n```",
        "",
    ],
)
def test_a_reply_without_exactly_one_verdict_at_its_end_is_none(reply: str) -> None:
    with pytest.raises(GradingError, match=re.escape("no readable verdict")):
        verdict(reply, "abc123")
