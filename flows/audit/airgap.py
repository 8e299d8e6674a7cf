"""A version exported as a folder for machines without MLflow or network, with a script that verifies it there."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import PrerequisiteError
from flows.versions.store import fetch_version
from registry.errors import PublishIncomplete
from registry.publishing import folder_check

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.publishing.folder_check import FolderContent
    from registry.routers import RouterRecord

LIST, CHECKER, VERSION = "export.json", "verify.py", "version"
_SCHEMA = "uniroute.router.export/1"


@dataclass(frozen=True)
class ExportedVersion:
    """A version in a folder of its own.

    Attributes
    ----------
    folder
        The folder; `mlflow.pyfunc.load_model` takes the folder `version` in it.
    digest
        The router's digest.
    folder_digest
        Digest of the whole version, to compare with on the other side.
    n_files
        Number of files of the version.
    """

    folder: Path
    digest: str
    folder_digest: str
    n_files: int


def export_version(workspace: Workspace, record: RouterRecord, folder: Path) -> ExportedVersion:
    """Copy a version out of MLflow into a folder, all or nothing, with the digest of each file.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The version.
    folder
        Target folder; must not exist, or be empty.

    Raises
    ------
    PrerequisiteError
        The folder is not empty or cannot be written.
    PublishIncomplete
        The version is not in MLflow yet, or MLflow does not answer.
    ArtifactCorrupt
        The version is not what was published.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PrerequisiteError(
            f"{folder} is not empty.", unchanged="Nothing was written.", hint="Name a folder that does not exist yet."
        )
    if record.mlflow_version is None:
        raise PublishIncomplete(f"Router {record.digest[:12]} is not in MLflow yet.", hint="uniroute doctor --repair")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            made, content = _lay_out(workspace, record, Path(scratch))
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise PrerequisiteError(f"{folder} cannot be written: {error.strerror}.", hint="Name another folder.") from None
    return ExportedVersion(folder, record.digest, content.digest, len(content.files))


def _lay_out(workspace: Workspace, record: RouterRecord, scratch: Path) -> tuple[Path, FolderContent]:
    name, version = workspace.settings.mlflow.router_name, record.mlflow_version
    assert version is not None, "only a published version is exported"
    downloaded = fetch_version(workspace, record, scratch / "downloaded")
    made = scratch / "made"
    made.mkdir()
    shutil.move(downloaded.folder, made / VERSION)
    (made / VERSION / folder_check.NOTE).unlink(missing_ok=True)
    found = downloaded.content
    files = {f"{VERSION}/{path}": digest for path, digest in found.files.items()}
    content = {"schema": _SCHEMA, "name": name, "version": version, "digest": record.digest}
    content |= {"folder_digest": found.digest, "files": files}
    (made / LIST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(folder_check.__file__, made / CHECKER)
    made.chmod(0o755)
    return made, found
