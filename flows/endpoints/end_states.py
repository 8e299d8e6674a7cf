"""End states: which words of an endpoint say that an LLM ended its answer, and which that something else ended it."""

from __future__ import annotations

import re
from typing import Final

CUT: Final = "length"
"""The end state of an answer that was cut off at ``max_tokens``, whatever the endpoint calls it."""

# Of OpenAI, then of servers and gateways that pass on what others call the same.
_ANSWERED = frozenset({"stop", "tool_calls", "function_call", "eos"}) | {
    "complete",
    "end_turn",
    "eos_token",
    "stop_sequence",
    "stop_token",
    "tool_use",
}
_CUT_OFF = frozenset({CUT, "max_tokens", "max_output_tokens", "model_length"})
_MODERATED = re.compile(r"filter|sensitive|safety|moderat|prohibited|blocklist|blocked|spii|recitation|guardrail|refus")


def is_cut_off(end_state: str) -> bool:
    """Whether an end state says that the answer reached ``max_tokens``."""
    return _plain(end_state) in _CUT_OFF


def failure_of(end_state: str) -> str | None:
    """Return what an end state says that ended the answer before the LLM did.

    Parameters
    ----------
    end_state
        The ``finish_reason`` of an endpoint; empty when it gives none.

    Returns
    -------
    str or None
        A key of `FAILURE_RULES`, ``interrupted`` also for words that are not known; None when the LLM ended its answer
        itself or reached ``max_tokens``.
    """
    word = _plain(end_state)
    if not word or word in _ANSWERED or word in _CUT_OFF:
        return None
    if _MODERATED.search(word):
        return "moderated"
    if "rate_limit" in word:
        return "rate_limited"
    if "timeout" in word or "timed_out" in word:
        return "timeout"
    return "interrupted"


def _plain(end_state: str) -> str:
    return end_state.strip().lower().replace("-", "_").replace(" ", "_")
