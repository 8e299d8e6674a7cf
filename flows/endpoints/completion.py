"""A completion, how it is read strictly from the bytes of a response, and whether the LLM asked for gave it."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from typing import Any

from flows.endpoints.end_states import CUT, failure_of, is_cut_off
from flows.endpoints.kinds import EMPTY
from flows.endpoints.usage import HIDDEN_OUTPUT, NO_USAGE, Usage, output_details, read_usage, written_text
from routing.strict_json import DuplicateKey, InvalidJson, parse_json

_MAX_NAME_CHARACTERS = 200
# Where servers put reasoning beside the content: vLLM and DeepSeek, OpenRouter, LiteLLM, Ollama.
_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "thinking")
_REASONING_PARTS = re.compile(r"think|reason|thought|summary", re.IGNORECASE)
# What stands beside the text and is none of it: references to sources, and calls of tools.
_NOT_TEXT_PARTS = frozenset({"reference", "tool_reference", "citation", "tool_use", "tool_call"})
_TEXT_PARTS = frozenset({"text", "output_text"})


@dataclass(frozen=True)
class Answer:
    """What an endpoint says that an LLM answered to one prompt.

    Parameters
    ----------
    text
        The answer; empty when the LLM spent tokens and said nothing. Never holds NUL or lone surrogates.
    usage
        The tokens of prompt and answer, all reasoning included.
    finish_reason
        ``length`` when the answer was cut off at ``max_tokens``; otherwise as reported by the endpoint (``stop``,
        ``tool_calls``, ...), and ``unknown`` when it reports none.
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
    lost
        What earlier attempts are billed for although they brought no answer.
    """

    latency_s: float
    attempts: int
    downgrades: tuple[str, ...] = ()
    lost: Usage = NO_USAGE


class NotACompletion(ValueError):
    """The document holds no answer; the message is in our own words.

    Parameters
    ----------
    kind
        What that is, a key of `FAILURE_RULES`.
    usage
        The tokens that are billed all the same; None when the endpoint billed nothing that is known.
    """

    def __init__(self, message: str, kind: str = "malformed", usage: Usage | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.usage = usage


def parse_body(body: bytes) -> Any:
    """Parse the body of a response strictly.

    Parameters
    ----------
    body
        UTF-8, with or without a byte order mark.

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
        return parse_json(body.removeprefix(BOM_UTF8))
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
        It holds no answer: something else than the LLM ended it, or there is no text where there should be some. Empty
        content is an answer only if the LLM spent tokens, none of them on reasoning, or called a tool.
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
    end_state = finish_reason or ""
    kind = failure_of(end_state)
    usage = read_usage(document.get("usage"), prompt, written_text(message))
    if kind is not None:
        raise NotACompletion("the finish reason is not that of an answer", kind, usage)
    text = _text_of(message)
    if not text.strip() and not (message.get("tool_calls") or message.get("function_call")):
        _refuse_empty(message, usage, document.get("usage"), is_finished=bool(end_state))
    served_llm = document.get("model")
    return Answer(
        text=text,
        usage=usage,
        finish_reason=CUT if is_cut_off(end_state) else _clean(end_state or "unknown")[:_MAX_NAME_CHARACTERS],
        served_llm=_clean(served_llm)[:_MAX_NAME_CHARACTERS] if isinstance(served_llm, str) and served_llm else None,
    )


def _text_of(message: dict[str, Any]) -> str:
    """Return what the LLM said, or why it refuses to answer; its reasoning is none of it."""
    content, refusal = message.get("content"), message.get("refusal")
    if content is None or isinstance(content, str):
        text = _clean(content or "")
    elif isinstance(content, list | dict):
        text = _joined(_parts(content))
    else:
        raise NotACompletion("the content of the message is not text")
    return _clean(refusal) if not text.strip() and isinstance(refusal, str) and refusal.strip() else text


def _refuse_empty(message: dict[str, Any], usage: Usage, reported: Any, *, is_finished: bool) -> None:
    """Raise unless nothing is known to be all that the LLM had to say."""
    content = message.get("content")
    is_reasoned = any(message.get(name) for name in _REASONING) or any(map(_is_reasoning, _parts(content)))
    if is_reasoned or HIDDEN_OUTPUT in usage.flags or _has_reasoning_tokens(reported):
        raise NotACompletion("there is reasoning, and no answer after it", EMPTY, usage)
    if content is None and not is_finished:
        raise NotACompletion("the content of the message is not text")
    if not usage.output_tokens:
        raise NotACompletion("the answer is empty, and no tokens were spent on it", EMPTY, usage)


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [content] if isinstance(content, dict) else []


def _joined(parts: list[Any]) -> str:
    """Return the text of content that comes in parts; reasoning, and references to sources, are none of it."""
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif _type_of(part) in _TEXT_PARTS and (text := _text_of_part(part)) is not None:
            texts.append(text)
        elif _type_of(part) == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        elif not _is_reasoning(part) and _type_of(part) not in _NOT_TEXT_PARTS:
            raise NotACompletion("the content of the message is not text")
    return _clean("".join(texts))


