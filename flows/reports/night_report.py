"""The report of a night in memory: what it found, called, spent and published, before it is worded or stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from flows.profiling.results import ProfileOutcome
from registry.prompts import PromptSet

if TYPE_CHECKING:
    from flows.fitting.refit_change import RefitChange
    from flows.gate.gate import GateResult
    from flows.gate.worth import Worth
    from flows.profiling.availability import UnavailableLLM
    from flows.profiling.plan import NightPlan
    from flows.profiling.results import CanaryOutcome, Quarantine, Unjudged
    from flows.reports.closing import ClosingState
    from registry.llms import CatalogDiff
    from registry.outcomes import Readability, ScoreMove, UsageFacts


UNDECIDED_WAITS: Final = "undecided, waiting for review"
"""What became of a router on which the gate cannot decide, and a person has to."""


@dataclass(frozen=True)
class RouterOutcome:
    """The outcome of the night's router.

    `judged_again` says, in lines, what became of earlier routers on which the gate could not decide. `review_path` is
    the path of the report on which its promotion is decided; `review_error` says why there is none.
    """

    digest: str
    n_llms: int
    is_unchanged: bool
    map_was_fitted: bool
    version: int | None = None
    promotion: str = "none"
    gate: GateResult | None = None
    publish_error: str = ""
    alias_drifts: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    carried_over: tuple[str, ...] = ()
    review_path: str = ""
    review_error: str = ""
    judged_again: tuple[str, ...] = ()
    refit: RefitChange | None = None

    @property
    def worth(self) -> Worth | None:
        """What the router is worth; None when it was not measured."""
        if self.gate is None:
            return None
        return self.gate.worth.alone if self.is_unchanged else self.gate.worth


@dataclass(frozen=True)
class RefreshOutcome:
    """How a refresh that was due ended.

    Attributes
    ----------
    changed
        What changed, in one line.
    status
        ``applied``; ``requested`` when it waits for a person; ``refused`` when a check failed or nothing is left.
    promotion_id, digest
        Of the refreshed router; None without one.
    problem
        Why it was not applied; empty when it was.
    judged_again
        The promotions that waited and were judged again, in lines.
    publish_error
        Why MLflow has not been updated yet; empty when it has.
    worth
        What the refreshed router is worth on gate prompts; None when that was not measured.
    """

    changed: str
    status: str
    promotion_id: int | None = None
    digest: str | None = None
    problem: str = ""
    judged_again: tuple[str, ...] = ()
    publish_error: str = ""
    worth: Worth | None = None

    @property
    def is_applied(self) -> bool:
        """Whether the refreshed router serves."""
        return self.status == "applied"


@dataclass(frozen=True)
class NightReport:
    """What a night found, called, spent and published.

    `usage` says what was wrong with the usage of its answers, `readability` how many of the answers of the LLMs that
    were profiled or graded again could be read, and `decided` about how many of them a judge decided; all by LLM key.
    `decides_unreadable` says whether a judge does so at all.
    """

    run_key: str
    as_of: date
    prompt_set: PromptSet
    diffs: tuple[CatalogDiff, ...]
    catalog_errors: tuple[str, ...]
    plan: NightPlan
    profiles: tuple[ProfileOutcome, ...] = ()
    canaries: tuple[CanaryOutcome, ...] = ()
    quarantined: tuple[Quarantine, ...] = ()
    drifted: tuple[str, ...] = ()
    absent: tuple[UnavailableLLM, ...] = ()
    regraded: tuple[ScoreMove, ...] = ()
    unjudged: tuple[Unjudged, ...] = ()
    refresh: RefreshOutcome | None = None
    router: RouterOutcome | None = None
    spent_usd: Decimal = Decimal(0)
    duration_s: float = 0.0
    calling_s: float = 0.0
    is_plan_only: bool = False
    is_recorded: bool = False
    attention: tuple[str, ...] = field(default=())
    closing: ClosingState | None = None
    usage: Mapping[str, UsageFacts] = field(default_factory=dict)
    readability: Mapping[str, Readability] = field(default_factory=dict)
    decided: Mapping[str, int] = field(default_factory=dict)
    decides_unreadable: bool = False

    @property
    def calls(self) -> int:
        """Number of calls made."""
        return sum(profile.asked for profile in self.profiles)
