"""LLM providers as LiteLLM's proxy meets them: each of the LLMs behind the proxy goes wrong in a way of its own.

The answers have the form in which OpenAI, Azure and Anthropic send them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.endpoint import FakeEndpoint, FakeReply, FakeRequest, completion

LETTERS = "ABCD"
_FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
_CATEGORIES = {"violence": {"filtered": True, "severity": "medium"}}


def number_of(prompt: str) -> int:
    return int(prompt.split()[1])


def answer_of(prompt: str, *, is_right: bool = True) -> str:
    """Return the right or a wrong answer to a prompt of this night."""
    return f"The answer is ({LETTERS[(number_of(prompt) + (not is_right)) % 4]})."


def _answered(request: FakeRequest, *, is_right: bool = True, **changes: Any) -> FakeReply:
    return FakeReply(completion(request, answer_of(request.prompt, is_right=is_right), **changes))


def _refused(http_status: int, **error: Any) -> FakeReply:
    return FakeReply({"error": {"param": None, **error}}, status=http_status)


def good(request: FakeRequest) -> FakeReply:
    return _answered(request, is_right=number_of(request.prompt) % 10 != 0)


def weak(request: FakeRequest) -> FakeReply:
    return _answered(request, is_right=number_of(request.prompt) % 2 == 0)


def limited(request: FakeRequest) -> FakeReply:
    """Limit every call, as OpenAI does."""
    message = "Rate limit reached for limited in organization org-x on requests per min (RPM): Limit 3, Used 3."
    return _refused(429, message=message, type="requests", code="rate_limit_exceeded")


def filtered(request: FakeRequest) -> FakeReply:
    """Filter every third prompt and every third answer, as Azure does."""
    third = number_of(request.prompt) % 3
    if third == 0:
        cause = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _CATEGORIES}
        return _refused(400, message=_FILTERED, type=None, code="content_filter", status=400, innererror=cause)
    if third == 1:
        choice = {"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant"}}
        return _answered(request, choices=[{**choice, "content_filter_results": _CATEGORIES}])
    return _answered(request)


def unmetered(request: FakeRequest) -> FakeReply:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return _answered(request, is_right=number_of(request.prompt) % 7 != 0, usage=usage)


def without_temperature(request: FakeRequest) -> FakeReply:
    """Refuse `temperature` in words and answer without it, as Anthropic does."""
    if "temperature" in request.body:
        error = {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."}
        return FakeReply({"type": "error", "error": error}, status=400)
    text = answer_of(request.prompt, is_right=number_of(request.prompt) % 8 != 0)
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": request.llm_id, "stop_sequence": None}
    parts = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    return FakeReply({**message, **parts, "usage": {"input_tokens": 30, "output_tokens": 8}})


def revoked(request: FakeRequest) -> FakeReply:
    """Refuse the proxy's key, which other LLMs do not use."""
    message = "Incorrect API key provided: sk-up. You can find your API key at https://platform.openai.com."
    return _refused(401, message=message, type="invalid_request_error", code="invalid_api_key")


@dataclass(frozen=True)
class Provided:
    """An LLM of the proxy: what LiteLLM calls its provider and name, and how it answers there.

    `gpt-5-mini` is refused by LiteLLM itself, which knows that it takes no `temperature`.
    """

    provider: str
    reply: Callable[[FakeRequest], FakeReply]
    name: str = ""


LLMS = {
    "good": Provided("openai", good),
    "weak": Provided("openai", weak),
    "limited": Provided("openai", limited),
    "filtered": Provided("azure", filtered),
    "unmetered": Provided("openai", unmetered),
    "opus": Provided("anthropic", without_temperature, "claude-next"),
    "gpt-5-mini": Provided("openai", good),
    "revoked": Provided("openai", revoked),
}


def providers() -> FakeEndpoint:
    """Return the endpoint that plays all of them, to be entered."""
    fake = FakeEndpoint()
    fake.replies = {found.name or llm_id: found.reply for llm_id, found in LLMS.items()}
    return fake
