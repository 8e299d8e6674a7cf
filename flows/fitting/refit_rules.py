"""When cluster map and prior are fitted anew, and whose stored answers they are fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.fitting.folds import teaching
from flows.text import counted
from routing.learned_map import LEAST_KNOWN

if TYPE_CHECKING:
    from datetime import date

    from flows.config.settings import RoutingSettings
    from flows.fitting.labels import Labels
    from flows.night.context import Night
    from registry.cluster_maps import FittedMap
    from registry.llms import LLM

# An LLM of a later night teaches with this many answers to prompts that only teach, or with answers to all of them.
_LEAST_ANSWERS = 10


def pool_of(night: Night, llms: list[LLM]) -> list[LLM]:
    """Return the LLMs that may teach, by key: those that may be routed to, and those that were withdrawn since.

    Parameters
    ----------
    night
        The current night.
    llms
        Those that may be routed to.
    """
    routed = {llm.key for llm in llms}
    gone = [
        llm
        for llm in night.registry.llms.all("withdrawn")
        if llm.key not in routed and llm.endpoint in night.sampling and not night.is_judge(llm)
    ]
    return sorted([*llms, *gone], key=lambda llm: llm.key)


def teachers(
    rules: RoutingSettings,
    representative: Labels,
    of_map: Labels,
    texts: Sequence[str],
    rows: NDArray[np.int64] | None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return who teaches, ``(m,)`` each: LLMs that answered the map prompts as well, and LLMs that did not.

    Parameters
    ----------
    rules
        Without ``refit``, nobody of the second kind; only the posterior learns from them.
    representative, of_map
        Answers by role.
    texts
        Texts of the representative prompts.
    rows
        Places of the map prompts that LLMs are asked; None for all.
    """
    known = (of_map.coverage(rows) >= rules.min_coverage) & (representative.coverage() >= rules.min_coverage)
    if rules.method != "posterior" or not rules.refit.is_on:
        return known, np.zeros_like(known)
    scored = np.isfinite(representative.table.scores[teaching(texts)])
    answers = scored.sum(axis=0)
    return known, ~known & (answers > 0) & (answers >= min(_LEAST_ANSWERS, len(scored)))


def why_due(rules: RoutingSettings, in_use: FittedMap, n_llms: int, on: date) -> str:
    """Return why a refit is due, as a clause; empty when it is not. Nothing of a k-means map depends on any LLM.

    Parameters
    ----------
    rules
        The settings.
    in_use
        The map in use.
    n_llms
        LLMs that would teach now.
    on
        The day of the night.
    """
    if rules.method == "kmeans":
        return ""
    new = n_llms - _n_taught(in_use)
    if rules.refit.new_llms and new >= rules.refit.new_llms:
        return f"{counted(new, 'new LLM')} since the last fit"
    days = 0 if in_use.on is None else (on - in_use.on).days
    if rules.refit.days and days >= rules.refit.days:
        return f"the last fit is {counted(days, 'day')} old"
    return ""


def why_not(in_use: FittedMap, n_known: int, n_llms: int) -> str:
    """Return why a refit that is due would lose more than it gains, as a clause; empty when it would not.

    Parameters
    ----------
    in_use
        The map in use.
    n_known, n_llms
        LLMs with answers to the map prompts that count now, and all that would teach.
    """
    taught = _n_taught(in_use)
    if n_known < LEAST_KNOWN or 2 * n_llms < taught:
        answered = f"{counted(n_known, 'LLM')} of {n_llms} with answers to the map prompts"
        return f"the answers of only {answered} count now, those in use were fitted on {counted(taught, 'LLM')}"
    return ""


def _n_taught(in_use: FittedMap) -> int:
    return int(in_use.record.arrays["n_training_llms"][0])
