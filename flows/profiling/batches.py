"""Profile LLMs in this process: in batches of prompts, each a Prefect task, with every answer stored as it arrives."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.graders import Judge
from flows.masking import masked_failures
from flows.night.context import PROFILED_ROLES, Night
from flows.profiling.asking import BudgetedCaller
from flows.profiling.canaries import ask_canaries
from flows.profiling.judging import JudgeClient
from flows.profiling.plan import NightPlan, PlannedProfile
from flows.profiling.progress import Progress
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import CanaryOutcome, ProfileOutcome, ProfilingResult, WorkerResult
from registry.llms import LLM
from registry.outcomes import Outcome, OutcomeTable

# Enough to keep the endpoints busy while batches end and begin, and few enough for Prefect on SQLite.
_BATCHES_AT_ONCE = 8
# So that a slow LLM does not hold up the batches of the others.
_BATCHES_OF_ONE_LLM = 2
# Prefect on SQLite stalls when one flow has many more task runs than this.
_MOST_TASK_RUNS = 150
_LOOK_EVERY_S = 0.5


class Profiling:
    """Ask LLMs in batches, and commit their answers.

    Parameters
    ----------
    night
        The night under way.
    plan
        What is asked.
    caller
        Asks the LLMs.
    progress
        Counts every answer.
    """

    def __init__(self, night: Night, plan: NightPlan, caller: BudgetedCaller, progress: Progress) -> None:
        self._night = night
        self._caller = caller
        self._progress = progress
        self._recorder = OutcomeRecorder(caller.record)
        self._asked: dict[str, int] = defaultdict(int)
        self._scored: dict[str, int] = defaultdict(int)
        self._spent: dict[str, Decimal] = defaultdict(Decimal)
        size = max(night.settings.night.batch_size, -(-plan.calls // _MOST_TASK_RUNS))
        self._batches = {
            (profile.llm.key, number): (profile.llm, profile.prompts[start : start + size])
            for profile in plan.profiles
            for number, start in enumerate(range(0, len(profile.prompts), size), start=1)
        }
        self._waiting = list(self._batches)
        self._under_way: Counter[str] = Counter()

    async def run(self) -> None:
        """Ask every batch, LLM after LLM: a night that is stopped leaves whole profiles, not many halves."""
        await asyncio.gather(*(self._ask_in_turn() for _ in range(_BATCHES_AT_ONCE)))

    async def _ask_in_turn(self) -> None:
        """Ask one batch after another until none is left that may begin."""
        while (batch := self._next_batch()) is not None:
            llm_key, number = batch
            self._under_way[llm_key] += 1
            try:
                if llm_key not in self._caller.stopped and not self._night.interruption.is_requested:
                    await profile_batch(self, llm_key, number)
            finally:
                self._under_way[llm_key] -= 1

    def _next_batch(self) -> tuple[str, int] | None:
        """Return the first waiting batch whose LLM may begin another; the task that ends a batch continues with it."""
        for batch in self._waiting:
            if self._under_way[batch[0]] < _BATCHES_OF_ONE_LLM:
                self._waiting.remove(batch)
                return batch
        return None

    async def ask_batch(self, llm_key: str, number: int) -> int:
        """Ask what is still missing of a batch; return how many prompts were asked."""
        llm, prompts = self._batches[llm_key, number]
        night, sampling = self._night, self._night.asked_sampling(llm)
        missing = night.registry.outcomes.missing(llm.key, prompts, night.grader_versions, sampling, run=night.run)
        await asyncio.gather(*(self._caller.ask(llm, prompt, sampling, self._keep) for prompt in missing))
        return len(missing)

    async def _keep(self, outcome: Outcome) -> None:
        await self._recorder.add(outcome)
        self._asked[outcome.llm_key] += 1
        self._scored[outcome.llm_key] += outcome.score is not None
        self._spent[outcome.llm_key] += outcome.whole_cost_usd
        self._progress.answered(outcome.llm_key, outcome)

    def outcome_of(self, profile: PlannedProfile) -> ProfileOutcome:
        """Return how the profile of an LLM ended."""
        key = profile.llm.key
        tally = self._caller.tallies[key]
        stopped_by, stopped_for = self._caller.stopped.get(key, ("", ""))
        cut_share = tally.cut / tally.answers if tally.answers else 0.0
        result = WorkerResult(stopped_by, stopped_for, cut_share, tally.downgrades)
        return profile_outcome(
            self._night, profile, result, asked=self._asked[key], scored=self._scored[key], spent_usd=self._spent[key]
        )


def profile_outcome(
    night: Night, profile: PlannedProfile, result: WorkerResult, *, asked: int, scored: int, spent_usd: Decimal
) -> ProfileOutcome:
    """Return how the profile of an LLM ended, wherever it was made.

    Parameters
    ----------
    night, profile
        What was planned for the LLM.
    result
        What only the process that asked knows.
    asked, scored, spent_usd
        Calls with an outcome, how many of these have a score, and what they cost in USD.
    """
    llm = profile.llm
    table = _profile_table(night, llm)
    known = _scores(night, table)
    return ProfileOutcome(
        llm_key=llm.key,
        is_new=profile.is_new,
        asked=asked,
        scored=scored,
        failed=asked - scored,
        spent_usd=spent_usd,
        coverage=float((table.scores == table.scores).mean()),
        mean_score=_mean(known),
        stopped_by=result.stopped_by,
        stopped_for=result.stopped_for,
        cut_share=result.cut_share,
        downgrades=result.downgrades,
        n_in_mean=int(known.size),
    )


def mean_score(night: Night, llm_key: str) -> float | None:
    """Return an LLM's mean score over the prompts that every LLM is asked; None without any."""
    return _mean(_scores(night, _profile_table(night, night.registry.llms.get(llm_key))))


