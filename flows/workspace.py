"""What a night or a command works with: opened from the settings when first needed, and closed together."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Collection
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flows import logs
from flows.config.loading import read_key
from flows.config.settings import CatalogSettings, EndpointSettings, Settings
from flows.errors import PrerequisiteError
from flows.urls import is_same_origin
from registry.store import Registry

if TYPE_CHECKING:
    from types import TracebackType

    from flows.catalogs import Catalog
    from flows.endpoints import BoundedEndpoint
    from flows.sandbox import Sandbox
    from registry.prompts import PromptSet
    from registry.publishing import RouterPublisher
    from routing.embedding import Embedder

SANDBOX = "sandbox"


class Workspace:
    """Open the parts named by the settings, each on first use; leaving the context closes what was opened.

    Parameters
    ----------
    settings
        What to open.
    migrate
        Whether the registry is created, or migrated to the schema of this code; if not, it is opened as it is.
    """

    def __init__(self, settings: Settings, *, migrate: bool = True) -> None:
        self.settings = settings
        self._migrate = migrate
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        logs.set_up(self.settings)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @cached_property
    def home(self) -> Path:
        """The home folder, created if it is missing."""
        home = self.settings.home
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PrerequisiteError(
                f"The home folder {home} cannot be created: {error.strerror}.",
                hint="Set UNIROUTE_HOME to a folder you may write to.",
            ) from None
        if not os.access(home, os.W_OK):
            raise PrerequisiteError(
                f"The home folder {home} is not writable.", hint="Set UNIROUTE_HOME to a folder you may write to."
            )
        return home

    @property
    def free_bytes(self) -> int:
        """Bytes free on the disk where the home folder is, or will be."""
        folder = self.settings.home
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @cached_property
    def registry(self) -> Registry:
        """The registry, migrated to the schema of this code unless it is to stay as it is."""
        if self._migrate and not self.settings.registry.url:
            _ = self.home
        return self._opened.enter_context(Registry.open(self.settings.registry_url, migrate=self._migrate))

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder that the settings name."""
        from routing.errors import InvalidInput

        try:
            return self.open_embedder(self.settings.embedder.name)
        except InvalidInput as error:
            raise PrerequisiteError(
                f"The setting [embedder] name is refused: {error.message}",
                unchanged="Nothing was called.",
                hint=error.hint,
            ) from None

    def open_embedder(self, name: str) -> Embedder:
        """Open an embedder by name; its table, if it has one, is stored in the home folder."""
        from routing.embedders import load_embedder

        return load_embedder(name, folder=self.settings.home / "embedders")

    @cached_property
    def publisher(self) -> RouterPublisher:
        """The connection to MLflow."""
        from registry.publishing import RouterPublisher

        root = self.settings.artifact_root
        if root is not None:
            _ = self.home
        return RouterPublisher(self.settings.mlflow_url, artifact_root=root, experiment=self.settings.mlflow.experiment)

    @cached_property
    def sandbox(self) -> Sandbox:
        """The sandbox, started on first use."""
        from flows.sandbox import Sandbox

        return self._opened.enter_context(Sandbox())

    @cached_property
    def prompt_set(self) -> PromptSet:
        """The configured prompts, or the sandbox's, frozen into a prompt set with roles."""
        from flows.prompt_file import read_prompts
        from flows.sandbox import Sandbox
        from registry.prompts import RoleShares

        wanted = self.settings.prompts
        prompts = Sandbox.night_prompts() if wanted.file is None else read_prompts(wanted.file)
        shares = RoleShares(**self.settings.role_shares)
        name = SANDBOX if wanted.file is None else wanted.name
        return self.registry.prompts.freeze(name, prompts, shares, seed=wanted.seed)

    def catalogs(self, *, without: Collection[str] = ()) -> tuple[Catalog, ...]:
        """Open the configured catalogs, in the order of the settings; the sandbox's when none is configured.

        Those of the endpoints named in `without` are left out.
        """
        from flows.catalogs import open_catalog

        configured = self.settings.catalog
        if self.settings.is_sandbox:
            location = self.sandbox.catalog_url
            configured = (CatalogSettings(name=SANDBOX, kind="openrouter", location=location, endpoint=SANDBOX),)
        return tuple(
            open_catalog(
                name=catalog.name,
                kind=catalog.kind,
                location=catalog.location,
                endpoint=catalog.endpoint,
                include=self._included(catalog),
                exclude=catalog.exclude,
                free=catalog.free,
                provider=catalog.provider,
                **self._access_of(catalog),
            )
            for catalog in configured
            if catalog.endpoint not in without
        )

    def endpoint_settings(self) -> tuple[EndpointSettings, ...]:
        """Return the endpoints to call; the sandbox's when no catalog is configured."""
        if self.settings.is_sandbox:
            return (EndpointSettings(name=SANDBOX, base_url=self.sandbox.base_url),)
        return self.settings.endpoint

    def open_endpoint(self, endpoint: EndpointSettings) -> BoundedEndpoint:
        """Return the bounded client of an endpoint; the caller enters it before calling LLMs.

        Raises
        ------
        CredentialsMissing
            The key that the settings name is not there, or cannot be sent.
        """
        from flows.endpoints import BoundedEndpoint

        return BoundedEndpoint(endpoint, read_key(endpoint), llm_patience_s=self.settings.night.llm_patience_s)

    def _included(self, catalog: CatalogSettings) -> tuple[str, ...]:
        """Return the ids that a catalog includes: the judge's too, which needs a price."""
        endpoint, _, judge_id = self.settings.judge.llm.partition(":")
        is_judges = bool(catalog.include and judge_id) and endpoint == catalog.endpoint
        return (*catalog.include, glob.escape(judge_id)) if is_judges else catalog.include

    def _access_of(self, catalog: CatalogSettings) -> dict[str, Any]:
        """Let a catalog use the key of its endpoint, but only if it is served by the very same host."""
        endpoint = next(entry for entry in self.endpoint_settings() if entry.name == catalog.endpoint)
        if not is_same_origin(catalog.location, endpoint.base_url):
            return {}
        key = read_key(endpoint)
        return {
            "api_key": key.get_secret_value() if key is not None else None,
            "allow_insecure": endpoint.allow_insecure,
        }
