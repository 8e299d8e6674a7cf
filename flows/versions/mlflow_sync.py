"""MLflow kept up to date with the registry: versions are published, aliases moved, drifted aliases found and repaired.

An alias that was moved in MLflow by hand is noted in the ledger and never silently overwritten.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows import crash_points
from flows.errors import PrerequisiteError
from flows.versions.signing import sign, sign_head
from flows.versions.store import (
    CONTENT_FILE,
    FIGURE_FILE,
    REVIEW,
    publication_folder,
    require_intact,
    router_folder,
)
from flows.workspace import Workspace
from registry.errors import NotFound, PublishIncomplete, RegistryCorrupt
from registry.publishing.probe import probe
from registry.publishing.trust import FOLDER_STATEMENT
from registry.routers import RouterRecord
from routing.errors import ArtifactError

if TYPE_CHECKING:
    from registry.db.database import Unit
    from registry.promotion_rows import OutboxEntry
    from registry.publishing.folder_check import FolderContent

ACTOR = "publisher"
VANISHED = "router:version:vanished"
DRIFTED = "router:alias:drifted"
REPAIRED = "router:alias:repaired"


@dataclass(frozen=True)
class AliasDrift:
    """One alias on which registry and MLflow disagree.

    Attributes
    ----------
    alias
        ``champion``, ``challenger`` or ``previous``, or one that differs from these in case only.
    router_digest
        The router that the registry says it points to; None when it should not exist.
    expected_version, found_version
        MLflow's version of that router, and the version the alias points to in MLflow; None for none.
    """

    alias: str
    router_digest: str | None
    expected_version: int | None
    found_version: int | None

    def __str__(self) -> str:
        found = "is gone from MLflow" if self.found_version is None else f"points to version {self.found_version}"
        expected = "should not exist" if self.expected_version is None else f"should be version {self.expected_version}"
        return f"{self.alias} {found}, it {expected}"


def find_drift(workspace: Workspace) -> tuple[AliasDrift, ...]:
    """Compare the aliases of registry and MLflow, and look for aliases that differ from ours in case only.

    An alias that waits to be moved may still be where it was last set in MLflow, or be gone; anywhere else, somebody
    moved it by hand.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer.
    """
    from registry.publishing import is_lookalike

    registry = workspace.registry
    in_mlflow = workspace.publisher.aliases(workspace.settings.mlflow.router_name)
    pending, delivered = registry.promotions.pending(), registry.promotions.delivered()
    drifts = []
    for alias, digest in asdict(registry.routers.aliases()).items():
        waiting = {entry.router_digest for entry in pending if entry.alias == alias}
        version = None if digest is None else registry.routers.get(digest).mlflow_version
        allowed = {version}
        if waiting or (digest is not None and version is None):
            allowed_digests = waiting | ({delivered[alias]} if alias in delivered else set())
            allowed |= {None, *(registry.routers.get(one).mlflow_version for one in allowed_digests)}
        if in_mlflow.get(alias) not in allowed:
            drifts.append(AliasDrift(alias, digest, version, in_mlflow.get(alias)))
    lookalikes = [AliasDrift(alias, None, None, found) for alias, found in in_mlflow.items() if is_lookalike(alias)]
    return (*drifts, *lookalikes)


def note_drift(workspace: Workspace, drifts: tuple[AliasDrift, ...], *, actor: str, now: datetime) -> None:
    """Write each drift into the ledger, once for as long as it stays the same."""
    registry = workspace.registry
    with registry.unit() as unit:
        for drift in drifts:
            subject = drift.router_digest or drift.alias
            known = registry.ledger.events(subject=subject, event="router:alias:", unit=unit)
            about = [one for one in known if json.loads(one.payload_json)["alias"] == drift.alias]
            latest = about[-1] if about else None
            if latest is None or latest.event != DRIFTED or json.loads(latest.payload_json) != asdict(drift):
                registry.ledger.append(
                    DRIFTED, subject, actor=actor, now=now, reason=str(drift), payload=asdict(drift), unit=unit
                )


def repair_drift(workspace: Workspace, drifts: tuple[AliasDrift, ...], *, actor: str, now: datetime) -> None:
    """Point each alias in MLflow where the registry says, remove those that should not exist, and record it.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer or refused.
    """
    name = workspace.settings.mlflow.router_name
    for drift in drifts:
        if drift.expected_version is None:
            workspace.publisher.delete_alias(name, drift.alias)
        else:
            workspace.publisher.set_alias(name, drift.alias, drift.expected_version)
        workspace.registry.ledger.append(
            REPAIRED, drift.router_digest or drift.alias, actor=actor, now=now, payload=asdict(drift)
        )


def sync_mlflow(workspace: Workspace, clock: Callable[[], datetime]) -> tuple[AliasDrift, ...]:
    """Publish what is not published yet, oldest first, and set every alias that was moved in MLflow.

    Safe to repeat from any point: a version is found again by its publish key, an alias is only set. An alias that was
    moved in MLflow by hand is left where it is, and its pending moves stay pending.

    Returns
    -------
    tuple
        The aliases that were left alone; each is noted in the ledger.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer; what is missing stays pending.
    """
    routers, promotions = workspace.registry.routers, workspace.registry.promotions
    for record in reversed(routers.list()):
        if record.mlflow_version is None:
            _publish(workspace, record.digest, record.publish_key, clock)
            crash_points.reach("version noted")
    waiting: dict[str, list[OutboxEntry]] = {}
    for entry in promotions.pending():
        waiting.setdefault(entry.alias, []).append(entry)
    drifts = tuple(drift for drift in (find_drift(workspace) if waiting else ()) if drift.alias in waiting)
    note_drift(workspace, drifts, actor=ACTOR, now=clock())
    left_alone = {drift.alias: str(drift) for drift in drifts}
    for alias, entries in waiting.items():
        if alias in left_alone:
            for entry in entries:
                promotions.mark_undelivered(entry.id, f"{left_alone[alias]}; uniroute doctor --repair")
            continue
        _set_alias(workspace, entries)
        crash_points.reach("alias set")
        for entry in entries:
            promotions.mark_done(entry.id, now=clock())
    if routers.list():
        _note_head(workspace, clock())
    return drifts


def _note_head(workspace: Workspace, now: datetime) -> None:
    head = workspace.registry.ledger.head()
    try:
        signature = sign_head(workspace, now)
    except PrerequisiteError as error:
        raise _unsigned(error) from error
    workspace.publisher.note_ledger_head(workspace.settings.mlflow.router_name, *head, signature=signature)


def _unsigned(error: PrerequisiteError) -> PublishIncomplete:
    """Return what keeps MLflow from being up to date; what is done already stays done."""
    return PublishIncomplete(error.message, unchanged=error.unchanged, hint=error.hint)


def follow(workspace: Workspace, clock: Callable[[], datetime]) -> str:
    """Update MLflow from the registry; return why that has to wait, or an empty text when it is done."""
    unreachable = probe(workspace.settings.mlflow_url)
    if unreachable:
        return unreachable
    try:
        left_alone = sync_mlflow(workspace, clock)
    except PublishIncomplete as error:
        return error.message
    return "; ".join(f"moved by hand in MLflow: {drift}" for drift in left_alone)


def _set_alias(workspace: Workspace, entries: Sequence[OutboxEntry]) -> None:
    """Point an alias where the last of its pending moves goes; the earlier ones are history.

    Consumers load what the champion points at: it is not moved to a version whose files were changed.
    """
    last = entries[-1]
    record = workspace.registry.routers.get(last.router_digest)
    assert record.mlflow_version is not None, "every router was published before"
    try:
        if last.alias == "champion":
            require_intact(workspace, record)
        workspace.publisher.set_alias(workspace.settings.mlflow.router_name, last.alias, record.mlflow_version)
    except (PublishIncomplete, ArtifactError, NotFound, RegistryCorrupt) as error:
        workspace.registry.promotions.mark_undelivered(last.id, error.message)
        if isinstance(error, PublishIncomplete):
            raise
        raise PublishIncomplete(
            f"the alias {last.alias} was not moved: {error.message}",
            unchanged="MLflow stays as it is.",
            hint=error.hint,
        ) from error


def _publish(workspace: Workspace, digest: str, publish_key: str, clock: Callable[[], datetime]) -> None:
    from registry.publishing import HEAD_TAG, PublishRequest

    folder = publication_folder(workspace, digest)
    try:
        content = json.loads((folder / CONTENT_FILE).read_text(encoding="utf-8"))
    except OSError:
        raise PublishIncomplete(
            f"Router {digest[:12]} is not published and {folder} is not on this machine.",
            unchanged="MLflow stays as it is.",
            hint="Run the night on the machine that made it: uniroute night run",
        ) from None
    name, registry = workspace.settings.mlflow.router_name, workspace.registry

    def note_built(built: FolderContent) -> str | None:
        facts = {"digest": built.digest, "router": digest}
        try:
            signature = sign(workspace.settings, FOLDER_STATEMENT, facts, clock())
        except PrerequisiteError as error:
            raise _unsigned(error) from error
        registry.routers.note_built(digest, built.files, built.digest, signature=signature, actor=ACTOR, now=clock())
        return signature

    content["tags"] |= {HEAD_TAG: ":".join(map(str, workspace.registry.ledger.head()))}
    published = workspace.publisher.publish(
        PublishRequest(
            router_folder=router_folder(workspace, digest),
            name=name,
            publish_key=publish_key,
            figures={FIGURE_FILE: folder / FIGURE_FILE} if (folder / FIGURE_FILE).is_file() else {},
            documents={name: folder / name for name in REVIEW if (folder / name).is_file()},
            on_built=note_built,
            **content,
        )
    )
    crash_points.reach("version made")
    with registry.unit() as unit:
        # An MLflow database that was lost, or restored from a backup, numbers its versions anew.
        with contextlib.suppress(NotFound):
            former = registry.routers.get(f"v{published.version}", unit=unit)
            if former.mlflow_name == name and former.digest != digest:
                forget_version(workspace, former, now=clock(), unit=unit)
        registry.routers.set_published(
            digest,
            name=name,
            version=published.version,
            mlflow_run_id=published.run_id,
            folder_digest=published.folder_digest,
            unit=unit,
        )


def forget_version(workspace: Workspace, record: RouterRecord, *, now: datetime, unit: Unit) -> None:
    """Note in registry and ledger that a version is gone from MLflow, so that it is published again."""
    gone = {"name": record.mlflow_name, "version": record.mlflow_version, "run_id": record.mlflow_run_id}
    workspace.registry.routers.forget_publication(record.digest, unit=unit)
    workspace.registry.ledger.append(VANISHED, record.digest, actor=ACTOR, now=now, payload=gone, unit=unit)
