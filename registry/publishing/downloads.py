"""Bring a version back from MLflow, and refuse it when it is not what was published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import NotFound
from registry.publishing.client import remove_compiled
from registry.publishing.request import DownloadedVersion
from registry.publishing.version_folder import ROUTER_FOLDER, version_digest
from routing.errors import ArtifactCorrupt

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def download_checked(client: MlflowClient, name: str, version: int, to: Path) -> DownloadedVersion:
    """Copy a version's folder and compare the router and every file with the version's tags.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    name
        Name of the registered router.
    version
        Number of the version.
    to
        Folder to copy into; made when missing.

    Raises
    ------
    ArtifactCorrupt
        If the router or the code differs from what was published.
    NotFound
        If there is no such version.
    """
    from mlflow.artifacts import download_artifacts

    from routing.artifact import load_router

    described = described_version(client, name, version)
    uri = client.get_model_version_download_uri(name, str(version))
    to.mkdir(parents=True, exist_ok=True)
    folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=client.tracking_uri))
    remove_compiled(folder)
    router_folder = folder / "artifacts" / ROUTER_FOLDER
    found = {"digest": load_router(router_folder).digest, "version_digest": version_digest(folder)}
    for kind, digest in found.items():
        if described.tags.get(kind) != digest:
            raise ArtifactCorrupt(
                f"{name} version {version} is not what was published: its {kind} is {digest}, "
                f"its tag says {described.tags.get(kind)}.",
                hint="Do not serve it: move the alias to the previous version and look who changed the artifacts.",
            )
    return DownloadedVersion(folder=folder, router_folder=router_folder, digest=found["digest"])


def described_version(client: MlflowClient, name: str, version: int) -> ModelVersion:
    """Read a version.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    name
        Name of the registered router.
    version
        Number of the version.

    Raises
    ------
    NotFound
        If there is no such version.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NotFound(f"MLflow has no version {version} of {name}.", hint="See `uniroute router list`.") from None
