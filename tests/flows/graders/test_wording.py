"""Answers in words: the same wording, or a phrase as whole words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import GradingError
from flows.graders import grader
from flows.graders.wording import plain_wording


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Paris", "paris", 1.0),
        ("  New \n\t York ", "new york", 1.0),
        ("Stra\N{LATIN SMALL LETTER SHARP S}e", "STRASSE", 1.0),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}", 1.0),
        ("<think>London?</think>Paris", "Paris", 1.0),
        ("Paris.", "Paris", 0.0),
        ("cafe", "café", 0.0),
        ("It is Paris", "Paris", 0.0),
        ("", "Paris", 0.0),
    ],
)
def test_exact_ignores_case_and_spacing_only(answer: str, reference: str, score: float) -> None:
    assert grader("exact").grade(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("It is New  York, of course", "new york", 1.0),
        ("(Paris)", "Paris", 1.0),
        ("I know", "no", 0.0),
        ("I know: no", "no", 1.0),
        ("2100", "10", 0.0),
        ("it costs 10€", "10€", 1.0),
        ("C++ it is", "c++", 1.0),
        ("<think>Paris</think>London", "Paris", 0.0),
        ("", "Paris", 0.0),
    ],
)
def test_contains_looks_for_whole_words(answer: str, reference: str, score: float) -> None:
    assert grader("contains").grade(answer, reference) == score


@pytest.mark.parametrize("name", ["exact", "contains"])
@pytest.mark.parametrize("reference", ["", " \n"])
def test_an_empty_reference_is_an_error(name: str, reference: str) -> None:
    with pytest.raises(GradingError, match="cannot use the reference"):
        grader(name).grade("anything", reference)


@given(st.text())
def test_plain_wording_is_idempotent(text: str) -> None:
    assert plain_wording(plain_wording(text)) == plain_wording(text)


@given(st.text(min_size=1), st.sampled_from(["exact", "contains"]))
def test_any_reference_with_a_word_in_it_is_its_own_answer(reference: str, name: str) -> None:
    if plain_wording(reference) and "think" not in reference:
        assert grader(name).grade(reference, reference) == 1.0
