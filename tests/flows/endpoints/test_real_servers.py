"""Responses as real servers and gateways send them: what is an answer, what is a failure, and of what kind.

The bodies are those that users of other projects reported. What is asked goes over real HTTP on loopback.
"""

import gzip
import json

import pytest

from flows.endpoints.completion import NotACompletion, is_the_llm_asked_for, read_answer
from flows.errors import EndpointError
from tests.fakes.endpoint import FakeEndpoint, FakeReply
from tests.flows.endpoints.test_client import Waits, ask, endpoint

PROMPT = "Which letter?"
ANSWER = "The answer is (A)."
USAGE = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}


@pytest.fixture(scope="module")
def server():
    with FakeEndpoint() as fake:
        yield fake


@pytest.fixture
def fake(server):
    server.replies.clear()
    # Ids that begin with a status are scripts, all others answer.
    server.choose = lambda request: None if request.llm_id[:1].isdigit() else "ok"
    server.requests.clear()
    server.calls_per_prompt.clear()
    return server


def outcome(found):
    """Return the kind of a failure, or the text of an answer."""
    return found.kind if isinstance(found, EndpointError) else found.text


def document(content=ANSWER, finish_reason="stop", usage=USAGE, message=None, **changes):
    said = {"role": "assistant", "content": content, **(message or {})}
    return {"model": "llm", "choices": [{"message": said, "finish_reason": finish_reason}], "usage": usage, **changes}


def read(body):
    try:
        return read_answer(body, PROMPT).text
    except NotACompletion as error:
        return error.kind


@pytest.mark.parametrize(
    ("end_states", "expected"),
    [
        (("stop", "length", "tool_calls", "eos", None, "", "STOP", "eos_token", "end_turn", "max_tokens"), ANSWER),
        (("content_filter", "sensitive", "SAFETY", "content-filter", "PROHIBITED_CONTENT", "refusal"), "moderated"),
        (("error", "abort", "aborted", "network_error", "insufficient_system_resource", "cancelled"), "interrupted"),
        (("timeout",), "timeout"),
        (("rate_limit_exceeded",), "rate_limited"),
        (("MALFORMED_FUNCTION_CALL", "other", "unknown", "nonstop"), "interrupted"),
    ],
)
def test_only_end_states_of_answers_are_answers(end_states, expected):
    assert {read(document(finish_reason=word)) for word in end_states} == {expected}


def test_an_answer_without_end_state_and_one_that_was_cut_off_are_stored_as_such():
    without = document()
    del without["choices"][0]["finish_reason"]
    assert read_answer(without, PROMPT).finish_reason == "unknown"
    for word in ("length", "MAX_TOKENS", "model_length"):
        assert read_answer(document(finish_reason=word), PROMPT).finish_reason == "length"


