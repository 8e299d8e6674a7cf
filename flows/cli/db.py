"""``uniroute db``: the registry's schema."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.options import NounGroup, acting_person, config_option, dry_run_option, json_option
from flows.cli.outcome import ExitCode
from flows.cli.screen import note, show
from flows.text import inert
from registry import clock

if TYPE_CHECKING:
    from registry.backup.portable import Contents
    from registry.store import Registry


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("db", cls=NounGroup, bare="status")
def db() -> None:
    """Look after the registry's database; without a command, say which schema it has."""


@db.command("status")
@config_option
@json_option
def status(config: str | None, as_json: bool) -> int:
    """Say which schema the registry has and which one this code needs."""
    from flows.config.loading import load_settings
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
    from flows.cli.options import opened
    from flows.config.loading import load_settings
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


def _existing(config: str | None) -> Registry:
    from flows.config.loading import load_settings
    from registry.store import Registry

    return Registry.open(load_settings(config).registry_url, migrate=False)


def _facts(contents: Contents) -> dict[str, Any]:
    tables = {one.name: one.rows for one in contents.tables}
    return {"schema": contents.schema, "digest": contents.digest, "rows": contents.rows, "tables": tables}


@db.command("backup")
@click.argument("file", type=_FILE)
@dry_run_option
@config_option
@json_option
def backup(file: Path, is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Write the whole registry to FILE, as it is at one moment; a night may go on meanwhile."""
    with _existing(config) as registry:
        if is_dry_run:
            contents, size_bytes = registry.backups.contents(), None
        else:
            size_bytes = registry.backups.write(file, clock.now())
            contents = registry.backups.inspect(file)
    data = {**_facts(contents), "file": str(file), "size_bytes": size_bytes, "is_dry_run": is_dry_run}
    told = f"would write {file}" if is_dry_run else f"{file}: {size_bytes:,} bytes, read back whole"
    show("db.backup", data, as_json=as_json, text=lambda: f"{inert(told, width=300)}\n{_summary(contents)}")


@db.command("restore")
@click.argument("file", type=_FILE)
@dry_run_option
@config_option
@json_option
def restore(file: Path, is_dry_run: bool, config: str | None, as_json: bool) -> int:
    """Read FILE, which `db backup` wrote, into the registry, which must be empty; all of it or nothing."""
    from flows.config.loading import load_settings
    from registry.store import Registry

    with Registry.unmade(load_settings(config).registry_url) as registry:
        contents = registry.backups.inspect(file) if is_dry_run else registry.backups.restore(file)
        is_intact = is_dry_run or _is_intact(registry)
        where = registry.name
    data = {**_facts(contents), "file": str(file), "is_dry_run": is_dry_run}
    told = f"{file} is whole; nothing was written" if is_dry_run else f"{where}: restored from {file}"
    show("db.restore", data, as_json=as_json, text=lambda: f"{inert(told, width=300)}\n{_summary(contents)}")
    return ExitCode.DONE if is_intact else ExitCode.INTEGRITY


@db.command("copy-to")
@click.argument("url")
@dry_run_option
@config_option
@json_option
def copy_to(url: str, is_dry_run: bool, config: str | None, as_json: bool) -> int:
    """Copy every row of the registry to the empty one at URL, for example from a laptop to a team's server.

    Done again, or after it was stopped, it finds what is there or begins anew: the copy is one transaction. A password
    is better left to PGPASSFILE than written into URL, where other users of this machine see it.
    """
    from registry.errors import RegistryError, RunAlreadyActive
    from registry.store import Registry

    with _existing(config) as registry, Registry.unmade(url) as target:
        now = clock.now()
        held = registry.runs.lease()
        if held.is_held(now) and not is_dry_run:
            raise RunAlreadyActive(
                f"a night is running on {held.host}: what it writes from now on would be missing from the copy",
                unchanged="Nothing was copied.",
                hint="copy when it is over",
            )
        here = registry.backups.contents()
        there = target.backups.contents_or_none()
        if is_dry_run and there is not None and there.rows and there != here:
            raise RegistryError(f"{target.name} holds rows already", hint="name an empty database")
        if not is_dry_run:
            there = registry.backups.copy_to(target.backups, now)
        is_intact = is_dry_run or _is_intact(target)
        where = (registry.name, target.name)
    digest = there.digest if there is not None else None
    data = {**_facts(here), "from": where[0], "to": where[1], "digest_there": digest, "is_dry_run": is_dry_run}
    done = "would be copied" if is_dry_run else "are there"
    lines = (
        f"{here.rows:,} rows of {len(here.tables)} tables {done}",
        f"  here   {here.digest}  {where[0]}",
        f"  there  {digest or 'no tables yet':64}  {where[1]}",
    )
    if not is_dry_run:
        lines += (f"next: set [registry] url to {where[1]}, and copy the folder of routers with its home folder",)
    show("db.copy-to", data, as_json=as_json, text=lambda: "\n".join(inert(line, width=400) for line in lines))
    return ExitCode.DONE if is_intact and (is_dry_run or digest == here.digest) else ExitCode.INTEGRITY


@db.command("prune")
@dry_run_option
@config_option
@json_option
def prune(is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Forget texts of answers and raw listings older than [retention] says; scores and decisions stay for ever."""
    from flows.config.loading import load_settings
    from registry.pruning import Retention

    wanted = load_settings(config).retention
    retention = Retention(wanted.completions_days or None, wanted.listings_days or None)
    with _existing(config) as registry:
        now = clock.now()
        if is_dry_run:
            found = registry.pruning.plan(retention, now)
        else:
            found = registry.pruning.prune(retention, now, actor=acting_person())
    data = {**vars(found), "is_dry_run": is_dry_run}
    verb = "would go" if is_dry_run else "went"
    lines = [
        f"{found.completions:>12,} texts of answers older than {wanted.completions_days or 'ever'} days {verb}",
        f"{found.listings:>12,} raw listings older than {wanted.listings_days or 'ever'} days {verb}, "
        f"with {found.listing_texts:,} texts that nothing else uses",
        f"{found.content_bytes:>12,} bytes of text in all",
    ]
    if not is_dry_run:
        lines.append(f"{found.size_before_bytes:>12,} bytes before, {found.size_after_bytes:,} bytes after")
    show("db.prune", data, as_json=as_json, text=lambda: "\n".join(lines))


def _is_intact(registry: Registry) -> bool:
    check = registry.ledger.verify()
    if not check.is_intact:
        note(f"the ledger was not whole before, and is not now: {check.problem}")
    return check.is_intact


def _summary(contents: Contents) -> str:
    counted = f"{contents.rows:,} rows of {len(contents.tables)} tables, schema {contents.schema}"
    return f"{counted}\ndigest {contents.digest}"
