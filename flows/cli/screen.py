"""What commands print: text for people, or one JSON envelope for machines."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from flows.cli.options import output_options
from flows.errors import RenamedSetting
from flows.text import sanitize


def envelope(schema: str, data: Any, *, warnings: Sequence[str] = ()) -> str:
    """Wrap data for machines.

    Parameters
    ----------
    schema
        ``noun.verb``, which becomes ``uniroute.noun.verb/1``.
    data
        Anything that `plain_data` can turn into JSON.
    warnings
        What else the reader should know.
    """
    content = _head(schema) | {"data": plain_data(data), "warnings": [str(line) for line in warnings]}
    return json.dumps(content, indent=2, allow_nan=False)


def event_line(schema: str, event: str, **facts: Any) -> str:
    """Return one line of a stream of JSON lines: schema, time, what happened, and the facts."""
    return json.dumps(_head(schema) | {"event": event} | plain_data(facts), allow_nan=False)


def _head(schema: str) -> dict[str, Any]:
    return {"schema": f"uniroute.{schema}/1", "as_of": datetime.now(UTC).isoformat(timespec="seconds")}


def plain_data(value: Any) -> Any:
    """Turn data into JSON's types: a number is a number or null and never NaN; days and times are ISO 8601."""
    # Not pydantic_core.to_jsonable_python: it writes a Decimal as a string, but the pinned JSON has numbers.
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain_data(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_data(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"JSON cannot represent a {type(value).__name__}")


def show(schema: str, data: Any, *, as_json: bool, text: Callable[[], str], warnings: Sequence[str] = ()) -> None:
    """Print either the JSON envelope or the text for people, which is built only when it is printed."""
    click.echo(envelope(schema, data, warnings=[*output_options().notes, *warnings]) if as_json else text())


def note(text: str) -> None:
    """Report something besides the result: on standard error, and as a warning of the JSON envelope."""
    output_options().notes.append(text)
    click.echo(sanitize(text, width=400), err=True)


@contextmanager
def settings_warnings() -> Iterator[None]:
    """Note what loading the settings warns of; warnings of libraries stay where they are."""
    before = warnings.showwarning

    def show_warning(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, RenamedSetting):
            note(str(message))
        else:
            before(message, category, *place, **options)

    warnings.showwarning = show_warning
    try:
        yield
    finally:
        warnings.showwarning = before


def label(text: str, colour: str) -> str:
    """Colour a word at the start of a line on standard error, if that is a terminal that allows colours."""
    has_colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(text, fg=colour, bold=True) if has_colour else text