@pytest.mark.parametrize(
    ("content", "message", "usage", "expected"),
    [
        ("", {"reasoning_content": "(A)?"}, USAGE, "empty"),
        (None, {"reasoning_content": "(A)?"}, USAGE, "empty"),
        (None, {"reasoning": "(A)?"}, USAGE, "empty"),
        (" \n", {"reasoning_details": [{"type": "reasoning.text", "text": "(A)?"}]}, USAGE, "empty"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "(A)?"}]}], {}, USAGE, "empty"),
        ("", {}, {**USAGE, "completion_tokens_details": {"reasoning_tokens": 9}}, "empty"),
        ("", {}, {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 20}, "empty"),
        (None, {}, {"prompt_tokens": 20, "completion_tokens": 0}, "empty"),
        ("", {}, None, "empty"),
        ([], {}, None, "empty"),
        ("", {}, USAGE, ""),
        (None, {}, USAGE, ""),
        ("", {"reasoning_content": None, "reasoning": ""}, USAGE, ""),
        (None, {"tool_calls": [{"id": "1"}]}, None, ""),
        (None, {"refusal": "I cannot help with that."}, USAGE, "I cannot help with that."),
        (ANSWER, {"reasoning_content": "(B)?"}, USAGE, ANSWER),
    ],
)
def test_nothing_is_an_answer_only_where_the_llm_had_nothing_else_to_say(content, message, usage, expected):
    assert read(document(content, message=message, usage=usage)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "(B)?"}]}, {"type": "text", "text": ANSWER}],
            ANSWER,
        ),
        ([{"type": "reasoning", "text": "(B)?"}, {"type": "output_text", "text": ANSWER}], ANSWER),
        ([{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": ANSWER}], ANSWER),
        ([{"type": "text", "text": "The answer "}, {"type": "reference", "reference_ids": [1]}, "is (A)."], ANSWER),
        ([{"text": ANSWER}], ANSWER),
        ([{"type": "think", "think": "(B)?"}, {"type": "TEXT", "text": ANSWER}], ANSWER),
        ([{"thinking": "(B)?"}, {"type": "text", "text": {"value": ANSWER}}], ANSWER),
        ([{"type": "summary_text", "text": "(B)?"}, {"type": "tool_use", "id": "1"}, {"text": ANSWER}], ANSWER),
        ({"type": "text", "text": ANSWER}, ANSWER),
        ([{"type": "refusal", "refusal": "No."}], "No."),
        ([{"type": "text", "text": ANSWER}, {"type": "image_url", "image_url": {"url": "x"}}], "malformed"),
        ([{"type": "text", "text": 1}], "malformed"),
        ([1], "malformed"),
        (1.5, "malformed"),
    ],
)
def test_content_in_parts_is_its_text_without_the_reasoning(content, expected):
    assert read(document(content)) == expected


BASE = {"code": None, "message": "", "param": None, "type": ""}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (FakeReply({"choices": None, "error": {"code": 429, "message": "slow down"}}), "rate_limited"),
        (FakeReply({"error": {"code": 502, "message": "Bad gateway"}}), "transient"),
        (FakeReply(b"<html>Welcome</html>", content_type="text/html"), "malformed"),
        (FakeReply(b" \n\n" + json.dumps(document()).encode()), ANSWER),
        (
            FakeReply(b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n", content_type="text/event-stream"),
            "malformed",
        ),
        (FakeReply(json.dumps(document("é"), ensure_ascii=False).encode()[:-60]), "malformed"),
        (FakeReply(b'{"choices":[{"message":{"content":"\xc3"},"finish_reason":"stop"}]}'), "malformed"),
        (FakeReply(gzip.compress(json.dumps(document()).encode()), headers={"Content-Encoding": "gzip"}), "malformed"),
        (FakeReply(document(), content_type="text/html"), ANSWER),
        (FakeReply(document(), content_type="application/octet-stream"), ANSWER),
        (FakeReply(document(error={})), ANSWER),
        (FakeReply(document(error=BASE)), ANSWER),
        (FakeReply(document(error="")), ANSWER),
        (FakeReply(document(error={"code": 200, "message": "null"})), ANSWER),
        (FakeReply({"error": "The server is overloaded"}), "transient"),
        (FakeReply({"base_resp": {"status_code": 1027, "status_msg": "output sensitive"}}), "moderated"),
        (FakeReply({"error": {"code": "1301", "message": "包含不安全或敏感内容"}}, status=400), "moderated"),
        (FakeReply({"error": {"message": "Invalid model name passed in model=llm"}}, status=400), "not_found"),
        (FakeReply({"error": {"message": "Shut down", "code": "model_decommissioned"}}, status=400), "not_found"),
        (FakeReply(document(error=[])), ANSWER),
        (FakeReply(document(error={"code": 0, "message": "success"})), ANSWER),
        (FakeReply(document(base_resp={"status_code": 0, "status_msg": "success"})), ANSWER),
        (FakeReply({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}), "rate_limited"),
        (FakeReply({"requestId": "1", "status": "pending"}, status=202), "malformed"),
        (FakeReply({"error": "model not found"}, status=404), "not_found"),
        (FakeReply({"error": {"message": "Insufficient credits", "code": 402}}, status=402), "quota"),
        (FakeReply([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], status=429), "rate_limited"),
        (FakeReply([document()]), "malformed"),
    ],
    ids=range(28),
)
def test_a_response_is_what_its_body_says(fake, reply, expected):
    fake.replies["llm"] = lambda request: reply
    assert outcome(ask(endpoint(fake, Waits(), max_attempts=1), ("llm", PROMPT))[0]) == expected


