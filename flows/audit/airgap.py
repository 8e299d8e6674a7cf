"""A version exported as a folder for machines without MLflow or network, with a script that verifies it there."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.errors import PrerequisiteError
from registry.errors import PublishIncomplete

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord

LIST, CHECKER, VERSION = "export.json", "verify.py", "version"
_SCHEMA = "uniroute.router.export/1"
_CHECKER = '''"""Verify this folder: python verify.py [DIGEST], the one that `uniroute router show` says elsewhere."""
import hashlib, json, pathlib, sys

here = pathlib.Path(__file__).resolve().parent
stated = json.loads((here / "export.json").read_text(encoding="utf-8"))
found = {
    path.relative_to(here).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in (here / "version").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts and path.name != "registered_model_meta"
}
differing = sorted(name for name in {*found, *stated["files"]} if found.get(name) != stated["files"].get(name))
router = json.loads((here / "version/artifacts/router/digests.json").read_text(encoding="utf-8"))["digest"]
if differing or len({router, stated["digest"], *sys.argv[1:2]}) > 1:
    sys.exit(f"CHANGED: {', '.join(differing) or 'the router is ' + router}")
print(f"intact: {len(found)} files of router {router}")
'''


@dataclass(frozen=True)
class ExportedVersion:
    """A version in a folder of its own.

    Attributes
    ----------
    folder
        The folder; `mlflow.pyfunc.load_model` takes the folder `version` in it.
    digest
        The router's digest, to compare with on the other side.
    n_files
        Number of files of the version.
    """

    folder: Path
    digest: str
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
            made, n_files = _lay_out(workspace, record, Path(scratch))
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise PrerequisiteError(f"{folder} cannot be written: {error.strerror}.", hint="Name another folder.") from None
    return ExportedVersion(folder, record.digest, n_files)


def _lay_out(workspace: Workspace, record: RouterRecord, scratch: Path) -> tuple[Path, int]:
    name, version = workspace.settings.mlflow.router_name, record.mlflow_version
    assert version is not None, "only a published version is exported"
    downloaded = workspace.publisher.download_version(name, version, scratch / "downloaded")
    made = scratch / "made"
    made.mkdir()
    shutil.move(downloaded.folder, made / VERSION)
    files = {
        path.relative_to(made).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((made / VERSION).rglob("*"))
        if path.is_file() and path.name != "registered_model_meta"
    }
    content = {"schema": _SCHEMA, "name": name, "version": version, "digest": record.digest, "files": files}
    (made / LIST).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (made / CHECKER).write_text(_CHECKER, encoding="utf-8")
    made.chmod(0o755)
    return made, len(files)
