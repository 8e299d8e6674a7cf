"""The letter an answer settles on, and how it agrees with scores that others recorded."""

from collections import Counter

import pytest

from flows.errors import GradingError
from flows.graders import check_grader, grader
from flows.graders.choice import chosen_letter
from flows.sandbox.recording import FOLDER, read_answers, read_prompts


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("C", "C"),
        ("c", "C"),
        (" (c). ", "C"),
        ("**C**", "C"),
        ("**C.**", "C"),
        (r"$\boxed{C}$", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        ("The answer is (D).", "D"),
        ("the answer is D", "D"),
        ("THE ANSWER IS (D)", "D"),
        ("The answer is **G. No, because of A**.", "G"),
        ("The answer is **(E) seals in A**", "E"),
        ("The answer is: I. The covenant of B", "I"),
        (r"So the answer is $\boxed{B}$.", "B"),
        ("The answer is\n\n(F)", "F"),
        ("The answer is _H_", "H"),
        ("The answer is (D). Question: what else? The answer is (A).", "D"),
        ("The answer is not given. Answer: B", "B"),
        ("Answer: B, no: Answer: C", "C"),
        ("ANSWER: **D**", "D"),
        (r"Between A and B: \boxed{B}, not A", "B"),
        ("Options were A and C.\n**C. 34** rather than A", "C"),
        ("Either A or B, I would say (B) it is", "B"),
        ("The only remaining option is (C), which is right", "C"),
        ("The answer is Because of it", None),
        ("The answer is (K)", None),
        ("I'm sure, I'd say", None),
        ("I’m sure", None),
        ("CO2 and x1B or B12", None),
        ("the answer is c", None),
        ("", None),
        ("   ", None),
        ("no letter here", None),
        ("Ä B́", "B"),
    ],
)
def test_the_letter_an_answer_settles_on(answer: str, letter: str | None) -> None:
    assert chosen_letter(answer) == letter


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<think>Surely A. The answer is (A).</think>The answer is (B).", 1.0),
        ("<THINKING>The answer is (A).</THINKING> B", 1.0),
        ("The answer is (A), or not.</think>The answer is (B).", 1.0),
        ("<think>a</think>The answer is (A).<think>no</think> B", 1.0),
        ("The answer is (B).<think>or is it (A)", 1.0),
        ("<think>The answer is (B).", 0.0),
        ("<think>The answer is (B).</think>", 0.0),
    ],
)
def test_reasoning_is_removed_before_the_letter_is_looked_for(completion: str, score: float) -> None:
    assert grader("choice").grade(completion, "B") == score


@pytest.mark.parametrize("reference", ["B", "b", " (B) ", "B."])
def test_a_reference_may_be_written_in_any_usual_way(reference: str) -> None:
    assert grader("choice").grade("The answer is (B).", reference) == 1.0


@pytest.mark.parametrize("reference", ["", "K", "Paris", "AB", "1"])
def test_a_reference_that_is_no_letter_is_an_error_and_not_a_wrong_answer(reference: str) -> None:
    with pytest.raises(GradingError, match="not a letter from A to J"):
        grader("choice").grade("The answer is (B).", reference)


def recorded_scores() -> dict[tuple[str, str], float]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(FOLDER / "outcomes.parquet", columns=["model", "prompt_id", "score"])
    rows = zip(*(table.column(name).to_pylist() for name in ("model", "prompt_id", "score")), strict=True)
    return {(llm_id, prompt_id): score for llm_id, prompt_id, score in rows}


def test_it_agrees_with_the_recorded_scores_of_real_llms() -> None:
    """What remains are answers that name the right letter in words the recorded evaluation did not recognise."""
    references = {prompt.prompt_id: prompt.reference for prompt in read_prompts()}
    scores, choice, agreed = recorded_scores(), grader("choice"), Counter()

    for llm_id, answers in read_answers().items():
        for prompt_id, answer in answers.items():
            score = choice.grade(answer.text, references[prompt_id])
            agreed[score, scores[llm_id, prompt_id]] += 1

    assert agreed.total() == 24_000
    assert (agreed[0.0, 0.0] + agreed[1.0, 1.0]) / 24_000 >= 0.985
    assert agreed[0.0, 1.0] <= 30


def test_it_passes_its_self_check_on_the_recorded_prompts() -> None:
    check = check_grader(grader("letter-match"), [prompt.reference for prompt in read_prompts()])

    assert (check.reference_score, check.empty_score) == (1.0, 0.0)
    assert check.shuffled_score == pytest.approx(check.chance, abs=0.03)
    assert check.chance == pytest.approx(0.102, abs=0.001)
