"""Split a JSON document into its rows, each exactly as fetched, so that one bad row does not affect the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flows.errors import CatalogMalformed
from routing.strict_json import InvalidJson, parse_json

_SPACE = re.compile(r"[ \t\n\r]*")
_MAX_DEPTH = 32
_MAX_ROW_CHARACTERS = 256 * 1024
_MAX_FACT_CHARACTERS = 8 * 1024


@dataclass(frozen=True)
class Fetched:
    """A document, and where its ``Link`` header says that the next page is; empty without one."""

    body: bytes
    next_url: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a catalog document.

    Attributes
    ----------
    position
        Its position in the document, from 0.
    key
        Its key, in documents that are maps; else None.
    value
        The parsed row; numbers with a point are `Decimal`. None when `flaw` is set.
    raw
        Its text as fetched.
    flaw
        Why it cannot be read; None when it can.
    """

    position: int
    key: str | None
    value: Any
    raw: str
    flaw: str | None


class DocumentError(ValueError):
    """The text is not the document it should be; the message quotes nothing of it."""


def rows_of_list(text: str, *keys: str) -> Iterator[Row]:
    """Yield the rows of the list that a JSON object holds under a key, or of a bare list.

    Parameters
    ----------
    text
        The document.
    keys
        Where the list may be; the first of them that the document has counts.

    Raises
    ------
    DocumentError
        The text is not JSON, or there is no such list.
    """
    start = _after_space(text, 0)
    is_bare, key = text[start : start + 1] != "{", ""
    if not is_bare:
        key, start = _start_of_list(text, start, keys)
    if text[start : start + 1] != "[":
        raise DocumentError(_not_json(text, start) if is_bare else f"{key!r} is not a list of rows")
    for position, (row_start, row_end) in enumerate(_elements(text, start, is_whole=is_bare)):
        yield _row(text[row_start:row_end], position, None)


def _start_of_list(text: str, start: int, keys: tuple[str, ...]) -> tuple[str, int]:
    """Return the first of some keys that an object has, and where its value starts."""
    found: dict[str, list[int]] = {key: [] for key in keys}
    for name, value_start in _members(text, start):
        if name in found:
            found[name].append(value_start)
    key = next((key for key in keys if found[key]), keys[0])
    if len(found[key]) != 1:
        raise DocumentError(f"it has no list {key!r}" if not found[key] else f"it has {key!r} twice")
    return key, found[key][0]


def facts_beside_list(text: str) -> dict[str, Any]:
    """Return what a document says beside its rows: text, numbers and small objects, by key; nothing for a bare list.

    What is too long to be read is there as ``...``.

    Raises
    ------
    DocumentError
        The text is not JSON.
    """
    start = _after_space(text, 0)
    if text[start : start + 1] != "{":
        return {}
    facts: dict[str, Any] = {}
    for name, value_start in _members(text, start):
        if text[value_start] == "[":
            continue
        raw = text[value_start : _end_of_value(text, value_start)]
        facts[name] = _LENIENT.decode(raw) if len(raw) <= _MAX_FACT_CHARACTERS else ...
    return facts


def rows_of_map(text: str) -> Iterator[Row]:
    """Yield the rows of a JSON object whose keys name them.

    Raises
    ------
    DocumentError
        The text is not JSON, or not an object.
    """
    start = _after_space(text, 0)
    if text[start : start + 1] != "{":
        raise DocumentError("it is not an object with one row per key")
    for position, (name, row_start) in enumerate(_members(text, start)):
        yield _row(text[row_start : _end_of_value(text, row_start)], position, name)


def decode(body: bytes, subject: str) -> str:
    """Return the text of a document.

    Raises
    ------
    CatalogMalformed
        It is empty, or not UTF-8.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise malformed(subject, "it is not UTF-8 text") from None
    if not text.strip():
        raise malformed(subject, "it is empty")
    return text


def malformed(subject: str, reason: str, hint: str = "") -> CatalogMalformed:
    """Return the error for a document that cannot be used."""
    return CatalogMalformed(
        f"{subject} is not usable: {reason}",
        unchanged="the listings of the last night stay",
        hint=hint or "check the kind and the location of the catalog in the settings",
    )


def _row(raw: str, position: int, key: str | None) -> Row:
    flaw = None
    value = None
    if len(raw) > _MAX_ROW_CHARACTERS:
        flaw = f"the row has {len(raw)} characters, at most {_MAX_ROW_CHARACTERS} are read"
    elif _depth(raw) > _MAX_DEPTH:
        flaw = f"the row is nested deeper than {_MAX_DEPTH} levels"
    else:
        try:
            value = parse_json(raw, parse_float=Decimal)
        except InvalidJson as error:
            flaw = str(error)
    return Row(position, key, value, raw, flaw)


def _depth(raw: str) -> int:
    """Return how deep brackets are nested, counting those in strings: an upper bound, which is enough here."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", raw):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


# Only finds where a value ends: it must accept what `parse_json` refuses in a single row.
_LENIENT = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


def _after_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _end_of_value(text: str, start: int) -> int:
    try:
        return _LENIENT.raw_decode(text, start)[1]
    except RecursionError:
        raise DocumentError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise DocumentError(_not_json(text, error.pos)) from None


def _not_json(text: str, position: int) -> str:
    if text.lstrip()[:1] == "<":
        return "it is HTML or XML, not JSON"
    return f"it is not JSON (character {position} of {len(text)})"


def _next(text: str, position: int, allowed: str) -> tuple[str, int]:
    """Return the next character and the position of what follows it."""
    position = _after_space(text, position)
    sign = text[position : position + 1]
    if not sign or sign not in allowed:
        raise DocumentError(_not_json(text, position))
    return sign, _after_space(text, position + 1)


def _elements(text: str, start: int, *, is_whole: bool) -> Iterator[tuple[int, int]]:
    position = _after_space(text, start + 1)
    sign = ","
    if text[position : position + 1] == "]":
        sign, position = _next(text, position, "]")
    while sign == ",":
        end = _end_of_value(text, position)
        yield position, end
        sign, position = _next(text, end, ",]")
    if is_whole and position != len(text):
        raise DocumentError(_not_json(text, position))


def _members(text: str, start: int) -> Iterator[tuple[str, int]]:
    position = _after_space(text, start + 1)
    sign = ","
    if text[position : position + 1] == "}":
        sign, position = _next(text, position, "}")
    while sign == ",":
        if text[position : position + 1] != '"':
            raise DocumentError(_not_json(text, position))
        end = _end_of_value(text, position)
        name = json.loads(text[position:end])
        _, position = _next(text, end, ":")
        yield name, position
        sign, position = _next(text, _end_of_value(text, position), ",}")
    if position != len(text):
        raise DocumentError(_not_json(text, position))
