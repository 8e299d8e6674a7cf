"""Stage two: LLMs are asked what is missing of their profiles, and every answer is kept as it arrives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from decimal import Decimal

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.endpoints import BoundedEndpoint, Budget, Completion, worst_case_usd
from flows.errors import BudgetExceeded, EndpointError, GradingError
from flows.night import Night, ProfileOutcome
from flows.plan import NightPlan, PlannedProfile, cost_usd
from flows.progress import Progress
from flows.recorder import OutcomeRecorder
from registry.llms import LLM, Price
from registry.outcomes import Outcome
from registry.prompts import Prompt

# Enough to keep the endpoints busy while batches end and begin, few enough for Prefect on SQLite.
_BATCHES_AT_ONCE = 8
# A slow LLM holds up the batches of no other.
_BATCHES_OF_ONE_LLM = 2
# Prefect on SQLite stalls when one flow has many more task runs than this.
_MOST_TASK_RUNS = 150


class Profiling:
    """Ask LLMs in batches, within the budget, and commit what they answer.

    Parameters
    ----------
    night
        The night under way.
    plan
        What is asked.
    endpoints
        The entered clients, by endpoint name.
    progress
        Told of every answer.
    """

    def __init__(
        self, night: Night, plan: NightPlan, endpoints: Mapping[str, BoundedEndpoint], progress: Progress
    ) -> None:
        budget = night.settings.budget
        self._night = night
        self._endpoints = endpoints
        self._progress = progress
        self._budget = Budget(
            call_usd=budget.call_usd,
            llm_usd=budget.llm_usd,
            night_usd=budget.night_usd,
            already_spent=night.registry.outcomes.spend(night.run).by_llm,
        )
        # Money is reserved for calls that are about to be made, not for all that are planned.
        self._about_to_call = {name: asyncio.Semaphore(2 * entry.concurrency) for name, entry in endpoints.items()}
        self._recorder = OutcomeRecorder(lambda outcomes: night.registry.outcomes.record(night.run, outcomes))
        self._asked: dict[str, int] = defaultdict(int)
        self._scored: dict[str, int] = defaultdict(int)
        self._spent: dict[str, Decimal] = defaultdict(Decimal)
        self._stopped: dict[str, tuple[str, str]] = {}
        size = max(night.settings.night.batch_size, -(-plan.calls // _MOST_TASK_RUNS))
        self._batches = {
            (profile.llm.key, number): (profile.llm, profile.prompts[start : start + size])
            for profile in plan.profiles
            for number, start in enumerate(range(0, len(profile.prompts), size), start=1)
        }
        self._at_once = asyncio.Semaphore(_BATCHES_AT_ONCE)
        self._of_one_llm = {profile.llm.key: asyncio.Semaphore(_BATCHES_OF_ONE_LLM) for profile in plan.profiles}

    @property
    def spent_usd(self) -> Decimal:
        """What tonight's calls cost so far."""
        return sum(self._spent.values(), Decimal(0))

    async def run(self) -> None:
        """Ask every batch, LLM after LLM: a night that is stopped leaves whole profiles behind, not many halves."""
        await asyncio.gather(*(self._run_in_turn(llm_key, number) for llm_key, number in self._batches))

    async def _run_in_turn(self, llm_key: str, number: int) -> None:
        async with self._of_one_llm[llm_key], self._at_once:
            if llm_key not in self._stopped:
                await profile_batch(self, llm_key, number)

    async def ask_batch(self, llm_key: str, number: int) -> int:
        """Ask what is still missing of a batch; give how many prompts were asked."""
        llm, prompts = self._batches[llm_key, number]
        night = self._night
        missing = night.registry.outcomes.missing(
            llm.key, prompts, night.grader_versions, night.sampling[llm.endpoint], run=night.run
        )
        await asyncio.gather(*(self._ask(llm, prompt) for prompt in missing))
        return len(missing)

    async def _ask(self, llm: LLM, prompt: Prompt) -> None:
        """Ask one prompt and keep the outcome, if there is one."""
        async with self._about_to_call[llm.endpoint]:
            outcome = await self._call(llm, prompt)
        if outcome is not None:
            await self._keep(llm, outcome)

    async def _call(self, llm: LLM, prompt: Prompt) -> Outcome | None:
        """Call within the budget; every way this can end is an outcome, or stops the LLM's profile for tonight."""
        price = llm.price
        if price is None or llm.key in self._stopped:
            return None
        endpoint = self._endpoints[llm.endpoint]
        worst = worst_case_usd(
            prompt.text,
            max_tokens=endpoint.max_tokens,
            input_usd_per_mtok=price.input_usd_per_mtok,
            output_usd_per_mtok=price.output_usd_per_mtok,
        )
        try:
            reservation = await self._budget.reserve(llm.key, worst)
        except BudgetExceeded as error:
            self._stop(llm.key, error.message, f"budget of the {error.scope}")
            return None
        try:
            completion = await endpoint.complete(llm.llm_id, prompt.text)
        except EndpointError as error:
            self._budget.release(reservation)
            if error.is_endpoint_wide or not error.attempts:
                self._stop(llm.key, error.message, error.kind)
            return self._failure(llm, prompt, error.kind, error.attempts) if error.attempts else None
        except BaseException:
            self._budget.release(reservation)
            raise
        outcome = self._outcome(llm, prompt, price, completion)
        self._budget.settle(reservation, outcome.cost_usd or Decimal(0))
        return outcome

    def _stop(self, llm_key: str, reason: str, kind: str) -> None:
        self._stopped.setdefault(llm_key, (reason, kind))

    async def _keep(self, llm: LLM, outcome: Outcome) -> None:
        await self._recorder.add(outcome)
        self._asked[llm.key] += 1
        self._scored[llm.key] += outcome.score is not None
        self._spent[llm.key] += outcome.cost_usd or 0
        self._progress.answered(llm.key, outcome)

    def _outcome(self, llm: LLM, prompt: Prompt, price: Price, completion: Completion) -> Outcome:
        """Grade a completion; a grader that crashes makes a failure, not a wrong answer."""
        grader = self._night.graders[prompt.grader]
        score: float | None = None
        failure: str | None = None
        try:
            score = grader.grade(completion.text, prompt.reference)
        except GradingError:
            failure = "grading"
        return Outcome(
            llm_key=llm.key,
            prompt_digest=prompt.digest,
            grader=grader.label,
            sampling=self._night.sampling[llm.endpoint],
            score=score,
            failure=failure,
            input_tokens=completion.input_tokens,
            output_tokens=completion.output_tokens,
            cost_usd=cost_usd(price, completion.input_tokens, completion.output_tokens),
            latency_s=completion.latency_s,
            finish_reason=completion.finish_reason,
            attempts=completion.attempts,
            completion=completion.text,
            usage_estimated=completion.usage_estimated,
            served_llm=completion.served_llm,
            asked_at=self._night.clock(),
        )

    def _failure(self, llm: LLM, prompt: Prompt, kind: str, attempts: int) -> Outcome:
        return Outcome(
            llm_key=llm.key,
            prompt_digest=prompt.digest,
            grader=self._night.graders[prompt.grader].label,
            sampling=self._night.sampling[llm.endpoint],
            score=None,
            failure=kind,
            input_tokens=None,
            output_tokens=None,
            cost_usd=None,
            latency_s=None,
            finish_reason=None,
            attempts=attempts,
            completion=None,
            usage_estimated=False,
            asked_at=self._night.clock(),
        )

    def outcome_of(self, profile: PlannedProfile) -> ProfileOutcome:
        """Say how the profile of an LLM ended."""
        night, llm = self._night, profile.llm
        table = night.registry.outcomes.table(
            [llm.key], night.profiled_prompts, night.grader_versions, {llm.key: night.sampling[llm.endpoint]}
        )
        scores = table.scores[: len(night.prompt_set.with_role("representative")), 0]
        known = scores[scores == scores]
        asked, scored = self._asked[llm.key], self._scored[llm.key]
        stopped_by, stopped_for = self._stopped.get(llm.key, ("", ""))
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


async def profile(night: Night, plan: NightPlan, progress: Progress) -> tuple[tuple[ProfileOutcome, ...], Decimal]:
    """Profile the planned LLMs.

    Returns
    -------
    tuple
        How each profile ended, and what the calls cost.
    """
    async with AsyncExitStack() as entered:
        wanted = {planned.llm.endpoint for planned in plan.profiles}
        endpoints = {
            settings.name: await entered.enter_async_context(night.workspace.open_endpoint(settings))
            for settings in night.workspace.endpoint_settings()
            if settings.name in wanted
        }
        profiling = Profiling(night, plan, endpoints, progress)
        with progress:
            await profiling.run()
    return tuple(profiling.outcome_of(planned) for planned in plan.profiles), profiling.spent_usd
