"""What ``uniroute doctor`` checks: every place that must agree with the registry, and how to repair it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from flows.audit.replay import disagreements
from flows.findings import Finding
from flows.gate.refresh import refresh_today
from flows.promotion.refresh import gate_of, measure_refresh
from flows.text import counted
from flows.versions.champion_state import ChampionState, champion_state
from flows.versions.mlflow_sync import find_drift, forget_version, note_drift, repair_drift, sync_mlflow
from flows.versions.store import load_version, router_folder
from flows.workspace import Workspace
from registry.errors import NotFound, PublishIncomplete, RegistryCorrupt
from registry.publishing.connection import sqlite_file
from registry.publishing.embedded import is_half_made, set_aside
from registry.routers import RouterRecord
from routing.artifact import FILES
from routing.errors import ArtifactError, UnirouteError

ACTOR = "doctor"
REPAIR = "uniroute doctor --repair"
LEAST_FREE_BYTES = 1 << 30
"""A night writes some 100 MB at most; below this the disk may be full before the week is over."""

_MIGRATE = "uniroute db migrate"
_RESTORE = "uniroute db restore FILE (the last backup, into an empty registry)"
_KNOWN_ALIASES = frozenset({"champion", "challenger", "previous"})


def examine(workspace: Workspace, *, repair: bool, clock: Callable[[], datetime]) -> tuple[Finding, ...]:
    """Examine everything, and repair what can be repaired without a decision.

    Without `repair` only the ledger may change: an alias that was moved in MLflow is noted there.

    Parameters
    ----------
    workspace
        Opened so that the registry is not migrated.
    repair
        Whether to repair.
    clock
        Returns the time, in UTC.

    Returns
    -------
    tuple
        One finding per check; those that need the registry are missing when it cannot be read.
    """
    findings = [_disk(workspace)]
    try:
        findings.append(_registry(workspace))
        findings.append(_migrations(workspace, repair))
        if findings[-1].severity != "ok":
            return tuple(findings)
        findings += [_lease(workspace, workspace.registry.shared_time(clock())), _ledger(workspace), _rows(workspace)]
        findings += _routers(workspace, repair)
        findings += _mlflow(workspace, repair, clock)
        champion = _champion(workspace, clock())
        if champion is not None:
            # What serves comes first when it cannot serve.
            findings.insert(len(findings) if champion.severity == "ok" else 0, champion)
    except NotFound as error:
        findings.append(Finding("registry", "ok", error.message, "uniroute night run"))
    except RegistryCorrupt as error:
        findings.append(Finding("registry", "damaged", error.message, _RESTORE))
    except UnirouteError as error:
        findings.append(Finding("registry", "unreachable", error.message, error.hint))
    return tuple(findings)


def _disk(workspace: Workspace) -> Finding:
    free, home = workspace.free_bytes, workspace.settings.home
    free_text = f"{free / (1 << 30):.1f} GB free at {home}"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", "attention", free_text, f"free some space on the disk of {home}")
    return Finding("disk", "ok", free_text)


def _registry(workspace: Workspace) -> Finding:
    damages = workspace.registry.damages()
    if damages:
        return Finding("registry", "damaged", f"{counted(len(damages), 'problem')}, the first: {damages[0]}", _RESTORE)
    return Finding("registry", "ok", "every page and every reference is whole")


def _migrations(workspace: Workspace, repair: bool) -> Finding:
    found = workspace.registry.schema_status()
    if found.is_newer:
        newer = f"schema {found.current} is newer than this code"
        return Finding("schema", "refused", newer, "install a newer uniroute")
    if found.changed:
        edited = f"the migration {found.changed[0]} was edited after it was applied"
        return Finding("schema", "refused", edited, "restore the migration file")
    if not found.is_current:
        migrations, views = counted(len(found.pending), "migration"), counted(len(found.stale_views), "view")
        if not repair:
            return Finding("schema", "attention", f"not applied yet: {migrations}, {views}", _MIGRATE)
        found = workspace.registry.migrate()
    return Finding("schema", "ok", f"schema {found.current}, up to date")


def _lease(workspace: Workspace, now: datetime) -> Finding:
    held = workspace.registry.runs.lease()
    if held.run_id is None:
        return Finding("lease", "ok", "no night is running")
    holder = f"held by {held.host} (process {held.pid}) since {held.held_since_at:%Y-%m-%d %H:%M:%S} UTC"
    if held.is_held(now):
        return Finding("lease", "ok", holder)
    stopped = f"{holder}, no heartbeat since {held.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
    return Finding("lease", "attention", stopped, "uniroute night run (takes over and continues where it stopped)")


def _ledger(workspace: Workspace) -> Finding:
    found = workspace.registry.ledger.verify()
    if not found.is_intact:
        return Finding("ledger", "damaged", found.problem, f"{_RESTORE}, and find out who changed the ledger")
    return Finding("ledger", "ok", f"{counted(found.n_events, 'event')}, unbroken chain")


def _rows(workspace: Workspace) -> Finding:
    """Replay the ledger and compare the result with the rows of aliases and promotions."""
    try:
        found = disagreements(workspace.registry, workspace.registry.ledger.events())
    except (ValueError, KeyError, TypeError) as error:
        return Finding("promotions", "damaged", f"an event cannot be read: {error}", _RESTORE)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return Finding(
            "promotions", "damaged", f"{found[0]}{more}", f"{_RESTORE}, or see them all: uniroute audit verify"
        )
    return Finding("promotions", "ok", "aliases and promotions are as the ledger says")


def _routers(workspace: Workspace, repair: bool) -> Iterator[Finding]:
    """Load every router version on this machine; one with an alias must be here."""
    records = workspace.registry.routers.list()
    loaded, extra = 0, []
    for record in records:
        name = f"router {record.digest[:12]}"
        folder = router_folder(workspace, record.digest)
        if not folder.is_dir():
            if record.aliases:
                yield _missing_folder(workspace, record, name, repair)
            continue
        problem = _problem_of(workspace, record)
        if problem and repair:
            _set_aside(workspace, record)
            problem = _problem_of(workspace, record)
        if problem:
            yield Finding(name, "damaged", problem, REPAIR)
            continue
        loaded += 1
        extra += [f"{folder / one.name}" for one in sorted(folder.iterdir()) if one.name not in FILES]
    if extra:
        foreign = f"{counted(len(extra), 'file')} not written by uniroute"
        yield Finding("router files", "attention", foreign, f"rm {extra[0]}")
    total = counted(len(records), "version")
    yield Finding("routers", "ok", f"{loaded} of {total} on this machine, each with its digest")


def _missing_folder(workspace: Workspace, record: RouterRecord, name: str, repair: bool) -> Finding:
    if repair:
        problem = _problem_of(workspace, record)
        if problem:
            return Finding(name, "damaged", problem, _RESTORE)
        return Finding(name, "ok", "copied here from MLflow")
    return Finding(name, "attention", f"{', '.join(record.aliases)} is not on this machine", REPAIR)


def _problem_of(workspace: Workspace, record: RouterRecord) -> str:
    """Return why a router version does not load as the registry describes it; empty when it does."""
    try:
        router = load_version(workspace, record.digest)
    except (ArtifactError, PublishIncomplete, NotFound) as error:
        return error.message
    return "" if router.digest == record.digest else f"it holds router {router.digest[:12]} instead"


def _set_aside(workspace: Workspace, record: RouterRecord) -> None:
    """Move a damaged folder aside, so that the version is copied from MLflow again; nothing is deleted."""
    if record.mlflow_version is None:
        return
    folder = router_folder(workspace, record.digest)
    aside = next(
        place
        for number in range(1, 10_000)
        if not (place := folder.with_name(f"{folder.name}.damaged-{number}")).exists()
    )
    folder.rename(aside)
    if _problem_of(workspace, record) and not folder.exists():
        aside.rename(folder)


def _mlflow(workspace: Workspace, repair: bool, clock: Callable[[], datetime]) -> Iterator[Finding]:
    file = sqlite_file(workspace.settings.mlflow_url)
    if file is not None and is_half_made(file):
        half = f"{file} is half made: a process was killed while it made it, and nothing was ever published there"
        if not repair:
            yield Finding("mlflow database", "damaged", half, REPAIR)
            return
        yield Finding("mlflow database", "ok", f"was half made; that file is now {set_aside(file)}")
    if not workspace.registry.routers.list():
        yield Finding("mlflow", "ok", "nothing has been published yet")
        return
    if file is not None and not file.exists() and not repair:
        yield Finding("mlflow", "damaged", f"{file} is gone", f"restore it from a backup, or publish again: {REPAIR}")
        return
    try:
        yield from _versions(workspace, repair, clock)
        yield from _aliases(workspace, repair, clock)
        yield _outbox(workspace)
        yield from _noted_heads(workspace)
    except PublishIncomplete as error:
        yield Finding("mlflow", "unreachable", error.message, error.hint or REPAIR)


def _versions(workspace: Workspace, repair: bool, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """Compare the versions that serve with the registry, byte by byte, and publish again those that are gone."""
    import tempfile
    from pathlib import Path

    registry, name = workspace.registry, workspace.settings.mlflow.router_name
    for record in registry.routers.list():
        if record.mlflow_version is None or not record.aliases:
            continue
        title = f"mlflow version {record.mlflow_version}"
        try:
            with tempfile.TemporaryDirectory(prefix="uniroute-doctor-") as scratch:
                found = workspace.publisher.download_version(name, record.mlflow_version, Path(scratch)).digest
        except NotFound as error:
            if not repair:
                yield Finding(title, "damaged", f"{error.message} It is {', '.join(record.aliases)}.", REPAIR)
                continue
            _publish_again(workspace, clock())
            yield Finding(title, "ok", "was gone, and has been published again")
            continue
        except ArtifactError as error:
            away = f"delete version {record.mlflow_version} in MLflow, then: {REPAIR}"
            yield Finding(title, "damaged", error.message, away)
            continue
        if found != record.digest:
            yield Finding(title, "damaged", f"holds router {found[:12]}, not {record.digest[:12]}", "move the alias")


def _outbox(workspace: Workspace) -> Finding:
    registry = workspace.registry
    unpublished = sum(record.mlflow_version is None for record in registry.routers.list())
    pending = len(registry.promotions.pending())
    if unpublished or pending:
        waiting = f"not in MLflow yet: {counted(unpublished, 'version')}, {counted(pending, 'move')} of aliases"
        return Finding("outbox", "attention", waiting, REPAIR)
    return Finding("outbox", "ok", "MLflow has every version and every move of an alias")


def _noted_heads(workspace: Workspace) -> Iterator[Finding]:
    """Look for every ledger head that MLflow has noted: shortening the ledger unnoticed takes a change of both."""
    ledger = workspace.registry.ledger
    noted = workspace.publisher.noted_ledger_heads(workspace.settings.mlflow.router_name)
    if not ledger.verify().is_intact:
        return
    problem = ledger.verify(noted_heads=noted).problem
    if problem:
        yield Finding("ledger in mlflow", "damaged", problem, f"{_RESTORE}, and find out who changed the ledger")
    else:
        yield Finding("ledger in mlflow", "ok", f"{counted(len(noted), 'head')} noted there, each part of the chain")


def _publish_again(workspace: Workspace, now: datetime) -> None:
    """Forget every version that is gone: MLflow may give its number to another router."""
    for record in workspace.registry.routers.list():
        name = record.mlflow_name
        if name is None or workspace.publisher.find_by_publish_key(name, record.publish_key) is not None:
            continue
        with workspace.registry.unit() as unit:
            forget_version(workspace, record, now=now, unit=unit)


def _aliases(workspace: Workspace, repair: bool, clock: Callable[[], datetime]) -> Iterator[Finding]:
    if repair:
        sync_mlflow(workspace, clock)
    drifts = find_drift(workspace)
    note_drift(workspace, drifts, actor=ACTOR, now=clock())
    if repair and drifts:
        repair_drift(workspace, drifts, actor=ACTOR, now=clock())
        sync_mlflow(workspace, clock)
        yield Finding("aliases", "ok", f"moved back: {'; '.join(map(str, drifts))}")
    elif drifts:
        yield Finding("aliases", "damaged", "; ".join(map(str, drifts)), REPAIR)
    else:
        yield Finding("aliases", "ok", "registry and MLflow agree")
    known = _KNOWN_ALIASES | {drift.alias for drift in drifts}
    unknown = sorted(set(workspace.publisher.aliases(workspace.settings.mlflow.router_name)) - known)
    if unknown:
        found = f"MLflow has aliases that uniroute never moves: {', '.join(unknown)}"
        yield Finding("other aliases", "attention", found, "delete them in MLflow: consumers may follow the wrong one")


def _champion(workspace: Workspace, now: datetime) -> Finding | None:
    """Check that the champion's LLMs can serve, and say what to type that was not refused just before."""
    state = champion_state(workspace.registry, now.date())
    if state is None:
        return None
    if not state.dead:
        return Finding("champion", "ok", f"{counted(state.n_llms, 'LLM')}, all available")
    return Finding("champion", "attention", state.warning, _refresh_step(workspace, state, now))


def _refresh_step(workspace: Workspace, state: ChampionState, now: datetime) -> str:
    """Return what to type about a champion with LLMs that cannot serve."""
    listed = "uniroute llm list (include an LLM again, or list others in a [[catalog]])"
    if len(state.dead) == state.n_llms:
        return listed
    try:
        found = refresh_today(workspace.registry, load_version(workspace, state.router_digest), now.date())
    except (ArtifactError, PublishIncomplete, NotFound):
        return REPAIR
    if found.router is None:
        return listed
    promotions = workspace.registry.promotions
    # One that waits and is no longer what can serve would be refused at its approval: the night replaces it.
    for one in promotions.list(status="requested"):
        if one.is_refresh and (one.expected_champion, one.router_digest) == (state.router_digest, found.router.digest):
            return f"uniroute promotion approve {one.id} --reason TEXT (serves without them)"
    if promotions.is_refused(found.router.digest):
        return "uniroute promotion list (the champion without them was turned down; roll back, or include an LLM again)"
    if not gate_of(found, measure_refresh(workspace, found, now.date(), None), workspace).passed:
        return listed
    return "uniroute night run (makes the champion serve without them)"
