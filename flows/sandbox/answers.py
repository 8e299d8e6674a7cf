"""The documents that the sandbox serves, as bytes: completions built on first request, catalogs at the start."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from flows.sandbox.recording import RecordedLLM, read_answers, read_llms, read_prompts

_MILLION = Decimal(1_000_000)
_CONTEXT_TOKENS = 8192


class UnknownLLM(KeyError):
    """No answer of this LLM is recorded."""


class UnknownPrompt(KeyError):
    """No answer to this exact message is recorded."""


class RecordedAnswers:
    """Look up recorded answers by LLM and exact message, and return them as bodies of responses.

    Two prompts of the recording repeat the text of another; the later one gets the answer to the earlier one.
    """

    def __init__(self) -> None:
        self.llms = read_llms()
        prompt_ids: dict[str, str] = {}
        for prompt in read_prompts():
            prompt_ids.setdefault(prompt.text, prompt.prompt_id)
        self._prompt_ids = prompt_ids
        self._answers = read_answers()
        self._bodies: dict[tuple[str, str], bytes] = {}

    def completion(self, llm_id: str, text: str) -> bytes:
        """Return the body of the completion of one LLM for one message.

        Raises
        ------
        UnknownLLM, UnknownPrompt
            Nothing is recorded for it.
        """
        body = self._bodies.get((llm_id, text))
        if body is None:
            body = self._bodies[llm_id, text] = self._build(llm_id, text)
        return body

    def _build(self, llm_id: str, text: str) -> bytes:
        of_llm = self._answers.get(llm_id)
        if of_llm is None:
            raise UnknownLLM(llm_id)
        prompt_id = self._prompt_ids.get(text, "")
        answer = of_llm.get(prompt_id)
        if answer is None:
            raise UnknownPrompt(text)
        # An LLM that says nothing spends the token that ends its answer, which the recording does not count.
        output_tokens = max(1, answer.output_tokens)
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        document = {
            "id": f"recorded-{prompt_id}-{llm_id}",
            "object": "chat.completion",
            "created": 0,
            "model": llm_id,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {
                "prompt_tokens": answer.input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": answer.input_tokens + output_tokens,
            },
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def llm_list(self) -> bytes:
        """Return the body of ``/v1/models``."""
        rows = [
            {"id": llm.llm_id, "object": "model", "created": _epoch_s(llm), "owned_by": llm.provider}
            for llm in self.llms
        ]
        return json.dumps({"object": "list", "data": rows}).encode()

    def catalog(self) -> bytes:
        """Return the catalog in OpenRouter's format, with real release dates and list prices."""
        return json.dumps({"data": [_catalog_row(llm) for llm in self.llms]}).encode()


def _epoch_s(llm: RecordedLLM) -> int:
    return int(llm.released_at.timestamp())


def _catalog_row(llm: RecordedLLM) -> dict[str, Any]:
    return {
        "id": llm.llm_id,
        "canonical_slug": llm.canonical_id,
        "hugging_face_id": None,
        "name": f"{llm.provider}: {llm.llm_id}",
        "created": _epoch_s(llm),
        "description": f"Recorded answers of {llm.llm_id} to 1,500 MMLU-Pro questions; no LLM is called.",
        "context_length": _CONTEXT_TOKENS,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {
            "prompt": f"{llm.input_usd_per_mtok / _MILLION:f}",
            "completion": f"{llm.output_usd_per_mtok / _MILLION:f}",
            "request": "0",
            "image": "0",
        },
        "top_provider": {"context_length": _CONTEXT_TOKENS, "max_completion_tokens": None, "is_moderated": False},
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature"],
    }
