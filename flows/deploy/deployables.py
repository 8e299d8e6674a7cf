"""The flows that run on Prefect: served by one process, or deployed for the workers of a server.

Nothing here limits how many nights run at once: when Prefect's server restarts, its own limit forgets its holders and
ends their runs. The registry's lease allows one night at a time, wherever it starts.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from flows.config.loading import find_config
from flows.config.settings import Settings
from flows.errors import PrerequisiteError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events import DeploymentEventTrigger
    from prefect.schedules import Schedule

NOTHING_CHANGED = "Deployments were left as they are."


@dataclass(frozen=True)
class Deployable:
    """A flow that Prefect runs.

    Attributes
    ----------
    entrypoint
        Module and function of the flow: workers import the installed package and need no folder.
    flow, name
        Its names in Prefect, as ``flow/name``.
    description
        What it does, for readers in Prefect.
    is_night
        Whether it has the schedule, and is restarted after a crash.
    is_for_workers
        Whether only workers run it: a process that serves nights does not need it.
    reads_settings
        Whether it takes the settings file to read as a parameter.
    """

    entrypoint: str
    flow: str
    name: str
    description: str
    is_night: bool = False
    is_for_workers: bool = False
    reads_settings: bool = True


DEPLOYABLES = (
    Deployable(
        "flows.nightly.night",
        "night",
        "nightly",
        "Find new LLMs, profile them, publish a router, promote it when the gate passes.",
        is_night=True,
    ),
    Deployable(
        "flows.promote.promote",
        "promote",
        "promote",
        "Approve or reject a router that waits for its review; the gate is asked again first.",
    ),
    Deployable(
        "flows.profile_llm.profile_llm",
        "profile-llm",
        "profile-llm",
        'Profile one LLM for a night whose [fan_out] runner is "work_pool"; started by that night only.',
        is_for_workers=True,
        reads_settings=False,
    ),
)


def deployments(config: str | None, cron: str, *, pool: str | None = None) -> list[RunnerDeployment]:
    """Return everything that runs on Prefect, as Prefect's own deployments.

    Parameters
    ----------
    config
        The settings file that flows are to read; None lets them find it.
    cron
        When nights run, in UTC.
    pool
        The work pool whose workers run it; None for a process that serves it itself.

    Raises
    ------
    PrerequisiteError
        `cron` is not a cron expression.
    """
    from prefect.schedules import Cron

    try:
        schedule = Cron(cron, timezone="UTC")
    except ValueError as error:
        raise PrerequisiteError(
            f"{cron!r} is not a cron expression: {error}.", unchanged=NOTHING_CHANGED, hint='--cron "0 2 * * *"'
        ) from None
    chosen = [one for one in DEPLOYABLES if pool is not None or not one.is_for_workers]
    return [_deployment(one, config, schedule, pool) for one in chosen]


def _deployment(deployable: Deployable, config: str | None, schedule: Schedule, pool: str | None) -> RunnerDeployment:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.types.entrypoint import EntrypointType

    flow = load_flow_from_entrypoint(deployable.entrypoint, use_placeholder_flow=False)
    return flow.to_deployment(
        deployable.name,
        description=deployable.description,
        schedule=schedule if deployable.is_night else None,
        parameters={"config": config} if deployable.reads_settings else {},
        triggers=[_restart_trigger(deployable, flow)] if deployable.is_night else [],
        concurrency_limit=None,
        work_pool_name=pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _restart_trigger(deployable: Deployable, flow: Flow[..., Any]) -> DeploymentEventTrigger:
    """Return a trigger that restarts a scheduled night once after a crash, with its parameters and for the same day.

    The restarted run lacks the tag that Prefect gives to runs of a schedule, so a night that crashes twice is left to
    people. Prefect reads events in order, and it does not write the first event of a run that was scheduled less than
    five minutes before it began: such a run is restarted only after a quarter of an hour.
    """
    from prefect.events import DeploymentEventTrigger

    parameter = "flow_run.parameters.get"
    day = "(flow_run.start_time or flow_run.expected_start_time).strftime('%Y-%m-%d')"
    # Templates that Prefect renders; its literals are written as in JSON, except `none`.
    defaults = {name: one.default for name, one in signature(flow.fn).parameters.items()}
    again: dict[str, Any] = {
        name: f"{{{{ {parameter}('{name}', {'none' if default is None else json.dumps(default)}) }}}}"
        for name, default in defaults.items()
    }
    again |= {"restarted": True, "as_of": f"{{{{ ({parameter}('as_of') or {day}) }}}}"}
    return DeploymentEventTrigger(
        name=f"{deployable.flow}/{deployable.name} is started again when it crashed",
        expect={"prefect.flow-run.Crashed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related=[
            {"prefect.resource.role": "flow", "prefect.resource.name": deployable.flow},
            {"prefect.resource.role": "deployment", "prefect.resource.name": deployable.name},
            {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.auto-scheduled"},
        ],
        for_each={"prefect.resource.id"},
        parameters=again,
    )


def config_for_workers(config: str | None) -> str:
    """Return the settings file that a flow on a worker reads: workers run flows in an empty folder, perhaps elsewhere.

    Parameters
    ----------
    config
        The file named on the command line.

    Returns
    -------
    str
        The absolute path of the file, which every worker must have, too; or ``$UNIROUTE_CONFIG`` if that variable named
        it: then each worker has its own.

    Raises
    ------
    PrerequisiteError
        There is no file: each night would run on the sandbox, in a folder that is then removed.
    """
    found = find_config(config)
    if found is None:
        raise PrerequisiteError(
            "Workers start nights in an empty folder, so a deployed night needs a settings file, but none is named.",
            unchanged=NOTHING_CHANGED,
            hint="uniroute init, then: uniroute deploy --config uniroute.toml",
        )
    is_named_by_variable = config is None and os.environ.get("UNIROUTE_CONFIG") == str(found)
    return "$UNIROUTE_CONFIG" if is_named_by_variable else str(found.resolve())


def refuse_temporary_home(settings: Settings) -> None:
    """Refuse a home folder inside the folder that a worker removes after each night.

    Raises
    ------
    PrerequisiteError
        The settings do not name the home folder.
    """
    if "home" not in settings.model_fields_set:
        raise PrerequisiteError(
            "Workers start nights in an empty folder that is then removed, so the settings must name the home folder, "
            "but they do not.",
            unchanged=NOTHING_CHANGED,
            hint='Set home = "/var/lib/uniroute" in the settings file, or UNIROUTE_HOME for every worker.',
        )
