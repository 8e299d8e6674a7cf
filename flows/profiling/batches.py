"""Profile LLMs in batches of prompts."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.graders import Judge
from flows.night.context import Night
from flows.profiling.asking import Asking, watching_elsewhere
from flows.profiling.canaries import ask_canaries
from flows.profiling.judging import Judging
from flows.profiling.plan import NightPlan, PlannedProfile
from flows.profiling.progress import Progress
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import Asked, CanaryOutcome, Ending, ProfileOutcome
from registry.llms import LLM
from registry.outcomes import Outcome

# Enough to keep the endpoints busy while batches end and begin, few enough for Prefect on SQLite.
_BATCHES_AT_ONCE = 8


# A slow LLM holds up the batches of no other.
_BATCHES_OF_ONE_LLM = 2


# Prefect on SQLite stalls when one flow has many more task runs than this.
_MOST_TASK_RUNS = 150


class Profiling:
    """Ask LLMs in batches, and commit what they answer.

    Parameters
    ----------
    night
        The night under way.
    plan
        What is asked.
    asking
        The way to the LLMs.
    progress
        Told of every answer.
    """

    def __init__(self, night: Night, plan: NightPlan, asking: Asking, progress: Progress) -> None:
        self._night = night
        self._asking = asking
        self._progress = progress
        self._recorder = OutcomeRecorder(asking.record)
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
        """Ask every batch, LLM after LLM: a night that is stopped leaves whole profiles behind, not many halves."""
        await asyncio.gather(*(self._ask_in_turn() for _ in range(_BATCHES_AT_ONCE)))

    async def _ask_in_turn(self) -> None:
        """Ask one batch after the other until none is left that may begin."""
        while (batch := self._next_batch()) is not None:
            llm_key, number = batch
            self._under_way[llm_key] += 1
            try:
                if llm_key not in self._asking.stopped and not self._night.interruption.is_requested:
                    await profile_batch(self, llm_key, number)
            finally:
                self._under_way[llm_key] -= 1

    def _next_batch(self) -> tuple[str, int] | None:
        """Take the first waiting batch of an LLM that has not enough under way; whoever ends one of those goes on."""
        for batch in self._waiting:
            if self._under_way[batch[0]] < _BATCHES_OF_ONE_LLM:
                self._waiting.remove(batch)
                return batch
        return None

    async def ask_batch(self, llm_key: str, number: int) -> int:
        """Ask what is still missing of a batch; give how many prompts were asked."""
        llm, prompts = self._batches[llm_key, number]
        night, sampling = self._night, self._night.asked_sampling(llm)
        missing = night.registry.outcomes.missing(llm.key, prompts, night.grader_versions, sampling, run=night.run)
        await asyncio.gather(*(self._asking.ask(llm, prompt, sampling, self._keep) for prompt in missing))
        return len(missing)

    async def _keep(self, outcome: Outcome) -> None:
        await self._recorder.add(outcome)
        self._asked[outcome.llm_key] += 1
        self._scored[outcome.llm_key] += outcome.score is not None
        self._spent[outcome.llm_key] += outcome.whole_cost_usd
        self._progress.answered(outcome.llm_key, outcome)

    def outcome_of(self, profile: PlannedProfile) -> ProfileOutcome:
        """Say how the profile of an LLM ended."""
        key = profile.llm.key
        tally = self._asking.tallies[key]
        stopped_by, stopped_for = self._asking.stopped.get(key, ("", ""))
        cut_share = tally.cut / tally.answers if tally.answers else 0.0
        ending = Ending(stopped_by, stopped_for, cut_share, tally.downgrades)
        return profile_outcome(
            self._night, profile, ending, asked=self._asked[key], scored=self._scored[key], spent_usd=self._spent[key]
        )


def profile_outcome(
    night: Night, profile: PlannedProfile, ending: Ending, *, asked: int, scored: int, spent_usd: Decimal
) -> ProfileOutcome:
    """Say how the profile of an LLM ended, wherever it was made.

    Parameters
    ----------
    night, profile
        What was planned for the LLM.
    ending
        What only those who asked know.
    asked, scored, spent_usd
        Calls that have an outcome, how many of these a score, and what they cost in USD.
    """
    llm = profile.llm
    table = night.registry.outcomes.table(
        [llm.key], night.profiled_prompts, night.grader_versions, night.asked_sampling(llm)
    )
    scores = table.scores[: len(night.prompt_set.with_role("representative")), 0]
    known = scores[scores == scores]
    return ProfileOutcome(
        llm_key=llm.key,
        is_new=profile.is_new,
        asked=asked,
        scored=scored,
        failed=asked - scored,
        spent_usd=spent_usd,
        coverage=float((table.scores == table.scores).mean()),
        mean_score=float(known.mean()) if known.size else None,
        stopped_by=ending.stopped_by,
        stopped_for=ending.stopped_for,
        cut_share=ending.cut_share,
        downgrades=ending.downgrades,
    )


@task(
    name="profile-batch",
    task_run_name="{llm_key} batch {number}",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=2,
)
async def profile_batch(profiling: Profiling, llm_key: str, number: int) -> int:
    """Ask one batch of prompts; asked again after a crash, it asks only what is still missing."""
    return await profiling.ask_batch(llm_key, number)


@task(name="canaries", cache_policy=NO_CACHE)
async def canaries(night: Night, plan: NightPlan, asking: Asking) -> tuple[CanaryOutcome, ...]:
    """Ask complete LLMs a few prompts again and see whether they changed."""
    return await ask_canaries(night, plan.canaries, asking)


def _judge_of(night: Night, plan: NightPlan) -> LLM | None:
    """Give the LLM that judges, when anything that is asked tonight is to be judged."""
    asked = (prompt for planned in (*plan.profiles, *plan.canaries) for prompt in planned.prompts)
    if night.judge is None or all(prompt.grader != Judge.name for prompt in asked):
        return None
    return night.registry.llms.get(night.judge.llm_key)


@asynccontextmanager
async def opened_asking(night: Night, plan: NightPlan) -> AsyncIterator[Asking]:
    """Open the endpoints of whoever is asked or judges; what was reserved for no call is given back at the end."""
    llms = [planned.llm for planned in (*plan.profiles, *plan.canaries)]
    judge = _judge_of(night, plan)
    wanted = {llm.endpoint for llm in [*llms, *([] if judge is None else [judge])]}
    async with AsyncExitStack() as entered:
        endpoints = {
            settings.name: await entered.enter_async_context(night.workspace.open_endpoint(settings))
            for settings in night.workspace.endpoint_settings()
            if settings.name in wanted
        }
        judging = Judging(night.judge, judge, endpoints[judge.endpoint]) if night.judge and judge else None
        asking = Asking(night, endpoints, llms, judging)
        try:
            yield asking
        finally:
            await asking.give_back()


async def profile_part(night: Night, plan: NightPlan, progress: Progress) -> Asked:
    """Profile the LLM of a part that this process was handed; whoever handed it out has checked the judge."""
    async with opened_asking(night, plan) as asking, watching_elsewhere(asking):
        return await profile_here(night, plan, asking, progress)


async def profile_here(night: Night, plan: NightPlan, asking: Asking, progress: Progress) -> Asked:
    """Profile the planned LLMs in this process; what that costs is counted by `asking`."""
    profiling = Profiling(night, plan, asking, progress)
    with progress:
        await profiling.run()
    return Asked(tuple(profiling.outcome_of(planned) for planned in plan.profiles))
