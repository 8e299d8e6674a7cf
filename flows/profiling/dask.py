"""Profile LLMs as tasks on a Dask cluster."""

from __future__ import annotations

import asyncio

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from flows.profiling.assignment import Assignment, carry_out
from flows.profiling.results import Ending, failed_ending

_RETRIES = 2


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
