"""``uniroute init``: a commented settings file to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from flows.errors import PrerequisiteError


@click.command("init")
@click.argument("path", default="uniroute.toml", type=click.Path(dir_okay=False))
def init(path: str) -> None:
    """Write a commented settings file to PATH; an existing file is never touched."""
    target = Path(path)
    content = resources.files("flows").joinpath("uniroute.toml").read_text(encoding="utf-8")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise PrerequisiteError(
            f"{target} exists already.",
            unchanged="It was not touched.",
            hint=f"Edit it, or: uniroute init other-{target.name}",
        ) from None
    except OSError as error:
        raise PrerequisiteError(f"{target} cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote {target}. Every line in it is a comment: the night runs on the sandbox until you change that.")
    click.echo(f"next: edit {target}, then: uniroute night run --config {target} --plan")
