"""A completion, how it is read strictly from the bytes of a response, and whether the LLM asked for gave it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flows.endpoints.usage import Usage, read_usage, written_text
from routing.strict_json import DuplicateKey, InvalidJson, parse_json

_MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Answer:
    """What an endpoint says that an LLM answered to one prompt.

    Parameters
    ----------
    text
        The answer; empty when the LLM ended without saying anything. Never holds NUL or lone surrogates.
    usage
        The tokens of prompt and answer, all reasoning included.
    finish_reason
        As reported by the endpoint (``stop``, ``length``, ``content_filter``, ...); ``unknown`` when it reports none.
    served_llm
        The LLM that the endpoint says it used, which may differ from the one asked for; None when it does not say.
    """

    text: str
    usage: Usage
    finish_reason: str
    served_llm: str | None

    @property
    def input_tokens(self) -> int:
        """As billed by the endpoint, or our estimate when `usage_estimated`."""
        return self.usage.input_tokens

    @property
    def output_tokens(self) -> int:
        """As billed by the endpoint, or our estimate when `usage_estimated`."""
        return self.usage.output_tokens

    @property
    def usage_estimated(self) -> bool:
        """Whether the endpoint reported no believable usage."""
        return self.usage.is_estimated

    @property
    def usage_flags(self) -> tuple[str, ...]:
        """What was wrong with the reported usage: keys of `flows.endpoints.usage.FLAGS`."""
        return self.usage.flags


@dataclass(frozen=True)
class Completion(Answer):
    """An answer, and what it took to get it.

    Parameters
    ----------
    text, usage, finish_reason, served_llm
        As in `Answer`.
    latency_s
        Duration of the attempt that was answered, in seconds of a monotonic clock.
    attempts
        How often the endpoint was asked, this one included.
    downgrades
        Request parameters that had to be dropped because the LLM refuses them, for example ``temperature``.
    """

    latency_s: float
    attempts: int
    downgrades: tuple[str, ...] = ()


class NotACompletion(ValueError):
    """The document is something else; the message is in our own words."""


def parse_body(body: bytes) -> Any:
    """Parse the body of a response strictly.

    Parameters
    ----------
    body
        UTF-8.

    Returns
    -------
    Any
        The document.

    Raises
    ------
    NotACompletion
        It is not JSON in UTF-8, or holds NaN, infinities, duplicate keys, or nesting deeper than the parser goes.
    """
    try:
        return parse_json(body)
    except DuplicateKey:
        # Its message quotes the key, and a failure never holds text of the endpoint.
        raise NotACompletion("a key occurs twice in one object") from None
    except InvalidJson:
        raise NotACompletion("the body is not JSON") from None


def read_answer(document: Any, prompt: str) -> Answer:
    """Read the answer from the document of a chat completion.

    Parameters
    ----------
    document
        Parsed by `parse_body`.
    prompt
        The user message, to estimate its tokens where the endpoint reports no believable count.

    Returns
    -------
    Answer
        Every field is checked.

    Raises
    ------
    NotACompletion
        It holds no answer.
    """
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise NotACompletion("there are no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise NotACompletion("the first choice has no message")
    finish_reason = choices[0].get("finish_reason")
    if finish_reason is not None and not isinstance(finish_reason, str):
        raise NotACompletion("the finish reason is not a string")
    text = _text(message.get("content"), is_finished=bool(finish_reason))
    served_llm = document.get("model")
    return Answer(
        text=text,
        usage=read_usage(document.get("usage"), prompt, written_text(message)),
        finish_reason=_clean(finish_reason or "unknown")[:_MAX_NAME_CHARACTERS],
        served_llm=_clean(served_llm)[:_MAX_NAME_CHARACTERS] if isinstance(served_llm, str) and served_llm else None,
    )


def _text(content: Any, *, is_finished: bool) -> str:
    if isinstance(content, str):
        return _clean(content)
    if content is None and is_finished:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) == len(content) and all(isinstance(part, str) for part in parts):
            return _clean("".join(parts))
    raise NotACompletion("the content of the message is not text")


def _clean(text: str) -> str:
    # Databases refuse NUL and lone surrogates, and neither carries meaning.
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# A dated or numbered release of the same LLM, and the price variants of routers: "-2024-08-06", "@v2", ":free".
_REVISION = re.compile(r"(?:[-@.:](?:\d[\d.-]*|v\d[\d.]*|latest|free|preview))*\Z")


def is_the_llm_asked_for(served: str, *asked: str | None) -> bool:
    """Whether names mean the same LLM; a maker (``openai/``) and a revision (``-2024-08-06``) make no difference.

    Parameters
    ----------
    served
        What the endpoint says it used.
    asked
        The names under which the LLM is known; None is skipped.
    """
    given = _plain(served)
    for name in filter(None, asked):
        wanted = _plain(name)
        if given == wanted:
            return True
        longer, shorter = (given, wanted) if len(given) > len(wanted) else (wanted, given)
        if shorter and longer.startswith(shorter) and _REVISION.match(longer[len(shorter) :]):
            return True
    return False


def _plain(name: str) -> str:
    return name.strip().lower().rstrip("/").rpartition("/")[2]
