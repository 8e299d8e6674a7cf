"""Which prompts an LLM answers again tonight, and what it answered on earlier nights.

Prompts rotate: those asked longest ago come first, and among those never asked a hash decides. Of an LLM that changed
more verdicts than is usual, half of the prompts are ones of the last nights: whether it changed, or is noisy, shows in
how it answers them once more. A night that is started again asks the same ones, because only earlier nights and the
stored answers are looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.night.epochs import marked, marks_of, marks_start
from flows.profiling.drift_tests import LONGEST_WINDOW, WindowResult, compare_windows, latest_scores

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM
    from registry.outcomes import OutcomeReader
    from registry.prompts import Prompt

CANARY_ROLES = ("representative", "gate")
# Of the epoch before: its last nights, in which a drift was found, already show the LLM as it is now.
_NIGHTS_BEFORE_EPOCH = 5
# An LLM is suspected by a number of changes that among usual LLMs is rarer than this; over how many nights its prompts
# are asked again. Suspicion costs no call: simulated, twice the nights or half the level find a drift a night later.
_SUSPICION, _NIGHTS_REPEATED = 0.02, 5


@dataclass(frozen=True, eq=False)
class CanaryHistory:
    """What an LLM scored on the prompts that it can be asked again.

    Attributes
    ----------
    prompts
        The n prompts for which it has a stored score.
    stored
        ``(n,)`` the scores that routers rest on, before any judge decided; NaN where an earlier grader gave it, because
        that says nothing about whether the LLM changed.
    scores
        ``(nights, n)`` scores of its canaries since it was profiled, the latest night last; NaN where there is none.
    is_asked
        ``(nights, n)`` whether a prompt was asked in a night, whatever came of it.
    earlier
        ``(n,)`` latest scores from just before its profile was asked again after a drift; NaN where there is none.
    """

    prompts: tuple[Prompt, ...]
    stored: NDArray[np.float64]
    scores: NDArray[np.float64]
    is_asked: NDArray[np.bool_]
    earlier: NDArray[np.float64]

    def next_prompts(self, n: int, seed: str) -> tuple[Prompt, ...]:
        """Return the prompts to ask next; `seed` orders those asked in the same night, or never."""

        def tie(column: int) -> bytes:
            return hashlib.sha256(f"canary:{seed}:{self.prompts[column].digest}".encode()).digest()

        columns = range(len(self.prompts))
        ties = np.empty(len(self.prompts), dtype=np.int64)
        ties[sorted(columns, key=tie)] = columns
        return tuple(self.prompts[column] for column in next_columns(self.is_asked, ties, n, repeat=self.is_suspected))

    @property
    def is_suspected(self) -> bool:
        """Whether it changed so many verdicts that it has either changed or is noisier than is usual."""
        nights = self.scores[np.isfinite(self.scores).any(axis=1)]
        return bool(is_suspected(compare_windows(self.stored, nights, (), self.earlier)))


def is_suspected(windows: Sequence[WindowResult]) -> NDArray[np.bool_]:
    """Return whether more verdicts changed than change of usual LLMs, ``(...)``; not without any night."""
    return np.any([window.usual_p_value <= _SUSPICION for window in windows], axis=0)


def next_columns(is_asked: NDArray[np.bool_], ties: NDArray[np.int64], n: int, *, repeat: bool) -> tuple[int, ...]:
    """Return which prompts are asked next: those asked longest ago, the never asked ones first.

    Parameters
    ----------
    is_asked
        ``(nights, n_prompts)``, the latest night last.
    ties
        ``(n_prompts,)``: who comes first of prompts that were asked in the same night.
    n
        How many.
    repeat
        Whether the first half are prompts of the last nights: those asked least often in them, the latest first.
    """
    last = np.where(is_asked, np.arange(1, len(is_asked) + 1)[:, None], 0).max(axis=0, initial=0)
    order = np.lexsort((ties, last)).tolist()
    if not repeat:
        return tuple(order[:n])
    times = is_asked[-_NIGHTS_REPEATED:].sum(axis=0)
    again = [column for column in np.lexsort((ties, -last, times)).tolist() if times[column]][: n // 2]
    return (*again, *[column for column in order if column not in set(again)][: n - len(again)])


def canary_sampling(night: Night, llm: LLM) -> str:
    """Return the sampling settings that keep tonight's canaries of an LLM apart from all other answers."""
    return marked(night.counted_sampling(llm), canary=night.as_of.isoformat())


def tonights_prompts(night: Night, llm: LLM) -> tuple[Prompt, ...]:
    """Return the prompts that an LLM is asked again tonight; the same ones when the night is started again."""
    n = night.settings.canary_prompts
    return read_history(night, llm, with_tonight=False).next_prompts(n, f"{night.prompt_set.digest}:{llm.key}")


def read_history(night: Night, llm: LLM, *, with_tonight: bool) -> CanaryHistory:
    """Read what an LLM answered before: its profile, and its canaries of as many nights as the tests can use.

    Parameters
    ----------
    night
        The current night; later ones do not count.
    llm
        The LLM; its profile is complete.
    with_tonight
        Whether tonight's canaries count.
    """
    outcomes, graders = night.registry.outcomes, night.grader_versions
    counted = night.counted_sampling(llm)
    prompts = night.prompt_set.with_role(*CANARY_ROLES)
    # As if no judge had decided about unreadable answers: it has not seen the canaries.
    stored = outcomes.table([llm.key], prompts, graders, counted, is_undecided=True).scores[:, 0]
    prompts = tuple(prompt for prompt, score in zip(prompts, stored, strict=True) if np.isfinite(score))
    old = outcomes.old_grades(llm.key, prompts, graders, counted)
    stored = np.where([prompt.digest in old for prompt in prompts], np.nan, stored[np.isfinite(stored)])
    cycle = -(-len(prompts) // max(night.settings.canary_prompts, 1))
    last_day = night.as_of.isoformat()
    now, before = _samplings(outcomes, llm, night.sampling[llm.endpoint], counted, last_day, with_tonight=with_tonight)
    repeated = outcomes.repeated_scores(llm.key, prompts, graders, now[-(LONGEST_WINDOW + 2 * cycle) :])
    earlier = outcomes.repeated_scores(llm.key, prompts, graders, before[-_NIGHTS_BEFORE_EPOCH:])
    return CanaryHistory(prompts, stored, repeated.scores, repeated.is_asked, latest_scores(earlier.scores))


def _samplings(
    outcomes: OutcomeReader, llm: LLM, plain: str, counted: str, last_day: str, *, with_tonight: bool
) -> tuple[list[str], list[str]]:
    """Return the sampling settings of canaries in the counted epoch, and in those before it, each by night."""
    epoch = marks_of(counted).get("epoch", "")
    now, before = [], []
    for sampling in outcomes.repeated_samplings(llm.key, marks_start(plain), '"canary":'):
        marks = marks_of(sampling)
        if marks["canary"] > last_day or (marks["canary"] == last_day and not with_tonight):
            continue
        of_epoch = marks.get("epoch", "")
        if of_epoch == epoch:
            now.append(sampling)
        elif of_epoch < epoch:
            before.append(sampling)
    return now, before
