"""What commands print: text for people, or one JSON envelope for machines; and the options that all share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import click


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
