"""Tokens are counted as reported where that is plausible, and never come out as nothing or as more than was allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.endpoints.usage import FLAGS, Usage, bounded_usage, estimate_tokens, read_usage, written_text

PROMPT = "Which of the four is a river?"
TEXT = "x1 y2 z3 " * 4 + "done"
COUNTS = st.none() | st.integers(-5, 10**7) | st.floats() | st.text(max_size=3) | st.booleans()


def usage(prompt=None, completion=None, total=None, **more):
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    return {name: value for name, value in counts.items() if value is not None} | more


def details(reasoning):
    return {"completion_tokens_details": {"reasoning_tokens": reasoning}}


@pytest.mark.parametrize(
    ("case", "reported", "output_tokens", "flags"),
    [
        ("h35", usage(0, 0, 0), 10, ("few_input", "few_output")),
        ("h36", None, 10, ("missing",)),
        ("h37", usage(20, 198, 623), 603, ("hidden_output",)),
        ("h38", usage(21, 0, 81, **details(60)), 60, ("hidden_output",)),
        ("h39 xAI", usage(20, 3256, 76_524, **details(73_248)), 76_504, ("hidden_output",)),
        ("h39 Perplexity", usage(20, 3256, 3276, reasoning_tokens=73_248), 76_504, ("hidden_output",)),
        (
            "of the Responses API",
            usage(20, 10, 30, output_tokens_details={"reasoning_tokens": 90}),
            100,
            ("hidden_output",),
        ),
        ("h40", usage(10, 300, 310, **details(250)), 300, ()),
        ("h43", usage(10.0, 5.0), 5, ()),
        ("x05", usage(30, 10, 2040, reasoning_tokens=2000), 2010, ("hidden_output",)),
        ("the total alone", usage(30, None, 70), 40, ()),
        ("names of the Responses API", {"input_tokens": 30, "output_tokens": 12}, 12, ()),
        ("null beside a number", usage(30, None), 10, ("missing",)),
        ("negative", usage(-5, 12), 10, ("missing",)),
        ("absurd beside a total", usage(30, 10**12, 70), 10, ("missing",)),
        ("a total below its parts", usage(30, 12, 5), 12, ()),
        ("half a token", usage(30, 12.5), 10, ("missing",)),
        ("not an object", [30, 12], 10, ("missing",)),
    ],
)
def test_tokens_of_an_answer(case, reported, output_tokens, flags):
    found = read_usage(reported, PROMPT, TEXT)
    assert (found.output_tokens, found.flags) == (output_tokens, flags), case
    assert found.input_tokens > 0


def test_few_tokens_are_doubted_only_where_no_vocabulary_could_do_with_them():
    long, padded = "The answer is a river. " * 40, "a" + " " * 2000 + "b"
    assert read_usage(usage(8, 3), PROMPT, long) == Usage(8, estimate_tokens(long), ("few_output",))
    assert read_usage(usage(8, 120), PROMPT, long) == Usage(8, 120)
    assert read_usage(usage(8, 20), PROMPT, padded) == Usage(8, 20)
    assert read_usage(usage(1, 120), long, long) == Usage(estimate_tokens(long), 120, ("few_input",))
    assert read_usage(usage(8, 0), PROMPT, "") == Usage(8, 0)


def test_reasoning_that_is_shown_counts_as_written():
    reasoned = "first this, then that " * 50
    for message in (
        {"content": "B", "reasoning_content": reasoned, "reasoning": reasoned},
        {"content": f"<think>{reasoned}</think>B"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": reasoned}]},
                {"type": "text", "text": "B"},
            ]
        },
    ):
        assert read_usage(None, PROMPT, written_text(message)).output_tokens >= estimate_tokens(reasoned)
        assert read_usage(usage(8, 1), PROMPT, written_text(message)).flags == ("few_output",)


def test_usage_above_what_was_reserved_is_bounded_and_flagged():
    huge = bounded_usage(Usage(10**6, 2 * 10**6), PROMPT, TEXT, max_tokens=64)
    assert huge == Usage(len(PROMPT) + 64, 64, ("much_input", "much_output"))
    assert bounded_usage(Usage(8, 64, ("hidden_output",)), PROMPT, TEXT, max_tokens=64).flags == ("hidden_output",)


def test_an_answer_that_is_itself_longer_than_allowed_counts_whole():
    endless = "and so on, " * 4000
    assert bounded_usage(Usage(8, 9000), PROMPT, endless, max_tokens=64) == Usage(8, 9000, ("much_output",))
    estimated = read_usage(None, PROMPT, endless)
    assert bounded_usage(estimated, PROMPT, endless, max_tokens=64).output_tokens == estimate_tokens(endless)


def test_an_estimate_a_little_above_the_limit_is_the_limit():
    full = "and so on, " * 30
    assert bounded_usage(read_usage(None, PROMPT, full), PROMPT, full, max_tokens=64).output_tokens == 64
    assert bounded_usage(read_usage(None, PROMPT, full), PROMPT, full, max_tokens=64).flags == ("missing",)


@given(
    st.none()
    | st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens"]), COUNTS
    )
    | st.fixed_dictionaries({"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS}),
    st.text(max_size=300),
)
def test_whatever_is_reported_a_text_costs_something_and_no_more_than_reserved(reported, text):
    found = bounded_usage(read_usage(reported, PROMPT, text), PROMPT, text, max_tokens=64)
    assert 0 < found.input_tokens <= len(PROMPT) + 64
    assert (found.output_tokens > 0 or not text.strip()) and found.output_tokens <= max(64, estimate_tokens(text))
    assert set(found.flags) <= set(FLAGS) and list(found.flags) == sorted(found.flags)


def test_a_message_of_any_shape_has_a_text():
    assert written_text({"content": None}) == written_text({}) == written_text({"content": 3, "reasoning": 7}) == ""
    assert written_text({"content": [None, {"type": 1}, {"type": "text"}, {"type": "text", "text": "B"}]}) == "B"
