"""The classification of failures is complete and closed."""

import importlib
import ssl
from datetime import UTC, datetime

import anyio
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.endpoints import FAILURE_RULES
from flows.endpoints.failures import EXCEPTION_KINDS, classify_exception, classify_reply, parse_retry_after
from flows.errors import EndpointError

NOW = datetime(2026, 11, 22, tzinfo=UTC)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "code", "type", "x"]), inner),
    max_leaves=10,
)


def _exceptions_of(*modules):
    return {
        value
        for module in modules
        for value in list(vars(importlib.import_module(module)).values())
        # A proxy calls itself what it stands for, and loads that to know: the SDK keeps dozens.
        if issubclass(type(value), type)
        and issubclass(value, Exception)
        and not issubclass(value, Warning)
        and value.__module__.startswith(module.partition(".")[0])
    }


LIBRARY_EXCEPTIONS = _exceptions_of("httpx2", "httpx2._exceptions", "openai", "openai._exceptions") | {
    ssl.SSLError,
    anyio.EndOfStream,
    TimeoutError,
}
# What the SDK raises when its module-level client is not configured: this package never uses that client.
NOT_RAISED = {"openai._AmbiguousModuleClientUsageError"}


def _name(exception):
    return f"{exception.__module__.partition('.')[0]}.{exception.__name__}"


@pytest.mark.parametrize("exception", sorted(LIBRARY_EXCEPTIONS, key=_name), ids=_name)
def test_every_exception_of_the_http_library_and_the_sdk_has_a_kind(exception):
    assert _name(exception) in EXCEPTION_KINDS.keys() | NOT_RAISED


def test_every_kind_is_in_the_closed_list_and_every_rule_raises_an_endpoint_error():
    assert set(EXCEPTION_KINDS.values()) <= set(FAILURE_RULES)
    assert all(issubclass(rule.error, EndpointError) for rule in FAILURE_RULES.values())


def test_a_kind_that_stops_something_is_not_retried():
    assert all(rule.max_retries == 0 for rule in FAILURE_RULES.values() if rule.stops)


def test_the_cause_of_an_exception_of_the_sdk_names_the_failure():
    error = openai.APIConnectionError(request=httpx2.Request("POST", "https://x"))
    error.__cause__ = httpx2.ConnectError("no route")
    assert classify_exception(error).kind == "unreachable"


def test_a_subclass_that_is_not_listed_takes_the_kind_of_its_ancestor():
    class NewerError(httpx2.ReadError):
        pass

    assert classify_exception(NewerError("x")).kind == "transient"


def test_other_exceptions_are_not_a_failure_of_the_endpoint():
    assert classify_exception(KeyError("x")) is None


@given(st.integers(min_value=200, max_value=599), json_values, st.none() | st.text(max_size=30))
def test_any_reply_is_classified_within_the_closed_list(status, document, retry_after):
    failure = classify_reply(status, document, retry_after, NOW)
    if status >= 400:
        assert failure is not None
    if failure is not None:
        assert failure.kind in FAILURE_RULES
        assert failure.retry_after_s is None or 0 <= failure.retry_after_s < float("inf")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e400", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Sun, 22 Nov 2026 00:00:07 GMT", 7.0),
        ("Sun, 22 Nov 2020 00:00:07 GMT", 0.0),
        ("Sun, 22 Nov 2026 00:00:07 -0000", 7.0),
        ("Sun, 99 Nov 2026 00:00:07 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_otherwise_nothing(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize("depth", [5, 20, 400, 900])
def test_a_body_that_is_nested_without_end_is_classified_like_any_other(depth):
    empty, error = [], []
    for _ in range(depth):
        empty, error = [empty], {"error": error}
    for document in ({"error": empty}, {"errors": error}, empty, {"choices": [{"error": empty}]}):
        for status in (200, 400, 403, 500):
            failure = classify_reply(status, document, None, NOW)
            assert failure is None or failure.kind in FAILURE_RULES
            assert status == 200 or failure is not None


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "'temperature' is not a valid model parameter", "unsupported"),
        (422, "temperature: not a valid model argument", "unsupported"),
        (400, "temperature for model gpt-x is retired, remove it", "unsupported"),
        (400, "Setting temperature for this model was retired", "unsupported"),
        (400, "gpt-9 is not a valid model", "not_found"),
        (400, "The model x has been deprecated and retired", "not_found"),
        (400, "The model `omni-moderation-latest` does not exist", "not_found"),
        (400, "模型名称大小写敏感: Model Not Exist", "not_found"),
        (400, "The provided model identifier is invalid.", "not_found"),
        (400, "unknown model: x. verify your api key", "not_found"),
        (200, "model x not found", "not_found"),
        (400, "Content Exists Risk", "moderated"),
        (400, "content_filter triggered", "moderated"),
        (400, "Your API key does not have permission to use model x", "forbidden"),
        (401, "Project p does not have access to model gpt-5", "forbidden"),
        (402, "This model is not available in your region", "forbidden"),
        (401, "Incorrect API key provided", "refused_auth"),
        (402, "Payment required", "quota"),
    ],
)
def test_words_about_an_llm_are_kept_apart_from_those_about_a_parameter_a_key_or_a_prompt(
    status: int, message: str, kind: str
) -> None:
    failure = classify_reply(status, {"error": {"message": message}}, None, datetime.now(UTC))
    assert failure is not None and failure.kind == kind
