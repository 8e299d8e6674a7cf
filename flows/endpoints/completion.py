"""A completion, and the strict reading of one from the bytes of a response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Completion:
    """What an LLM answered to one prompt.

    Parameters
    ----------
    text
        The answer; empty when the LLM ended without saying anything. Never holds NUL or lone surrogates.
    input_tokens, output_tokens
        As billed by the endpoint, or our estimate when `usage_estimated`.
    usage_estimated
        Whether the endpoint gave no believable usage.
    finish_reason
        As given by the endpoint (``stop``, ``length``, ``content_filter``, ...), ``unknown`` when it gave none.
    served_llm
        The LLM that the endpoint says it used, None when it does not say; may differ from the one asked for.
    latency_s
        Seconds of the attempt that answered, monotonic.
    attempts
        How often the endpoint was asked, this one included.
    downgrades
        Request parameters that had to be given up because the LLM refuses them, for example ``temperature``.
    """

    text: str
    input_tokens: int
    output_tokens: int
    usage_estimated: bool
    finish_reason: str
    served_llm: str | None
    latency_s: float
    attempts: int
    downgrades: tuple[str, ...] = ()
