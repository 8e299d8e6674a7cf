"""Router versions on disk and in MLflow: where they are, and how MLflow is brought in step with the registry."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows import checkpoints
from flows.alias_drift import AliasDrift, find_drift, note_drift
from flows.workspace import Workspace
from registry.errors import NotFound, PublishIncomplete
from registry.routers import RouterRecord
from registry.store import Registry
from routing.artifact import load_router
from routing.errors import ArtifactCorrupt
from routing.router import Router

if TYPE_CHECKING:
    from flows.gate import GateResult
    from registry.database import Unit
    from registry.outbox import OutboxEntry

ACTOR = "publisher"
VANISHED = "router:version:vanished"

_SHORTEST_DIGEST = 8
_FIGURE = "deferral_curve.png"
_CONTENT = "publication.json"
REVIEW = ("review.html", "review.md")
"""The report that a promotion is decided by, in a version's publication folder and in its MLflow run."""


@dataclass(frozen=True)
class Publication:
    """What is said about a router version in MLflow, kept on disk so that it can be published later."""

    run_name: str
    tags: Mapping[str, str]
    description: str
    params: Mapping[str, str | int | float]
    metrics: Mapping[str, float]


def router_folder(workspace: Workspace, digest: str) -> Path:
    """Give the folder of a router version in the home folder; the digest is ours, never foreign text."""
    return workspace.home / "routers" / digest


def remove_scratch_of_killed(folder: Path) -> None:
    """Remove what attempts to write a router folder left beside it when they were killed."""
    for scratch in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def publication_folder(workspace: Workspace, digest: str) -> Path:
    """Give the folder of what is published beside a router version."""
    return workspace.home / "publications" / digest


def figure_path(workspace: Workspace, digest: str) -> Path:
    """Give the path of a version's deferral-curve figure."""
    return publication_folder(workspace, digest) / _FIGURE


def write_publication(folder: Path, publication: Publication, gate: GateResult) -> None:
    """Write what is to be published; the content last and at once, so that a half-written folder has none."""
    from flows.reports.figures import deferral_figure

    folder.mkdir(parents=True, exist_ok=True)
    deferral_figure(gate, folder / _FIGURE)
    draft = folder / f"{_CONTENT}.draft"
    draft.write_text(json.dumps(asdict(publication), indent=2, sort_keys=True, allow_nan=False), encoding="utf-8")
    draft.replace(folder / _CONTENT)


def read_publication(workspace: Workspace, digest: str) -> Publication:
    """Read what is to be published beside a version.

    Raises
    ------
    OSError
        It is not on this machine.
    ValueError, TypeError
        It is not what `write_publication` wrote.
    """
    content = (publication_folder(workspace, digest) / _CONTENT).read_text(encoding="utf-8")
    return Publication(**json.loads(content))


