"""``uniroute db``: the registry's schema, its backups and copies, and what it may forget."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.endings import ExitCode
from flows.cli.options import NounGroup, acting_person, config_option, dry_run_option, json_option, opened
from flows.cli.screen import note, show
from flows.text import counted, sanitize
from registry import clock

if TYPE_CHECKING:
    from registry.backup.portable import Contents
    from registry.store import Registry


_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("db", cls=NounGroup, bare="status")
def db() -> None:
    """Migrate, back up, copy and prune the registry's database; without a command, show its schema."""


def _existing(config: str | None) -> Registry:
    from flows.config.loading import load_settings
    from registry.store import Registry

    return Registry.open(load_settings(config).registry_url, migrate=False)


@db.command("status")
@config_option
@json_option
def status(config: str | None, as_json: bool) -> int:
    """Show which schema the registry has and which one this code needs."""
    with _existing(config) as registry:
        found, where = registry.schema_status(), registry.name
    data = {"current": found.current, "head": found.head, "pending": list(found.pending), "is_newer": found.is_newer}
    state = "newer than this code" if found.is_newer else f"{counted(len(found.pending), 'migration')} pending"
    if not found.pending and not found.is_newer:
        state = "up to date"
    hint = "\nnext: uniroute db migrate" if found.pending else ""
    show(
        "db.status",
        data,
        as_json=as_json,
        text=lambda: f"registry {sanitize(where, width=200)}: schema {found.current or 'none'}, {state}{hint}",
    )
    return ExitCode.CONFIGURATION if found.is_newer else ExitCode.DONE


@db.command("migrate")
@dry_run_option
@config_option
@json_option
def migrate(is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Update the registry to the schema of this code.

    A migration that fails leaves it as it was.
    """
    from registry.errors import NotFound
    from registry.store import SchemaStatus

    before: SchemaStatus | None = None
    with contextlib.suppress(NotFound), _existing(config) as registry:
        before = registry.schema_status()
    applied = [] if before is None else list(before.pending)
    head = None if before is None else before.current
    if not is_dry_run:
        with opened(config) as workspace:
            head = workspace.registry.schema_status().current
    would = "a new registry would be created"
    if before is not None:
        would = f"{counted(len(applied), 'migration')} would be applied"
    outcome = f"{would}; nothing was changed" if is_dry_run else f"schema {head}, up to date"
    data = {"current": head, "applied": applied, "was_missing": before is None, "is_dry_run": is_dry_run}
    show("db.migrate", data, as_json=as_json, text=lambda: f"registry: {outcome}")


def _facts(contents: Contents) -> dict[str, Any]:
    tables = {one.name: one.rows for one in contents.tables}
    return {"schema": contents.schema, "digest": contents.digest, "rows": contents.rows, "tables": tables}


@db.command("backup")
@click.argument("file", type=_FILE)
@dry_run_option
@config_option
@json_option
def backup(file: Path, is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Write a copy of the whole registry to FILE.

    The copy is consistent, even while a night runs.
    """
    with _existing(config) as registry:
        if is_dry_run:
            contents, size_bytes = registry.backups.contents(), None
        else:
            size_bytes = registry.backups.write(file, clock.now())
            contents = registry.backups.inspect(file)
    data = {**_facts(contents), "file": str(file), "size_bytes": size_bytes, "is_dry_run": is_dry_run}
    outcome = f"would write {file}" if is_dry_run else f"{file}: {counted(size_bytes, 'byte')}, read back and intact"
    show("db.backup", data, as_json=as_json, text=lambda: f"{sanitize(outcome, width=300)}\n{_summary(contents)}")


@db.command("restore")
@click.argument("file", type=_FILE)
@dry_run_option
@config_option
@json_option
def restore(file: Path, is_dry_run: bool, config: str | None, as_json: bool) -> int:
    """Restore FILE, a backup, into an empty registry.

    All of it is restored, or nothing.
    """
    from flows.config.loading import load_settings
    from registry.store import Registry

    with Registry.unmade(load_settings(config).registry_url) as registry:
        contents = registry.backups.inspect(file) if is_dry_run else registry.backups.restore(file)
        is_intact = is_dry_run or _is_intact(registry)
        where = registry.name
    data = {**_facts(contents), "file": str(file), "is_dry_run": is_dry_run}
    outcome = f"{file} is intact; nothing was written" if is_dry_run else f"{where}: restored from {file}"
    show("db.restore", data, as_json=as_json, text=lambda: f"{sanitize(outcome, width=300)}\n{_summary(contents)}")
    return ExitCode.DONE if is_intact else ExitCode.INTEGRITY


@db.command("copy-to")
@click.argument("url")
@dry_run_option
@config_option
@json_option
def copy_to(url: str, is_dry_run: bool, config: str | None, as_json: bool) -> int:
    """Copy the registry to the empty one at URL.

    That moves it from a laptop to a team's server, for example. The copy is one transaction, so the command can be
    repeated and interrupted. Keep a password in PGPASSFILE rather than in URL, where other users of this machine can
    see it.
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
                hint="copy when it has ended",
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
    done = "would be copied" if is_dry_run else "copied"
    lines = (
        f"{counted(here.rows, 'row')} of {counted(len(here.tables), 'table')} {done}",
        f"  here   {here.digest}  {where[0]}",
        f"  there  {digest or 'no tables yet':64}  {where[1]}",
    )
    if not is_dry_run:
        lines += (f"next: set [registry] url to {where[1]}, and copy the folder of routers with its home folder",)
    show("db.copy-to", data, as_json=as_json, text=lambda: "\n".join(sanitize(line, width=400) for line in lines))
    return ExitCode.DONE if is_intact and (is_dry_run or digest == here.digest) else ExitCode.INTEGRITY


@db.command("prune")
@dry_run_option
@config_option
@json_option
def prune(is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Delete old texts of answers and old raw listings.

    [retention] says what is old. Scores and decisions are kept forever.
    """
    from flows.config.loading import load_settings
    from registry.pruning import Retention

    limits = load_settings(config).retention
    retention = Retention(limits.completions_days or None, limits.listings_days or None)
    with _existing(config) as registry:
        now = clock.now()
        if is_dry_run:
            found = registry.pruning.plan(retention, now)
        else:
            found = registry.pruning.prune(retention, now, actor=acting_person())
    data = {**vars(found), "is_dry_run": is_dry_run}
    verb = "would be deleted" if is_dry_run else "deleted"
    lines = [
        f"{verb}: {counted(found.completions, 'text')} of answers {_older(retention.completions_days)}",
        f"{verb}: {counted(found.listings, 'raw listing')} {_older(retention.listings_days)}, "
        f"with {counted(found.listing_texts, 'text')} that nothing else uses",
        f"in all: {counted(found.content_bytes, 'byte')} of text",
    ]
    if not is_dry_run:
        before, after = (counted(size, "byte") for size in (found.size_before_bytes, found.size_after_bytes))
        lines.append(f"the database: {before} before, {after} after")
    show("db.prune", data, as_json=as_json, text=lambda: "\n".join(lines))


def _older(days: int | None) -> str:
    return "(kept forever)" if days is None else f"older than {counted(days, 'day')}"


def _is_intact(registry: Registry) -> bool:
    check = registry.ledger.verify()
    if not check.is_intact:
        note(f"the ledger was damaged before this, and still is: {check.problem}")
    return check.is_intact


def _summary(contents: Contents) -> str:
    size = f"{counted(contents.rows, 'row')} of {counted(len(contents.tables), 'table')}"
    return f"{size}, schema {contents.schema}\ndigest {contents.digest}"
