"""Reading a completion from bytes: never a crash, never a surprise."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.endpoints.completion import Answer, NotACompletion, parse_body, read_answer
from flows.endpoints.usage import estimate_tokens

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "finish_reason", "usage", "prompt_tokens", "type", "text"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(body):
    try:
        parse_body(body)
    except NotACompletion:
        return
    json.loads(body)


@given(json_values)
def test_any_document_is_an_answer_or_refused(document):
    try:
        answer = read_answer(document, "prompt")
    except NotACompletion:
        return
    assert isinstance(answer, Answer)
    answer.text.encode()
    assert answer.input_tokens >= 0 and answer.output_tokens >= 0


@given(json_values, json_values, json_values)
def test_a_message_may_hold_anything(content, other, usage):
    parts = [content, [content], {"type": content}, [{"type": content, "text": other}], {"type": "text", "text": other}]
    for one in parts:
        message = {"content": one, "refusal": other, "reasoning_content": other, "tool_calls": usage}
        document = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "model": other}
        test_any_document_is_an_answer_or_refused.hypothesis.inner_test(document)


def test_a_byte_order_mark_is_no_part_of_a_body():
    assert parse_body(b'\xef\xbb\xbf{"choices": []}') == {"choices": []}


@given(st.text())
def test_an_answer_text_survives_unless_a_database_would_refuse_it(text):
    message = {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 9},
    }
    read = read_answer(parse_body(json.dumps(message).encode()), "prompt").text
    assert len(read) == len(text)
    assert read == text.replace("\0", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    "body", [b"NaN", b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1,"a":2}', b"[" * 10**5, b"1" * 5000]
)
def test_what_python_would_accept_or_crash_on_is_refused(body):
    with pytest.raises(NotACompletion):
        parse_body(body)


def test_a_hostile_name_is_cut():
    document = {"model": "m" * 10_000, "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
    assert len(read_answer(document, "prompt").served_llm) == 200


def test_tokens_are_estimated_from_bytes():
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "éé\ud800")] == [0, 1, 1, 2, 2]
