"""Validate settings: what a night checks before it starts and, on request, whether everything it needs answers."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.catalogs import Catalog, open_catalog
from flows.checks import preflight
from flows.checks.design import PromptDesign, design_of
from flows.checks.prompts import with_roles
from flows.config.loading import read_key
from flows.config.prefect_server import API_URL, require_prefect
from flows.config.settings import EndpointSettings, RegistrySettings, Settings
from flows.errors import CatalogUnavailable, ServerUnavailable
from flows.findings import Finding, Severity
from flows.text import counted
from flows.workspace import Workspace
from registry.errors import MlflowUnavailable, RegistryBusy
from registry.prompts import PromptSet
from routing.errors import UnirouteError

_OUT_OF_REACH = (CatalogUnavailable, MlflowUnavailable, RegistryBusy, ServerUnavailable)


def validate(settings: Settings, *, connect: bool) -> tuple[Finding, ...]:
    """Validate settings; no LLM is called, and no change remains: an MLflow server keeps one file for a moment.

    Parameters
    ----------
    settings
        What to validate.
    connect
        Whether to connect to the registry, MLflow, Prefect's server if one is configured, catalogs and endpoints too.

    Returns
    -------
    tuple
        One finding for each of ``prompts``, ``registry``, ``mlflow``, ``prefect``, ``catalog NAME`` and
        ``endpoint NAME`` that was checked; one that failed carries its error.

    Raises
    ------
    UnirouteError
        A night with these settings would be refused before it starts.
    """
    with tempfile.TemporaryDirectory(prefix="uniroute-validate-") as scratch:
        # The night's own checks freeze the prompts in a registry, so they get a temporary one.
        scratch_settings = settings.model_copy(update={"home": Path(scratch), "registry": RegistrySettings()})
        with Workspace(scratch_settings) as workspace:
            found = with_roles(settings, workspace.prompt_set.prompts, connect=connect)
            preflight.check(workspace, found)
    prompts = _prompts(found, design_of(found, settings))
    return (prompts, *_connections(settings)) if connect else (prompts,)


def _prompts(prompt_set: PromptSet, design: PromptDesign) -> Finding:
    described = f"{_described(prompt_set)}; {design.sight}"
    if design.is_sound:
        return Finding("prompts", "ok", described)
    return Finding("prompts", "attention", f"{described}. {design.verdict}", "uniroute prompt check")


def _described(prompt_set: PromptSet) -> str:
    roles = Counter(member.role for member in prompt_set.members)
    graders = Counter(prompt.grader for prompt in prompt_set.prompts)
    listed = [", ".join(f"{count:,} {name}" for name, count in counts.most_common()) for counts in (roles, graders)]
    return f"{counted(len(prompt_set.members), 'prompt')}: {listed[0]}; graders: {listed[1]}"


def _connections(settings: Settings) -> Iterator[Finding]:
    with Workspace(settings, migrate=False) as workspace:
        yield _finding("registry", lambda: _registry(workspace))
        yield _finding("mlflow", lambda: _mlflow(workspace))
        if os.environ.get(API_URL):
            yield _finding("prefect", lambda: f"version {require_prefect() or 'of Prefect Cloud'}")
        if settings.is_sandbox:
            return
        for catalog in workspace.catalogs():
            yield _finding(f"catalog {catalog.name}", lambda catalog=catalog: _listed(catalog))
    for endpoint in settings.endpoint:
        yield _finding(f"endpoint {endpoint.name}", lambda endpoint=endpoint: _endpoint(endpoint))


def _finding(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, "ok", look())
    except UnirouteError as error:
        severity: Severity = "unreachable" if isinstance(error, _OUT_OF_REACH) else "refused"
        return Finding(subject, severity, error.message, error.hint, error)


def _registry(workspace: Workspace) -> str:
    from registry import clock
    from registry.errors import NotFound

    try:
        found = workspace.registry.schema_status()
    except NotFound:
        return "not there yet; the first night creates it"
    workspace.registry.require_usable(found)
    behind_s = clock.behind().total_seconds()
    skew = f"; this machine's clock is {abs(behind_s):.0f} s {'behind' if behind_s > 0 else 'ahead of'} its clock"
    pending = counted(len(found.pending), "migration")
    return f"schema {found.current or 'none'}, {pending} pending{skew if behind_s else ''}"


def _mlflow(workspace: Workspace) -> str:
    from registry.publishing.probe import probe_publishing

    if workspace.settings.artifact_root is not None and not workspace.settings.home.is_dir():
        return "not there yet; the first night creates it"
    server = probe_publishing(workspace.settings.mlflow_url, workspace.settings.mlflow.experiment)
    aliases = workspace.publisher.aliases(workspace.settings.mlflow.router_name)
    named = ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
    return ", ".join(filter(None, (server and f"MLflow {server}", named or "no router version yet")))


def _endpoint(endpoint: EndpointSettings) -> str:
    """Fetch an endpoint's list of LLMs, with the key that a night would use."""
    key = read_key(endpoint)
    catalog = open_catalog(
        name=endpoint.name,
        kind="openai",
        location=f"{endpoint.base_url.rstrip('/')}/models",
        endpoint=endpoint.name,
        api_key=key.get_secret_value() if key is not None else None,
        allow_insecure=endpoint.allow_insecure,
        subject=f"endpoint {endpoint.name}",
    )
    return f"lists {_listed(catalog)}"


def _listed(catalog: Catalog) -> str:
    return counted(len(catalog.fetch().listings), "LLM")
