"""What profiling returns: for each LLM, for each worker process, for the canaries, and in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from flows.text import sanitize

ACTOR = "night"
"""Who the ledger says did what a night does by itself."""
NO_WORKER = "no_worker"
"""The kind of a result for which the workers are to blame, not the LLM."""
OVER = "max_hours"
"""The kind of a result that the end of the night cut short."""
NO_VERDICT = "the judge gave no verdict"
"""Why an answer still waits when nothing kept the judge from being asked."""
SIGNIFICANCE = 0.001
"""How often, at most, the canaries of an LLM that did not change may report a drift: once in a thousand nights."""


@dataclass(frozen=True)
class GroupMove:
    """How far a group of prompts moved that an LLM was asked again.

    Attributes
    ----------
    group
        A cluster or category; empty for all prompts.
    prompts
        How many of its prompts were compared.
    before, now
        Their mean scores.
    """

    group: str
    prompts: int
    before: float
    now: float

    @property
    def text(self) -> str:
        """The move in words."""
        return f"{self.group or 'all prompts'} from {self.before:.2f} to {self.now:.2f} on {self.prompts}"


@dataclass(frozen=True)
class CanaryOutcome:
    """What the canaries of one LLM showed.

    Attributes
    ----------
    llm_key
        The LLM.
    asked
        Calls made.
    pairs
        Prompts with a score before and one in the last `nights` nights, in which the most speaks for a change.
    worse, better
        How many of them have a lower, a higher score now.
    p_value
        Significance of the change within all tests of the night, in [0, 1]; see `flows.profiling.drift_tests`.
    spent_usd
        What the calls cost, in USD.
    stopped_by
        Why not all were asked, in words; empty when they were.
    stopped_for
        The kind of failure or ceiling behind it.
    nights
        How many nights' canaries were compared together.
    moved
        If it drifted: how far all prompts moved, and the clusters and categories that moved most in one direction.
    """

    llm_key: str
    asked: int
    pairs: int
    worse: int
    better: int
    p_value: float
    spent_usd: Decimal
    stopped_by: str = ""
    stopped_for: str = ""
    nights: int = 1
    moved: tuple[GroupMove, ...] = ()

    @property
    def is_drifted(self) -> bool:
        """Whether the LLM answers differently than before."""
        return self.p_value <= SIGNIFICANCE

    @property
    def finding(self) -> str:
        """The finding in words."""
        over = f" over {self.nights} nights" if self.nights > 1 else ""
        text = (
            f"of {self.pairs} prompts asked again{over} {self.worse} have a lower and {self.better} a higher score "
            f"than before (p = {self.p_value:.2g})"
        )
        return text + (f"; {self.moved_text}" if self.moved else "")

    @property
    def moved_text(self) -> str:
        """Which clusters and categories moved, and by how much, in words."""
        return ", ".join(move.text for move in self.moved)


@dataclass(frozen=True)
class Quarantine:
    """An LLM whose answers are not trusted, and why."""

    llm_key: str
    reason: str


@dataclass(frozen=True)
class ProfileOutcome:
    """How the profile of one LLM ended tonight.

    Attributes
    ----------
    llm_key
        The LLM.
    is_new
        Whether it had no score before.
    asked, scored, failed
        Calls made tonight, how many of them brought a score, and how many did not.
    spent_usd
        What they cost, in USD.
    coverage
        Share of the whole profile that has a score.
    mean_score, n_in_mean
        Over prompts that were not chosen for anything, and how many of them have a score; ``None`` without any.
    stopped_by
        Why the profile ended early, in words; empty when it did not.
    stopped_for
        The kind of failure or ceiling behind it.
    cut_share
        Share of tonight's answers that ended at ``max_tokens``.
    downgrades
        Request parameters that were dropped because the LLM refuses them.
    saved_calls, saved_usd
        Calls that were planned and not made, because they would have changed no decision, and what they would have
        cost in USD at the expected length.
    """

    llm_key: str
    is_new: bool
    asked: int
    scored: int
    failed: int
    spent_usd: Decimal
    coverage: float
    mean_score: float | None
    stopped_by: str
    stopped_for: str
    cut_share: float = 0.0
    downgrades: tuple[str, ...] = ()
    n_in_mean: int = 0
    saved_calls: int = 0
    saved_usd: Decimal = Decimal(0)


@dataclass(frozen=True)
class Unjudged:
    """How many stored answers of an LLM still wait for the judge at the end of a night, and why, in words.

    `are_unreadable` tells answers that no grader could read, which have a score of 0, from answers without a score.
    """

    llm_key: str
    answers: int
    reason: str
    are_unreadable: bool = False


@dataclass(frozen=True)
class ProfilingResult:
    """How every profile and all canaries ended, what all calls cost in USD, and what still waits for the judge.

    `decided` says of how many unreadable answers the judge decided, by LLM key.
    """

    profiles: tuple[ProfileOutcome, ...] = ()
    canaries: tuple[CanaryOutcome, ...] = ()
    spent_usd: Decimal = Decimal(0)
    unjudged: tuple[Unjudged, ...] = ()
    decided: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerResult:
    """The part of a profile's outcome that the registry does not hold; the fields are those of `ProfileOutcome`."""

    stopped_by: str = ""
    stopped_for: str = ""
    cut_share: float = 0.0
    downgrades: tuple[str, ...] = ()
    saved_calls: int = 0


def failed_result(reason: str) -> WorkerResult:
    """Return the result for an LLM that no worker could profile, for a reason in words."""
    return WorkerResult(stopped_by=f"no worker could profile it: {sanitize(reason, width=300)}", stopped_for=NO_WORKER)
