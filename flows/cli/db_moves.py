"""``uniroute db backup, restore, copy-to, prune``: the whole registry elsewhere, and what it may forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.options import acting_person, config_option, dry_run_option, json_option
from flows.cli.outcome import ExitCode
from flows.cli.screen import note, show
from flows.reports.plain import inert
from registry import clock

if TYPE_CHECKING:
    from registry.portable import Contents
    from registry.store import Registry

_FILE = click.Path(dir_okay=False, path_type=Path)


def _existing(config: str | None) -> Registry:
    from flows.settings import load_settings
    from registry.store import Registry

    return Registry.open(load_settings(config).registry_url, migrate=False)


def _facts(contents: Contents) -> dict[str, Any]:
    tables = {one.name: one.rows for one in contents.tables}
    return {"schema": contents.schema, "digest": contents.digest, "rows": contents.rows, "tables": tables}


@click.command("backup")
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


@click.command("restore")
@click.argument("file", type=_FILE)
@dry_run_option
@config_option
@json_option
def restore(file: Path, is_dry_run: bool, config: str | None, as_json: bool) -> int:
    """Read FILE, which `db backup` wrote, into the registry, which must be empty; all of it or nothing."""
    from flows.settings import load_settings
    from registry.store import Registry

    with Registry.unmade(load_settings(config).registry_url) as registry:
        contents = registry.backups.inspect(file) if is_dry_run else registry.backups.restore(file)
        is_intact = is_dry_run or _is_intact(registry)
        where = registry.name
    data = {**_facts(contents), "file": str(file), "is_dry_run": is_dry_run}
    told = f"{file} is whole; nothing was written" if is_dry_run else f"{where}: restored from {file}"
    show("db.restore", data, as_json=as_json, text=lambda: f"{inert(told, width=300)}\n{_summary(contents)}")
    return ExitCode.DONE if is_intact else ExitCode.INTEGRITY


@click.command("copy-to")
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


@click.command("prune")
@dry_run_option
@config_option
@json_option
def prune(is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Forget texts of answers and raw listings older than [retention] says; scores and decisions stay for ever."""
    from flows.settings import load_settings
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
