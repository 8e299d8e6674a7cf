"""``uniroute db``: the registry's schema."""

from __future__ import annotations

import contextlib

import click

from flows.cli.db_moves import backup, copy_to, prune, restore
from flows.cli.options import NounGroup, config_option, dry_run_option, json_option
from flows.cli.outcome import ExitCode
from flows.cli.screen import show
from flows.reports.plain import inert


@click.group("db", cls=NounGroup, bare="status")
def db() -> None:
    """Look after the registry's database; without a command, say which schema it has."""


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
@dry_run_option
@config_option
@json_option
def migrate(is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Bring the registry to the schema of this code; a migration that fails leaves it as it was."""
    from flows.cli.opening import opened
    from flows.settings import load_settings
    from registry.errors import NotFound
    from registry.store import Registry, SchemaStatus

    before: SchemaStatus | None = None
    with contextlib.suppress(NotFound), Registry.open(load_settings(config).registry_url, migrate=False) as registry:
        before = registry.schema_status()
    applied = [] if before is None else list(before.pending)
    head = None if before is None else before.current
    if not is_dry_run:
        with opened(config) as workspace:
            head = workspace.registry.schema_status().current
    would = "a new registry would be made" if before is None else f"{len(applied)} migrations would be applied"
    told = f"{would}; nothing was changed" if is_dry_run else f"schema {head}, up to date"
    data = {"current": head, "applied": applied, "was_missing": before is None, "is_dry_run": is_dry_run}
    show("db.migrate", data, as_json=as_json, text=lambda: f"registry: {told}")


for command in (backup, restore, copy_to, prune):
    db.add_command(command)
