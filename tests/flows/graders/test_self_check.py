"""A grader is trusted only after it has scored answers whose score is known."""

import random
from dataclasses import dataclass

import pytest

from flows.errors import GradingError, PrerequisiteError
from flows.graders import GRADERS, Grade, Grader, check_grader, grader
from flows.graders.base import RuleGrader

REFERENCES = {
    "choice": random.Random(5).choices("ABCDEFGHIJ", k=300),
    "exact": [f"city {number}" for number in range(100)] + ["Paris"] * 40,
    "contains": [f"city number {number}" for number in range(100)],
    "numeric": [str(number / 4) for number in range(200)],
}


class MadeUp(RuleGrader):
    """A grader whose rule is made up by a test."""

    name = "choice"
    version = "9"

    def __init__(self, rule) -> None:
        self.rule = rule

    def _graded(self, answer: str, reference: str, question: str) -> Grade:
        return Grade(float(self.rule(answer, reference)))


@dataclass(frozen=True)
class Asked:
    """A prompt."""

    reference: str
    text: str = ""


def prompts(references: list[str]) -> list[Asked]:
    return [Asked(reference) for reference in references]


@pytest.mark.parametrize("name", sorted(GRADERS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_grader_passes_its_self_check(name: str, seed: int) -> None:
    check = check_grader(grader(name), prompts(REFERENCES[name]), seed=seed)

    assert check.reference_score == 1.0
    assert check.empty_score == 0.0
    assert check.shuffled_score <= check.chance + 0.15


def test_the_check_is_the_same_for_the_same_seed() -> None:
    checks = [check_grader(grader("choice"), prompts(REFERENCES["choice"]), seed=seed) for seed in (3, 3, 4)]

    assert checks[0] == checks[1] != checks[2]


@pytest.mark.parametrize("references", [["A"], ["A", "B"], ["A"] * 50, ["A", "A", "B"]])
def test_few_or_equal_references_do_not_stop_a_correct_grader(references: list[str]) -> None:
    assert check_grader(grader("choice"), prompts(references)).reference_score == 1.0


@pytest.mark.parametrize(
    ("rule", "finding"),
    [
        (lambda answer, reference: False, r"references themselves score 0\.000"),
        (lambda answer, reference: True, r"empty answers score 1\.000"),
        (lambda answer, reference: bool(answer), r"shuffled answers score 1\.000, chance is 0\.103"),
        (lambda answer, reference: bool(answer) and (reference != "A" or answer != "A"), "references themselves"),
        (lambda answer, reference: answer[:1] in "ABC"[: len(answer) * 3] or answer == reference, "empty|shuffled"),
        (lambda answer, reference: float("nan") if answer else 0.0, "not between 0 and 1"),
        (lambda answer, reference: 2.0, "not between 0 and 1"),
    ],
)
def test_a_grader_that_is_wrong_stops_the_night(rule, finding: str) -> None:
    with pytest.raises(GradingError, match=finding) as error:
        check_grader(MadeUp(rule), prompts(REFERENCES["choice"]))

    assert "choice/9" in error.value.message
    assert error.value.unchanged == "nothing was asked or spent"
    assert error.value.hint


def test_references_that_contain_each_other_are_too_easy_for_contains() -> None:
    references = ["a"] * 2 + [f"a {number}" for number in range(8)]

    assert check_grader(grader("exact"), prompts(references * 20)).empty_score == 0.0
    with pytest.raises(GradingError, match="shuffled answers"):
        check_grader(grader("contains"), prompts([*(["a"] * 50), *[f"a {number}" for number in range(50)]] * 4))


def test_a_reference_that_the_grader_cannot_use_is_named() -> None:
    with pytest.raises(GradingError, match="'Paris'"):
        check_grader(grader("choice"), prompts(["A", "Paris"]))


def test_a_reference_is_checked_against_the_prompt_it_belongs_to() -> None:
    listed = [Asked(letter, "".join(f"{one}. x\n" for one in "ABCDEFGHIJKL")) for letter in "ABCDEFGHIJKL" * 20]

    assert check_grader(grader("choice"), listed).reference_score == 1.0


def test_a_grader_without_prompts_cannot_be_checked() -> None:
    with pytest.raises(GradingError, match="no prompt names it"):
        check_grader(grader("choice"), [])


def test_a_crash_is_a_grading_error_and_not_a_wrong_answer() -> None:
    def crash(answer: str, reference: str) -> bool:
        raise ZeroDivisionError(f"with {answer}")

    with pytest.raises(GradingError, match="crashed: ZeroDivisionError") as error:
        MadeUp(crash).grade("secret completion", "A")
    assert "secret" not in error.value.message

    with pytest.raises(GradingError, match="crashed: TypeError"):
        grader("exact").grade(None, "A")


def test_a_foreign_grader_that_crashes_fails_its_self_check() -> None:
    class Foreign:
        name, version, label = "foreign", "1", "foreign/1"

        def grade(self, completion: str, reference: str, question: str = "") -> Grade:
            raise KeyError(completion)

    foreign: Grader = Foreign()
    with pytest.raises(GradingError, match="foreign/1 failed its self-check: it crashed with KeyError"):
        check_grader(foreign, prompts(["A"]))


@pytest.mark.parametrize("name", sorted(GRADERS))
def test_name_and_version_make_the_label(name: str) -> None:
    assert grader(name).label == f"{name}/{grader(name).version}"


def test_an_unknown_grader_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PrerequisiteError, match="no grader 'numerical'") as error:
        grader("numerical")

    assert "did you mean numeric?" in error.value.hint
    assert "choice, contains, exact, numeric" in error.value.hint
