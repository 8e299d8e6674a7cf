"""What ``uniroute doctor`` looks at: every place that must agree with the registry, and how to bring it in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from flows.audit.replay import disagreements
from flows.versions.mlflow_sync import bring_mlflow_in_step, find_drift, forget_version, note_drift, repair_drift
from flows.versions.store import load_version, router_folder
from flows.workspace import Workspace
from registry.errors import NotFound, PublishIncomplete, RegistryCorrupt
from registry.publishing.connection import sqlite_file
from registry.routers import RouterRecord
from routing.artifact import FILES
from routing.errors import ArtifactError, UnirouteError

Status = Literal["ok", "attention", "unreachable", "refused", "damaged"]
SEVERITY: tuple[Status, ...] = ("ok", "attention", "unreachable", "refused", "damaged")
ACTOR = "doctor"
REPAIR = "uniroute doctor --repair"
LEAST_FREE_BYTES = 1 << 30
"""A night writes some 100 MB at most; below this the disk may be full before the week is over."""

_MIGRATE = "uniroute db migrate"
_RESTORE = "uniroute db restore FILE (the last backup, into an empty registry)"
_KNOWN_ALIASES = frozenset({"champion", "challenger", "previous"})


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes
    ----------
    name
        What was looked at.
    status
        The worse, the later in `SEVERITY`.
    finding
        One line for people.
    repair
        What to type; empty when nothing needs to be done.
    """

    name: str
    status: Status
    finding: str
    repair: str = ""


def examine(workspace: Workspace, *, repair: bool, clock: Callable[[], datetime]) -> tuple[Check, ...]:
    """Check everything, and repair what can be repaired without a decision.

    Without `repair` nothing is changed but the ledger, into which a new drift of an alias is written.

    Parameters
    ----------
    workspace
        Opened so that the registry is not migrated.
    repair
        Whether to repair.
    clock
        Gives the time, in UTC.

    Returns
    -------
    tuple
        One entry per check; those that need the registry are missing when it cannot be read.
    """
    checks = [_disk(workspace)]
    try:
        checks.append(_registry(workspace))
        checks.append(_migrations(workspace, repair))
        if checks[-1].status != "ok":
            return tuple(checks)
        checks += [_lease(workspace, workspace.registry.shared_time(clock())), _ledger(workspace), _rows(workspace)]
        checks += _routers(workspace, repair)
        checks += _mlflow(workspace, repair, clock)
        checks += _champion(workspace, clock())
    except NotFound as error:
        checks.append(Check("registry", "ok", error.message, "uniroute night run"))
    except RegistryCorrupt as error:
        checks.append(Check("registry", "damaged", error.message, _RESTORE))
    except UnirouteError as error:
        checks.append(Check("registry", "unreachable", error.message, error.hint))
    return tuple(checks)


def worst(checks: tuple[Check, ...]) -> Status:
    """Give the worst status of all checks."""
    return max((check.status for check in checks), key=SEVERITY.index, default="ok")


def _disk(workspace: Workspace) -> Check:
    free, home = workspace.free_bytes, workspace.settings.home
    said = f"{free / (1 << 30):.1f} GB free at {home}"
    if free < LEAST_FREE_BYTES:
        return Check("disk", "attention", said, f"free some space on the disk of {home}")
    return Check("disk", "ok", said)


def _registry(workspace: Workspace) -> Check:
    damages = workspace.registry.damages()
    if damages:
        return Check("registry", "damaged", f"{len(damages)} damages, the first: {damages[0]}", _RESTORE)
    return Check("registry", "ok", "every page and every reference is whole")


def _migrations(workspace: Workspace, repair: bool) -> Check:
    found = workspace.registry.schema_status()
    if found.is_newer:
        return Check("schema", "refused", f"schema {found.current} is newer than this code", "install a newer uniroute")
    if found.changed:
        edited = f"the migration {found.changed[0]} was edited after it was applied"
        return Check("schema", "refused", edited, "restore the migration file")
    if not found.is_current:
        behind = f"{len(found.pending)} migrations and {len(found.stale_views)} views are behind"
        if not repair:
            return Check("schema", "attention", behind, _MIGRATE)
        found = workspace.registry.migrate()
    return Check("schema", "ok", f"schema {found.current}, up to date")


