"""Fan-out: the profiles of a night are made by other processes, one LLM each, and the night waits for them.

Answers go into the registry from wherever they are made, under leases that let one process at a time ask an LLM. So
whatever happens to a worker, nothing is stored twice, and the process that takes over its LLM asks only what is
missing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from flows.config.prefect_server import API_URL
from flows.config.settings import FanOutSettings
from flows.errors import PrerequisiteError, WorkersUnavailable
from flows.night.cancel import recall
from flows.profiling.assignment import Assignment
from flows.profiling.results import WorkerResult, failed_result

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, State

    from flows.night.context import Night
    from flows.profiling.progress import Progress
    from registry.llms import LLM

_LOOK_EVERY_S = 1.0
_MOST_TRIES = 3
_RESULT = TypeAdapter(WorkerResult)


async def check_fan_out(settings: FanOutSettings) -> None:
    """Check that profiles can be handed out as the settings say, before anything is called.

    Raises
    ------
    PrerequisiteError
        The Prefect server, the deployment or Dask is missing.
    """
    if settings.runner == "threads":
        return
    unchanged = "Nothing was called."
    if not os.environ.get(API_URL):
        raise PrerequisiteError(
            f'[fan_out] runner = "{settings.runner}" needs a Prefect server that all workers can reach.',
            unchanged=unchanged,
            hint=f"export {API_URL}=http://HOST:4200/api",
        )
    if settings.runner == "dask":
        if find_spec("prefect_dask") is None:
            raise PrerequisiteError(
                '[fan_out] runner = "dask" needs prefect-dask, which is not installed.',
                unchanged=unchanged,
                hint='pip install "uniroute[dask]"',
            )
        return
    await _check_deployment(settings.deployment, unchanged)


async def _check_deployment(name: str, unchanged: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    async with get_client() as client:
        try:
            deployment = await client.read_deployment_by_name(name)
        except (ObjectNotFound, ValueError):
            raise PrerequisiteError(
                f"The deployment {name!r} of [fan_out] is not on the Prefect server.",
                unchanged=unchanged,
                hint="uniroute deploy",
            ) from None
        if deployment.work_pool_name is None:
            raise PrerequisiteError(
                f"The work pool of the deployment {name!r} is gone: no worker would ever take a profile.",
                unchanged=unchanged,
                hint="uniroute deploy",
            )


async def hand_out(night: Night, llms: Sequence[LLM], progress: Progress) -> dict[str, WorkerResult]:
    """Have LLMs profiled by other processes, and wait.

    Parameters
    ----------
    night
        The night that hands them out.
    llms
        The LLMs, in the order in which they begin.
    progress
        Shows how many prompts are answered.

    Returns
    -------
    dict of str to WorkerResult
        How each profile ended, by LLM key.
    """
    settings = night.settings.fan_out
    at_once = min(settings.llms_at_once, len(llms))
    assignments = [Assignment.of(night, llm, at_once) for llm in llms]
    watching = asyncio.create_task(_watch(night, llms, progress))
    try:
        if settings.runner == "dask":
            results = await asyncio.to_thread(_over_dask, assignments, settings, at_once)
        else:
            results = await _over_work_pool(night, settings, assignments, at_once, progress)
        await _update_progress(night, llms, progress)
        return results
    finally:
        watching.cancel()


async def _update_progress(night: Night, llms: Sequence[LLM], progress: Progress) -> None:
    """Bring the progress line up to date."""
    keys = [llm.key for llm in llms]
    states = await asyncio.to_thread(night.registry.parts.states, night.run, keys, night.clock())
    spent = await asyncio.to_thread(night.registry.outcomes.spend, night.run)
    progress.seen({key: state.asked for key, state in states.items()}, spent.total_usd)


async def _watch(night: Night, llms: Sequence[LLM], progress: Progress) -> None:
    """Update the progress, and pass on a request to stop to all processes that work for this night."""
    is_recalled = False
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        await _update_progress(night, llms, progress)
        if night.interruption.is_requested and not is_recalled:
            await asyncio.to_thread(recall, night.registry, night.run, now=night.clock())
            is_recalled = True


def _over_dask(assignments: list[Assignment], settings: FanOutSettings, at_once: int) -> dict[str, WorkerResult]:
    from prefect_dask import DaskTaskRunner

    from flows.profiling.dask import profile_llms

    own_cluster = {"n_workers": at_once, "threads_per_worker": 1, "dashboard_address": None}
    where = {"address": settings.dask_scheduler} if settings.dask_scheduler else {"cluster_kwargs": own_cluster}
    return profile_llms.with_options(task_runner=DaskTaskRunner(**where))(assignments, at_once)


async def _over_work_pool(
    night: Night, settings: FanOutSettings, assignments: list[Assignment], at_once: int, progress: Progress
) -> dict[str, WorkerResult]:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await _WorkPool(night, client, settings, assignments, at_once, progress).run()


@dataclass(frozen=True)
class _Try:
    """One flow run that was requested."""

    assignment: Assignment
    number: int
    flow_run_id: UUID


class _WorkPool:
    """Hand out assignments as flow runs of one deployment, and again when a worker vanishes with one."""

    def __init__(
        self,
        night: Night,
        client: PrefectClient,
        settings: FanOutSettings,
        assignments: list[Assignment],
        at_once: int,
        progress: Progress,
    ) -> None:
        self._night = night
        self._progress = progress
        self._client = client
        self._settings = settings
        self._waiting = [(assignment, 1) for assignment in assignments]
        self._at_once = at_once
        self._under_way: dict[str, _Try] = {}
        self._results: dict[str, WorkerResult] = {}
        self._active_s = time.monotonic()

    async def run(self) -> dict[str, WorkerResult]:
        """Hand out assignments until every profile has ended."""
        while self._waiting or self._under_way:
            if self._night.interruption.is_requested:
                self._waiting.clear()
            while self._waiting and len(self._under_way) < self._at_once and await self._begin(*self._waiting[0]):
                self._waiting.pop(0)
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._look()
        return self._results

    async def _begin(self, assignment: Assignment, number: int) -> bool:
        """Request a flow run; return whether the server accepted."""
        from httpx import HTTPError
        from prefect.deployments import arun_deployment
        from prefect.exceptions import ObjectNotFound

        try:
            flow_run = await arun_deployment(
                self._settings.deployment,
                parameters={"assignment": asdict(assignment)},
                flow_run_name=f"{assignment.llm_key} try {number}",
                idempotency_key=f"{assignment.run_key} {assignment.lease_number} {assignment.llm_key} {number}",
                timeout=0,
            )
        except HTTPError:
            return False
        except ObjectNotFound:
            raise WorkersUnavailable(
                f"The deployment {self._settings.deployment!r} of [fan_out] was deleted while the night ran.",
                unchanged="Answers so far are kept; the champion stays as it is.",
                hint="uniroute deploy, then: uniroute night run",
            ) from None
        self._under_way[assignment.llm_key] = _Try(assignment, number, flow_run.id)
        return True

    async def _look(self) -> None:
        """Check the flow runs: in Prefect, and in the registry for workers that can no longer report."""
        night, keys = self._night, list(self._under_way)
        parts = await asyncio.to_thread(night.registry.parts.states, night.run, keys, night.clock())
        if any(part.is_held for part in parts.values()):
            self._active_s = time.monotonic()
        for flow_run in await self._flow_runs():
            key = next(key for key, tried in self._under_way.items() if tried.flow_run_id == flow_run.id)
            if flow_run.state is None:
                continue
            if flow_run.state.is_final():
                self._end(key, flow_run.state)
            elif parts[key].is_silent and flow_run.state.is_running():
                await self._give_up(key, "its worker vanished")
        if time.monotonic() - self._active_s > self._settings.worker_start_timeout_s:
            await self._stop_waiting()

    async def _flow_runs(self) -> list[FlowRun]:
        from httpx import HTTPError
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        wanted = FlowRunFilterId(any_=[tried.flow_run_id for tried in self._under_way.values()])
        try:
            return await self._client.read_flow_runs(flow_run_filter=FlowRunFilter(id=wanted))
        except HTTPError:
            # A server that restarts: the flow runs continue without it, and are checked again in a second.
            return []

    def _end(self, key: str, state: State[Any]) -> None:
        """Take the result that a flow run reports, or try again when it reports none."""
        self._active_s = time.monotonic()
        tried = self._under_way.pop(key)
        try:
            result = _RESULT.validate_json(state.message or "" if state.is_completed() else "")
        except ValidationError:
            self._try_again(tried, state.message or state.name or "it ended without a result")
            return
        self._results[key] = result
        if result.saved_calls:
            self._progress.skip(key, result.saved_calls)
        if result.stopped_by:
            self._progress.leave(key)

    async def _give_up(self, key: str, reason: str) -> None:
        """Hand an assignment to another worker; once that takes it, the former one can no longer write."""
        await self._call_off(self._under_way[key], reason)
        self._try_again(self._under_way.pop(key), reason)

    def _try_again(self, tried: _Try, reason: str) -> None:
        if tried.number < _MOST_TRIES:
            self._waiting.append((tried.assignment, tried.number + 1))
        else:
            self._results[tried.assignment.llm_key] = failed_result(reason)

    async def _stop_waiting(self) -> None:
        """End everything that waits: no worker has been active for too long."""
        reason = f"none took it within {self._settings.worker_start_timeout_s:g} s"
        for tried in self._under_way.values():
            await self._call_off(tried, reason)
        left = [assignment for assignment, _ in self._waiting] + [one.assignment for one in self._under_way.values()]
        self._results |= {assignment.llm_key: failed_result(reason) for assignment in left}
        self._waiting.clear()
        self._under_way.clear()

    async def _call_off(self, tried: _Try, reason: str) -> None:
        from httpx import HTTPError
        from prefect.states import Crashed

        # A server that misses this keeps a flow run that will find its lease gone.
        with suppress(HTTPError):
            await self._client.set_flow_run_state(tried.flow_run_id, Crashed(message=reason), force=True)
