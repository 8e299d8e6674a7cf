"""The number an answer ends with, exactly or within the declared tolerance."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import GradingError
from flows.graders import grader
from flows.graders.numeric import final_number


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
        ("10-3", "3"),
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
        ("5 kg of CO2", "5"),
        (r"\boxed{42} after 3 steps", "42"),
        (r"\boxed{x} is 7", "7"),
        ("**12**", "12"),
    ],
)
def test_the_number_an_answer_ends_with(answer: str, value: str) -> None:
    assert final_number(answer).value == Decimal(value)


@pytest.mark.parametrize("answer", ["", "none", "x1", "1/0", "1e99999999", "9" * 5000, "inf", "nan", "٣"])
def test_an_answer_may_hold_no_number(answer: str) -> None:
    assert final_number(answer) is None
    assert grader("numeric").grade(answer, "1") == 0.0


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
    assert grader("numeric").grade(answer, reference) == score


@pytest.mark.parametrize("reference", ["", "seven", "1 or 2", "1,23", "x=5", "1/0"])
def test_a_reference_that_is_not_one_number_is_an_error(reference: str) -> None:
    with pytest.raises(GradingError, match="not one number"):
        grader("numeric").grade("7", reference)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_any_number_is_its_own_answer_and_another_is_not(number: Decimal) -> None:
    numeric = grader("numeric")

    assert numeric.grade(f"The result is {number:,f}.", str(number)) == 1.0
    assert numeric.grade(f"The result is {number + 1 + abs(number):,f}.", str(number)) == 0.0
