"""Canaries: every night each complete LLM answers a few prompts again, so that a silent change does not stay hidden.

The prompts rotate over those for which the LLM has a stored answer (`flows.profiling.canary_history`), and the answers
of several nights are put to exact tests together (`flows.profiling.drift_tests`), in all and by cluster and category.
Prompts that cannot be paired, because a call failed, do not count. After a drift the profile is asked again, and the
nights before it are compared no more. A stored grade that an earlier grader gave is no pair for one of the present
grader: in its place stands the first canary that the present grader graded.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.profiling.canary_history import CANARY_ROLES, canary_sampling, read_history, tonights_prompts
from flows.profiling.drift_tests import WindowResult, compare_windows, sign_p_value
from flows.profiling.plan import PlannedProfile
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import ACTOR, CanaryOutcome, GroupMove
from flows.text import sanitize
from registry.llms import LLM
from registry.prompts import Prompt

if TYPE_CHECKING:
    from flows.night.context import Night
    from flows.profiling.asking import BudgetedCaller

_LLMS_AT_ONCE = 4
# Which groups a finding names: those whose own sign test is at most this, at most so many.
_NAMED_P_VALUE, _MOST_NAMED = 0.05, 3


@dataclass(frozen=True)
class Grouping:
    """A way to divide the prompts: by cluster, or by category.

    Attributes
    ----------
    names
        What the groups are called, by number.
    number_of
        Number of the group by digest of the prompt; prompts of no group are absent.
    """

    names: tuple[str, ...]
    number_of: Mapping[str, int]

    def numbers(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """Return the group of every prompt, ``(n,)``; -1 for none."""
        return np.array([self.number_of.get(prompt.digest, -1) for prompt in prompts], dtype=np.int64)


async def ask_canaries(
    night: Night, planned: Sequence[PlannedProfile], caller: BudgetedCaller
) -> tuple[CanaryOutcome, ...]:
    """Ask the planned canaries within the budget, and note in the ledger which LLMs drifted."""
    at_once = asyncio.Semaphore(_LLMS_AT_ONCE)
    groupings = _groupings(night)

    async def of_one(canary: PlannedProfile) -> CanaryOutcome:
        async with at_once:
            return await _ask_one(night, canary, caller, groupings)

    found = await asyncio.gather(*(of_one(canary) for canary in planned))
    for outcome in found:
        if outcome.is_drifted:
            night.drifts.note(outcome.llm_key, night.as_of, outcome.finding, actor=ACTOR, now=night.clock())
    return tuple(found)


async def _ask_one(
    night: Night, canary: PlannedProfile, caller: BudgetedCaller, groupings: Sequence[Grouping]
) -> CanaryOutcome:
    llm, sampling = canary.llm, canary_sampling(night, canary.llm)
    missing = night.registry.outcomes.missing(llm.key, canary.prompts, night.grader_versions, sampling, run=night.run)
    recorder = OutcomeRecorder(lambda made: night.registry.outcomes.record(night.run, made, purpose="canary"))
    outcomes = await asyncio.gather(*(caller.ask(llm, prompt, sampling, recorder.add) for prompt in missing))
    made = [outcome for outcome in outcomes if outcome is not None]
    stopped_by, stopped_for = caller.stopped.get(llm.key, ("", ""))
    outcome = CanaryOutcome(
        llm_key=llm.key,
        asked=len(made),
        pairs=0,
        worse=0,
        better=0,
        p_value=1.0,
        spent_usd=sum((outcome.whole_cost_usd for outcome in made), Decimal(0)),
        stopped_by=stopped_by,
        stopped_for=stopped_for,
    )
    return _with_finding(night, llm, outcome, groupings)


def _with_finding(night: Night, llm: LLM, outcome: CanaryOutcome, groupings: Sequence[Grouping]) -> CanaryOutcome:
    """Add what the window says that speaks most for a change; the shortest of several that say the same."""
    history = read_history(night, llm, with_tonight=True)
    scores = night.registry.outcomes.table(
        [llm.key], history.prompts, night.grader_versions, canary_sampling(night, llm)
    ).scores
    if not np.isfinite(scores).any():
        return outcome
    # A night in which nothing was scored says nothing, and makes no window shorter.
    nights = history.scores[np.isfinite(history.scores).any(axis=1)]
    numbers = [grouping.numbers(history.prompts) for grouping in groupings]
    window = min(
        compare_windows(history.stored, nights, numbers, history.earlier), key=lambda window: float(window.p_value)
    )
    found = replace(
        outcome,
        pairs=int(window.pairs),
        worse=int(window.worse),
        better=int(window.better),
        p_value=float(window.p_value),
        nights=window.nights,
    )
    return replace(found, moved=_moved(window, groupings, numbers)) if found.is_drifted else found


def _moved(
    window: WindowResult, groupings: Sequence[Grouping], numbers: Sequence[NDArray[np.int64]]
) -> tuple[GroupMove, ...]:
    """Return which groups moved in one direction and by how much: all prompts first, then those that moved most."""
    difference = window.now - window.before
    is_pair = np.isfinite(difference)
    moved = []
    for grouping, of_prompts in zip(groupings, numbers, strict=True):
        for number, name in enumerate(grouping.names):
            inside = is_pair & (of_prompts == number)
            p_value = float(sign_p_value((difference[inside] < 0).sum(), (difference[inside] > 0).sum()))
            if p_value <= _NAMED_P_VALUE:
                moved.append((p_value, _move(name, window, inside)))
    most = [move for _, move in sorted(moved, key=lambda found: found[0])[:_MOST_NAMED]]
    return (_move("", window, is_pair), *most)


def _move(name: str, window: WindowResult, inside: NDArray[np.bool_]) -> GroupMove:
    return GroupMove(name, int(inside.sum()), float(window.before[inside].mean()), float(window.now[inside].mean()))


def _groupings(night: Night) -> tuple[Grouping, ...]:
    """Return the clusters of the map, once there is one, and the categories of the prompts, where they have any."""
    prompts = night.prompt_set.with_role(*CANARY_ROLES)
    found = []
    in_use = night.fitted_map
    record = None if in_use is None else in_use.record
    if record is not None:
        # Imported here: every command reads this module, and most need no estimator.
        from routing.stored_estimator import read_estimator

        embedded = night.registry.prompts.embeddings(prompts, night.workspace.embedder.id.key)
        clusters = read_estimator(record.kind, record.arrays).cluster_map_.assign(embedded.matrix)
        names = tuple(f"cluster {number}" for number in range(int(clusters.max(initial=-1)) + 1))
        found.append(Grouping(names, dict(zip(embedded.prompt_digests, clusters.tolist(), strict=True))))
    categories = sorted({prompt.category for prompt in prompts if prompt.category})
    if categories:
        number_of = {name: number for number, name in enumerate(categories)}
        of_prompts = {prompt.digest: number_of[prompt.category] for prompt in prompts if prompt.category}
        found.append(Grouping(tuple(f"category {sanitize(name, width=60)}" for name in categories), of_prompts))
    return tuple(found)


def missing_canaries(night: Night, llms: Sequence[LLM], missing: Mapping[str, Sequence[Prompt]]) -> dict[str, tuple]:
    """Return, by LLM key, the canaries to ask tonight: of every LLM that is routable and has a complete profile."""
    asked: dict[str, tuple] = defaultdict(tuple)
    if not night.settings.canary_prompts:
        return asked
    for llm in llms:
        if llm.key in missing and not missing[llm.key]:
            asked[llm.key] = night.registry.outcomes.missing(
                llm.key, tonights_prompts(night, llm), night.grader_versions, canary_sampling(night, llm)
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
