"""What commands print: foreign text made inert, aligned tables, and one JSON envelope."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

# Categories of control, format (bidirectional overrides among them), surrogate and private characters.
_ACTIVE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def inert(text: object, *, width: int = 80) -> str:
    """Make text from outside safe to print: no control characters, one line, cut to a width.

    Parameters
    ----------
    text
        Anything; a name, a prompt, a completion, an error text.
    width
        The most characters to keep; a cut is shown by an ellipsis.
    """
    clean = "".join(" " if unicodedata.category(sign) in _ACTIVE else sign for sign in str(text))
    clean = " ".join(clean.split())
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Lay out rows under headers, columns aligned, the columns numbered in `right` to the right."""
    cells = [[inert(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(widths[column]) if column in right else value.ljust(widths[column])
            for column, value in enumerate(values)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(list(headers)), *(line(row) for row in cells)])


def envelope(schema: str, data: Any, *, warnings: Sequence[str] = ()) -> str:
    """Wrap data for machines: schema name with version, time, data, warnings; never NaN."""
    content = {
        "schema": f"uniroute.{schema}/1",
        "as_of": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data,
        "warnings": list(warnings),
    }
    return json.dumps(content, indent=2, allow_nan=False, default=str)


def show(schema: str, data: Any, *, as_json: bool, text: Callable[[], str]) -> None:
    """Print either the JSON envelope or the text for people, which is only made when it is wanted."""
    click.echo(envelope(schema, data) if as_json else text())


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=str),
    help="Settings file (default: $UNIROUTE_CONFIG, then ./uniroute.toml, then the sandbox).",
)
