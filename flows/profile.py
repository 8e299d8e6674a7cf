"""Stage two: LLMs are asked what is missing of their profiles, and every answer is kept as it arrives."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.asking import Asking
from flows.canary import CanaryOutcome, ask_canaries
from flows.graders import Judge
from flows.judging import Judging
from flows.night import Night, ProfileOutcome
from flows.plan import NightPlan, PlannedProfile
from flows.progress import Progress
from flows.recorder import OutcomeRecorder
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
        self._recorder = OutcomeRecorder(lambda outcomes: night.registry.outcomes.record(night.run, outcomes))
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
        night, llm = self._night, profile.llm
        table = night.registry.outcomes.table(
            [llm.key], night.profiled_prompts, night.grader_versions, night.asked_sampling(llm)
        )
        scores = table.scores[: len(night.prompt_set.with_role("representative")), 0]
        known = scores[scores == scores]
        asked, scored = self._asked[llm.key], self._scored[llm.key]
        stopped_by, stopped_for = self._asking.stopped.get(llm.key, ("", ""))
        tally = self._asking.tallies[llm.key]
        return ProfileOutcome(
            llm_key=llm.key,
            is_new=profile.is_new,
            asked=asked,
            scored=scored,
            failed=asked - scored,
            spent_usd=self._spent[llm.key],
            coverage=float((table.scores == table.scores).mean()),
            mean_score=float(known.mean()) if known.size else None,
            stopped_by=stopped_by,
            stopped_for=stopped_for,
            cut_share=tally.cut / tally.answers if tally.answers else 0.0,
            downgrades=tally.downgrades,
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


@dataclass(frozen=True)
class Asked:
    """How every profile and every canary ended, and what all calls cost."""

    profiles: tuple[ProfileOutcome, ...] = ()
    canaries: tuple[CanaryOutcome, ...] = ()
    spent_usd: Decimal = Decimal(0)


def _judge_of(night: Night, plan: NightPlan) -> LLM | None:
    """Give the LLM that judges, when anything that is asked tonight is to be judged."""
    asked = (prompt for planned in (*plan.profiles, *plan.canaries) for prompt in planned.prompts)
    if night.judge is None or all(prompt.grader != Judge.name for prompt in asked):
        return None
    return night.registry.llms.get(night.judge.llm_key)


async def profile(night: Night, plan: NightPlan, progress: Progress) -> Asked:
    """Ask the canaries of complete LLMs, then profile the planned ones."""
    llms = [planned.llm for planned in (*plan.profiles, *plan.canaries)]
    if not llms:
        return Asked()
    async with AsyncExitStack() as entered:
        judge = _judge_of(night, plan)
        wanted = {llm.endpoint for llm in [*llms, *([] if judge is None else [judge])]}
        endpoints = {
            settings.name: await entered.enter_async_context(night.workspace.open_endpoint(settings))
            for settings in night.workspace.endpoint_settings()
            if settings.name in wanted
        }
        judging = Judging(night.judge, judge, endpoints[judge.endpoint]) if night.judge and judge else None
        asking = Asking(night, endpoints, llms, judging)
        profiling = Profiling(night, plan, asking, progress)
        try:
            await asking.check_judge()
            found = await canaries(night, plan, asking) if plan.canaries else ()
            with progress:
                await profiling.run()
        finally:
            await asking.give_back()
    profiles = tuple(profiling.outcome_of(planned) for planned in plan.profiles)
    return Asked(profiles, found, asking.spent_usd)
