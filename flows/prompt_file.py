"""Prompts from the user's file: JSON Lines, CSV or Parquet, each with a reference and a grader."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flows.errors import PrerequisiteError
from flows.graders import grader_name
from registry.prompts import Prompt
from routing.strict_json import InvalidJson, parse_json

_REQUIRED = ("prompt_id", "text", "reference", "grader")
_FORM = "One prompt per row with the fields prompt_id, text, reference, grader and, optionally, category."


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read the prompts from a file.

    Parameters
    ----------
    path
        A ``.jsonl``, ``.csv`` or ``.parquet`` file.

    Raises
    ------
    PrerequisiteError
        The file is unreadable or empty, a field is missing, or a grader is unknown.
    """
    try:
        rows = list(_rows(path))
    except OSError as error:
        raise PrerequisiteError(
            f"The prompt file {path} cannot be read: {error.strerror}.", hint="Set [prompts] file in the settings."
        ) from None
    except (ValueError, csv.Error) as error:
        raise PrerequisiteError(f"The prompt file {path} is malformed: {error}.", hint=_FORM) from None
    if not rows:
        raise PrerequisiteError(f"The prompt file {path} holds no prompts.", hint=_FORM)
    return tuple(_prompt(row, number, path) for number, row in enumerate(rows, start=1))


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    """Yield the rows of the file, in any of the three formats."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, strict=True)
    elif path.suffix == ".jsonl":
        # Not splitlines: texts may hold line separators that JSON does not escape, such as U+2028.
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                try:
                    row = parse_json(line)
                except InvalidJson as error:
                    raise ValueError(f"line {number}: {error}") from None
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not a JSON object")
                yield row
    else:
        raise ValueError(f"its ending {path.suffix or '(none)'} is none of .jsonl, .csv, .parquet")


def _prompt(row: Mapping[str, Any], number: int, path: Path) -> Prompt:
    """Return the prompt of a row, or say which field is missing and where."""
    for field in _REQUIRED:
        if not isinstance(row.get(field), str) or not row[field].strip():
            subject = f"prompt {row['prompt_id']!r}" if row.get("prompt_id") else "a prompt"
            raise PrerequisiteError(
                f"In {path}, {subject} (row {number}) has no {field}.",
                hint=f"Give every prompt a {field}. {_FORM}",
            )
    category = row.get("category")
    return Prompt(
        prompt_id=row["prompt_id"],
        text=row["text"],
        reference=row["reference"],
        grader=grader_name(row["grader"]),
        category=str(category) if category else None,
    )
