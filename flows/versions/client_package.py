"""The client for services, written to a folder with what it compares versions with: ``uniroute client write``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import PrerequisiteError
from flows.versions.signing import trusted_keys
from flows.versions.store import find_router
from registry.publishing.trust import TRUST_FILE, Trust
from registry.publishing.version_folder import CLIENT_PACKAGE, write_client

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord


@dataclass(frozen=True)
class WrittenClient:
    """A client on disk.

    Attributes
    ----------
    package
        Its folder; the one above it is to be on the Python path.
    trust
        What it compares versions with.
    """

    package: Path
    trust: Trust


def write_client_package(workspace: Workspace, folder: Path, pins: Sequence[str]) -> WrittenClient:
    """Write the client of this installation, all or nothing; one that was written there before is replaced.

    Parameters
    ----------
    workspace
        The opened parts; nothing in them is changed.
    folder
        Where to; created when missing.
    pins
        Versions to pin, by number, alias or digest. Without any, the public keys of the settings are what counts; and
        without these, too, the versions that have an alias now.

    Raises
    ------
    NotFound
        There is no such version.
    PrerequisiteError
        There is nothing to pin, or the folder holds something else or cannot be written.
    """
    keys = trusted_keys(workspace.settings)
    registry = workspace.registry
    records = [find_router(registry, name) for name in pins]
    if not pins and not keys:
        records = [record for record in registry.routers.list() if record.aliases and record.mlflow_version is not None]
    trust = Trust(tuple(_digest_of(workspace, record) for record in records), keys)
    if not (trust.digests or trust.keys):
        raise PrerequisiteError(
            "There is no published version to pin, and no [[signing_key]] is listed.",
            unchanged="Nothing was written.",
            hint="uniroute night run",
        )
    package = folder / CLIENT_PACKAGE
    if package.exists() and not (package / TRUST_FILE).is_file():
        raise PrerequisiteError(
            f"{package} is not a client that was written before.",
            unchanged="Nothing was written.",
            hint="Name another folder.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{CLIENT_PACKAGE}-", dir=folder) as scratch:
            made = write_client(Path(scratch))
            (made / TRUST_FILE).write_text(trust.written(), encoding="utf-8")
            if package.exists():
                shutil.move(package, Path(scratch) / "replaced")
            made.rename(package)
    except OSError as error:
        raise PrerequisiteError(f"{folder} cannot be written: {error.strerror}.", hint="Name another folder.") from None
    return WrittenClient(package, trust)


def _digest_of(workspace: Workspace, record: RouterRecord) -> str:
    known = workspace.registry.routers.known_folder(record)
    if known is not None:
        return known.digest
    where = "is not in MLflow yet" if record.mlflow_version is None else "was published before its digest was kept"
    raise PrerequisiteError(
        f"Router {record.digest[:12]} {where}, so it cannot be pinned.",
        unchanged="Nothing was written.",
        hint="uniroute doctor --repair",
    )