def _lease(workspace: Workspace, now: datetime) -> Check:
    held = workspace.registry.runs.lease()
    if held.run_id is None:
        return Check("lease", "ok", "no night is running")
    holder = f"held by {held.host} (process {held.pid}) since {held.held_since_at:%Y-%m-%d %H:%M:%S} UTC"
    if held.is_held(now):
        return Check("lease", "ok", holder)
    stopped = f"{holder}, without a sign of life since {held.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"
    return Check("lease", "attention", stopped, "uniroute night run (takes over and goes on where it stopped)")


def _ledger(workspace: Workspace) -> Check:
    found = workspace.registry.ledger.verify()
    if not found.is_intact:
        return Check("ledger", "damaged", found.problem, f"{_RESTORE}, and ask who changed the ledger")
    return Check("ledger", "ok", f"{found.n_events} events, unbroken chain")


def _rows(workspace: Workspace) -> Check:
    """Play the ledger back and compare where it ends with the rows of aliases and promotions."""
    try:
        found = disagreements(workspace.registry, workspace.registry.ledger.events())
    except (ValueError, KeyError, TypeError) as error:
        return Check("promotions", "damaged", f"an event cannot be read: {error}", _RESTORE)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return Check(
            "promotions", "damaged", f"{found[0]}{more}", f"{_RESTORE}, or see them all: uniroute audit verify"
        )
    return Check("promotions", "ok", "aliases and promotions are what the ledger says")


def _routers(workspace: Workspace, repair: bool) -> Iterator[Check]:
    """Load every router version that this machine has, and those that serve in any case."""
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
            yield Check(name, "damaged", problem, REPAIR)
            continue
        loaded += 1
        extra += [f"{folder / one.name}" for one in sorted(folder.iterdir()) if one.name not in FILES]
    if extra:
        yield Check("router files", "attention", f"{len(extra)} files that are none of ours", f"rm {extra[0]}")
    yield Check("routers", "ok", f"{loaded} of {len(records)} versions on this machine equal their digests")


def _missing_folder(workspace: Workspace, record: RouterRecord, name: str, repair: bool) -> Check:
    if repair:
        problem = _problem_of(workspace, record)
        return Check(name, "damaged", problem, _RESTORE) if problem else Check(name, "ok", "copied here from MLflow")
    return Check(name, "attention", f"{', '.join(record.aliases)} is not on this machine", REPAIR)


def _problem_of(workspace: Workspace, record: RouterRecord) -> str:
    """Say what keeps a router version from being loaded as the registry knows it."""
    try:
        router = load_version(workspace, record.digest)
    except (ArtifactError, PublishIncomplete, NotFound) as error:
        return error.message
    return "" if router.digest == record.digest else f"it holds router {router.digest[:12]} instead"


def _set_aside(workspace: Workspace, record: RouterRecord) -> None:
    """Move a damaged folder away, so that the version is copied from MLflow again; nothing is deleted."""
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


def _mlflow(workspace: Workspace, repair: bool, clock: Callable[[], datetime]) -> Iterator[Check]:
    if not workspace.registry.routers.list():
        yield Check("mlflow", "ok", "nothing was ever published")
        return
    file = sqlite_file(workspace.settings.mlflow_url)
    if file is not None and not file.exists() and not repair:
        yield Check("mlflow", "damaged", f"{file} is gone", f"bring it back from a backup, or publish again: {REPAIR}")
        return
    try:
        yield from _versions(workspace, repair, clock)
        yield from _aliases(workspace, repair, clock)
        yield _outbox(workspace)
        yield from _noted_heads(workspace)
    except PublishIncomplete as error:
        yield Check("mlflow", "unreachable", error.message, error.hint or REPAIR)