def test_a_server_that_streams_unless_told_not_to_is_told(fake):
    stream = FakeReply(b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n', content_type="text/event-stream")
    fake.replies["llm"] = lambda request: FakeReply(document()) if request.body.get("stream") is False else stream
    assert ask(endpoint(fake), ("llm", PROMPT))[0].text == ANSWER


def litellm(message, kind, code):
    """Build an error of LiteLLM's proxy, which puts the status where others have a code."""
    return {"error": {"message": message, "type": kind, "param": None, "code": str(code)}}


def behind_litellm(message, kind, code):
    """Build what LiteLLM's proxy makes of a provider's error."""
    last = "\n\nLiteLLM: model group 'bad' failed with the error above. No fallback was attempted."
    return litellm(f"litellm.{message}{last}", kind, code)


GEMINI = {
    "error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}
}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, [GEMINI], "refused_auth"),
        (400, {"error": {"message": json.dumps(GEMINI), "code": 400, "status": "Bad Request"}}, "refused_auth"),
        (400, {"code": "invalid-argument", "error": "Incorrect API key provided: sk-***"}, "refused_auth"),
        (401, {"detail": "Unauthorized"}, "refused_auth"),
        (401, [{"error": {"code": 401, "status": "UNAUTHENTICATED"}}], "refused_auth"),
        (403, {"error": {"message": "Invalid API key"}}, "refused_auth"),
        (403, b"Missing Authorization header", "refused_auth"),
        (403, {"error": {"message": "Access denied. Please make sure your API key is valid."}}, "refused_auth"),
        (403, {"error": "Your team doesn't have any credits yet."}, "quota"),
        (403, {"error": {"message": "Key limit exceeded (total limit)", "code": 403}}, "quota"),
        (400, {"error": {"message": "Your credit balance is too low to access the API."}}, "quota"),
        (429, litellm("Budget has been exceeded! Key=sk-...abc Max budget: 1.0", "budget_exceeded", 429), "quota"),
        (400, litellm("No connected db.", "no_db_connection", 400), "refused_auth"),
        (401, litellm("Authentication Error, Invalid proxy server token passed.", "auth_error", 401), "refused_auth"),
    ],
)
def test_a_key_that_is_refused_in_any_form_stops_the_endpoint(fake, status, body, kind):
    fake.replies["bad"] = lambda request: FakeReply(body, status=status)
    first, second = ask(endpoint(fake), ("bad", PROMPT), ("good", PROMPT))
    assert (first.kind, first.is_endpoint_wide) == (kind, True)
    assert (outcome(second), second.attempts) == (kind, 0)


PROVIDER = {
    "error": {"message": "Provider returned error", "code": 403, "metadata": {"provider_name": "P", "raw": "{}"}}
}
WRAPPED = {
    "error": {
        "message": "Provider returned error",
        "code": 401,
        "metadata": {"provider_name": "P", "raw": json.dumps({"error": {"message": "Invalid API key"}})},
    }
}
OPENAI = "AuthenticationError: OpenAIException"
NO_CREDIT = json.dumps({"type": "error", "error": {"message": "Your credit balance is too low to access the API."}})
FLAGGED = {"error": {"message": "flagged", "code": 403, "metadata": {"reasons": ["violence"], "provider_name": "P"}}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, {"error": {"message": "This model is not available in your region."}}, "forbidden"),
        (403, PROVIDER, "forbidden"),
        (401, WRAPPED, "forbidden"),
        (403, {"type": "error", "error": {"type": "RegionError", "message": "requires explicit opt in"}}, "forbidden"),
        (403, {"error": {"type": "permission_error", "message": "Your key has no permission to use it"}}, "forbidden"),
        (403, {"error": {"code": "model_permission_blocked_project", "message": "blocked"}}, "forbidden"),
        (403, {"model": "bad"}, "forbidden"),
        (403, {"type": "forbidden", "message": "Request not allowed"}, "forbidden"),
        (403, b"<html>403 Forbidden</html>", "forbidden"),
        (451, {"error": "Unavailable for legal reasons"}, "forbidden"),
        (400, [{"error": {"code": 400, "message": "User location is not supported for the API use."}}], "forbidden"),
        (403, {"error": {"code": "unsupported_country_region_territory", "message": "x"}}, "forbidden"),
        (200, {"error": {"code": 403, "message": "not available in your country"}}, "forbidden"),
        (401, behind_litellm(f"AuthenticationError: {OPENAI} - Incorrect API key provided", "x", 401), "forbidden"),
        (402, behind_litellm(f"APIError: APIError: {OPENAI} - Insufficient Balance", "x", 402), "forbidden"),
        (400, behind_litellm(f"BadRequestError: AnthropicException - {NO_CREDIT}", "x", 400), "forbidden"),
        (401, litellm("key not allowed to access model.", "key_model_access_denied", 401), "forbidden"),
        (401, litellm("The requested model 'bad' is not available for this API key, or", "x", 401), "forbidden"),
        (429, litellm("LiteLLM User: u, exceeded budget for model=bad", "budget_exceeded", 429), "forbidden"),
        (400, litellm("Invalid model name passed in model=bad. Call `/v1/models`", "x", 400), "not_found"),
        (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, "not_found"),
        (400, {"error": {"message": "bad is not a valid model ID", "code": 400}}, "not_found"),
        (400, behind_litellm("BadRequestError: litellm.ContentPolicyViolationError: no", "x", 400), "moderated"),
        (403, FLAGGED, "moderated"),
        (403, {"error": {"message": "Output blocked by content policy"}}, "moderated"),
    ],
)
def test_a_refusal_that_means_one_llm_leaves_the_others_alone(fake, status, body, kind):
    fake.replies["bad"] = lambda request: FakeReply(body, status=status)
    first, second, good = ask(endpoint(fake), ("bad", PROMPT), ("bad", "again"), ("good", PROMPT))
    assert (first.kind, first.is_endpoint_wide, good.text) == (kind, False, ANSWER)
    assert second.attempts == (1 if kind == "moderated" else 0)


