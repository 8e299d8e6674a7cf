"""Trying settings out: what a night checks before it starts, and on request whether everything it needs answers."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.catalogs import open_catalog
from flows.checks import preflight
from flows.config.loading import read_key
from flows.config.prefect_server import API_URL, require_prefect
from flows.config.settings import EndpointSettings, RegistrySettings, Settings
from flows.workspace import Workspace
from registry.prompts import PromptSet
from routing.errors import UnirouteError


@dataclass(frozen=True)
class Trial:
    """What one part came to.

    Attributes
    ----------
    part
        What was tried: ``prompts``, ``registry``, ``mlflow``, ``prefect``, ``catalog NAME`` or ``endpoint NAME``.
    finding
        What was found; of a part that failed, why.
    error
        The error of a part that failed.
    """

    part: str
    finding: str
    error: UnirouteError | None = None


def validate(settings: Settings, *, connect: bool) -> tuple[Trial, ...]:
    """Try out settings; no LLM is called, and nothing stays changed but that an MLflow server has kept a file a moment.

    Parameters
    ----------
    settings
        What to try out.
    connect
        Whether registry, MLflow, Prefect's server if one is configured, catalogs and endpoints are asked, too.

    Raises
    ------
    UnirouteError
        A night with these settings would be refused before it starts.
    """
    with tempfile.TemporaryDirectory(prefix="uniroute-validate-") as scratch:
        # The night's own checks freeze the prompts in a registry: they get one that is thrown away.
        aside = settings.model_copy(update={"home": Path(scratch), "registry": RegistrySettings()})
        with Workspace(aside) as workspace:
            preflight.check(workspace)
            trials = [Trial("prompts", _described(workspace.prompt_set))]
    return (*trials, *_connections(settings)) if connect else tuple(trials)


def _described(prompt_set: PromptSet) -> str:
    roles = Counter(member.role for member in prompt_set.members)
    graders = Counter(prompt.grader for prompt in prompt_set.prompts)
    counted = [", ".join(f"{count} {name}" for name, count in counts.most_common()) for counts in (roles, graders)]
    return f"{len(prompt_set.members)} prompts: {counted[0]}; graders: {counted[1]}"


def _connections(settings: Settings) -> Iterator[Trial]:
    with Workspace(settings, migrate=False) as workspace:
        yield _trial("registry", lambda: _registry(workspace))
        yield _trial("mlflow", lambda: _mlflow(workspace))
        if os.environ.get(API_URL):
            yield _trial("prefect", lambda: f"version {require_prefect() or 'of Prefect Cloud'}")
        if settings.is_sandbox:
            return
        for catalog in workspace.catalogs():
            yield _trial(f"catalog {catalog.name}", lambda catalog=catalog: f"{len(catalog.fetch().listings)} LLMs")
    for endpoint in settings.endpoint:
        yield _trial(f"endpoint {endpoint.name}", lambda endpoint=endpoint: _endpoint(endpoint))


def _trial(part: str, look: Callable[[], str]) -> Trial:
    try:
        return Trial(part, look())
    except UnirouteError as error:
        return Trial(part, error.message, error)


def _registry(workspace: Workspace) -> str:
    from registry import clock
    from registry.errors import NotFound

    try:
        found = workspace.registry.schema_status()
    except NotFound:
        return "not there yet; the first night makes it"
    workspace.registry.require_usable(found)
    behind_s = clock.behind().total_seconds()
    skew = f"; this machine's clock is {abs(behind_s):.0f} s {'behind' if behind_s > 0 else 'ahead of'} its clock"
    return f"schema {found.current or 'none'}, {len(found.pending)} migrations pending{skew if behind_s else ''}"


def _mlflow(workspace: Workspace) -> str:
    from registry.publishing.probe import probe_publishing

    if workspace.settings.artifact_root is not None and not workspace.settings.home.is_dir():
        return "not there yet; the first night makes it"
    server = probe_publishing(workspace.settings.mlflow_url, workspace.settings.mlflow.experiment)
    aliases = workspace.publisher.aliases(workspace.settings.mlflow.router_name)
    named = ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
    return ", ".join(filter(None, (server and f"MLflow {server}", named or "no router version yet")))


def _endpoint(endpoint: EndpointSettings) -> str:
    """Ask an endpoint for its list of LLMs, with the key that the night would use."""
    key = read_key(endpoint)
    listed = open_catalog(
        name=endpoint.name,
        kind="openai",
        location=f"{endpoint.base_url.rstrip('/')}/models",
        endpoint=endpoint.name,
        api_key=key.get_secret_value() if key is not None else None,
        allow_insecure=endpoint.allow_insecure,
    ).fetch()
    return f"lists {len(listed.listings)} LLMs"
