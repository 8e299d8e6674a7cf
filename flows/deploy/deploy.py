"""``uniroute deploy``: set up a registry and a Prefect server for the flows of this code, part by part."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.config.prefect_server import API_URL, require_prefect
from flows.config.settings import Settings
from flows.deploy.deployables import NOTHING_CHANGED, config_for_workers, deployments, refuse_temporary_home
from flows.errors import PrerequisiteError, ServerUnavailable
from flows.findings import Finding, Severity
from flows.masking import mask_urls
from flows.text import counted
from flows.workspace import Workspace
from registry.errors import NotFound
from registry.publishing.connection import sqlite_file
from registry.store import Registry, SchemaStatus

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events.schemas.automations import AutomationCore

AUTOMATIONS = Path("docker/automations.yaml")
_POOL_TYPE = "process"
_BEFORE = "What was set up before that is kept."


def deploy(
    settings: Settings, config: str | None, *, pool: str, cron: str, automations: Path | None, is_dry_run: bool
) -> tuple[Finding, ...]:
    """Set up what nights on workers need; a second call finds everything in place.

    Parameters
    ----------
    settings
        What the settings file says.
    config
        The settings file named on the command line; None finds it.
    pool
        The work pool, created if it is missing.
    cron
        When nights run, in UTC.
    automations
        A file of automations, as ``prefect automation create --from-file`` reads it.
    is_dry_run
        Whether to report only what would change.

    Returns
    -------
    tuple
        One finding for each part: ``prefect``, ``work pool``, ``registry``, ``mlflow``, each ``deployment`` and
        ``automation``; ``ok`` when nothing had to be done about it, else ``made`` or ``renewed``.

    Raises
    ------
    PrerequisiteError
        No server or settings file is named, the server has another version, or the pool has another type.
    CredentialsMissing
        Prefect refuses the credentials.
    ServerUnavailable
        Prefect does not answer.
    PublishIncomplete
        MLflow does not answer, refuses the credentials, or cannot be published to.
    """
    workers_config = config_for_workers(config)
    refuse_temporary_home(settings)
    to_deploy = deployments(workers_config, cron, pool=pool)
    to_automate = _read_automations(automations) if automations is not None else []
    server = _require_server()

    async def steps() -> tuple[Finding, ...]:
        async with _server() as client:
            found = [Finding("prefect", "ok", server), await _pool(client, pool, is_dry_run)]
            found += [_registry(settings, is_dry_run), _mlflow(settings)]
            found += [await _apply(client, deployment, is_dry_run) for deployment in to_deploy]
            found += [await _automate(client, automation, is_dry_run) for automation in to_automate]
        return tuple(found)

    return asyncio.run(steps())


def _registry(settings: Settings, is_dry_run: bool) -> Finding:
    before: SchemaStatus | None = None
    with suppress(NotFound), Registry.open(settings.registry_url, migrate=False) as registry:
        before = registry.schema_status()
    if is_dry_run:
        if before is None or before.current is None:
            return Finding("registry", "made", "to be created")
        pending = f"{counted(len(before.pending), 'migration')} pending"
        return Finding("registry", "ok" if before.is_current else "renewed", pending)
    with Workspace(settings) as workspace:
        now = workspace.registry.schema_status()
    is_new = before is None or before.current is None
    return Finding("registry", "made" if is_new else "ok" if before == now else "renewed", f"schema {now.current}")


def _mlflow(settings: Settings) -> Finding:
    """Read the aliases of the routers from MLflow, as every night does."""
    file = sqlite_file(settings.mlflow_url)
    if file is not None and not file.exists():
        return Finding("mlflow", "ok", "not there yet; the first night creates it")
    with Workspace(settings) as workspace:
        aliases = workspace.publisher.aliases(settings.mlflow.router_name)
    named = ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
    return Finding("mlflow", "ok", named or "no router version yet")


def _require_server() -> str:
    """Return which server is configured; refuse one that cannot be worked with."""
    url = os.environ.get(API_URL)
    if not url:
        raise PrerequisiteError(
            "No Prefect server is configured.",
            unchanged=NOTHING_CHANGED,
            hint=f"export {API_URL}=http://HOST:4200/api, or run nights here: uniroute night serve",
        )
    return f"{require_prefect() or 'Prefect Cloud'} at {mask_urls(url)}"


@asynccontextmanager
async def _server() -> AsyncIterator[PrefectClient]:
    """Open a client of the configured server, and translate its failures into our errors."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        with _translated_failures(mask_urls(str(client.api_url))):
            yield client


