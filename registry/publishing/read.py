"""What MLflow records about a version: tags, parameters, metrics, and the heads of the ledger noted there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import NotFound
from registry.publishing.connection import asking
from registry.publishing.folder_check import (
    FolderChanged,
    local_folder,
    problems_of,
    read_folder,
    refuse_links,
    remove_compiled,
)
from registry.publishing.request import DownloadedVersion
from registry.publishing.version_folder import ROUTER_FOLDER
from routing.errors import ArtifactCorrupt

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

HEAD_TAG = "ledger_head"
"""Number and hash of the ledger's last event, joined by a colon."""

SIGNED_HEAD_TAG = "ledger_head_signed"
"""The last of them that was signed, with its signature."""


@dataclass(frozen=True)
class VersionDescription:
    """What MLflow says about a version.

    Attributes
    ----------
    tags, description
        Of the version.
    run_id, run_tags, params, metrics
        Of the run that published it; empty when that run was deleted.
    """

    tags: Mapping[str, str]
    description: str
    run_id: str
    run_tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class VersionReader:
    """Read what MLflow records about a version, and note there how long the ledger is."""

    _tracking_url: str

    if TYPE_CHECKING:

        @property
        def client(self) -> MlflowClient:
            """Return the client of tracking store and registry."""

    def describe(self, name: str, version: int) -> VersionDescription:
        """Return what MLflow records about a version: tags, parameters, metrics.

        Parameters
        ----------
        name
            Name of the registered router.
        version
            Number of the version.

        Raises
        ------
        NotFound
            If there is no such version.
        """
        client = self.client
        with asking(self._tracking_url, f"{name} version {version} could not be read"):
            return _description(client, name, version)

    def download_of_run(self, run_id: str, path: str, to: Path) -> Path | None:
        """Copy a file or folder that was logged with a version, and return its path; None when there is none.

        Parameters
        ----------
        run_id
            The run that published the version.
        path
            What to copy, such as `figures`.
        to
            Folder to copy into.
        """
        from mlflow.artifacts import download_artifacts

        client = self.client
        with asking(self._tracking_url, f"{path} of run {run_id} was not downloaded"):
            if path not in {one.path for one in client.list_artifacts(run_id)}:
                return None
            uri = f"runs:/{run_id}/{path}"
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=client.tracking_uri))

    def note_ledger_head(self, name: str, number: int, digest: str, *, signature: str | None = None) -> None:
        """Note the ledger's last event in MLflow, which anyone who shortens the ledger would have to change too.

        Parameters
        ----------
        name
            Name of the registered router, which exists.
        number, digest
            The event's number and hash.
        signature
            The signed statement on it, if there is one.
        """
        client = self.client
        with asking(self._tracking_url, f"the head of the ledger was not noted at {name}"):
            client.set_registered_model_tag(name, HEAD_TAG, f"{number}:{digest}")
            if signature is not None:
                client.set_registered_model_tag(name, SIGNED_HEAD_TAG, signature)

    def signed_ledger_head(self, name: str) -> str | None:
        """Return the signed head of the ledger that was noted in MLflow last; None when there is none.

        Parameters
        ----------
        name
            Name of the registered router; one that does not exist has noted nothing.
        """
        client = self.client
        with asking(self._tracking_url, f"the signed head of the ledger at {name} could not be read"):
            return _tags_of(client, name).get(SIGNED_HEAD_TAG)

    def noted_ledger_heads(self, name: str) -> Mapping[str, str]:
        """Return every head of the ledger that was noted in MLflow, by hash, with the place where it was noted.

        Parameters
        ----------
        name
            Name of the registered router; one that does not exist has noted nothing.
        """
        client = self.client
        with asking(self._tracking_url, f"the noted heads of the ledger at {name} could not be read"):
            return _noted_heads(client, name)


def _description(client: MlflowClient, name: str, version: int) -> VersionDescription:
    from mlflow.exceptions import MlflowException

    found = described_version(client, name, version)
    try:
        data = client.get_run(found.run_id).data
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return VersionDescription(dict(found.tags), found.description or "", found.run_id, {}, {}, {})
    return VersionDescription(
        tags=dict(found.tags),
        description=found.description or "",
        run_id=found.run_id,
        run_tags=dict(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
    )


def _tags_of(client: MlflowClient, name: str) -> Mapping[str, str]:
    """Return the tags of a registered router; none when it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_registered_model(name).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _noted_heads(client: MlflowClient, name: str) -> Mapping[str, str]:
    noted = [(_tags_of(client, name).get(HEAD_TAG), f"MLflow's tags of {name}")]
    for version in client.search_model_versions(f"name = '{name}'"):
        noted.append((version.tags.get(HEAD_TAG), f"MLflow's tags of {name} version {version.version}"))
    return {text.partition(":")[2]: place for text, place in reversed(noted) if text is not None}


def download_checked(
    client: MlflowClient,
    name: str,
    version: int,
    to: Path,
    *,
    folder_digest: str | None = None,
    files: Mapping[str, str] | None = None,
) -> DownloadedVersion:
    """Copy a version's folder and compare every file with what was kept of it, and the router with the version's tag.

    Parameters
    ----------
    client
        Opened client of tracking store and registry.
    name
        Name of the registered router.
    version
        Number of the version.
    to
        Folder to copy into; created when missing.
    folder_digest
        Digest of the whole folder when it was built; the version's own tag when None.
    files
        Digest of each file, when known.

    Raises
    ------
    ArtifactCorrupt
        If the router or any file differs from what was published.
    NotFound
        If there is no such version.
    """
    from mlflow.artifacts import download_artifacts

    from routing.artifact import load_router

    described = described_version(client, name, version)
    uri = client.get_model_version_download_uri(name, str(version))
    to.mkdir(parents=True, exist_ok=True)
    try:
        refuse_links(local_folder(uri))
    except FolderChanged as error:
        raise _changed(name, version, str(error)) from None
    folder = Path(download_artifacts(artifact_uri=uri, dst_path=str(to), tracking_uri=client.tracking_uri))
    tagged, published_as = described.tags.get("version_digest", ""), (name, str(version))
    problems = list(problems_of(folder, folder_digest or tagged, files=files, published_as=published_as))
    if folder_digest is not None and tagged != folder_digest:
        problems.append(f"its tag version_digest says {tagged}, not {folder_digest}")
    if problems:
        raise _changed(name, version, "; ".join(problems))
    remove_compiled(folder)
    router_folder = folder / "artifacts" / ROUTER_FOLDER
    digest = load_router(router_folder).digest
    if described.tags.get("digest") != digest:
        raise _changed(
            name, version, f"its router has the digest {digest}, its tag says {described.tags.get('digest')}"
        )
    return DownloadedVersion(folder, router_folder, digest, read_folder(folder))


def _changed(name: str, version: int, problem: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"{name} version {version} is not what was published: {problem}.",
        hint="Do not serve it: move the alias to the previous version and find out who changed the artifacts.",
    )


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
