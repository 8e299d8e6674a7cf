"""The letter an answer settles on, and how it agrees with scores that others recorded."""

from collections import Counter

import pytest

from flows.errors import GradingError
from flows.graders import Grade, check_grader, grader
from flows.graders.choice import chosen_letters
from flows.graders.options import UNKNOWN, options_of
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
        ("The answer is Because of it", ""),
        ("The answer is (K)", ""),
        ("I'm sure, I'd say", ""),
        ("I’m sure", ""),
        ("I think so. I do", ""),
        ("A car is what I would take", ""),
        ("CO2 and x1B or B12", ""),
        ("vitamin B-complex", ""),
        ("C_2 H_2 and A_{1}", ""),
        ("", ""),
        ("   ", ""),
        ("no letter here", ""),
        # declared in other words
        ("**Answer**: B\n\nOption A is wrong; so are C and D.", "B"),
        ("**Answer:** **C**", "C"),
        ("### Final Answer\n\nFinal answer: (E)", "E"),
        ("The correct option is (D), not A.", "D"),
        ("The best choice is therefore option F.", "F"),
        ("The correct answer to the question would be **G**.", "G"),
        ("Correct answer: letter H", "H"),
        (r"The answer is $\mathbf{B}$, as A fails.", "B"),
        (r"\[ \boxed{\textbf{(D)}} \] whereas A and B fail", "D"),
        ("The wrong answer is A. Take B.", "B"),
        ("I would go with C, not with A", "C"),
        ("(B) is correct, A and D are not", "B"),
        ("The answer is I.", "I"),
        ("Answer: A bird would do", ""),
        # other languages and scripts
        ("Antwort: C\n\nA trifft nicht zu.", "C"),
        ("La respuesta es la opción B, no A.", "B"),
        ("Réponse : D, pas A", "D"),
        ("Ответ: B, а не A", "B"),
        ("答案是B，不是A", "B"),
        ("故选：C。A不对", "C"),
        ("正解はDです。Aは違います。", "D"),
        ("정답은 B입니다. A는 아닙니다.", "B"),
        ("Ｂ", "B"),
        ("الإجابة الصحيحة هي (ج)", "C"),
        ("উত্তর: খ", "B"),
        ("\u200bB\ufeff", "B"),
        ("คำตอบคือ ข ไม่ใช่ ก", "B"),
        ("La respuesta correcta es B, no A.", "B"),
        ("Đáp án là B, not A", "B"),
        ('{"answer": "C", "why": "A is wrong"}', "C"),
        ("<answer>C</answer> not A", "C"),
        ("Ans. (b) x, A no", "B"),
        ("Let us see each option:\n\nA. no\n\nB. yes. The answer is B.", "B"),
        # at the start
        ("B) Vitamin C", "B"),
        ("(D) Hepatitis B", "D"),
        ("C\n\nA is too small.", "C"),
        ("E, because A and B fall", "E"),
        ("A) no: too small.\nB) yes.\nC) no. So it is B", "B"),
        # which of several
        ("At first the answer is A, but no. So the answer is (C).", "C"),
        ("The answer is A. Wait, that ignores the sign. The answer is B.", "B"),
        ("The answer is (J).\n\nNow let us combine all answers:\nThe answer is (A).", "J"),
        ("Answer: B\n\nQuestion: which gas is lightest?\nAnswer: C", "B"),
        ("B\n\nQ: and then?\nA: C", "B"),
        ("The answer is (D).<|im_end|><|im_start|>user The answer is (A).", "D"),
        ("The answer is A? No, B.", "B"),
        ("The correct answer is not A but B", "B"),
        # no choice
        ("Neither A nor B", "AB"),
        ("Both A or B could do.", "AB"),
        ("The answer is A or B.", "AB"),
        ("The answer is (A), (C), and (G).", "AG"),
        ("Answer: A/C", "AC"),
        ("Answer: A, C", "AC"),
        ("Answer: B, A is wrong", "B"),
        ("Answer: B and a half", "B"),
        ("The answer is either B or D", "BD"),
        ("The answer is B and D is wrong.", "B"),
        ("Answer: A, B, C and D", "AD"),
        ("A, B, C, D", "AD"),
        ("Maybe A, maybe B.", "AB"),
        ("B (or possibly C)", "BC"),
        (r"\boxed{A \text{ and } B}", "AB"),
        (r"\boxed{A, B}", "AB"),
        # what is ruled out
        ("Not A.", ""),
        ("The answer is not B.", ""),
        ("The answer cannot be B, so C", "C"),
        ("I wouldn't choose A.", ""),
        ("C is incorrect", ""),
        ("A and C are incorrect. D is too large. Thus, B", "B"),
        ("The data support B; A is wrong.", "B"),
        ("This matches (B), as in the U.S.A.", "B"),
        # corrections
        ("The answer is A... no wait, B.", "B"),
        ("B. Actually, C.", "C"),
        ("B. Actually, A is wrong.", "B"),
        ("A: (B)", "B"),
        # lower case
        ("b) two", "B"),
        ("(b) two", "B"),
        ("(a) First, work out the speed.\n(b) Then the time: C", "C"),
        ("(a) The speed is 3 m/s. " + "It is worked out as follows. " * 4, ""),
        ("the answer is c", "C"),
        ("the answer is (b) 5 cm", "B"),
        ("the answer is a bird", ""),
        ("i am b or so", ""),
        ("Ä B́", "B"),
    ],
)
def test_the_letter_an_answer_settles_on(answer: str, letter: str) -> None:
    assert chosen_letters(answer, UNKNOWN) == letter