def test_an_endpoint_that_forbids_most_of_its_llms_is_stopped(fake):
    def forbidden(*llm_ids, expected=0):
        for llm_id in llm_ids:
            fake.replies[llm_id] = lambda request: FakeReply({"message": "Forbidden"}, status=403)
        opened = endpoint(fake)
        opened.expect_llms(expected)
        return opened

    found = ask(forbidden("a", "b", "c"), *[(llm_id, PROMPT) for llm_id in ("a", "b", "c", "good")])
    assert [(one.kind, one.attempts) for one in found] == [("forbidden", 1)] * 3 + [("forbidden", 0)]
    assert found[3].is_endpoint_wide
    found = ask(forbidden(expected=6), *[(llm_id, PROMPT) for llm_id in ("a", "b", "c", "good")])
    assert outcome(found[3]) == ANSWER, "three of six are not most"
    found = ask(forbidden(), *[(llm_id, PROMPT) for llm_id in ("good", "a", "b", "c", "other")])
    assert outcome(found[4]) == ANSWER, "the key works for one of them"


def refusing(parameter, body, status=400):
    """Refuse every request with a parameter."""
    return lambda request: FakeReply(body, status=status) if parameter in request.body else None


TEMPERATURE = [
    {
        "error": {
            "message": "Unsupported parameter: 'temperature' is not supported with this model.",
            "param": "temperature",
        }
    },
    {"error": {"message": "Unsupported value: 'temperature' does not support 0.0. Only the default (1) is supported."}},
    {"error": {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."}},
    {"message": "temperature is deprecated for this model"},
    {"error": {"message": "invalid temperature: only 1 is allowed for this model"}},
    {"error": {"message": "Model incompatible request argument supplied: temperature"}},
    {"error": {"message": "temperature参数非法。请检查文档。", "code": "1214"}},
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]},
    {"detail": "temperature must be strictly positive"},
    {"object": "error", "message": "Temperature has to be above 0", "code": 400},
    [{"error": {"code": 400, "message": "Temperature is not supported", "status": "INVALID_ARGUMENT"}}],
    {"error": {"message": "Provider returned error", "metadata": {"raw": '{"message":"temperature: not allowed"}'}}},
    b"temperature: unknown field",
]


@pytest.mark.parametrize("body", TEMPERATURE, ids=range(len(TEMPERATURE)))
@pytest.mark.parametrize("status", [400, 422])
def test_a_parameter_that_is_refused_in_any_words_is_left_out_once_per_llm(fake, status, body):
    fake.replies["picky"] = refusing("temperature", body, status)
    first, second = ask(endpoint(fake), ("picky", "one"), ("picky", "two"))
    assert (outcome(first), outcome(second)) == (ANSWER, ANSWER)
    assert (first.attempts, second.attempts, second.downgrades) == (2, 1, ("temperature",))


def test_each_refused_parameter_has_its_way_around(fake):
    fake.replies["cap"] = refusing(
        "max_tokens", {"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs"}]}, 422
    )
    fake.replies["flow"] = refusing("stream", {"error": {"message": "unknown parameter: stream", "param": "stream"}})
    both = refusing("temperature", {"message": "Unsupported: temperature, max_tokens"})
    fake.replies["both"] = lambda request: both(request) or fake.replies["cap"](request)
    cap, flow, both = ask(endpoint(fake), ("cap", PROMPT), ("flow", PROMPT), ("both", PROMPT))
    assert [one.downgrades for one in (cap, flow, both)] == [
        ("max_tokens",),
        ("stream",),
        ("max_tokens", "temperature"),
    ]
    assert "max_completion_tokens" in fake.requests[1].body


