"""Router versions in the home folder: where their files are, and how a version is found and loaded."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.workspace import Workspace
from registry.errors import PublishIncomplete
from registry.routers import RouterRecord
from registry.store import Registry
from routing.artifact import load_router
from routing.embedders import load_embedder_for
from routing.errors import ArtifactCorrupt
from routing.router import Router

if TYPE_CHECKING:
    from registry.publishing import DownloadedVersion
    from routing.embedding import Embedder

_SHORTEST_DIGEST = 8
FIGURE_FILE = "deferral_curve.png"
CONTENT_FILE = "publication.json"
REVIEW = ("review.html", "review.md")
"""The report that a promotion is decided by, in a version's publication folder and in its MLflow run."""


@dataclass(frozen=True)
class Publication:
    """What MLflow is to show of a router version, kept on disk so that it can be published later."""

    run_name: str
    tags: Mapping[str, str]
    description: str
    params: Mapping[str, str | int | float]
    metrics: Mapping[str, float]


def router_folder(workspace: Workspace, digest: str) -> Path:
    """Return the folder of a router version in the home folder; the digest is ours, never untrusted text."""
    return workspace.home / "routers" / digest


def remove_scratch_of_killed(folder: Path) -> None:
    """Remove the scratch folders that killed attempts to write a router folder left beside it."""
    for scratch in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def publication_folder(workspace: Workspace, digest: str) -> Path:
    """Return the folder of what is published with a router version."""
    return workspace.home / "publications" / digest


def figure_path(workspace: Workspace, digest: str) -> Path:
    """Return the path of a version's deferral-curve figure."""
    return publication_folder(workspace, digest) / FIGURE_FILE


def read_publication(workspace: Workspace, digest: str) -> Publication:
    """Read what is to be published with a version.

    Raises
    ------
    OSError
        It is not on this machine.
    ValueError, TypeError
        It is not what `flows.promotion.publication.write_publication` wrote.
    """
    content = (publication_folder(workspace, digest) / CONTENT_FILE).read_text(encoding="utf-8")
    return Publication(**json.loads(content))


def fetch_version(workspace: Workspace, record: RouterRecord, to: Path) -> DownloadedVersion:
    """Copy a version's whole folder from MLflow, and compare every file with what was kept when it was built.

    One that was published before that was kept is compared with MLflow's own tag.

    Raises
    ------
    ArtifactCorrupt
        A file differs, was added or is gone.
    NotFound
        MLflow has no such version.
    PublishIncomplete
        MLflow did not answer.
    RegistryCorrupt
        Registry and ledger disagree about its digest.
    """
    assert record.mlflow_version is not None, "only a published version is fetched"
    name = workspace.settings.mlflow.router_name
    return workspace.publisher.download_version(name, record.mlflow_version, to, **_known(workspace, record))


def _known(workspace: Workspace, record: RouterRecord) -> dict[str, Any]:
    known = workspace.registry.routers.known_folder(record)
    return {} if known is None else {"folder_digest": known.digest, "files": known.files}


def require_intact(workspace: Workspace, record: RouterRecord) -> DownloadedVersion:
    """Refuse a version whose folder in MLflow is not what was published; return what it was, already removed again.

    Raises
    ------
    ArtifactCorrupt, NotFound, PublishIncomplete, RegistryCorrupt
        As for `fetch_version`.
    """
    with tempfile.TemporaryDirectory(prefix="uniroute-version-") as scratch:
        return fetch_version(workspace, record, Path(scratch))


def load_version(workspace: Workspace, digest: str) -> Router:
    """Load a router version from the home folder or, when another machine made it, from MLflow.

    Raises
    ------
    ArtifactCorrupt
        A file differs from its digest, or the folder holds another router.
    PublishIncomplete
        The version is neither on this machine nor within reach in MLflow.
    """
    folder = router_folder(workspace, digest)
    if not folder.is_dir():
        record = workspace.registry.routers.get(digest)
        if record.mlflow_version is None:
            raise PublishIncomplete(
                f"Router {digest[:12]} is neither in {folder.parent} nor in MLflow.",
                hint="Run the night again on the machine that made it: uniroute night run",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        name = workspace.settings.mlflow.router_name
        workspace.publisher.download(name, record.mlflow_version, folder, **_known(workspace, record))
    router = load_router(folder)
    if router.digest != digest:
        raise ArtifactCorrupt(
            f"{folder} holds router {router.digest[:12]} instead of {digest[:12]}.",
            unchanged="Nothing was routed or published with it.",
            hint="uniroute doctor --repair",
        )
    return router


def embedder_of(workspace: Workspace, router: Router, digest: str) -> Embedder:
    """Open the embedder that a router version of this machine was fitted with.

    Raises
    ------
    ArtifactIncompatible
        This installation has no embedder of exactly this identity.
    EmbedderUnavailable
        Its weights cannot be used.
    """
    given = workspace.settings.embedder.name
    return load_embedder_for(router.embedder, folder=router_folder(workspace, digest), given=given)


def find_router(registry: Registry, name: str) -> RouterRecord:
    """Find a router version by alias, digest, or version number with or without a ``v`` before it."""
    return registry.routers.get(f"v{name}" if name.isdecimal() and len(name) < _SHORTEST_DIGEST else name)
