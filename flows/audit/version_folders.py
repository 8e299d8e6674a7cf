"""Whether the folders of router versions in MLflow hold what was published."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flows.findings import Finding, compared
from flows.text import counted
from flows.versions.store import fetch_version, require_intact
from registry.errors import NotFound, PublishIncomplete, RegistryCorrupt
from routing.errors import ArtifactError

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord

_NOTE = "uniroute doctor --repair (keeps the digest that it has now)"


def folders_finding(workspace: Workspace, records: Sequence[RouterRecord]) -> Finding:
    """Compare every published version's whole folder with what was kept when it was built.

    Parameters
    ----------
    workspace
        The opened parts; nothing in them is changed.
    records
        The versions.
    """
    subject, lines, unreachable = "version folders in MLflow", [], ""
    published = [record for record in records if record.mlflow_version is not None]
    unknown = unknown_folders(workspace, published)
    for record in published:
        try:
            require_intact(workspace, record)
        except PublishIncomplete as error:
            unreachable = error.message
            break
        except (NotFound, ArtifactError, RegistryCorrupt) as error:
            lines.append(error.message.rstrip("."))
    if lines:
        return compared(subject, lines, "")
    if unreachable:
        return Finding(subject, "unreachable", unreachable)
    if unknown:
        return Finding(subject, "attention", unknown_text(unknown), _NOTE)
    return Finding(subject, "ok", f"{counted(len(published), 'version')}, every file as it was built")


def known_finding(workspace: Workspace, record: RouterRecord) -> Finding:
    """Return whether there is anything to compare a version's folder with, and since when."""
    subject = "digest of the folder"
    try:
        known = workspace.registry.routers.known_folder(record)
    except RegistryCorrupt as error:
        return Finding(subject, "damaged", error.message)
    if known is None:
        return Finding(subject, "attention", unknown_text([record]), _NOTE)
    when = "found later on" if known.is_found else "kept when it was built"
    return Finding(subject, "ok", f"{known.digest}, {when} (event {known.event_number} of the ledger)")


def unknown_folders(workspace: Workspace, records: Sequence[RouterRecord]) -> list[RouterRecord]:
    """Return the versions that were published before the digest of their folder was kept."""
    unknown = []
    for record in records:
        if record.mlflow_version is not None and record.folder_digest is None:
            with suppress(RegistryCorrupt):  # it was removed, which the comparison itself reports
                unknown += [record] if workspace.registry.routers.known_folder(record) is None else []
    return unknown


def unknown_text(records: Sequence[RouterRecord]) -> str:
    """Return which versions have nothing to compare their folders with but MLflow's own tags."""
    names = ", ".join(str(one.mlflow_version) for one in records)
    which = "version" if len(records) == 1 else "versions"
    return f"{which} {names}: published before it was kept, so compared with MLflow's own tags only"


def keep_found(workspace: Workspace, record: RouterRecord, *, actor: str, now: datetime) -> Finding:
    """Keep the digest that the folder of a version has now, of which none was kept when it was published.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The version.
    actor, now
        Who keeps it, and when, for the ledger.
    """
    title = f"folder of version {record.mlflow_version}"
    try:
        with tempfile.TemporaryDirectory(prefix="uniroute-version-") as scratch:
            found = fetch_version(workspace, record, Path(scratch)).content
    except (NotFound, ArtifactError) as error:
        return Finding(title, "damaged", error.message)
    workspace.registry.routers.note_found(record.digest, found.files, found.digest, actor=actor, now=now)
    return Finding(title, "ok", f"its digest was unknown and is kept from now on: {found.digest}")