def _mean(scores: NDArray[np.float64]) -> float | None:
    return float(scores.mean()) if scores.size else None


def _scores(night: Night, table: OutcomeTable) -> NDArray[np.float64]:
    """Return the scores on the prompts that every LLM is asked; those of the cluster map come last in a table."""
    scores = table.scores[: len(night.prompt_set.with_role(*PROFILED_ROLES)), 0]
    return scores[np.isfinite(scores)]


def _profile_table(night: Night, llm: LLM) -> OutcomeTable:
    return night.registry.outcomes.table(
        [llm.key], night.prompts_for(llm), night.grader_versions, night.asked_sampling(llm)
    )


@task(
    name="profile-batch",
    task_run_name="{llm_key} batch {number}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=2,
)
async def profile_batch(profiling: Profiling, llm_key: str, number: int) -> int:
    """Ask one batch of prompts; repeated after a crash, it asks only what is still missing."""
    with masked_failures():
        return await profiling.ask_batch(llm_key, number)


@task(name="canaries", cache_policy=NO_CACHE)
async def canaries(night: Night, plan: NightPlan, caller: BudgetedCaller) -> tuple[CanaryOutcome, ...]:
    """Ask complete LLMs a few prompts again, to find out whether they changed."""
    with masked_failures():
        return await ask_canaries(night, plan.canaries, caller)


def _judge_of(night: Night, plan: NightPlan) -> LLM | None:
    """Return the LLM that judges, if anything that is asked or stored is to be judged tonight."""
    asked = (prompt for planned in (*plan.profiles, *plan.canaries) for prompt in planned.prompts)
    is_needed = plan.asks_judge_again or any(prompt.grader == Judge.name for prompt in asked)
    if night.judge is None or not is_needed:
        return None
    return night.registry.llms.get(night.judge.llm_key)


@asynccontextmanager
async def opened_caller(night: Night, plan: NightPlan) -> AsyncIterator[BudgetedCaller]:
    """Open the endpoints of all LLMs that are asked or judge; what is reserved for no call is released at the end."""
    llms = [planned.llm for planned in (*plan.profiles, *plan.canaries)]
    judge = _judge_of(night, plan)
    wanted = {llm.endpoint for llm in [*llms, *([] if judge is None else [judge])]}
    async with AsyncExitStack() as entered:
        endpoints = {
            settings.name: await entered.enter_async_context(night.workspace.open_endpoint(settings))
            for settings in night.workspace.endpoint_settings()
            if settings.name in wanted
        }
        judge_client = JudgeClient(night.judge, judge, endpoints[judge.endpoint]) if night.judge and judge else None
        caller = BudgetedCaller(night, endpoints, llms, judge_client)
        try:
            yield caller
        finally:
            await caller.give_back()


@asynccontextmanager
async def watching_elsewhere(caller: BudgetedCaller) -> AsyncIterator[None]:
    """Count, during the block, what other processes of the run spend: all share the night's ceiling."""
    await caller.look_elsewhere()
    watching = asyncio.create_task(_keep_looking(caller))
    try:
        yield
    finally:
        watching.cancel()


async def _keep_looking(caller: BudgetedCaller) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        await caller.look_elsewhere()


async def profile_part(night: Night, plan: NightPlan, progress: Progress) -> ProfilingResult:
    """Profile the LLM of the part that this process was given; the night that handed it out has checked the judge."""
    async with opened_caller(night, plan) as caller, watching_elsewhere(caller):
        return await profile_here(night, plan, caller, progress)


async def profile_here(night: Night, plan: NightPlan, caller: BudgetedCaller, progress: Progress) -> ProfilingResult:
    """Profile the planned LLMs in this process; its cost is counted by `caller`."""
    profiling = Profiling(night, plan, caller, progress)
    with progress:
        watching = asyncio.create_task(progress.watch(caller.outlook))
        try:
            await profiling.run()
        finally:
            watching.cancel()
    return ProfilingResult(tuple(profiling.outcome_of(planned) for planned in plan.profiles))
