"""JSON is read so that no two readers can understand it differently."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.strict_json import DuplicateKey, InvalidJson, canonical_json, parse_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"not JSON \(character 0 of 0\)"),
        ("[1,", r"not JSON \(character 3 of 3\)"),
        ("[NaN]", "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
        (b"\xff", "not UTF-8 text"),
        ("[1]".encode("utf-16"), "not UTF-8 text"),
        ("1" * 5000, "too many digits"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_python_reads_more_generously_is_refused_with_its_reason(text, reason):
    with pytest.raises(InvalidJson, match=reason):
        parse_json(text)


def test_an_exponent_that_decimal_cannot_hold_is_refused():
    with pytest.raises(InvalidJson, match="too many digits"):
        parse_json('{"price": 1e99999999999999999999}', parse_float=Decimal)


def test_a_key_that_occurs_twice_in_one_object_is_named_and_cut():
    assert parse_json('{"a": {"b": 1}, "b": {"a": 1}}') == {"a": {"b": 1}, "b": {"a": 1}}
    with pytest.raises(DuplicateKey, match=r"^the key 'b' occurs twice in one object$"):
        parse_json('{"a": {"b": 1, "b": 2}}')
    long = "x" * 1000
    with pytest.raises(DuplicateKey) as caught:
        parse_json(f'{{"{long}": 1, "{long}": 2}}')
    assert len(str(caught.value)) < 100


def test_numbers_with_a_point_are_read_as_asked():
    assert parse_json(b"[0.1, 1, 1e-3]", parse_float=Decimal) == [Decimal("0.1"), 1, Decimal("0.001")]


@given(JSON_VALUES)
def test_what_is_written_canonically_is_read_back(value):
    text = canonical_json(value)
    assert text.isascii()
    assert parse_json(text) == value
    assert canonical_json(json.loads(json.dumps(value))) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_not_written(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"value": value})
