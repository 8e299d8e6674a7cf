"""The tokens that an answer is billed for: as reported where that is plausible, estimated where it is not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flows.endpoints.budget import most_input_tokens
from routing.tokens import estimated_input_tokens

MISSING: Final = "missing"
FEW_INPUT: Final = "few_input"
FEW_OUTPUT: Final = "few_output"
HIDDEN_OUTPUT: Final = "hidden_output"
MUCH_INPUT: Final = "much_input"
MUCH_OUTPUT: Final = "much_output"
FLAGS: Final[Mapping[str, str]] = {
    MISSING: "no usable numbers, estimated",
    FEW_INPUT: "too few prompt tokens, estimated",
    FEW_OUTPUT: "too few answer tokens, estimated",
    HIDDEN_OUTPUT: "tokens outside completion_tokens, counted",
    MUCH_INPUT: "more prompt tokens than the prompt can have, bounded",
    MUCH_OUTPUT: "more answer tokens than max_tokens, bounded",
}
"""By flag, as the registry stores it, what was wrong with the usage that the endpoint reported, and what was done."""
ESTIMATED: Final = frozenset({MISSING, FEW_INPUT, FEW_OUTPUT})
BOUNDED: Final = frozenset({MUCH_INPUT, MUCH_OUTPUT})

_OUTPUT = ("completion_tokens", "output_tokens")
_MAX_TOKENS_BELIEVED = 2_000_000
# The longest words of large vocabularies; whole texts have four bytes per token, or at most six.
_MOST_BYTES_PER_TOKEN = 16
# How far an estimate may be above the truth.
_OFF_BY = 2
# Vocabularies have single tokens for long runs of one character, such as the spaces of an indentation.
_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)


@dataclass(frozen=True)
class Usage:
    """The tokens of one answer.

    Parameters
    ----------
    input_tokens, output_tokens
        As billed by the endpoint, or our estimate; at least 0.
    flags
        What was wrong with the reported usage: keys of `FLAGS`, in alphabetical order.
    """

    input_tokens: int
    output_tokens: int
    flags: tuple[str, ...] = ()

    @property
    def is_estimated(self) -> bool:
        """Whether one of the numbers is our estimate."""
        return not ESTIMATED.isdisjoint(self.flags)


NO_USAGE: Final = Usage(0, 0)


def read_usage(reported: Any, prompt: str, answer: str) -> Usage:
    """Read the usage of an answer, and estimate what is missing or cannot be right.

    Output that is billed but left out of ``completion_tokens``, as Gemini, xAI and Perplexity do with reasoning, is
    counted: it shows in ``total_tokens``, or as more reasoning tokens than completion tokens.

    Parameters
    ----------
    reported
        The member ``usage`` of the completion, whatever it is.
    prompt
        The user message.
    answer
        All that the LLM wrote, as `written_text` returns it.
    """
    given = reported if isinstance(reported, dict) else {}
    input_tokens = _first_count(given, "prompt_tokens", "input_tokens")
    completion_tokens, output_tokens = _whole_output(given, input_tokens)
    if input_tokens is None or output_tokens is None:
        # Numbers beside one that is impossible are no better than it.
        return Usage(estimate_tokens(prompt), estimate_tokens(answer), (MISSING,))
    flags = []
    if completion_tokens is not None and output_tokens > completion_tokens:
        flags.append(HIDDEN_OUTPUT)
    if _are_too_few(input_tokens, prompt):
        input_tokens = estimate_tokens(prompt)
        flags.append(FEW_INPUT)
    if _are_too_few(output_tokens, answer):
        output_tokens = estimate_tokens(answer)
        flags.append(FEW_OUTPUT)
    return Usage(input_tokens, output_tokens, tuple(sorted(flags)))


def bounded_usage(usage: Usage, prompt: str, answer: str, *, max_tokens: int) -> Usage:
    """Return the usage that is booked: no more than was reserved for the call, unless the answer itself shows more.

    Parameters
    ----------
    usage
        As read from the response.
    prompt, answer
        As in `read_usage`.
    max_tokens
        Longest answer requested, in tokens.
    """
    most_input, most_output = most_input_tokens(prompt), max(max_tokens, estimate_tokens(answer))
    flags, output_tokens = set(usage.flags), usage.output_tokens
    if not flags.isdisjoint({MISSING, FEW_OUTPUT}) and output_tokens <= _OFF_BY * max_tokens:
        # Likelier than a limit that was ignored is a text with more bytes per token than estimated.
        output_tokens = min(output_tokens, max_tokens)
    if usage.input_tokens > most_input:
        flags.add(MUCH_INPUT)
    if output_tokens > max_tokens:
        flags.add(MUCH_OUTPUT)
    return Usage(min(usage.input_tokens, most_input), min(output_tokens, most_output), tuple(sorted(flags)))


def estimate_tokens(text: str) -> int:
    """Return the estimated number of tokens of a text, as routing estimates it.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    int
        At least 1 for a text that is not empty.
    """
    return math.ceil(estimated_input_tokens([text])[0])


def written_text(message: Mapping[str, Any]) -> str:
    """Return all that an LLM wrote as far as its message shows it: what it reasoned, and the content in any form."""
    reasoned = [message.get(name) for name in ("reasoning_content", "reasoning")]
    # Servers that send both names send the same text twice.
    longest = max((text for text in reasoned if isinstance(text, str)), key=len, default="")
    return longest + _joined(message.get("content"))


def _joined(content: Any, depth: int = 3) -> str:
    """Join the strings of a content that may come in parts, which may have parts themselves."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not depth:
        return ""
    inner = [part.get(part["type"]) for part in content if isinstance(part, dict) and isinstance(part.get("type"), str)]
    return "".join(_joined(one, depth - 1) for one in inner)


def _whole_output(given: Mapping[str, Any], input_tokens: int | None) -> tuple[int | None, int | None]:
    """Return the completion tokens as reported, and all output tokens; None where the usage does not say."""
    completion_tokens = _first_count(given, *_OUTPUT)
    if completion_tokens is None and any(given.get(name) is not None for name in _OUTPUT):
        return None, None
    reasoning = next(
        (
            count
            for one in (*output_details(given), given)
            if (count := _first_count(one, "reasoning_tokens")) is not None
        ),
        None,
    )
    total = _first_count(given, "total_tokens")
    known = [] if completion_tokens is None else [completion_tokens]
    if reasoning is not None and completion_tokens is not None and reasoning > completion_tokens:
        known.append(completion_tokens + reasoning)
    if total is not None and input_tokens is not None and total > input_tokens:
        known.append(total - input_tokens)
    return completion_tokens, max(known, default=None)


def output_details(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a usage says about the tokens of the answer one by one, under either name of it."""
    named = (given.get(name) for name in ("completion_tokens_details", "output_tokens_details"))
    return [details for details in named if isinstance(details, dict)]


def _first_count(given: Mapping[str, Any], *names: str) -> int | None:
    """Return the number under the first name that is there; None when it is no believable number of tokens."""
    tokens = next((given[name] for name in names if given.get(name) is not None), None)
    if type(tokens) is float and tokens.is_integer():
        tokens = int(tokens)
    # bool is an int to Python, not to us.
    return tokens if type(tokens) is int and 0 <= tokens <= _MAX_TOKENS_BELIEVED else None


def _are_too_few(tokens: int, text: str) -> bool:
    least_bytes = len(_RUN.sub(r"\1\1\1", text).encode("utf-8", "surrogatepass"))
    return tokens * _MOST_BYTES_PER_TOKEN < least_bytes
