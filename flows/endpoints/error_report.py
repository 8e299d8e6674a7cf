"""What a response says went wrong, gathered from wherever servers write it.

OpenAI writes ``{"error": {"message", "type", "param", "code"}}``. Others write ``{"message"}`` at the top, ``{"detail":
[{"loc", "msg"}]}`` (FastAPI), a list of such objects (Gemini), ``{"base_resp": {"status_code", "status_msg"}}``
(MiniMax), or the body of the server behind them as a string within their own (OpenRouter's ``metadata.raw``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from routing.strict_json import InvalidJson, parse_json

_MOST_CHARACTERS: Final = 4_000
_DEEPEST: Final = 8
_LONGEST_LIST: Final = 20
# Only these are read: others may repeat the request, and with it the prompt and the names of all parameters.
_SAYS_CODE = frozenset({"code", "type", "status", "reason", "error_code", "errorcode", "error_type", "status_code"})
_SAYS_PARAMETER = frozenset({"param", "loc", "parameter"})
_SAYS_WORDS = frozenset(
    {
        "base_resp",
        "body",
        "cause",
        "data",
        "description",
        "detail",
        "details",
        "error",
        "error_description",
        "error_message",
        "error_msg",
        "errormessage",
        "errors",
        "message",
        "metadata",
        "msg",
        "raw",
        "status_msg",
        "title",
    }
)
_FINE = frozenset({"", "ok", "success", "0", "200", "none", "null"})


@dataclass(frozen=True)
class ErrorReport:
    """What a response says went wrong.

    Parameters
    ----------
    status
        HTTP status that the body itself names, 400 to 599; None when it names none.
    codes
        Codes and types in lower case, in the order in which they stand.
    text
        All that is said in words, in lower case, up to a few thousand characters.
    parameters
        What the body names as the parameter that is wrong, in lower case; empty when only words name it.
    is_flagged
        Whether a policy on content flagged the prompt.
    names_provider
        Whether a gateway says that the provider behind it refused, and which one.
    """

    status: int | None = None
    codes: tuple[str, ...] = ()
    text: str = ""
    parameters: tuple[str, ...] = ()
    is_flagged: bool = False
    names_provider: bool = False


@dataclass
class _Gathered:
    status: int | None = None
    codes: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    is_flagged: bool = False
    names_provider: bool = False


def read_error(document: Any, *, is_refused: bool) -> ErrorReport | None:
    """Read what a response says went wrong.

    Parameters
    ----------
    document
        The parsed body; None when it is not JSON.
    is_refused
        Whether the HTTP status says that it is an error: then all of the body is about it.

    Returns
    -------
    ErrorReport or None
        None when a body that came with a status of success reports no error.
    """
    reported = document if is_refused else _reported_within(document)
    if reported is None and not is_refused:
        return None
    gathered = _Gathered()
    _gather(reported, gathered, 0)
    return ErrorReport(
        status=gathered.status,
        codes=tuple(gathered.codes),
        text="\n".join(gathered.text)[:_MOST_CHARACTERS],
        parameters=tuple(gathered.parameters),
        is_flagged=gathered.is_flagged,
        names_provider=gathered.names_provider,
    )


def _reported_within(document: Any, depth: int = 0) -> Any:
    """Return the part of a body that reports an error, None without one; empty error objects report nothing."""
    if isinstance(document, list) and depth <= _DEEPEST:
        parts = (_reported_within(one, depth + 1) for one in document[:_LONGEST_LIST])
        return next((found for found in parts if found is not None), None)
    if not isinstance(document, dict):
        return None
    for name in ("error", "errors", "base_resp"):
        if _is_error(document.get(name)):
            return document[name]
    choices = document.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and _is_error(choices[0].get("error")):
        return choices[0]["error"]
    return document if document.get("object") == "error" else None


def _is_error(value: Any, depth: int = 0) -> bool:
    """Whether the value of a member named ``error`` says anything but that there is none."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        # What is nested deeper than any report is no way to say that all is well.
        return bool(parts) and (depth > _DEEPEST or any(_is_error(one, depth + 1) for one in parts))
    return value is not None and value is not False and str(value).strip().lower() not in _FINE


def _gather(node: Any, into: _Gathered, depth: int) -> None:
    if depth > _DEEPEST:
        return
    if isinstance(node, str):
        _gather_text(node, into, depth)
    elif isinstance(node, list):
        for one in node[:_LONGEST_LIST]:
            _gather(one, into, depth + 1)
    elif isinstance(node, dict):
        into.is_flagged = into.is_flagged or "flagged_input" in node or "reasons" in node
        into.names_provider = into.names_provider or bool(node.get("provider_name"))
        for key, value in node.items():
            _gather_member(key.lower(), value, into, depth)


def _gather_member(key: str, value: Any, into: _Gathered, depth: int) -> None:
    if key in _SAYS_PARAMETER:
        named = value if isinstance(value, list) else [value]
        into.parameters += [one.lower() for one in named[:_LONGEST_LIST] if isinstance(one, str) and one]
    elif key in _SAYS_CODE and not isinstance(value, Mapping | list):
        _gather_code(value, into)
    elif key in _SAYS_WORDS or key in _SAYS_CODE:
        _gather(value, into, depth + 1)


def _gather_code(value: Any, into: _Gathered) -> None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
        into.status = into.status or value
    elif isinstance(value, str) and value:
        into.codes.append(value[:_MOST_CHARACTERS].lower())


def _gather_text(text: str, into: _Gathered, depth: int) -> None:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _gather(parse_json(text[: 16 * _MOST_CHARACTERS].encode("utf-8", "replace")), into, depth + 1)
        except InvalidJson:
            pass
    into.text.append(text[:_MOST_CHARACTERS].lower())
    return None
