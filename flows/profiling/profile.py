"""The profiling stage of a night: canaries first, then the planned profiles, made here or by other processes."""

from __future__ import annotations

from dataclasses import replace

from flows.graders import Judge
from flows.night.context import Night
from flows.profiling.batches import canaries, mean_score, opened_caller, profile_here, profile_outcome
from flows.profiling.fan_out import hand_out
from flows.profiling.plan import NightPlan
from flows.profiling.progress import Progress
from flows.profiling.regrading import regrade_by_judge
from flows.profiling.results import ProfilingResult
from flows.profiling.unreadable import judge_unreadable


async def profile(night: Night, plan: NightPlan, progress: Progress) -> ProfilingResult:
    """Have stored answers judged again, ask canaries and planned profiles, then have unreadable answers judged.

    Which prompts the planned LLMs are asked is stored before the first is: a night that is killed resumes with them.
    """
    night.asked.keep(planned.llm for planned in plan.profiles)
    made, is_checked = await _asked(night, plan, progress)
    found = await judge_unreadable(night, is_checked=is_checked)
    # A verdict may be another score than the one that the profile ended with.
    profiles = tuple(
        replace(one, mean_score=mean_score(night, one.llm_key)) if one.llm_key in found.decided else one
        for one in made.profiles
    )
    return replace(
        made,
        profiles=profiles,
        spent_usd=made.spent_usd + found.spent_usd,
        unjudged=(*made.unjudged, *found.unjudged),
        decided=found.decided,
    )


async def _asked(night: Night, plan: NightPlan, progress: Progress) -> tuple[ProfilingResult, bool]:
    """Ask what is planned, here or in other processes; return also whether the judge has passed its check."""
    if not (plan.profiles or plan.canaries or plan.asks_judge_again):
        return ProfilingResult(), False
    async with opened_caller(night, plan) as caller:
        await caller.check_judge([prompt for prompt in night.profiled_prompts if prompt.grader == Judge.name])
        unjudged = await regrade_by_judge(night, caller) if plan.asks_judge_again else ()
        found = await canaries(night, plan, caller) if plan.canaries else ()
        made = ProfilingResult() if night.is_handed_out else await profile_here(night, plan, caller, progress)
    if night.is_handed_out and plan.profiles:
        made = await _profile_elsewhere(night, plan, progress)
    result = ProfilingResult(made.profiles, found, caller.spent_usd + made.spent_usd, unjudged)
    return result, caller.has_judge


async def _profile_elsewhere(night: Night, plan: NightPlan, progress: Progress) -> ProfilingResult:
    """Have the planned LLMs profiled by other processes; the registry holds the result."""
    before = night.registry.outcomes.spend(night.run)
    with progress:
        results = await hand_out(night, [planned.llm for planned in plan.profiles], progress)
    night.interruption.raise_if_requested()
    # The processes that asked have stored whose profile ended early.
    night.asked.forget()
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
