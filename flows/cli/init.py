"""``uniroute init``: a commented settings file to start from, or a commented price file."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.options import dry_run_option, json_option
from flows.cli.screen import show
from flows.errors import PrerequisiteError

_DEFAULT_NAME = "uniroute.toml"


@click.command("init")
@click.argument("path", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--catalog",
    type=click.Path(dir_okay=False),
    help="Write a price file here instead: LLMs and prices that no public catalog lists.",
)
@dry_run_option
@json_option
def init(path: str | None, catalog: str | None, is_dry_run: bool, as_json: bool) -> None:
    """Write a commented settings file to PATH (uniroute.toml); an existing file is never touched."""
    from flows.config.template import price_file_template, settings_template

    if catalog is not None and path is not None:
        raise click.UsageError("PATH is a settings file and --catalog a price file: write one after the other.")
    if catalog is not None:
        target = Path(catalog)
        _write(
            target, price_file_template(), is_dry_run, hint=f"Edit it, or: uniroute init --catalog other-{target.name}"
        )
        meaning = "it lists no LLM until you change that"
        steps = [f"edit {target}", f'name it in your settings: [[catalog]] kind = "toml", location = "{target}"']
        steps.append("uniroute config validate --connect")
    else:
        target = Path(path or _DEFAULT_NAME)
        _write(target, settings_template(), is_dry_run, hint=f"Edit it, or: uniroute init other-{target.name}")
        meaning = "the night runs on the sandbox until you change that"
        steps = [
            f"edit {target}",
            f"uniroute config validate --connect --config {target}",
            f"uniroute night run --config {target} --plan",
        ]

    def text() -> str:
        if is_dry_run:
            return f"Would write {target}. Nothing was written."
        lines = [f"Wrote {target}. Every line in it is a comment: {meaning}.", *(f"next: {step}" for step in steps)]
        return "\n".join(lines)

    show("init", {"path": target, "is_dry_run": is_dry_run, "next": steps}, as_json=as_json, text=text)


def _write(target: Path, content: str, is_dry_run: bool, *, hint: str) -> None:
    """Write a new file; refuse to touch one that is there."""
    try:
        if is_dry_run and target.exists():
            raise FileExistsError
        if not is_dry_run:
            with target.open("x", encoding="utf-8") as file:
                file.write(content)
    except FileExistsError:
        raise PrerequisiteError(f"{target} exists already.", unchanged="It was not touched.", hint=hint) from None
    except OSError as error:
        raise PrerequisiteError(f"{target} cannot be written: {error.strerror}.") from None
