"""Canaries: every night each complete LLM answers a few prompts again, so that a silent change does not stay hidden.

The prompts are drawn by the prompt set's digest, the same every night. Their scores are paired with the stored ones and
put to two exact tests, each at `SIGNIFICANCE` / 2, so that an LLM that did not change is reported as drifted on at most
one night in a thousand:

- *direction* (McNemar): of the scores that changed, as many should have improved as worsened;
- *number*: no more scores should have changed than expected of an LLM whose sampling varies a little every time,
  `NOISE` of all.

With 20 prompts that takes 12 changes in one direction, or 10 in all. Prompts that cannot be paired, because a call
failed, do not count. A stored grade that an earlier grader gave is no pair for one of the present grader: in its place
stands the first canary that the present grader graded.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from flows.night.epochs import canary_sampling_start, marked
from flows.profiling.plan import PlannedProfile
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import ACTOR, CanaryOutcome
from registry.llms import LLM
from registry.prompts import Prompt

if TYPE_CHECKING:
    from flows.night.context import Night
    from flows.profiling.asking import BudgetedCaller

NOISE = 0.15
"""Share of the scores that change between two nights although the LLM did not."""
_FEWEST_PAIRS = 10
_LLMS_AT_ONCE = 4


def change_p_value(before: np.ndarray, now: np.ndarray) -> float:
    """Return the smaller p-value of the two tests above.

    Parameters
    ----------
    before, now
        ``(n,)`` scores of the same prompts, in the same order; NaN where there is none.
    """
    pairs, worse, better = _changes(before, now)
    changed = worse + better
    if pairs < _FEWEST_PAIRS or not changed:
        return 1.0
    # Imported here: every command reads this module, and scipy.stats takes a second.
    from scipy.stats import binomtest

    direction = binomtest(worse, changed)
    number = binomtest(changed, pairs, NOISE, alternative="greater")
    return float(min(direction.pvalue, number.pvalue))


def _changes(before: np.ndarray, now: np.ndarray) -> tuple[int, int, int]:
    paired = np.isfinite(before) & np.isfinite(now)
    difference = now[paired] - before[paired]
    return int(paired.sum()), int((difference < 0).sum()), int((difference > 0).sum())


async def ask_canaries(
    night: Night, planned: Sequence[PlannedProfile], caller: BudgetedCaller
) -> tuple[CanaryOutcome, ...]:
    """Ask the planned canaries within the budget, and note in the ledger which LLMs drifted."""
    at_once = asyncio.Semaphore(_LLMS_AT_ONCE)

    async def of_one(canary: PlannedProfile) -> CanaryOutcome:
        async with at_once:
            return await _ask_one(night, canary, caller)

    found = await asyncio.gather(*(of_one(canary) for canary in planned))
    for outcome in found:
        if outcome.is_drifted:
            night.drifts.note(outcome.llm_key, night.as_of, outcome.finding, actor=ACTOR, now=night.clock())
    return tuple(found)


async def _ask_one(night: Night, canary: PlannedProfile, caller: BudgetedCaller) -> CanaryOutcome:
    llm = canary.llm
    prompts, sampling = night.canary_prompts, canary_sampling(night, llm)
    missing = night.registry.outcomes.missing(llm.key, prompts, night.grader_versions, sampling, run=night.run)
    recorder = OutcomeRecorder(lambda made: night.registry.outcomes.record(night.run, made, purpose="canary"))
    outcomes = await asyncio.gather(*(caller.ask(llm, prompt, sampling, recorder.add) for prompt in missing))
    made = [outcome for outcome in outcomes if outcome is not None]
    counted = night.counted_sampling(llm)
    # As if no judge had decided about unreadable answers: it has not seen the canaries.
    before, now = (
        night.registry.outcomes.table([llm.key], prompts, night.grader_versions, wanted, is_undecided=True).scores[:, 0]
        for wanted in (counted, sampling)
    )
    # An earlier grader's grade says nothing about whether the LLM changed; its first canary under the present one does.
    old = night.registry.outcomes.old_grades(llm.key, prompts, night.grader_versions, counted)
    if old:
        first = night.registry.outcomes.first_scores(
            llm.key, prompts, night.grader_versions, canary_sampling_start(counted)
        )
        before = np.where([prompt.digest in old for prompt in prompts], first, before)
    pairs, worse, better = _changes(before, now)
    stopped_by, stopped_for = caller.stopped.get(llm.key, ("", ""))
    return CanaryOutcome(
        llm_key=llm.key,
        asked=len(made),
        pairs=pairs,
        worse=worse,
        better=better,
        p_value=change_p_value(before, now),
        spent_usd=sum((outcome.whole_cost_usd for outcome in made), Decimal(0)),
        stopped_by=stopped_by,
        stopped_for=stopped_for,
    )


def canary_sampling(night: Night, llm: LLM) -> str:
    """Return the sampling settings that keep tonight's canaries of an LLM apart from all other answers."""
    return marked(night.counted_sampling(llm), canary=night.as_of.isoformat())


def missing_canaries(night: Night, llms: Sequence[LLM], missing: Mapping[str, Sequence[Prompt]]) -> dict[str, tuple]:
    """Return, by LLM key, the canaries to ask tonight: of every LLM that is routable and has a complete profile."""
    asked: dict[str, tuple] = defaultdict(tuple)
    if not night.canary_prompts:
        return asked
    for llm in llms:
        if llm.key in missing and not missing[llm.key]:
            asked[llm.key] = night.registry.outcomes.missing(
                llm.key, night.canary_prompts, night.grader_versions, canary_sampling(night, llm)
            )
    return asked


def settle_drifts(night: Night) -> None:
    """Build routers on the new answers of every drifted LLM whose profile has been asked again."""
    for drift in night.drifts.all().values():
        if not drift.is_due(night.as_of):
            continue
        llm = night.registry.llms.get(drift.llm_key)
        if llm.endpoint not in night.sampling:
            continue
        sampling = night.asked_sampling(llm)
        coverage = night.registry.outcomes.coverage([llm.key], night.prompts_for(llm), night.grader_versions, sampling)
        if coverage[0].share >= night.settings.routing.min_coverage:
            night.drifts.settle(llm.key, actor=ACTOR, now=night.clock())
