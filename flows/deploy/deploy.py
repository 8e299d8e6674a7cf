"""``uniroute deploy``: a registry and a Prefect server are brought to what this code runs, one part after the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.config.prefect_server import API_URL, require_prefect
from flows.config.settings import Settings
from flows.deploy.deployables import NOTHING_CHANGED, config_for_workers, deployments, refuse_passing_home
from flows.errors import PrerequisiteError, ServerUnavailable
from flows.masking import mask_urls
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
_BEFORE = "What was set up before that stays."


@dataclass(frozen=True)
class Step:
    """What was done about one part, or would be.

    Attributes
    ----------
    part
        ``registry``, ``mlflow``, ``prefect``, ``work pool``, ``deployment`` or ``automation``.
    change
        What it took to have it as it is wanted.
    finding
        How it is now, in a line.
    """

    part: str
    change: Literal["none", "made", "renewed"]
    finding: str


def deploy(
    settings: Settings, config: str | None, *, pool: str, cron: str, automations: Path | None, is_dry_run: bool
) -> tuple[Step, ...]:
    """Set up what nights on workers need; done again, it finds everything as it is.

    Parameters
    ----------
    settings
        What the settings file says.
    config
        The settings file that was named; found when it was not.
    pool
        The work pool, made if it is missing.
    cron
        When nights run, in UTC.
    automations
        A file of automations, as ``prefect automation create --from-file`` reads it.
    is_dry_run
        Whether to look only.

    Raises
    ------
    PrerequisiteError
        Nothing names a server or a settings file, the server is of another version, the pool of another type.
    CredentialsMissing
        Prefect refuses the credentials.
    ServerUnavailable
        Prefect does not answer.
    PublishIncomplete
        MLflow does not answer, refuses the credentials, or is none that can be published to.
    """
    told = config_for_workers(config)
    refuse_passing_home(settings)
    wanted = deployments(told, cron, pool=pool)
    wanted_automations = _read_automations(automations) if automations is not None else []
    server = _require_server()

    async def steps() -> tuple[Step, ...]:
        async with _server() as client:
            found = [Step("prefect", "none", server), await _pool(client, pool, is_dry_run)]
            found += [_registry(settings, is_dry_run), _mlflow(settings)]
            found += [await _apply(client, deployment, is_dry_run) for deployment in wanted]
            found += [await _automate(client, automation, is_dry_run) for automation in wanted_automations]
        return tuple(found)

    return asyncio.run(steps())


def _registry(settings: Settings, is_dry_run: bool) -> Step:
    before: SchemaStatus | None = None
    with suppress(NotFound), Registry.open(settings.registry_url, migrate=False) as registry:
        before = registry.schema_status()
    if is_dry_run:
        is_there = before is not None and before.current is not None
        waiting = f"{len(before.pending)} migrations pending" if before is not None and is_there else "to be made"
        is_done = before is not None and before.is_current
        return Step("registry", "none" if is_done else "renewed" if is_there else "made", waiting)
    with Workspace(settings) as workspace:
        now = workspace.registry.schema_status()
    is_new = before is None or before.current is None
    return Step("registry", "made" if is_new else "none" if before == now else "renewed", f"schema {now.current}")


def _mlflow(settings: Settings) -> Step:
    """Ask MLflow for the aliases of the routers, as every night does."""
    file = sqlite_file(settings.mlflow_url)
    if file is not None and not file.exists():
        return Step("mlflow", "none", "not there yet; the first night makes it")
    with Workspace(settings) as workspace:
        aliases = workspace.publisher.aliases(settings.mlflow.router_name)
    named = ", ".join(f"{alias} is version {version}" for alias, version in sorted(aliases.items()))
    return Step("mlflow", "none", named or "no router version yet")


def _require_server() -> str:
    """Say which server is configured, when it can be worked with."""
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
    """Open a client of the configured server, and turn what goes wrong there into errors of ours."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        with _asking(mask_urls(str(client.api_url))):
            yield client


@contextmanager
def _asking(url: str) -> Iterator[None]:
    import httpx
    from prefect.deployments.runner import DeploymentApplyError
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        yield
    except DeploymentApplyError as error:
        raise PrerequisiteError(
            f"The Prefect server at {url} refused a deployment: {' '.join(str(error).split())[:300]}.",
            unchanged=_BEFORE,
            hint="Look into the log of the server.",
        ) from None
    except PrefectHTTPStatusError as error:
        raise PrerequisiteError(
            f"The Prefect server at {url} refused with status {error.response.status_code}: {_detail(error)}.",
            unchanged=_BEFORE,
            hint="Look into the log of the server.",
        ) from None
    except httpx.HTTPError as error:
        raise ServerUnavailable(
            f"The Prefect server at {url} went away: {type(error).__name__}.", unchanged=_BEFORE, hint="uniroute deploy"
        ) from None


def _detail(error: Any) -> str:
    try:
        return str(error.response.json().get("detail", "it gives no reason"))[:300]
    except (ValueError, AttributeError):
        return "it gives no reason"


async def _pool(client: PrefectClient, name: str, is_dry_run: bool) -> Step:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        kind = (await client.read_work_pool(name)).type
    except ObjectNotFound:
        if not is_dry_run:
            template = ProcessWorker.get_default_base_job_template()
            await client.create_work_pool(WorkPoolCreate(name=name, type=_POOL_TYPE, base_job_template=template))
        return Step("work pool", "made", f"{name} ({_POOL_TYPE})")
    if kind != _POOL_TYPE:
        raise PrerequisiteError(
            f"The work pool {name} is of type {kind}, and nights run as processes of a worker.",
            unchanged=NOTHING_CHANGED,
            hint=f"uniroute deploy --pool {name}-{_POOL_TYPE}",
        )
    return Step("work pool", "none", f"{name} ({kind})")


async def _apply(client: PrefectClient, deployment: RunnerDeployment, is_dry_run: bool) -> Step:
    from prefect.exceptions import ObjectNotFound

    full_name = f"{deployment.flow_name}/{deployment.name}"
    change: Literal["made", "renewed"] = "renewed"
    try:
        await client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        change = "made"
    if not is_dry_run:
        await deployment.aapply()
    crons = [entry.schedule.cron for entry in deployment.schedules or [] if hasattr(entry.schedule, "cron")]
    return Step("deployment", change, f"{full_name}, {f'{crons[0]} UTC' if crons else 'on request'}")


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
        f"The automations in {file} cannot be read: {reason}.", unchanged=NOTHING_CHANGED, hint=f"Mend {file}."
    )


async def _automate(client: PrefectClient, automation: AutomationCore, is_dry_run: bool) -> Step:
    """Make an automation, or bring the one of that name to it; whether somebody switched it off stays as it is."""
    there = await client.read_automations_by_name(automation.name)
    if not is_dry_run:
        if there:
            await client.update_automation(there[0].id, automation.model_copy(update={"enabled": there[0].enabled}))
        else:
            await client.create_automation(automation)
    return Step("automation", "renewed" if there else "made", automation.name)
