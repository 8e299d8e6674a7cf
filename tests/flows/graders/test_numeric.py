"""The number an answer ends with, exactly or within the declared tolerance."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import GradingError
from flows.graders import Grade, grader
from flows.graders.numeric import final_numbers


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("42", "42"),
        ("It is 42.", "42"),
        ("first 1, then 2", "2"),
        ("#### 18", "18"),
        ("1,234,567.5 people", "1234567.5"),
        ("it is -5.", "-5"),
        ("= \N{MINUS SIGN}5", "-5"),
        ("+7", "7"),
        ("10 + 3", "13"),
        ("about 5 ± 0.1", "5"),
        ("The answer is approximately $3.14$", "3.14"),
        ("The answer is Rs. 500.", "500"),
        ("$1,200", "1200"),
        ("-$3.50", "-3.5"),
        (r"\$15", "15"),
        (".5", "0.5"),
        ("3.", "3"),
        ("3/4", "0.75"),
        ("-3 / 4", "-0.75"),
        (r"\frac{3}{4}", "0.75"),
        (r"$-\dfrac{1}{8}$ of it", "-0.125"),
        ("1.5e-3", "0.0015"),
        ("2E5", "200000"),
        ("1.5 x 10^{-3} m", "0.0015"),
        ("1.5 × 10^5", "150000"),
        (r"6.0 \times 10^{23}", "6.0e23"),
        ("10^3", "1000"),
        ("50%", "50"),
        (r"50\%", "50"),
        ("9.8 m/s^2", "9.8"),
        ("9.8 m/s^{2}", "9.8"),
        ("12 kg m^2 s^-2", "12"),
        (r"5 m s^{-1}", "5"),
        ("6.02*10**23", "6.02e23"),
        (r"\binom{5}{2}", "10"),
        (r"\log_{2} 8", "3"),
        (r"\boxed{{12}}", "12"),
        (r"\boxed{\underline{12}}", "12"),
        ("5 kg of CO2", "5"),
        (r"\boxed{42} after 3 steps", "42"),
        (r"\boxed{x} is 7", "7"),
        ("**12**", "12"),
        # an answer that explains itself afterwards
        ("18\n\nShe sells 9 eggs at $2 each.", "18"),
        ("**18 eggs**\n\nExplanation: 9 in each of 2 nests.", "18"),
        ("7\n\nSource: Wikipedia, 2023", "7"),
        ("16\n- 3\n- 4\n= 9", "9"),
        ("Total cost: $18 (9 x $2)", "18"),
        # words
        ("seven", "7"),
        ("The answer is twenty-one.", "21"),
        ("One hundred and five apples", "105"),
        ("the answer is two million", "2000000"),
        ("negative 42", "-42"),
        ("The answer is minus 5.", "-5"),
        ("10 minus 4 = 6", "6"),
        # other signs, digits and separators
        ("－５", "-5"),
        ("x = –5", "-5"),
        ("it is ‑5", "-5"),
        ("٤٢", "42"),
        ("१२", "12"),
        ("٣٫٥", "3.5"),
        ("½", "0.5"),
        ("2½", "2.5"),
        ("1 3/4", "1.75"),
        (r"-1\frac{2}{3}", "-1.666666666666666666666666667"),
        ("- 1/2", "-0.5"),
        ("12 345", "12345"),
        ("12\N{NARROW NO-BREAK SPACE}345.5", "12345.5"),
        (r"\boxed{12\,345}", "12345"),
        (r"\boxed{12{,}345}", "12345"),
        (r"\boxed{11,\! 111,\! 100}", "11111100"),
        ("1'234'567", "1234567"),
        ("12,34,567", "1234567"),
        ("1.234,50", "1234.5"),
        ("1.234.567", "1234567"),
        ("3,5", "3.5"),
        ("0,125", "0.125"),
        ("in 2019 345", "345"),
        (r"\tfrac34", "0.75"),
        ("10³", "1000"),
        ("5 m²", "5"),
        ("5 H₂O", "5"),
        ("€ 5", "5"),
        ("5 km/h", "5"),
        ("90°", "90"),
        # what is declared
        ("The answer is 72, in total, so 3 are left.", "72"),
        ("The answer is 3 + 4 = 7 apples in 2 bags", "7"),
        ("Answer: 5\n\nCheck: 5 - 5 = 0", "5"),
        ("答案是 5，不是 6", "5"),
        ("#### 72\n\nQuestion: what of 12?\n#### 10", "72"),
        ("She sold **72** clips in 2 months.", "72"),
        ("**Step 1**: 5 and 6. **Step 2**: so 7", "7"),
        ("The answer is 5. Wait, I forgot one. The answer is 6.", "6"),
        (r"\boxed{3} then \boxed{4}", "4"),
        (r"\boxed{x=5}", "5"),
        (r"\boxed{18 \text{ eggs}}", "18"),
        # what is no answer
        ("So he has 18 eggs left (see step 2).", "18"),
        ("It is 18, see step 2.", "18"),
        ("The population is 8,336,817 [1].", "8336817"),
        ("42\n\n(Confidence: 95%)", "42"),
        ("42\nConfidence: 95%", "42"),
        # expressions
        ("2^10", "1024"),
        ("So it is 2^{10}.", "1024"),
        ("3*(2+5)", "21"),
        ("-(3/4)", "-0.75"),
        (r"\boxed{5!}", "120"),
        (r"$\frac{\frac{1}{2}}{2}$", "0.25"),
    ],
)
def test_the_number_an_answer_settles_on(answer: str, value: str) -> None:
    (number,) = final_numbers(answer)
    assert number.value == pytest.approx(Decimal(value), rel=Decimal("1e-20"))


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "none",
        "x1",
        "B12",
        "1/0",
        "1e99999999",
        "9" * 5000,
        "inf",
        "nan",
        "1.2.3",
        r"\boxed{2x+1}",
        r"\boxed{(3, 5)}",
        "9**9**9**9",
        "No one knows that one.",
        "There are several in one box of two.",
    ],
)
def test_an_answer_without_a_number_is_unreadable(answer: str) -> None:
    assert final_numbers(answer) == ()
    assert grader("numeric").grade(answer, "1") == Grade(0.0, is_unreadable=True)


def test_a_hedge_is_wrong_and_was_read() -> None:
    for answer in (
        "The answer is 5 or 6.",
        "5 or 6",
        "It is 6 or 5",
        "5-10",
        "5 to 10",
        r"\boxed{5, 7}",
        r"\boxed{5 \text{ or } 7}",
    ):
        assert grader("numeric").grade(answer, "5") == Grade(0.0)
    assert grader("numeric").grade("The answer is 5 or 5.0.", "5") == Grade(1.0)


def test_an_exclamation_may_be_a_factorial() -> None:
    assert [grader("numeric").grade("5!", reference).score for reference in ("5", "120", "6")] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("question", "is_decimal_comma"),
    [
        ("", False),
        ("What is 1.5 times 800?", False),
        ("Where do (3,5) and f(1,2) meet?", False),
        ("Add 3,50 and 3.50.", False),
        ("How many of 1,234 people?", False),
        ("Was kosten 2 Äpfel zu je 3,50 Euro?", True),
        ("Write it with a decimal comma.", True),
    ],
)
def test_the_prompt_says_what_a_comma_separates(question: str, is_decimal_comma: bool) -> None:
    numeric = grader("numeric")
    assert numeric.grade("1,234", "1234.0", question).score == float(not is_decimal_comma)
    assert numeric.grade("1,234", "1.2340", question).score == float(is_decimal_comma)
    assert numeric.grade("1.234", "1234.0", question).score == float(is_decimal_comma)
    assert numeric.grade("1.234", "1.2340", question) == Grade(1.0), "LLMs write points where the prompt has commas"
    assert numeric.grade("-1.234", "-1.234", question) == Grade(1.0)


def test_millions_count_as_such_unless_the_prompt_asks_for_millions() -> None:
    assert grader("numeric").grade("1.5 million", "1500000") == Grade(1.0)
    assert grader("numeric").grade("1.5 million", "1.5") == Grade(0.0)
    assert grader("numeric").grade("1.5 million", "1.5", "How many million people?") == Grade(1.0)


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("18", "18", 1.0),
        ("18.0", "18", 1.0),
        ("18.0001", "18", 0.0),
        ("100001", "100000", 0.0),
        ("100001", "1.00000e5", 0.0),
        ("1,000", "1000", 1.0),
        ("0.3333", "1/3", 1.0),
        ("0.333", "1/3", 0.0),
        ("3.1416", "3.14159265", 1.0),
        ("3.14", "3.14159265", 0.0),
        ("-2.5", "2.5", 0.0),
        ("0.75", r"\frac{3}{4}", 1.0),
        ("1.41421", r"\sqrt{2}", 1.0),
        ("6.2832", r"2\pi", 1.0),
        (r"\boxed{2\pi}", "6.28318", 1.0),
        (r"\boxed{\frac{\sqrt{3}}{2}}", "0.8660254", 1.0),
        ("1,5", "1.5", 1.0),
        ("50%", "50%", 1.0),
        ("50%", "0.5", 1.0),
        ("50", "50%", 1.0),
        ("0.5", "50 percent", 1.0),
        ("0.5%", "50%", 0.0),
        ("5000%", "50%", 0.0),
        ("6.02e23", r"6.02 \times 10^{23}", 1.0),
        ("0", "0", 1.0),
        ("0.00001", "0", 0.0),
        ("<think>7</think> 8", "7", 0.0),
    ],
)
def test_a_whole_reference_is_matched_exactly_and_any_other_within_a_ten_thousandth(
    answer: str, reference: str, score: float
) -> None:
    assert grader("numeric").grade(answer, reference).score == score


@pytest.mark.parametrize("reference", ["", "seven", "1 or 2", "1.2.3", "x=5", "1/0", "9^9^9^9"])
def test_a_reference_that_is_not_one_number_is_an_error(reference: str) -> None:
    with pytest.raises(GradingError, match="not one number"):
        grader("numeric").grade("7", reference)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_any_number_is_its_own_answer_and_another_is_not(number: Decimal) -> None:
    numeric = grader("numeric")

    assert numeric.grade(f"The result is {number:,f}.", str(number)).score == 1.0
    assert numeric.grade(f"The result is {number + 1 + abs(number):,f}.", str(number)).score == 0.0
