"""Stage two: LLMs are asked what is missing of their profiles, and every answer is kept as it arrives."""

from __future__ import annotations

from flows.night.context import Night
from flows.profiling.batches import canaries, opened_asking, profile_here, profile_outcome
from flows.profiling.fan_out import hand_out
from flows.profiling.plan import NightPlan
from flows.profiling.progress import Progress
from flows.profiling.results import Asked


async def profile(night: Night, plan: NightPlan, progress: Progress) -> Asked:
    """Ask the canaries of complete LLMs, then profile the planned ones, here or in other processes."""
    if not (plan.profiles or plan.canaries):
        return Asked()
    async with opened_asking(night, plan) as asking:
        await asking.check_judge()
        found = await canaries(night, plan, asking) if plan.canaries else ()
        made = Asked() if night.is_handed_out else await profile_here(night, plan, asking, progress)
    if night.is_handed_out and plan.profiles:
        made = await _profile_elsewhere(night, plan, progress)
    return Asked(made.profiles, found, asking.spent_usd + made.spent_usd)


async def _profile_elsewhere(night: Night, plan: NightPlan, progress: Progress) -> Asked:
    """Have the planned LLMs profiled by other processes; the registry says what came of it."""
    before = night.registry.outcomes.spend(night.run)
    with progress:
        endings = await hand_out(night, [planned.llm for planned in plan.profiles], progress)
    night.interruption.refuse_to_go_on()
    after = night.registry.outcomes.spend(night.run)
    states = night.registry.parts.states(night.run, list(endings), night.clock())
    profiles = tuple(
        profile_outcome(
            night,
            planned,
            endings[planned.llm.key],
            asked=states[planned.llm.key].asked,
            scored=states[planned.llm.key].scored,
            spent_usd=after.usd_on(planned.llm.key) - before.usd_on(planned.llm.key),
        )
        for planned in plan.profiles
    )
    return Asked(profiles, spent_usd=after.total_usd - before.total_usd)