def load_version(workspace: Workspace, digest: str) -> Router:
    """Load a router version, from the home folder or, where another machine made it, from MLflow.

    Raises
    ------
    ArtifactCorrupt
        A file differs from its digest, or the folder holds another router.
    PublishIncomplete
        The version is neither on this machine nor within reach in MLflow.
    """
    folder = router_folder(workspace, digest)
    if not folder.is_dir():
        version = workspace.registry.routers.get(digest).mlflow_version
        if version is None:
            raise PublishIncomplete(
                f"Router {digest[:12]} is neither in {folder.parent} nor in MLflow.",
                hint="Run the night again on the machine that made it: uniroute night run",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        workspace.publisher.download(workspace.settings.mlflow.router_name, version, folder)
    router = load_router(folder)
    if router.digest != digest:
        raise ArtifactCorrupt(
            f"{folder} holds router {router.digest[:12]} instead of {digest[:12]}.",
            unchanged="Nothing was routed or published with it.",
            hint="uniroute doctor --repair",
        )
    return router


def find_router(registry: Registry, name: str) -> RouterRecord:
    """Find a router version by alias, digest, or version number with or without a ``v`` before it."""
    return registry.routers.get(f"v{name}" if name.isdecimal() and len(name) < _SHORTEST_DIGEST else name)


def bring_mlflow_in_step(workspace: Workspace, clock: Callable[[], datetime]) -> tuple[AliasDrift, ...]:
    """Publish what is not published yet, oldest first, and tell MLflow of every alias that was moved.

    Safe to repeat from any point: a version is found again by its publish key, an alias is only set. An alias that
    somebody moved in MLflow by hand is left where it is, and what MLflow should be told of it stays pending.

    Returns
    -------
    tuple
        The aliases that were left alone; each is in the ledger.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer; what is missing stays pending.
    """
    routers, promotions = workspace.registry.routers, workspace.registry.promotions
    for record in reversed(routers.list()):
        if record.mlflow_version is None:
            _publish(workspace, record.digest, record.publish_key, clock)
            checkpoints.reach("version noted")
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
        _tell(workspace, entries)
        checkpoints.reach("alias set")
        for entry in entries:
            promotions.mark_done(entry.id, now=clock())
    if routers.list():
        workspace.publisher.note_ledger_head(workspace.settings.mlflow.router_name, *workspace.registry.ledger.head())
    return drifts


def _tell(workspace: Workspace, entries: Sequence[OutboxEntry]) -> None:
    """Point an alias where the last of its moves went; the moves before that one are history."""
    last = entries[-1]
    version = workspace.registry.routers.get(last.router_digest).mlflow_version
    assert version is not None, "every router was published before"
    try:
        workspace.publisher.set_alias(workspace.settings.mlflow.router_name, last.alias, version)
    except PublishIncomplete as error:
        workspace.registry.promotions.mark_undelivered(last.id, error.message)
        raise


def _publish(workspace: Workspace, digest: str, publish_key: str, clock: Callable[[], datetime]) -> None:
    from registry.publishing import HEAD_TAG, PublishRequest

    folder = publication_folder(workspace, digest)
    try:
        content = json.loads((folder / _CONTENT).read_text(encoding="utf-8"))
    except OSError:
        raise PublishIncomplete(
            f"Router {digest[:12]} is not published and {folder} is not on this machine.",
            unchanged="MLflow stays as it is.",
            hint="Run the night on the machine that made it: uniroute night run",
        ) from None
    name = workspace.settings.mlflow.router_name
    content["tags"] |= {HEAD_TAG: ":".join(map(str, workspace.registry.ledger.head()))}
    published = workspace.publisher.publish(
        PublishRequest(
            router_folder=router_folder(workspace, digest),
            name=name,
            publish_key=publish_key,
            figures={_FIGURE: folder / _FIGURE},
            documents={name: folder / name for name in REVIEW if (folder / name).is_file()},
            **content,
        )
    )
    checkpoints.reach("version made")
    registry = workspace.registry
    with registry.unit() as unit:
        # A database of MLflow that was lost, or brought back from a backup, counts its versions anew.
        with contextlib.suppress(NotFound):
            former = registry.routers.get(f"v{published.version}", unit=unit)
            if former.mlflow_name == name and former.digest != digest:
                forget_version(workspace, former, now=clock(), unit=unit)
        registry.routers.set_published(
            digest, name=name, version=published.version, mlflow_run_id=published.run_id, unit=unit
        )


def forget_version(workspace: Workspace, record: RouterRecord, *, now: datetime, unit: Unit) -> None:
    """Note that a version is gone from MLflow, so that it is published again; the ledger says so."""
    gone = {"name": record.mlflow_name, "version": record.mlflow_version, "run_id": record.mlflow_run_id}
    workspace.registry.routers.forget_publication(record.digest, unit=unit)
    workspace.registry.ledger.append(VANISHED, record.digest, actor=ACTOR, now=now, payload=gone, unit=unit)