@contextmanager
def _translated_failures(url: str) -> Iterator[None]:
    import httpx
    from prefect.deployments.runner import DeploymentApplyError
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except DeploymentApplyError as error:
        raise PrerequisiteError(
            f"The Prefect server at {url} refused a deployment: {' '.join(str(error).split())[:300]}.",
            unchanged=_BEFORE,
            hint="Read the log of the server.",
        ) from None
    except PrefectHTTPStatusError as error:
        raise PrerequisiteError(
            f"The Prefect server at {url} refused with status {error.response.status_code}: {_detail(error)}.",
            unchanged=_BEFORE,
            hint="Read the log of the server.",
        ) from None
    except httpx.HTTPError as error:
        raise ServerUnavailable(
            f"The Prefect server at {url} stopped answering: {type(error).__name__}.",
            unchanged=_BEFORE,
            hint="uniroute deploy",
        ) from None


def _detail(error: Any) -> str:
    try:
        return str(error.response.json().get("detail", "no reason given"))[:300]
    except (ValueError, AttributeError):
        return "no reason given"


async def _pool(client: PrefectClient, name: str, is_dry_run: bool) -> Finding:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        kind = (await client.read_work_pool(name)).type
    except ObjectNotFound:
        if not is_dry_run:
            template = ProcessWorker.get_default_base_job_template()
            await client.create_work_pool(WorkPoolCreate(name=name, type=_POOL_TYPE, base_job_template=template))
        return Finding("work pool", "made", f"{name} ({_POOL_TYPE})")
    if kind != _POOL_TYPE:
        raise PrerequisiteError(
            f"The work pool {name} is of type {kind}, and nights run as processes of a worker.",
            unchanged=NOTHING_CHANGED,
            hint=f"uniroute deploy --pool {name}-{_POOL_TYPE}",
        )
    return Finding("work pool", "ok", f"{name} ({kind})")


async def _apply(client: PrefectClient, deployment: RunnerDeployment, is_dry_run: bool) -> Finding:
    from prefect.exceptions import ObjectNotFound

    full_name = f"{deployment.flow_name}/{deployment.name}"
    change: Severity = "renewed"
    try:
        await client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        change = "made"
    if not is_dry_run:
        await deployment.aapply()
    crons = [entry.schedule.cron for entry in deployment.schedules or [] if hasattr(entry.schedule, "cron")]
    return Finding("deployment", change, f"{full_name}, {f'{crons[0]} UTC' if crons else 'on request'}")


def _read_automations(file: Path) -> list[AutomationCore]:
    """Read automations in the forms that Prefect's own command reads: one, a list, or a list under ``automations``."""
    import yaml
    from prefect.events.schemas.automations import AutomationCore
    from pydantic import TypeAdapter

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        rows = content.get("automations", [content]) if isinstance(content, dict) else content
        return TypeAdapter(list[AutomationCore]).validate_python(rows)
    except OSError as error:
        reason = str(error.strerror)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
    raise PrerequisiteError(
        f"The automations in {file} cannot be read: {reason}.", unchanged=NOTHING_CHANGED, hint=f"Fix {file}."
    )


async def _automate(client: PrefectClient, automation: AutomationCore, is_dry_run: bool) -> Finding:
    """Create an automation, or update the one of that name; one that was switched off stays off."""
    there = await client.read_automations_by_name(automation.name)
    if not is_dry_run:
        if there:
            await client.update_automation(there[0].id, automation.model_copy(update={"enabled": there[0].enabled}))
        else:
            await client.create_automation(automation)
    return Finding("automation", "renewed" if there else "made", automation.name)
