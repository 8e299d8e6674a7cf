"""Prompts from the user's file: JSON Lines, CSV or Parquet, each with a reference and a grader."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from flows.errors import PrerequisiteError
from flows.graders import grader_name
from flows.text import counted, sanitize
from registry.db.redaction import REDACTION
from registry.prompts import Prompt
from routing.strict_json import InvalidJson, parse_json

_REQUIRED: Final = ("prompt_id", "text", "reference", "grader")
_FIELDS: Final = (*_REQUIRED, "category")
# A number is read as the text it is written as; elsewhere it is a mistake, since nobody asks an LLM "42".
_MAY_BE_NUMBERS: Final = ("prompt_id", "reference", "category")
_FORM = "One prompt per row with the fields prompt_id, text, reference, grader and, optionally, category."
_BOM = "\ufeff"
_LONGEST_CELL = 2**31 - 1
_NOT_UTF_8: Final = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class _Number(str):
    """A number of a JSON document, as it is written there."""

    __slots__ = ()


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read the prompts from a file.

    Parameters
    ----------
    path
        A ``.jsonl``, ``.csv`` or ``.parquet`` file. Text is UTF-8, with or without a byte order mark. Ids, references
        and categories may be numbers and are read as written.

    Raises
    ------
    PrerequisiteError
        The file is unreadable or empty, a field is missing or unknown, or a grader is unknown.
    """
    try:
        rows = list(_rows(path))
    except OSError as error:
        raise PrerequisiteError(
            f"The prompt file {path} cannot be read: {error.strerror or 'its content is damaged'}.",
            hint="Set [prompts] file in the settings.",
        ) from None
    except (ValueError, csv.Error) as error:
        raise PrerequisiteError(f"The prompt file {path} is malformed: {error}.", hint=_FORM) from None
    if not rows:
        raise PrerequisiteError(f"The prompt file {path} holds no prompts.", hint=_FORM)
    return tuple(_prompt(row, number, path) for number, row in enumerate(rows, start=1))


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    """Return the rows of the file, in any of the three formats."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _parquet_rows(path)
    if ending == ".csv":
        return _csv_rows(_text(path.read_bytes()))
    if ending == ".jsonl":
        return _json_rows(_text(path.read_bytes()))
    raise ValueError(f"its ending {path.suffix or '(none)'} is none of .jsonl, .csv, .parquet")


def _text(data: bytes) -> str:
    """Decode UTF-8 without its byte order mark, or say in which encoding the file seems to be."""
    found = next((name for mark, name in _NOT_UTF_8.items() if data.startswith(mark)), None)
    # Without a mark: a row begins with ASCII, of which UTF-16 and UTF-32 make one byte and zeros.
    if found is None and b"\x00" in data[:2]:
        found = "UTF-16 or UTF-32"
    if found is not None:
        raise ValueError(f"it is encoded in {found}; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _json_rows(text: str) -> Iterator[Mapping[str, Any]]:
    # Not splitlines: texts may hold line separators that JSON does not escape, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        # Files that were joined have a byte order mark in the middle.
        line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            row = parse_json(line, parse_float=_Number)
        except InvalidJson as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not a JSON object")
        yield row


def _csv_rows(text: str) -> Sequence[Mapping[str, Any]]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        # StringIO with newline="": line ends inside a cell belong to the text of a prompt.
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    finally:
        csv.field_size_limit(before)
    if not rows:
        return ()
    header = rows[0]
    _refuse_columns(header)
    for number, row in enumerate(rows[1:], start=1):
        if len(row) > len(header):
            cells = counted(len(row), "cell")
            raise ValueError(f"row {number} has {cells}, but the header names {counted(len(header), 'column')}")
    return [dict(zip(header, row, strict=False)) for row in rows[1:]]


def _parquet_rows(path: Path) -> Sequence[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(f"it is no Parquet file that can be read ({type(error).__name__})") from None
    _refuse_columns(found.column_names)
    for place, field in enumerate(found.schema):
        # As text here and not later: a float32 has another shortest form than the float64 that Python makes of it.
        if field.name in _MAY_BE_NUMBERS and (pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)):
            written = found.column(place).cast(pa.string()).to_pylist()
            # Where pandas had no number, a column of floats holds NaN.
            texts = [None if one == "nan" else one for one in written]
            found = found.set_column(place, field.name, pa.array(texts, pa.string()))
    return found.to_pylist()


def _refuse_columns(names: Sequence[str]) -> None:
    """Refuse a table whose columns are not what they have to be: repeated, without a name, or split at other marks.

    Raises
    ------
    ValueError
        Saying what is wrong.
    """
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if "" in names:
        raise ValueError(
            f"column {list(names).index('') + 1} has no name; an index that pandas wrote is left out by index=False"
        )
    if repeated:
        raise ValueError(f"the column {sanitize(repeated[0], width=60)} occurs twice")
    if len(names) == 1:
        mark = next((mark for mark in ("\t", ";", "|") if mark in names[0]), None)
        if mark is not None:
            shown = "a tab" if mark == "\t" else repr(mark)
            raise ValueError(f"its columns are separated by {shown}, not by a comma")


def _prompt(row: Mapping[str, Any], number: int, path: Path) -> Prompt:
    """Return the prompt of a row, or say which field is missing, unknown or no text, and where."""
    subject = f"prompt {sanitize(repr(row['prompt_id']))}" if row.get("prompt_id") else "a prompt"
    unknown = [name for name in row if name not in _FIELDS]
    if unknown:
        name = ascii(unknown[0][:60])
        meant = get_close_matches(unknown[0].strip().lower(), _FIELDS, n=1)
        raise PrerequisiteError(
            f"In {path}, {subject} (row {number}) has the unknown field {name}, which no LLM would be sent.",
            unchanged="Nothing was called.",
            hint=f"Did you mean {meant[0]!r}? {_FORM}" if meant else f"Remove {name} from the prompts. {_FORM}",
        )
    fields: dict[str, str] = {}
    for field in _FIELDS:
        value = row.get(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        written = _written(value, may_be_number=field in _MAY_BE_NUMBERS)
        if written is None:
            raise PrerequisiteError(
                f"In {path}, {subject} (row {number}) has a {field} that is {_kind(value)}, not text.",
                unchanged="Nothing was called.",
                hint=f"Write the {field} as text, in quotes. {_FORM}",
            )
        fields[field] = written
    lacking = next((field for field in _REQUIRED if field not in fields), None)
    if lacking is not None:
        raise PrerequisiteError(
            f"In {path}, {subject} (row {number}) has no {lacking}.",
            hint=f"Give every prompt a {lacking}. {_FORM}",
        )
    if any(map(REDACTION.holds_any, fields.values())):
        raise PrerequisiteError(
            f"In {path}, the prompt of row {number} holds a key of this machine, and every LLM would be sent it.",
            unchanged="Nothing was called.",
            hint="Remove the key from the prompts, and replace it at its provider.",
        )
    return Prompt(
        prompt_id=fields["prompt_id"],
        text=fields["text"],
        reference=fields["reference"],
        grader=grader_name(fields["grader"]),
        category=fields.get("category"),
    )


def _written(value: Any, *, may_be_number: bool) -> str | None:
    """Return a value as text; None for one that is no text, nor a number where a number may stand."""
    if isinstance(value, _Number):
        return str(value) if may_be_number else None
    if isinstance(value, str):
        return value
    if may_be_number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Number | int) or (isinstance(value, float) and math.isfinite(value)):
        return f"the number {value}"
    return {list: "a list", dict: "an object"}.get(type(value), f"of type {type(value).__name__}")
