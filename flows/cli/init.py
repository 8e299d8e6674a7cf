"""``uniroute init``: a commented settings file to start from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from flows.cli.options import dry_run_option, json_option
from flows.cli.screen import show
from flows.errors import PrerequisiteError


@click.command("init")
@click.argument("path", default="uniroute.toml", type=click.Path(dir_okay=False))
@dry_run_option
@json_option
def init(path: str, is_dry_run: bool, as_json: bool) -> None:
    """Write a commented settings file to PATH; an existing file is never touched."""
    target = Path(path)
    content = resources.files("flows").joinpath("uniroute.toml").read_text(encoding="utf-8")
    try:
        if is_dry_run and target.exists():
            raise FileExistsError
        if not is_dry_run:
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
    steps = [
        f"edit {target}",
        f"uniroute config validate --config {target}",
        f"uniroute night run --config {target} --plan",
    ]

    def text() -> str:
        if is_dry_run:
            return f"Would write {target}. Nothing was written."
        return (
            f"Wrote {target}. Every line in it is a comment: the night runs on the sandbox until you change that.\n"
            f"next: {', then: '.join(steps)}"
        )

    show("init", {"path": target, "is_dry_run": is_dry_run, "next": steps}, as_json=as_json, text=text)
