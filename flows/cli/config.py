"""``uniroute config``: the settings in force, whether a night would start with them, and their schema."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from flows.cli.endings import ExitCode, exit_code_of
from flows.cli.options import NounGroup, config_option, json_option
from flows.cli.screen import show
from flows.text import table


@click.group("config", cls=NounGroup, bare="show")
def config() -> None:
    """Show, validate and describe settings; without a command, show them."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Show where each value comes from.")
@config_option
@json_option
def show_settings(origin: bool, config: str | None, as_json: bool) -> None:
    """Show every setting in force.

    Passwords in URLs are hidden; keys are never part of the settings.
    """
    from flows.config.loading import load_settings
    from flows.config.origin import settings_in_force

    found = settings_in_force(config)
    data = {"settings_hash": load_settings(config).digest, "settings": [asdict(setting) for setting in found]}

    def text() -> str:
        rows = [[one.key, json.dumps(one.value), *([one.origin] if origin else [])] for one in found]
        return table(["SETTING", "VALUE", *(["ORIGIN"] if origin else [])], rows)

    show("config.show", data, as_json=as_json, text=text)


@config.command("validate")
@click.option(
    "--connect/--offline",
    default=False,
    show_default=True,
    help="Connect to registry, MLflow, Prefect, catalogs and endpoints, too.",
)
@config_option
@json_option
def validate_settings(connect: bool, config: str | None, as_json: bool) -> int:
    """Check settings as a night does before it starts.

    Checks prompts, graders, embedder and keys; calls no LLM.
    """
    from flows.checks.validation import validate
    from flows.config import environment
    from flows.config.loading import load_settings
    from flows.findings import findings_text

    settings = load_settings(config)
    environment.prepare(settings.home)
    findings = validate(settings, connect=connect)
    failed = [one.error for one in findings if one.error is not None]
    data = {
        "is_valid": not failed,
        "is_connected": connect,
        "parts": [
            {
                "part": one.subject,
                "is_fine": one.error is None,
                "finding": one.text,
                "hint": one.next_step,
            }
            for one in findings
        ],
    }

    def text() -> str:
        heading = "" if failed else "settings are valid; a night would start with them\n"
        return heading + findings_text(findings)

    show("config.validate", data, as_json=as_json, text=text)
    return exit_code_of(failed[0]) if failed else ExitCode.DONE


@config.command("schema")
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of the settings file, for editors."""
    from flows.config.settings import Settings

    content = Settings.model_json_schema()
    show("config.schema", content, as_json=as_json, text=lambda: json.dumps(content, indent=2))
