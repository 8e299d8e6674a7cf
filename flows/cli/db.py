"""``uniroute db``: the registry's schema."""

from __future__ import annotations

import click

from flows.cli.outcome import ExitCode
from flows.cli.screen import config_option, json_option, show
from flows.reports.plain import inert


@click.group("db")
def db() -> None:
    """Look after the registry's database."""


@db.command("status")
@config_option
@json_option
def status(config: str | None, as_json: bool) -> int:
    """Say which schema the registry has and which one this code needs."""
    from flows.settings import load_settings
    from registry.store import Registry

    settings = load_settings(config)
    with Registry.open(settings.registry_url, migrate=False) as registry:
        found, where = registry.schema_status(), registry.name
    data = {"current": found.current, "head": found.head, "pending": list(found.pending), "is_newer": found.is_newer}
    state = "newer than this code" if found.is_newer else f"{len(found.pending)} migrations pending"
    if not found.pending and not found.is_newer:
        state = "up to date"
    hint = "\nnext: uniroute db migrate" if found.pending else ""
    show(
        "db.status",
        data,
        as_json=as_json,
        text=lambda: f"registry {inert(where, width=200)}: schema {found.current or 'none'}, {state}{hint}",
    )
    return ExitCode.CONFIGURATION if found.is_newer else ExitCode.DONE


@db.command("migrate")
@config_option
def migrate(config: str | None) -> None:
    """Bring the registry to the schema of this code; a migration that fails leaves it as it was."""
    from flows.cli.opening import opened

    with opened(config) as workspace:
        found = workspace.registry.schema_status()
    click.echo(f"registry: schema {found.current}, up to date")
