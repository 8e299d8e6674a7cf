"""The profile of one LLM in a process of its own: a flow for the workers of a work pool, and a task for Dask."""

from __future__ import annotations

from flows import environment

environment.prepare()

import asyncio  # noqa: E402
import json  # noqa: E402
from dataclasses import asdict  # noqa: E402

from prefect import flow, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.futures import PrefectFuture, as_completed  # noqa: E402
from prefect.states import Completed, State  # noqa: E402

from flows.assignment import Assignment, Ending, carry_out, failed_ending  # noqa: E402

_RETRIES = 2


@flow(name="profile-llm", flow_run_name="{assignment.llm_key}", retries=0, persist_result=False)
async def profile_llm(assignment: Assignment) -> State:
    """Profile one LLM for a night that waits for it.

    Parameters
    ----------
    assignment
        What the night hands out; nobody else can make one, because it names the night's lease.

    Returns
    -------
    State
        Completed, with how it ended as its message, in JSON. Answers are in the registry.

    Raises
    ------
    UnirouteError
        It cannot be carried out on this worker; what arrived is kept.
    """
    return Completed(message=json.dumps(asdict(await carry_out(assignment))))


@task(name="profile-llm", task_run_name="{assignment.llm_key}", cache_policy=NO_CACHE, retries=_RETRIES)
def profile_on_dask(assignment: Assignment) -> Ending:
    """Profile one LLM in a process of a Dask cluster."""
    return asyncio.run(carry_out(assignment))


@flow(name="profile-llms", retries=0, persist_result=False)
def profile_llms(assignments: list[Assignment], at_once: int) -> dict[str, Ending]:
    """Profile LLMs as tasks of whatever task runner this flow is given, so many at a time; give how each ended."""
    waiting, endings = list(assignments), {}
    under_way: dict[PrefectFuture[Ending], str] = {}
    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            assignment = waiting.pop(0)
            under_way[profile_on_dask.submit(assignment)] = assignment.llm_key
        ended = next(as_completed(list(under_way)))
        endings[under_way.pop(ended)] = _ending_of(ended)
    return endings


def _ending_of(future: PrefectFuture[Ending]) -> Ending:
    found = future.result(raise_on_failure=False)
    return found if isinstance(found, Ending) else failed_ending(str(found))
