"""What was wrong with reported usage, in words: how many answers, and what was done about them."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

from flows.endpoints.usage import FLAGS
from flows.profiling.plan import NightPlan
from flows.reports.attention import attention_lines
from flows.reports.night_report import NightReport
from flows.reports.usage import usage_attention, usage_cell, usage_sentence
from registry.outcomes import Readability, UsageFacts
from registry.prompts import PromptSet

HONEST = UsageFacts(40, (((), 40),), Decimal("0.01"))
NOTHING = UsageFacts(40, (((), 30), (("few_input", "few_output"), 6), (("missing",), 4)))
BOASTS = UsageFacts(40, (((), 39), (("hidden_output", "much_output"), 1)))


def test_an_answer_counts_once_in_the_table():
    assert [usage_cell(facts) for facts in (None, HONEST, NOTHING, BOASTS)] == [
        "",
        "",
        "10 estimated",
        "1 bounded, 1 completed",
    ]


def test_every_flag_has_words_and_a_flag_of_a_later_release_is_shown():
    assert usage_sentence(UsageFacts()) == "unknown", "answers of earlier releases were not checked"
    assert usage_sentence(HONEST) == "of 40 answers all as reported"
    for flag, words in FLAGS.items():
        assert usage_sentence(UsageFacts(2, (((flag,), 1),))) == f"of 2 answers 1 with {words}"
    assert "1 with odd" in usage_sentence(UsageFacts(2, ((("odd",), 1),)))


def test_too_many_tokens_need_attention_at_once_and_too_few_when_they_are_many():
    few = UsageFacts(40, (((), 38), (("few_output",), 2)))
    lines = usage_attention({"fake:honest": HONEST, "fake:nothing": NOTHING, "fake:boasts": BOASTS, "fake:few": few})
    assert [line.partition(" ")[0] for line in lines] == ["fake:nothing", "fake:boasts"]
    assert "raise max_tokens of [[endpoint]] fake" in lines[1]


def test_recorded_answers_need_no_attention_because_nobody_is_billed_for_them():
    night = NightReport(
        "night:x", date(2024, 9, 1), PromptSet("set", "d" * 64, ()), (), (), NightPlan((), (), (), 1),
        usage={"fake:boasts": BOASTS}, readability={"fake:boasts": Readability(10, 10, 10)},
    )  # fmt: skip
    assert len(attention_lines(night)) == 2
    assert attention_lines(replace(night, is_recorded=True)) == ()
