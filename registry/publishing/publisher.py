"""Publish a router as one MLflow version, exactly once, wherever an earlier attempt was killed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from registry.errors import PublishIncomplete
from registry.publishing.cleanup import clean_up
from registry.publishing.connection import asking, open_client, sqlite_file
from registry.publishing.folder_check import read_folder
from registry.publishing.markdown import markdown, one_line
from registry.publishing.read import VersionReader, download_checked
from registry.publishing.request import (
    NAME,
    PUBLISH_KEY,
    DownloadedVersion,
    PublishedVersion,
    PublishRequest,
    clean_params,
    clean_tags,
    is_lookalike,
    refuse_alias,
    refuse_malformed,
    refuse_unusable,
    write_run_folder,
)
from registry.publishing.version_folder import CarriedCode, build_version_folder, routing_package
from routing.errors import InvalidInput

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from routing.router import Router

_Made = TypeVar("_Made")
_REGISTERED_DESCRIPTION = (
    "LLM router kept current by uniroute. Use it with\n"
    '`mlflow.pyfunc.load_model("models:/{name}@champion").predict(pandas.DataFrame({{"prompt": [...]}}))`;\n'
    "`params` may name `cost_weight`, `max_cost_usd_per_1k`, `min_score`, `candidates` and `exclude`."
)


class RouterPublisher(VersionReader):
    """Publish routers in MLflow and move the aliases that consumers follow.

    Parameters
    ----------
    tracking_url
        ``sqlite:///FILE``, another SQLAlchemy URL, or the URL of an MLflow server.
    registry_url
        Where versions are registered when that is another place.
    artifact_root
        Folder of the artifacts when no server keeps them; beside the SQLite file when None.
    experiment
        Experiment that runs are logged to.
    code_root
        The `routing` package that versions carry; the installed one when None.
    """

    def __init__(
        self,
        tracking_url: str,
        *,
        registry_url: str | None = None,
        artifact_root: Path | None = None,
        experiment: str = "uniroute-nights",
        code_root: Path | None = None,
    ) -> None:
        self._tracking_url = tracking_url
        self._registry_url = registry_url
        file = sqlite_file(tracking_url)
        if artifact_root is None and file is not None:
            artifact_root = file.resolve().parent / "mlflow-artifacts"
        self._artifact_root = artifact_root
        self._experiment = experiment
        self._code_root = code_root

    @cached_property
    def client(self) -> MlflowClient:
        """Open MLflow on first use."""
        return open_client(self._tracking_url, self._registry_url)

    def publish(self, request: PublishRequest) -> PublishedVersion:
        """Publish a router, or finish what an earlier attempt with the same key began.

        The version is created last, in one call with its tags and description: it exists only when everything it needs
        exists. What other attempts left behind is removed afterwards.

        Parameters
        ----------
        request
            What to publish.

        Raises
        ------
        ArtifactCorrupt
            If the router folder differs from its digests.
        InvalidInput
            If a name, metric or tag cannot be published, or the key belongs to another router.
        PublishIncomplete
            If MLflow cannot be reached or refuses; calling again resumes.
        """
        from routing.artifact import load_router

        router = load_router(request.router_folder)
        refuse_unusable(request, router.digest)
        client = self.client
        failure = f"{request.name} ({request.publish_key}) was not published"
        with asking(self._tracking_url, failure):
            earlier = _versions_of(client, request.name, request.publish_key)
        if earlier:
            version, created = earlier[0], False
        else:
            version, created = self._create_or_find(client, request, router, failure)
        tagged = version.tags.get("digest")
        if tagged != router.digest:
            raise InvalidInput(
                f"The publish key {request.publish_key!r} belongs to another router ({tagged}).",
                unchanged=f"{request.name} version {version.version} is as it was.",
                hint="Publish this router under a key of its own.",
            )
        with asking(self._tracking_url, f"{request.name} version {version.version} was published but not tidied up"):
            all_of_key = _versions_of(client, request.name, request.publish_key)
            clean_up(client, version, all_of_key, served=set(_aliases(client, request.name).values()))
        return _published(version, created=created)

    def find_by_publish_key(self, name: str, publish_key: str) -> PublishedVersion | None:
        """Return the version published under a key, or None.

        Parameters
        ----------
        name
            Name of the registered router.
        publish_key
            The key it was published under.
        """
        refuse_malformed(name, NAME, "name")
        refuse_malformed(publish_key, PUBLISH_KEY, "publish key")
        client = self.client
        with asking(self._tracking_url, f"the versions of {name} could not be searched"):
            found = _versions_of(client, name, publish_key)
        return _published(found[0], created=False) if found else None

    def aliases(self, name: str) -> Mapping[str, int]:
        """Return the version number behind each alias, including aliases that are not ours.

        Parameters
        ----------
        name
            Name of the registered router; one that does not exist has no aliases.
        """
        client = self.client
        with asking(self._tracking_url, f"the aliases of {name} could not be read"):
            return _aliases(client, name)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version, and check that it does.

        Parameters
        ----------
        name
            Name of the registered router.
        alias
            ``challenger``, ``champion`` or ``previous``; MLflow itself would also accept `Champion`.
        version
            Number of an existing version.
        """
        refuse_alias(alias)
        client = self.client
        with asking(self._tracking_url, f"the alias {alias} of {name} was not moved to version {version}"):
            client.set_registered_model_alias(name, alias, str(version))
            now = _aliases(client, name).get(alias)
        if now != version:
            raise PublishIncomplete(
                f"The alias {alias} of {name} points at version {now} instead of {version}: another process moved it.",
                hint="Publish again, or move the alias by hand.",
            )

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; a missing one is not an error.

        Parameters
        ----------
        name
            Name of the registered router.
        alias
            ``challenger``, ``champion`` or ``previous``, or one that differs from these only in case.
        """
        if not is_lookalike(alias):
            refuse_alias(alias)
        client = self.client
        with asking(self._tracking_url, f"the alias {alias} of {name} was not removed"):
            if alias in _aliases(client, name):
                client.delete_registered_model_alias(name, alias)

    def download(
        self,
        name: str,
        version: int,
        to: Path,
        *,
        folder_digest: str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> DownloadedVersion:
        """Copy the router folder of a version here, checked against its digests and tags.

        Parameters
        ----------
        name
            Name of the registered router.
        version
            Number of the version.
        to
            Where to put the router folder; it appears whole or not at all, and replaces an existing one.
        folder_digest, files
            As for `download_version`.

        Raises
        ------
        ArtifactCorrupt
            If the router or the code differs from what was published.
        NotFound
            If there is no such version.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{to.name}-", dir=to.parent) as scratch:
            whole = self.download_version(name, version, Path(scratch), folder_digest=folder_digest, files=files)
            if to.exists():
                to.rename(Path(scratch) / "replaced")
            whole.router_folder.rename(to)
        return replace(whole, folder=to, router_folder=to)

    def download_version(
        self,
        name: str,
        version: int,
        to: Path,
        *,
        folder_digest: str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> DownloadedVersion:
        """Copy everything a version holds into a folder, and check it against its digests and tags.

        Parameters
        ----------
        name
            Name of the registered router.
        version
            Number of the version.
        to
            Folder to copy into; created when missing. The result says where inside it the version lies.
        folder_digest
            Digest of the whole folder when it was built; without it, the folder is compared with MLflow's own tag.
        files
            Digest of each file, when known, so that the differing ones are named.

        Raises
        ------
        ArtifactCorrupt
            If the router or the code differs from what was published.
        NotFound
            If there is no such version.
        """
        client = self.client
        with asking(self._tracking_url, f"{name} version {version} was not downloaded"):
            return download_checked(client, name, version, to, folder_digest=folder_digest, files=files)

    def _create_or_find(
        self, client: MlflowClient, request: PublishRequest, router: Router, failure: str
    ) -> tuple[ModelVersion, bool]:
        try:
            with asking(self._tracking_url, failure):
                number = self._create(client, request, router)
        except PublishIncomplete as refused:
            # Another process that published the same key has removed our attempt.
            try:
                with asking(self._tracking_url, failure):
                    won = _versions_of(client, request.name, request.publish_key)
            except PublishIncomplete:
                # A server that keeps no file often closes the connection, too: what it refused first is the reason.
                raise refused from refused.__cause__
            if not won:
                raise
            return won[0], False
        with asking(self._tracking_url, failure):
            winner = _versions_of(client, request.name, request.publish_key)[0]
        return winner, int(winner.version) == number

    def _create(self, client: MlflowClient, request: PublishRequest, router: Router) -> int:
        """Do every step up to creating the version, which commits them."""
        from mlflow.entities import LoggedModelOutput, Metric, Param

        code = CarriedCode.of(self._code_root or routing_package())
        tags = _tags(request, router, code)
        description = markdown(request.description)
        experiment_id = self._experiment_id(client, request.experiment or self._experiment)
        run = client.create_run(
            experiment_id,
            run_name=one_line(request.run_name or request.publish_key, 250),
            tags=tags | {"mlflow.note.content": description, "mlflow.source.name": "uniroute"},
        )
        run_id = run.info.run_id
        client.log_batch(run_id, params=[Param(key, cell) for key, cell in clean_params(request.params).items()])
        with tempfile.TemporaryDirectory(prefix="uniroute-publish-") as scratch:
            client.log_artifacts(run_id, str(write_run_folder(Path(scratch) / "run", request)))
            logged = client.create_logged_model(
                experiment_id, name="router-version", source_run_id=run_id, tags=tags, model_type="uniroute.router"
            )
            folder = Path(scratch) / "version"
            build_version_folder(
                folder,
                router_folder=request.router_folder,
                router_digest=router.digest,
                embedder_name=router.embedder.name,
                code=code,
                run_id=run_id,
                logged_id=logged.model_id,
            )
            built = read_folder(folder)
            signed = None if request.on_built is None else request.on_built(built)
            folder_tags = {"version_digest": built.digest} | ({} if signed is None else {"signature": signed})
            client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        at = run.info.start_time
        metrics = [Metric(key, cell, at, 0, model_id=logged.model_id) for key, cell in request.metrics.items()]
        client.log_batch(run_id, metrics=metrics)
        purpose = _REGISTERED_DESCRIPTION.format(name=request.name)
        _unless_exists(lambda: client.create_registered_model(request.name, description=purpose))
        # Not models:/<id>: the SQL store would look up the id in MLflow's global tracking URI and create a database.
        version = client.create_model_version(
            request.name,
            source=logged.artifact_location,
            run_id=run_id,
            tags=tags | folder_tags,
            description=description,
            model_id=logged.model_id,
        )
        return int(version.version)

    def _experiment_id(self, client: MlflowClient, name: str) -> str:
        found = client.get_experiment_by_name(name)
        if found is None:
            location = None if self._artifact_root is None else (self._artifact_root.resolve() / quote(name)).as_uri()
            created = _unless_exists(lambda: client.create_experiment(name, artifact_location=location))
            if created is not None:
                return created
            found = client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise PublishIncomplete(
                f"The MLflow experiment {name} was deleted, so nothing can be published to it.",
                unchanged="What is served and the registry are as they were.",
                hint=f"mlflow experiments restore --experiment-id {found.experiment_id}",
            )
        return found.experiment_id


def _versions_of(client: MlflowClient, name: str, publish_key: str) -> list[ModelVersion]:
    """Return the versions of a key, the oldest first: that one is the version of the key."""
    found = client.search_model_versions(f"name = '{name}' and tags.publish_key = '{publish_key}'")
    return sorted(found, key=lambda version: int(version.version))


def _aliases(client: MlflowClient, name: str) -> Mapping[str, int]:
    # A search of versions returns them without their aliases.
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: int(version) for alias, version in sorted(registered.aliases.items())}


def _tags(request: PublishRequest, router: Router, code: CarriedCode) -> dict[str, str]:
    facts = {"embedder": router.embedder.key, "n_llms": len(router.keys), "code_digest": code.digest}
    return clean_tags(facts | dict(request.tags) | {"publish_key": request.publish_key, "digest": router.digest})


def _published(version: ModelVersion, *, created: bool) -> PublishedVersion:
    return PublishedVersion(
        name=version.name,
        version=int(version.version),
        run_id=version.run_id,
        created=created,
        artifact_uri=version.source,
        digest=version.tags.get("digest", ""),
        publish_key=version.tags.get("publish_key", ""),
        folder_digest=version.tags.get("version_digest", ""),
    )


def _unless_exists(create: Callable[[], _Made]) -> _Made | None:
    """Create something that another process may have created just before."""
    from mlflow.exceptions import MlflowException

    try:
        return create()
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return None
