"""What profiling returns: per LLM, per process and per canary."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from flows.text import inert

NO_WORKER = "no_worker"


@dataclass(frozen=True)
class Ending:
    """How an assignment ended, as far as the registry does not know; the fields as in `ProfileOutcome`."""

    stopped_by: str = ""
    stopped_for: str = ""
    cut_share: float = 0.0
    downgrades: tuple[str, ...] = ()


def failed_ending(reason: str) -> Ending:
    """Give the ending of an LLM that nobody could profile, for a reason in words."""
    return Ending(stopped_by=f"no worker could profile it: {inert(reason, width=300)}", stopped_for=NO_WORKER)


SIGNIFICANCE = 0.001


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
        Prompts with a score before and a score now.
    worse, better
        How many of them have a lower, a higher score now.
    p_value
        The smaller one of the two exact tests; 1 when there are too few pairs to say anything.
    spent_usd
        What the calls cost.
    stopped_by
        Why not all were asked, in words; empty when they were.
    stopped_for
        The kind of failure or ceiling behind it.
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

    @property
    def is_drifted(self) -> bool:
        """Whether the LLM answers differently than it did."""
        return self.p_value <= SIGNIFICANCE / 2

    @property
    def finding(self) -> str:
        """What was seen, in words."""
        return (
            f"of {self.pairs} prompts asked again {self.worse} have a lower and {self.better} a higher score "
            f"than before (p = {self.p_value:.1e})"
        )


ACTOR = "night"


@dataclass(frozen=True)
class Quarantine:
    """An LLM that is not believed, and why."""

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
        Calls made tonight, how many brought a score and how many none.
    spent_usd
        What they cost.
    coverage
        Share of the whole profile that has a score.
    mean_score
        Over the representative prompts; ``None`` without any.
    stopped_by
        Why the profile ended early, in words; empty when it did not.
    stopped_for
        The kind of failure or ceiling behind it.
    cut_share
        Share of tonight's answers that ended at ``max_tokens``.
    downgrades
        Request parameters given up because the LLM refuses them.
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


@dataclass(frozen=True)
class Asked:
    """How every profile and every canary ended, and what all calls cost."""

    profiles: tuple[ProfileOutcome, ...] = ()
    canaries: tuple[CanaryOutcome, ...] = ()
    spent_usd: Decimal = Decimal(0)
