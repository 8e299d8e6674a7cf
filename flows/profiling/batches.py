"""Profile LLMs in this process: in batches of prompts, each a Prefect task, with every answer stored as it arrives."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.graders import Judge
from flows.logs import log_event
from flows.masking import masked_failures
from flows.night.context import Night
from flows.profiling.asking import BudgetedCaller
from flows.profiling.canaries import ask_canaries
from flows.profiling.early_stop import STEP, EarlyStop
from flows.profiling.judging import JudgeClient
from flows.profiling.plan import NightPlan, PlannedProfile
from flows.profiling.progress import Progress
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import CanaryOutcome, ProfileOutcome, ProfilingResult, WorkerResult
from registry.llms import LLM
from registry.outcomes import Outcome, OutcomeTable
from registry.prompts import Prompt

# Enough to keep the endpoints busy while batches end and begin, and few enough for Prefect on SQLite.
_BATCHES_AT_ONCE = 8
# So that a slow LLM does not hold up the batches of the others.
_BATCHES_OF_ONE_LLM = 2
# Prefect on SQLite stalls when one flow has many more task runs than this.
_MOST_TASK_RUNS = 150
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class _Batch:
    """Prompts that an LLM is asked in one task; those of an order that may end early are asked batch after batch."""

    llm: LLM
    prompts: tuple[Prompt, ...]
    may_stop: bool = False


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
        self._early = EarlyStop(night)
        self._saved: dict[str, int] = {}
        size = max(night.settings.night.batch_size, -(-plan.calls // _MOST_TASK_RUNS))
        self._batches = {
            (profile.llm.key, number): batch
            for profile in plan.profiles
            for number, batch in enumerate(self._batches_of(profile, size), start=1)
        }
        self._waiting = list(self._batches)
        self._under_way: Counter[str] = Counter()
        self._in_order: set[str] = set()

    def _batches_of(self, profile: PlannedProfile, size: int) -> list[_Batch]:
        """Divide what an LLM is asked: first what it is asked in an order that may end early, then the rest."""
        n_ordered = 0
        if self._early.may_stop(profile.llm):
            ordered = {one.digest for one in self._night.asked.representative(profile.llm)}
            n_ordered = sum(one.digest in ordered for one in profile.prompts)
        parts = (profile.prompts[:n_ordered], n_ordered > 0), (profile.prompts[n_ordered:], False)
        return [
            _Batch(profile.llm, prompts[start : start + size], may_stop)
            for prompts, may_stop in parts
            for start in range(0, len(prompts), size)
        ]

    async def run(self) -> None:
        """Ask every batch, LLM after LLM: a night that is stopped leaves whole profiles, not many halves."""
        await asyncio.gather(*(self._ask_in_turn() for _ in range(_BATCHES_AT_ONCE)))

    async def _ask_in_turn(self) -> None:
        """Ask one batch after another until none is left that may begin."""
        while (batch := self._next_batch()) is not None:
            llm_key, number = batch
            self._under_way[llm_key] += 1
            is_in_order = self._batches[batch].may_stop
            self._in_order |= {llm_key} if is_in_order else set()
            try:
                if llm_key not in self._caller.stopped and not self._night.interruption.is_requested:
                    await profile_batch(self, llm_key, number)
            finally:
                self._under_way[llm_key] -= 1
                self._in_order -= {llm_key} if is_in_order else set()

    def _next_batch(self) -> tuple[str, int] | None:
        """Return the first waiting batch whose LLM may begin another; the task that ends a batch continues with it."""
        for batch in self._waiting:
            is_free = self._under_way[batch[0]] < _BATCHES_OF_ONE_LLM
            if is_free and not (self._batches[batch].may_stop and batch[0] in self._in_order):
                self._waiting.remove(batch)
                return batch
        # What is left waits for the batch before it, and the task under way continues with it.
        return None

    async def ask_batch(self, llm_key: str, number: int) -> int:
        """Ask what is still missing of a batch; return how many prompts were asked."""
        batch = self._batches[llm_key, number]
        if not batch.may_stop:
            return await self._ask(batch.llm, batch.prompts)
        places = {one.digest: place for place, one in enumerate(self._night.asked.representative(batch.llm))}
        n_random, asked = self._night.asked.n_random(batch.llm), 0
        # The same places are looked at whatever was answered before, so that a night that resumes stops where it would.
        steps: dict[int, list[Prompt]] = defaultdict(list)
        for prompt in batch.prompts:
            place = places.get(prompt.digest, len(places))
            steps[max(0, 1 + (place - n_random) // STEP)].append(prompt)
        for step, prompts in sorted(steps.items()):
            if llm_key in self._saved or self._ends(batch.llm, n_random + (step - 1) * STEP, len(places)):
                return asked
            asked += await self._ask(batch.llm, prompts)
        return asked

    async def _ask(self, llm: LLM, prompts: Sequence[Prompt]) -> int:
        night, sampling = self._night, self._night.asked_sampling(llm)
        missing = night.registry.outcomes.missing(llm.key, prompts, night.grader_versions, sampling, run=night.run)
        await asyncio.gather(*(self._caller.ask(llm, prompt, sampling, self._keep) for prompt in missing))
        return len(missing)

    def _ends(self, llm: LLM, n: int, planned: int) -> bool:
        """Whether the profile of an LLM ends after the first prompts of its order; if so, that is stored."""
        if llm.key in self._caller.stopped or not self._early.is_decided(llm, n):
            return False
        self._night.asked.decide(llm, n)
        self._saved[llm.key] = planned - n
        self._progress.skip(llm.key, planned - n)
        log_event("llm_decided", run=self._night.run_key, llm=llm.key, prompts=n, saved_calls=planned - n)
        return True

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
        saved_calls = self._saved.get(key, 0)
        result = WorkerResult(stopped_by, stopped_for, cut_share, tally.downgrades, saved_calls)
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
    llm, prompts = profile.llm, night.profiled_prompts
    has_score = np.isfinite(_table(night, llm, prompts).scores[:, 0])
    known = _mean_scores(night, llm)
    per_call_usd = profile.expected_usd / len(profile.prompts) if profile.prompts else Decimal(0)
    return ProfileOutcome(
        llm_key=llm.key,
        is_new=profile.is_new,
        asked=asked,
        scored=scored,
        failed=asked - scored,
        spent_usd=spent_usd,
        coverage=night.asked.share(llm, prompts, has_score),
        mean_score=_mean(known),
        stopped_by=result.stopped_by,
        stopped_for=result.stopped_for,
        cut_share=result.cut_share,
        downgrades=result.downgrades,
        n_in_mean=int(known.size),
        saved_calls=result.saved_calls,
        saved_usd=per_call_usd * result.saved_calls,
    )


def mean_score(night: Night, llm_key: str) -> float | None:
    """Return an LLM's mean score over prompts that were not chosen for anything; None without any."""
    return _mean(_mean_scores(night, night.registry.llms.get(llm_key)))


def _mean(scores: NDArray[np.float64]) -> float | None:
    return float(scores.mean()) if scores.size else None


def _mean_scores(night: Night, llm: LLM) -> NDArray[np.float64]:
    scores = _table(night, llm, night.mean_prompts(llm)).scores[:, 0]
    return scores[np.isfinite(scores)]


def _table(night: Night, llm: LLM, prompts: tuple[Prompt, ...]) -> OutcomeTable:
    return night.registry.outcomes.table([llm.key], prompts, night.grader_versions, night.asked_sampling(llm))


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
