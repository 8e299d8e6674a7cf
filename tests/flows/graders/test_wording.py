"""Answers in words: the same wording, or a phrase as whole words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import GradingError
from flows.graders import Grade, grader
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
        ("don’t “stop”", 'don\'t "stop"', 1.0),
        ("\u200bPar\u00adis\ufeff", "Paris", 1.0),
        ("1990–1995", "1990-1995", 1.0),
        ("", "Paris", 0.0),
        ("ＰＡＲＩＳ！", "Paris!", 1.0),
        ("\u2066Paris\u2069", "Paris", 1.0),
        ("Paris<|im_end|>", "Paris", 1.0),
    ],
)
def test_exact_ignores_case_spacing_and_typography_only(answer: str, reference: str, score: float) -> None:
    assert grader("exact").grade(answer, reference).score == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("It is New  York, of course", "new york", 1.0),
        ("(Paris)", "Paris", 1.0),
        ("I know", "no", 0.0),
        ("I know: no", "no", 1.0),
        ("2100", "10", 0.0),
        ("it costs 10€", "10€", 1.0),
        ("I don’t know", "don't know", 1.0),
        # numbers as a whole
        ("$1,500 in total", "500", 0.0),
        ("$1,500 in total", "1500", 1.0),
        ("1500 in total", "1,500", 1.0),
        ("-42", "42", 0.0),
        ("−42", "42", 0.0),
        ("10-42", "42", 1.0),
        ("from -42 on", "-42", 1.0),
        ("10-42", "-42", 0.0),
        ("42.5", "42", 0.0),
        ("3.42", "42", 0.0),
        (".42", "42", 0.0),
        ("It is 42.", "42", 1.0),
        ("42, perhaps", "42", 1.0),
        ("1/42", "42", 0.0),
        ("42/50", "42", 0.0),
        ("5/12/2024", "2024", 1.0),
        ("COVID-19", "19", 1.0),
        ("version 3.11.4", "3.11", 0.0),
        # scripts without spaces between words, and one whose particles follow without one
        ("日本の首都は東京です。", "東京", 1.0),
        ("人民日报1报道了", "人民日报", 1.0),
        ("142個", "42", 0.0),
        ("42個", "42", 1.0),
        ("한국의 수도는 서울입니다.", "서울", 1.0),
        ("เมืองหลวงคือกรุงเทพมหานคร", "กรุงเทพ", 1.0),
        # vowel signs belong to their letter
        ("दिल्ली", "दिल", 0.0),
        ("C++ it is", "c++", 1.0),
        ("<think>Paris</think>London", "Paris", 0.0),
        ("", "Paris", 0.0),
    ],
)
def test_contains_looks_for_whole_words(answer: str, reference: str, score: float) -> None:
    assert grader("contains").grade(answer, reference).score == score


@pytest.mark.parametrize("name", ["exact", "contains"])
@pytest.mark.parametrize("reference", ["", " \n"])
def test_an_empty_reference_is_an_error(name: str, reference: str) -> None:
    with pytest.raises(GradingError, match="cannot use the reference"):
        grader(name).grade("anything", reference)


@pytest.mark.parametrize("name", ["exact", "contains"])
def test_an_answer_without_any_text_is_unreadable(name: str) -> None:
    assert grader(name).grade(" \n\u200b", "Paris") == Grade(0.0, is_unreadable=True)
    assert grader(name).grade("London", "Paris") == Grade(0.0)


@given(st.text())
def test_plain_wording_is_idempotent(text: str) -> None:
    assert plain_wording(plain_wording(text)) == plain_wording(text)


@given(st.text(min_size=1), st.sampled_from(["exact", "contains"]))
def test_any_reference_with_a_word_in_it_is_its_own_answer(reference: str, name: str) -> None:
    if plain_wording(reference) and "think" not in reference:
        assert grader(name).grade(reference, reference).score == 1.0
