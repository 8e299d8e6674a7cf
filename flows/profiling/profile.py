"""The profiling stage of a night: canaries first, then the planned profiles, made here or by other processes."""

from __future__ import annotations

from flows.night.context import Night
from flows.profiling.batches import canaries, opened_caller, profile_here, profile_outcome
from flows.profiling.fan_out import hand_out
from flows.profiling.plan import NightPlan
from flows.profiling.progress import Progress
from flows.profiling.regrading import regrade_by_judge
from flows.profiling.results import ProfilingResult


async def profile(night: Night, plan: NightPlan, progress: Progress) -> ProfilingResult:
    """Have stored answers judged again, ask the canaries of complete LLMs, then profile the planned ones.

    The profiles are made here or in other processes.
    """
    if not (plan.profiles or plan.canaries or plan.asks_judge_again):
        return ProfilingResult()
    async with opened_caller(night, plan) as caller:
        await caller.check_judge()
        unjudged = await regrade_by_judge(night, caller) if plan.asks_judge_again else ()
        found = await canaries(night, plan, caller) if plan.canaries else ()
        made = ProfilingResult() if night.is_handed_out else await profile_here(night, plan, caller, progress)
    if night.is_handed_out and plan.profiles:
        made = await _profile_elsewhere(night, plan, progress)
    return ProfilingResult(made.profiles, found, caller.spent_usd + made.spent_usd, unjudged)


async def _profile_elsewhere(night: Night, plan: NightPlan, progress: Progress) -> ProfilingResult:
    """Have the planned LLMs profiled by other processes; the registry holds the result."""
    before = night.registry.outcomes.spend(night.run)
    with progress:
        results = await hand_out(night, [planned.llm for planned in plan.profiles], progress)
    night.interruption.raise_if_requested()
    after = night.registry.outcomes.spend(night.run)
    states = night.registry.parts.states(night.run, list(results), night.clock())
    profiles = tuple(
        profile_outcome(
            night,
            planned,
            results[planned.llm.key],
            asked=states[planned.llm.key].asked,
            scored=states[planned.llm.key].scored,
            spent_usd=after.usd_on(planned.llm.key) - before.usd_on(planned.llm.key),
        )
        for planned in plan.profiles
    )
    return ProfilingResult(profiles, spent_usd=after.total_usd - before.total_usd)
