"""Profile LLMs as tasks on a Dask cluster: what the workers run, and the flow that submits it."""

from __future__ import annotations

import asyncio

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed

from flows.masking import masked_failures
from flows.profiling.assignment import Assignment, carry_out
from flows.profiling.results import WorkerResult, failed_result

_RETRIES = 2


@task(name="profile-llm", task_run_name="{assignment.llm_key}", cache_policy=NO_CACHE, retries=_RETRIES)
def profile_on_dask(assignment: Assignment) -> WorkerResult:
    """Profile one LLM in a process of a Dask cluster."""
    with masked_failures():
        return asyncio.run(carry_out(assignment))


@flow(name="profile-llms", retries=0, persist_result=False)
def profile_llms(assignments: list[Assignment], at_once: int) -> dict[str, WorkerResult]:
    """Profile LLMs as tasks of this flow's runner, `at_once` at a time; return, by LLM key, how each ended."""
    waiting = list(assignments)
    results: dict[str, WorkerResult] = {}
    under_way: dict[PrefectFuture[WorkerResult], str] = {}
    with masked_failures():
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                assignment = waiting.pop(0)
                under_way[profile_on_dask.submit(assignment)] = assignment.llm_key
            ended = next(as_completed(list(under_way)))
            results[under_way.pop(ended)] = _result_of(ended)
    return results


def _result_of(future: PrefectFuture[WorkerResult]) -> WorkerResult:
    found = future.result(raise_on_failure=False)
    return found if isinstance(found, WorkerResult) else failed_result(str(found))