def _type_of(part: Any) -> str:
    """Return the type of a part of content, by what it holds where it names none; empty for what is no part."""
    given = part.get("type") if isinstance(part, dict) else ""
    if given is None:
        given = "text" if "text" in part else next(iter(part), "")
    return given.lower() if isinstance(given, str) else ""


def _text_of_part(part: dict[str, Any]) -> str | None:
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return text if isinstance(text, str) else None


def _is_reasoning(part: Any) -> bool:
    return _REASONING_PARTS.search(_type_of(part)) is not None


def _has_reasoning_tokens(usage: Any) -> bool:
    """Whether tokens were spent on reasoning that is not shown."""
    if not isinstance(usage, dict):
        return False
    tokens = (details.get("reasoning_tokens") for details in (usage, *output_details(usage)))
    return any(isinstance(number, int | float) and number > 0 for number in tokens)


def _clean(text: str) -> str:
    # Databases refuse NUL and lone surrogates, and neither carries meaning.
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# What gateways append to choose a route or a price; unknown words only count when the server drops them.
_ROUTES = frozenset(
    {"beta", "exacto", "extended", "fastest", "cheapest", "floor", "free", "latest", "nitro", "online", "preferred"}
    | {"preview", "self-moderated", "thinking"}
)
_ROUTE_OF_ITS_OWN = re.compile(r"[a-z][a-z-]*\Z")
# Dates and revisions: "-2024-08-06", "-20240806", "-2024-08", "-08-2024", "-08-06", "-0806", "-2408", "-240806", "-001"
_YEAR, _MONTH, _DAY = r"20[2-4]\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_REVISION = re.compile(
    rf"-(?:{_YEAR}-?{_MONTH}-?{_DAY}|{_YEAR}-{_MONTH}|{_MONTH}-{_YEAR}|{_MONTH}-?{_DAY}|2\d{_MONTH}{_DAY}|2\d{_MONTH}"
    r"|00\d)\Z"
)
_POINTERS = re.compile(r"-(?:latest|preview)\Z")
_AFTER_AT = re.compile(r"@[\w.-]+\Z")
_BEDROCK = re.compile(r"\A(?:(?:us|eu|apac|global|us-gov)\.)?(?:[a-z0-9]+\.)(?=[a-z].*-v\d+(?::\d+)?\Z)")
_BEDROCK_VERSION = re.compile(r"-v\d+(?::\d+)?\Z")
_CACHED = re.compile(r"models--(?:[^/]+--)?([^/]+?)(?:/snapshots/[^/]*)?\Z")


@dataclass(frozen=True)
class _Name:
    """A name of an LLM, taken apart: revisions are dates and the like, the tag is what follows a colon."""

    base: str
    revisions: tuple[str, ...]
    tag: str


def is_the_llm_asked_for(served: str, *asked: str | None) -> bool:
    """Whether names mean the same LLM.

    A maker (``openai/``), the folders of a local path, a date or revision (``-2024-08-06``, ``@001``) that only one of
    them names, and a route (``:free``, ``:thinking``) make no difference. A version number (``gpt-5.1``) does, and so
    does everything else, such as a size.

    Parameters
    ----------
    served
        What the endpoint says it used.
    asked
        The names under which the LLM is known; None is skipped.
    """
    given = _taken_apart(served)
    return any(_is_same(given, _taken_apart(name)) for name in asked if name) if given.base else False


def _is_same(given: _Name, wanted: _Name) -> bool:
    is_revision_same = not given.revisions or not wanted.revisions or given.revisions == wanted.revisions
    # A server may drop a route that it was asked for, but a tag that it adds names another size.
    is_tag_same = given.tag == wanted.tag or (not given.tag and _ROUTE_OF_ITS_OWN.match(wanted.tag) is not None)
    return given.base == wanted.base and is_revision_same and is_tag_same


def _taken_apart(name: str) -> _Name:
    path = name.strip().lower().replace("\\", "/").rstrip("/")
    cached = _CACHED.search(path)
    last = (cached[1] if cached is not None else path.rpartition("/")[2]).removesuffix(".gguf")
    if (bedrock := _BEDROCK.match(last)) is not None:
        last = _BEDROCK_VERSION.sub("", last[bedrock.end() :])
    last, _, tag = last.partition(":")
    revisions = []
    while True:
        if (found := _AFTER_AT.search(last) or _REVISION.search(last)) is not None:
            revisions.append(re.sub(r"\D", "", found[0]) or found[0])
        elif (found := _POINTERS.search(last)) is None:
            break
        last = last[: found.start()]
    if tag.isdigit():
        revisions.append(tag)
        tag = ""
    # Makers write versions with a point or a dash, and "4.0" as "4".
    base = re.sub(r"(?<=\d)\.(?=\d)", "-", last)
    return _Name(re.sub(r"(?<=\d)-0\Z", "", base), tuple(revisions), "" if tag in _ROUTES else tag)
