"""What ids of LLMs give away, read as catalogs write them."""

import pytest

from routing.day_zero.names import parameters_in_name, reasons_by_name


@pytest.mark.parametrize(
    ("llm_id", "size"),
    [
        ("meta-llama/llama-3.1-70b-instruct", 70),
        ("meta-llama/Llama-3.2-1B-Instruct", 1),
        ("qwen/qwen3-235b-a22b-thinking-2507", 235),
        ("qwen/qwen3.8-2.4t-a95b", 2400),
        ("inclusionai/ling-2.6-1t", 1000),
        ("mistralai/mixtral-8x7b-instruct", 56),
        ("microsoft/wizardlm-2-8x22b", 176),
        ("fireworks_ai/accounts/fireworks/models/qwen2p5-coder-0p5b", 0.5),
        ("us.meta.llama3-1-405b-instruct-v1:0", 405),
        ("ollama/llama2:70b", 70),
        ("google/gemma-3n-e4b-it", 4),
        ("google/gemma-4-26b-a4b-it:free", 26),
        ("google/gemma-3-270m-it", 0.27),
        ("liquid/lfm-2.5-2.6b:free", 2.6),
        # Nothing of these says how large the LLM is.
        ("openai/gpt-4o-2024-05-13", None),
        ("google/gemini-2.5-pro", None),
        ("mistralai/mistral-large-2407", None),
        ("deepseek/deepseek-v3.1", None),
        ("tencent/hunyuan-a13b-instruct", None),
        ("vertex_ai/meta/llama-4-scout-17b-128e-instruct-maas", None),
        ("70b/some-llm", None),
        ("x-9999b", 9999),
        ("x-99999b", None),
        ("x-0b", None),
        ("", None),
        ("/", None),
        ("😀" * 400 + "-7b", 7),
        ("9" * 5000 + "b", None),
    ],
)
def test_the_size_is_read_from_the_id(llm_id: str, size: float | None) -> None:
    assert parameters_in_name(llm_id) == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize(
    ("llm_id", "reasons"),
    [
        ("openai/o1", True),
        ("openai/o3-mini-high", True),
        ("openai/o4-mini-2025-04-16", True),
        ("deepseek/deepseek-r1-distill-llama-70b", True),
        ("us.deepseek.r1-v1:0", True),
        ("deepseek-reasoner", True),
        ("qwen/qwq-32b", True),
        ("anthropic/claude-3.7-sonnet:thinking", True),
        ("mistralai/magistral-small-2506", True),
        ("xai/grok-4-fast-reasoning", True),
        ("xai/grok-4-fast-non-reasoning", False),
        ("openai/gpt-4o", False),
        ("meta/llama-3.1-8b", False),
        ("command-r1000", False),
        ("thinkingmachines/inkling", False),
        ("o11/some-llm", False),
        ("", False),
    ],
)
def test_reasoning_is_read_from_the_id(llm_id: str, reasons: bool) -> None:
    assert reasons_by_name(llm_id) is reasons
