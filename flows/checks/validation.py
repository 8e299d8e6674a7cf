"""Validate settings: what a night checks before it starts and, on request, whether everything it needs answers."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from flows.catalogs import Catalog, open_catalog
from flows.checks import preflight
from flows.checks.design import PromptDesign, design_of
from flows.checks.prompts import with_roles
from flows.config.loading import read_key
from flows.config.prefect_server import API_URL, require_prefect
from flows.config.settings import EndpointSettings, RegistrySettings, Settings
from flows.errors import CatalogMalformed, CatalogUnavailable, ServerUnavailable
from flows.findings import Finding, Severity
from flows.text import counted
from flows.workspace import Workspace
from registry.errors import MlflowUnavailable, RegistryBusy
from registry.llms import CatalogFetch
from registry.prompts import PromptSet
from routing.errors import UnirouteError

_NAMES_SHOWN = 5
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
            preflight.check_prompts(workspace, found)
    prompts = _prompts(found, design_of(found, settings))
    closed = _closed_endpoints(settings)
    if connect:
        return (prompts, *_connections(settings, set(closed)))
    return (prompts, *_files(settings, set(closed)), *closed.values())


def _closed_endpoints(settings: Settings) -> dict[str, Finding]:
    """Return the endpoints that cannot be called with these settings, because of a missing key for example."""
    closed = {}
    with Workspace(settings, migrate=False) as workspace:
        for endpoint in settings.endpoint:
            try:
                workspace.open_endpoint(endpoint)
            except UnirouteError as error:
                closed[endpoint.name] = _failed(f"endpoint {endpoint.name}", error)
    return closed


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


def _connections(settings: Settings, closed: Collection[str]) -> Iterator[Finding]:
    with Workspace(settings, migrate=False) as workspace:
        yield _finding("registry", lambda: _registry(workspace))
        yield _finding("mlflow", lambda: _mlflow(workspace))
        if os.environ.get(API_URL):
            yield _finding("prefect", lambda: f"version {require_prefect() or 'of Prefect Cloud'}")
        if settings.is_sandbox:
            return
        catalogs = workspace.catalogs(without=closed)
    served: dict[str, CatalogFetch] = {}
    endpoints = []
    for endpoint in settings.endpoint:
        try:
            served[endpoint.name] = _list_of(endpoint).fetch()
            said = f"lists {_counted_listings(served[endpoint.name])}"
            endpoints.append(Finding(f"endpoint {endpoint.name}", "ok", said))
        except UnirouteError as error:
            endpoints.append(_failed(f"endpoint {endpoint.name}", error))
    yield from _read_catalogs(catalogs, served)
    yield from endpoints


def _files(settings: Settings, closed: Collection[str]) -> Iterator[Finding]:
    """Check the catalogs that are files on this machine, which needs no connection."""
    if settings.is_sandbox:
        return
    with Workspace(settings, migrate=False) as workspace:
        catalogs = [catalog for catalog in workspace.catalogs(without=closed) if catalog.is_file]
    yield from _read_catalogs(catalogs, {})


def _read_catalogs(catalogs: Sequence[Catalog], served: Mapping[str, CatalogFetch]) -> Iterator[Finding]:
    """Read catalogs and check what they list together; `served` is what endpoints list themselves."""
    fetches: dict[str, CatalogFetch] = {}
    failures: dict[str, Finding] = {}
    for catalog in catalogs:
        try:
            fetches[catalog.name] = catalog.fetch()
        except UnirouteError as error:
            failures[catalog.name] = _failed(f"catalog {catalog.name}", error)
    listed = [one for fetch in fetches.values() for one in fetch.listings]
    priced = {one.llm_key for one in listed if one.input_usd_per_mtok is not None}
    for catalog in catalogs:
        if catalog.name in failures:
            yield failures[catalog.name]
        else:
            yield _catalog_finding(catalog, fetches[catalog.name], priced, served.get(catalog.endpoint))


def _catalog_finding(
    catalog: Catalog, fetch: CatalogFetch, priced: Collection[str], served: CatalogFetch | None
) -> Finding:
    """Say what a catalog lists; a file that a person wrote must list LLMs that exist, with prices."""
    subject, said = f"catalog {catalog.name}", _counted_listings(fetch)
    problems = []
    if fetch.quarantined:
        first = fetch.quarantined[0]
        problems.append(
            f"{counted(len(fetch.quarantined), 'row')} cannot be read; row {first.position + 1}: {first.reason}"
        )
    if not fetch.listings and fetch.left_out:
        problems.append("include and exclude leave out every id")
    if catalog.precedence == 0:
        unpriced = [f"{one.llm_id} ({one.refusal})" for one in fetch.listings if one.llm_key not in priced]
        if unpriced:
            problems.append(f"no usable price for {_named(unpriced)}")
        there = {one.llm_id for one in served.listings} if served is not None and served.is_complete else None
        absent = [one.llm_id for one in fetch.listings if there is not None and one.llm_id not in there]
        if absent:
            problems.append(f"its endpoint does not list {_named(absent)}")
    if not problems:
        return Finding(subject, "ok", said)
    error = CatalogMalformed(
        f"{subject}: {'; '.join(problems)}", unchanged="Nothing was called.", hint="Correct the file, or include."
    )
    return Finding(subject, "refused", f"{said}; {'; '.join(problems)}", error.hint, error)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _counted_listings(fetch: CatalogFetch) -> str:
    left_out = f", {len(fetch.left_out):,} more left out by the settings" if fetch.left_out else ""
    return counted(len(fetch.listings), "LLM") + left_out


def _finding(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, "ok", look())
    except UnirouteError as error:
        return _failed(subject, error)


def _failed(subject: str, error: UnirouteError) -> Finding:
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


def _list_of(endpoint: EndpointSettings) -> Catalog:
    """Open an endpoint's list of LLMs, with the key that a night would use."""
    key = read_key(endpoint)
    return open_catalog(
        name=endpoint.name,
        kind="openai",
        location=f"{endpoint.base_url.rstrip('/')}/models",
        endpoint=endpoint.name,
        api_key=key.get_secret_value() if key is not None else None,
        allow_insecure=endpoint.allow_insecure,
        subject=f"endpoint {endpoint.name}",
    )