def _versions(workspace: Workspace, repair: bool, clock: Callable[[], datetime]) -> Iterator[Check]:
    """Compare the versions that serve with the registry, byte by byte, and look for what is still to be published."""
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
                yield Check(title, "damaged", f"{error.message} It is {', '.join(record.aliases)}.", REPAIR)
                continue
            _publish_again(workspace, clock())
            yield Check(title, "ok", "was gone and is published again")
            continue
        except ArtifactError as error:
            away = f"delete version {record.mlflow_version} in MLflow, then: {REPAIR}"
            yield Check(title, "damaged", error.message, away)
            continue
        if found != record.digest:
            yield Check(title, "damaged", f"holds router {found[:12]}, not {record.digest[:12]}", "move the alias")


def _outbox(workspace: Workspace) -> Check:
    registry = workspace.registry
    unpublished = sum(record.mlflow_version is None for record in registry.routers.list())
    pending = len(registry.promotions.pending())
    if unpublished or pending:
        waiting = f"{unpublished} versions and {pending} moves of aliases are not in MLflow yet"
        return Check("outbox", "attention", waiting, REPAIR)
    return Check("outbox", "ok", "MLflow knows every version and every move of an alias")


def _noted_heads(workspace: Workspace) -> Iterator[Check]:
    """Look for every head of the ledger that MLflow was told: whoever shortens the ledger has to change both."""
    ledger = workspace.registry.ledger
    noted = workspace.publisher.noted_ledger_heads(workspace.settings.mlflow.router_name)
    if not ledger.verify().is_intact:
        return
    problem = ledger.verify(noted_heads=noted).problem
    if problem:
        yield Check("ledger in mlflow", "damaged", problem, f"{_RESTORE}, and ask who changed the ledger")
    else:
        yield Check("ledger in mlflow", "ok", f"{len(noted)} heads noted there, each part of the chain")


def _publish_again(workspace: Workspace, now: datetime) -> None:
    """Forget every version that is gone: MLflow would give its number to another router."""
    for record in workspace.registry.routers.list():
        name = record.mlflow_name
        if name is None or workspace.publisher.find_by_publish_key(name, record.publish_key) is not None:
            continue
        with workspace.registry.unit() as unit:
            forget_version(workspace, record, now=now, unit=unit)


def _aliases(workspace: Workspace, repair: bool, clock: Callable[[], datetime]) -> Iterator[Check]:
    if repair:
        bring_mlflow_in_step(workspace, clock)
    drifts = find_drift(workspace)
    note_drift(workspace, drifts, actor=ACTOR, now=clock())
    if repair and drifts:
        repair_drift(workspace, drifts, actor=ACTOR, now=clock())
        bring_mlflow_in_step(workspace, clock)
        yield Check("aliases", "ok", f"moved back: {'; '.join(map(str, drifts))}")
    elif drifts:
        yield Check("aliases", "damaged", "; ".join(map(str, drifts)), REPAIR)
    else:
        yield Check("aliases", "ok", "registry and MLflow agree")
    known = _KNOWN_ALIASES | {drift.alias for drift in drifts}
    unknown = sorted(set(workspace.publisher.aliases(workspace.settings.mlflow.router_name)) - known)
    if unknown:
        found = f"MLflow has aliases that uniroute never moves: {', '.join(unknown)}"
        yield Check("other aliases", "attention", found, "delete them in MLflow, consumers may follow the wrong one")


def _champion(workspace: Workspace, now: datetime) -> Iterator[Check]:
    """Look whether the champion still may use each of its LLMs."""
    registry = workspace.registry
    digest = registry.routers.aliases().champion
    if digest is None:
        return
    available = {llm.key for llm in registry.llms.all() if llm.is_routable_on(now.date())}
    keys = registry.routers.get(digest).llm_keys
    gone = [key for key in keys if key not in available]
    if gone:
        found = f"{len(gone)} of its {len(keys)} LLMs are not available any more, among them {gone[0]}"
        yield Check("champion", "attention", found, "uniroute night run (makes a router without them)")
    else:
        yield Check("champion", "ok", f"all of its {len(keys)} LLMs are available")