def test_a_word_that_is_not_the_reason_costs_one_call_and_changes_nothing(fake):
    fake.replies["llm"] = lambda request: FakeReply({"message": f"cannot parse {request.prompt}"}, status=400)
    asked = [("llm", "the temperature of ice"), ("llm", "the temperature of steam")]
    found = ask(endpoint(fake), *asked)
    assert [(one.kind, one.attempts) for one in found] == [("unsupported", 2), ("unsupported", 1)]
    fake.replies.clear()
    assert ask(endpoint(fake), ("llm", "later"))[0].downgrades == ()


def test_a_body_that_repeats_the_request_names_no_parameter(fake):
    echoed = {"type": "missing", "loc": ["body", "messages", 0], "msg": "Field required", "input": {"temperature": 0.0}}
    fake.replies["llm"] = lambda request: FakeReply({"detail": [echoed]}, status=422)
    assert [(one.kind, one.attempts) for one in ask(endpoint(fake), ("llm", PROMPT))] == [("bad_request", 1)]


@pytest.mark.parametrize(("script", "least_s", "most_s"), [("429@date", 0.5, 4), ("429@1.5", 1.5, 3), ("529", 0, 1)])
def test_an_endpoint_that_is_busy_is_asked_again_when_it_says(fake, script, least_s, most_s):
    waits = Waits()
    assert ask(endpoint(fake, waits), (f"{script},ok", PROMPT))[0].text == ANSWER
    assert least_s <= max(waits.seconds) <= most_s


SAME = [
    ("claude-opus-4-20250514", "claude-opus-4", None),
    ("gpt-4o-2024-08-06", "gpt-4o", None),
    ("gpt-5-2025-08-07", "gpt-5", None),
    ("qwen/qwen-plus-2025-07-28", "qwen/qwen-plus-2025-07-28:thinking", "qwen/qwen-plus-2025-07-28"),
    ("anthropic/claude-3.7-sonnet", "anthropic/claude-3.7-sonnet:thinking", "anthropic/claude-3-7-sonnet-20250219"),
    ("claude-3-7-sonnet-20250219", "anthropic/claude-3.7-sonnet", None),
    ("moonshotai/kimi-k2-0905", "moonshotai/kimi-k2-0905:exacto", None),
    ("Qwen3-8B-Q4_K_M.gguf", "/models/Qwen3-8B-Q4_K_M.gguf", None),
    ("C:\\models\\Qwen3-8B.gguf", "qwen3-8b", None),
    ("/cache/hub/models--Qwen--Qwen3-8B/snapshots/0a1b2c", "Qwen/Qwen3-8B", None),
    ("evil/llama-3-8b", "meta-llama/llama-3-8b", None),
    ("mistral-large-2411", "mistral-large-latest", None),
    ("command-r-08-2024", "command-r", None),
    ("gemini-1.5-pro-002", "gemini-1.5-pro", None),
    ("models/gemini-2.5-flash-preview-05-20", "gemini-2.5-flash", None),
    ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet", None),
    ("claude-sonnet-4-20250514", "claude-sonnet-4-0", None),
    ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", "claude-3-5-sonnet", None),
    ("llama3:latest", "llama3", None),
    ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct:together", None),
    ("doubao-seed-1-6-250615", "doubao-seed-1.6", None),
]
OTHER = [
    ("claude-opus-4-1-20250805", "claude-opus-4", None),
    ("glm-4.5", "glm-4", None),
    ("gpt-4o-mini", "gpt-4o", None),
    ("gpt-5.1", "gpt-5", None),
    ("gpt-5.1-2025-11-13", "gpt-5", None),
    ("gpt-5", "gpt-5.1", None),
    ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", None),
    ("mistral-large-2411", "mistral-large-2407", None),
    ("gemini-1.5-pro-002", "gemini-1.5-pro-001", None),
    ("mistral-7b-instruct-v0.2", "mistral-7b-instruct", None),
    ("deepseek-v3", "deepseek", None),
    ("qwen2.5-72b", "qwen2-72b", None),
    ("gpt-4-32k", "gpt-4", None),
    ("llama3-8b-8192", "llama3-8b", None),
    ("llama3:70b", "llama3:8b", None),
    ("phi3:medium", "phi3:mini", None),
    ("qwen3:8b", "qwen3", None),
    ("o1-mini", "o1", None),
    (" ", "gpt-4o", None),
]


@pytest.mark.parametrize(
    ("served", "asked_for", "canonical", "is_same"), [(*one, True) for one in SAME] + [(*one, False) for one in OTHER]
)
def test_a_date_a_route_and_a_path_are_the_same_llm_and_a_version_is_not(served, asked_for, canonical, is_same):
    assert is_the_llm_asked_for(served, asked_for, canonical) is is_same