@pytest.mark.parametrize(
    ("question", "letters"),
    [
        ("Which?\nA. one\nB. two\nC. three", "ABC"),
        ("Which?\n(A) one\n(B) two", "AB"),
        ("Which? A) one B) two C) three D) four", "ABCD"),
        ("A. old\nB. older\nC. oldest\nAnswer: A\n\nWhich?\nA. one\nB. two", "AB"),
        ("Welche?\na) eins\nb) zwei\nc) drei", "ABC"),
        ("Ａ．東京\nＢ．大阪", "AB"),
        ("".join(f"{letter}. x\n" for letter in "ABCDEFGHIJKL"), "ABCDEFGHIJKL"),
        ("What is vitamin A?", "ABCDEFGHIJ"),
        ("", "ABCDEFGHIJ"),
    ],
)
def test_the_options_are_those_that_the_prompt_lists(question: str, letters: str) -> None:
    assert "".join(sorted(options_of(question).letters)) == letters


def test_only_letters_of_the_prompt_count() -> None:
    question = "Which unit?\nA. ampere\nB. volt\nC. watt\nD. ohm"
    assert grader("choice").grade("It is B, as I and J. C. Maxwell said; see F.", "C", question).score == 1.0
    assert grader("choice").grade("The answer is K", "K", "\n".join(f"{one}. x" for one in "ABCDEFGHIJK")).score == 1.0
    assert grader("choice").grade("The answer is F.", "F", question).score == 1.0, "a reference beyond what was found"


def test_lower_case_letters_count_where_the_prompt_lists_its_options_so() -> None:
    small, capital = "Which?\na) one\nb) two", "Which?\nA) one\nB) two"
    assert grader("choice").grade("well, b fits best", "B", small) == Grade(1.0)
    assert grader("choice").grade("well, b fits best", "B", capital) == Grade(0.0, is_unreadable=True)


def test_the_prompt_says_which_of_two_answers_counts() -> None:
    answer = "A\n\nThe answer is B. Now the summary.\nAnswer: C"
    assert chosen_letters(answer, UNKNOWN) == "B"
    assert chosen_letters(answer, UNKNOWN, "The last line of your response must be 'Answer: X'.") == "C"
    assert chosen_letters(answer, UNKNOWN, "Begin your answer with the letter alone.") == "A"


def test_a_prompt_that_is_said_again_starts_another_question() -> None:
    question = "The following is a multiple choice question. Which is it?\nA. one\nB. two"
    answer = "I say: answer: A. " + question.replace("two", "three") + "\nAnswer: B, wait, answer: B"
    assert chosen_letters(answer, options_of(question), question) == "A"


@pytest.mark.parametrize("answer", ["", "None of these", "I cannot say"])
def test_an_answer_without_a_letter_is_unreadable(answer: str) -> None:
    assert grader("choice").grade(answer, "B") == Grade(0.0, is_unreadable=True)


def test_a_hedge_is_wrong_and_was_read() -> None:
    assert grader("choice").grade("The answer is A or B.", "A") == Grade(0.0)


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
    assert grader("choice").grade(completion, "B").score == score


@pytest.mark.parametrize("reference", ["B", "b", " (B) ", "B."])
def test_a_reference_may_be_written_in_any_usual_way(reference: str) -> None:
    assert grader("choice").grade("The answer is (B).", reference).score == 1.0


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
    """What remains: letters named in words that the recorded evaluation did not recognise, hedges, and its guesses."""
    prompts = {prompt.prompt_id: prompt for prompt in read_prompts()}
    scores, choice, agreed = recorded_scores(), grader("choice"), Counter()

    for llm_id, answers in read_answers().items():
        for prompt_id, answer in list(answers.items())[::4]:
            grade = choice.grade(answer.text, prompts[prompt_id].reference, prompts[prompt_id].text)
            agreed[grade.score, scores[llm_id, prompt_id]] += 1

    assert agreed.total() == 6_000
    assert (agreed[0.0, 0.0] + agreed[1.0, 1.0]) / 6_000 >= 0.982
    assert agreed[0.0, 1.0] <= 27


def test_it_passes_its_self_check_on_the_recorded_prompts() -> None:
    check = check_grader(grader("letter-match"), read_prompts())

    assert (check.reference_score, check.empty_score) == (1.0, 0.0)
    assert check.shuffled_score == pytest.approx(check.chance, abs=0.03)
    assert check.chance == pytest.approx(0.102, abs=0.001)
