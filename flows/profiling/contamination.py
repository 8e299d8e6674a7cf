"""Contamination: an LLM that does much better on representative prompts than on hidden ones is not trusted.

Representative and hidden prompts are drawn from the same prompts by the same stratified shuffle, so an LLM that has
seen neither scores alike on both. Of the representative prompts, those count that every LLM is asked: others were
chosen, for being neither easy nor hard, or were asked because of the answers so far. Fisher's exact test, one-sided,
asks how likely its representative score would be if all its correct answers were spread over both at random; below
`SIGNIFICANCE`, and with a gap of at least `LEAST_GAP`, the LLM is quarantined: not routed to, and reported until a
person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.night.asked_prompts import uniform_representative
from flows.profiling.results import ACTOR, Quarantine

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM
    from registry.prompts import Prompt

SIGNIFICANCE = 0.001
LEAST_GAP = 0.1


def contamination_p_value(known: NDArray[np.float64], hidden: NDArray[np.float64]) -> float:
    """Return the probability of a representative score this high if both kinds of prompts were alike to the LLM.

    Parameters
    ----------
    known, hidden
        Scores in [0, 1] on representative and on hidden prompts, NaN where there is none; half a point or more counts
        as correct.
    """
    known, hidden = known[np.isfinite(known)], hidden[np.isfinite(hidden)]
    right_known, right_hidden = int((known >= 0.5).sum()), int((hidden >= 0.5).sum())
    # Imported here: every command reads this module, and scipy.stats takes a second.
    from scipy.stats import fisher_exact

    wrong_known, wrong_hidden = len(known) - right_known, len(hidden) - right_hidden
    table = [[right_known, wrong_known], [right_hidden, wrong_hidden]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def quarantine_contaminated(night: Night) -> tuple[Quarantine, ...]:
    """Quarantine every LLM that seems to know the representative prompts; a person's decision is left alone.

    The stored answers decide, whichever night asked: a night that is killed and started again finds the same.
    """
    found = []
    tested = [
        llm
        for llm in night.registry.llms.all(status="available")
        if llm.status_reason is None and llm.endpoint in night.sampling and llm.is_routable_on(night.as_of)
    ]
    sampling = {llm.key: night.counted_sampling(llm) for llm in tested}
    drawn = uniform_representative(night.registry, night.prompt_set, sampling)
    for llm in tested:
        reason = _reason(night, llm, drawn[llm.key])
        if reason:
            night.registry.llms.set_status(llm.key, "quarantined", reason, actor=ACTOR, now=night.clock())
            found.append(Quarantine(llm.key, reason))
    return tuple(found)


def _reason(night: Night, llm: LLM, drawn: Sequence[Prompt]) -> str:
    sampling = night.counted_sampling(llm)
    known, hidden = (
        night.registry.outcomes.table([llm.key], prompts, night.grader_versions, sampling).scores[:, 0]
        for prompts in (drawn, night.prompt_set.with_role("hidden"))
    )
    if not np.isfinite(known).any() or not np.isfinite(hidden).any():
        return ""
    gap = float(np.nanmean(known) - np.nanmean(hidden))
    p_value = contamination_p_value(known, hidden)
    if gap < LEAST_GAP or p_value > SIGNIFICANCE:
        return ""
    return (
        f"scores {np.nanmean(known):.3f} on representative prompts but {np.nanmean(hidden):.3f} on hidden ones "
        f"(p = {p_value:.2g}): it seems to know the representative prompts"
    )
