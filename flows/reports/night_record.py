"""A night as its run's row keeps it: what one night stores, later commands, reports and metrics read.

The names of the fields are the keys of the stored JSON, and the JSON that ``--json`` prints. A night of another release
may lack some or have others: what is missing gets its default, what is unknown is ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, TypeAdapter

from flows.fitting.refit_change import RefitChange
from flows.gate.verdict import GateCheck, stored_checks
from flows.gate.worth import Worth
from flows.profiling.plan import PlannedOrder
from registry.runs import Run

_Second = Annotated[datetime, PlainSerializer(lambda at: at.isoformat(timespec="seconds"))]
_LEFT_OUT_EMPTY = Field(exclude_if=lambda found: not found)
_ENDED = ("completed", "attention")


@dataclass(frozen=True)
class CatalogRecord:
    """The LLM keys that one catalog changed, and how many of its LLMs the settings leave out (no key when none)."""

    catalog: str
    new: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    repriced: tuple[str, ...] = ()
    left_out: Annotated[int, Field(exclude_if=lambda count: count == 0)] = 0

    @property
    def counts(self) -> str:
        """How many LLMs are new, withdrawn and repriced, in words."""
        return f"{len(self.new)} new, {len(self.withdrawn)} withdrawn, {len(self.repriced)} repriced"


@dataclass(frozen=True)
class PlannedLLM:
    """What one LLM was going to be asked, and its expected and greatest possible cost in USD."""

    llm: str
    is_new: bool = False
    calls: int = 0
    expected_usd: float = 0.0
    worst_usd: float = 0.0


@dataclass(frozen=True)
class Reason:
    """An LLM and the reason for what was decided about it."""

    llm: str
    reason: str | None = None


@dataclass(frozen=True)
class PlannedRegradesRecord:
    """What was going to be graded again of one LLM; as `flows.profiling.plan.PlannedRegrades`."""

    llm: str
    by_rule: int = 0
    by_judge: int = 0
    kept: int = 0
    worst_usd: float = 0.0
    unreadable: int = 0


@dataclass(frozen=True)
class PlanRecord:
    """The plan of a night; `deferred` and `unroutable` LLMs are not in `llms`.

    `regrades` and `order` are left out where there are none, as in nights of earlier releases.
    """

    calls: int = 0
    expected_usd: float = 0.0
    worst_usd: float = 0.0
    llms: tuple[PlannedLLM, ...] = ()
    deferred: tuple[str, ...] = ()
    unroutable: tuple[Reason, ...] = ()
    regrades: Annotated[tuple[PlannedRegradesRecord, ...], _LEFT_OUT_EMPTY] = ()
    order: Annotated[PlannedOrder | None, _LEFT_OUT_EMPTY] = None


@dataclass(frozen=True)
class ProfileRecord:
    """How the profile of one LLM ended; as `flows.profiling.results.ProfileOutcome`.

    Attributes
    ----------
    n_in_mean
        Prompts that `mean_score` is the mean of; left out where it is not known, as in nights of earlier releases.
    usage_flags
        What was wrong with the usage of how many answers; the words are those of `flows.endpoints.usage.FLAGS`. Left
        out where it is empty, as in nights of earlier releases.
    unreadable_share
        Share of the answers in which none could be read, in [0, 1]. Left out where it is unknown.
    saved_calls, saved_usd
        What was not asked because it would have changed no decision. Left out where that is nothing.
    """

    llm: str
    is_new: bool = False
    calls: int = 0
    scored: int = 0
    spent_usd: float = 0.0
    coverage: float = 0.0
    mean_score: float | None = None
    stopped_by: str = ""
    cut_share: float = 0.0
    downgrades: tuple[str, ...] = ()
    n_in_mean: Annotated[int, Field(exclude_if=lambda n: not n)] = 0
    usage_flags: Annotated[dict[str, int], Field(exclude_if=lambda flags: not flags)] = field(default_factory=dict)
    unreadable_share: Annotated[float | None, Field(exclude_if=lambda share: share is None)] = None
    saved_calls: Annotated[int, _LEFT_OUT_EMPTY] = 0
    saved_usd: Annotated[float, _LEFT_OUT_EMPTY] = 0.0


@dataclass(frozen=True)
class GroupMoveRecord:
    """How far a group of prompts moved; as `flows.profiling.results.GroupMove`."""

    group: str = ""
    prompts: int = 0
    before: float | None = None
    now: float | None = None


@dataclass(frozen=True)
class CanaryRecord:
    """What asking one LLM again showed; as `flows.profiling.results.CanaryOutcome`.

    Attributes
    ----------
    p_value
        Drifted at .001 or below; in nights of earlier releases at .0005, by two tests on the canaries of that night.
    nights, moved
        Left out where only that night was compared, and where nothing drifted, as in nights of earlier releases.
    """

    llm: str
    calls: int = 0
    pairs: int = 0
    worse: int = 0
    better: int = 0
    p_value: float = 1.0
    is_drifted: bool = False
    spent_usd: float = 0.0
    stopped_by: str = ""
    nights: Annotated[int, Field(exclude_if=lambda n: n == 1)] = 1
    moved: Annotated[tuple[GroupMoveRecord, ...], _LEFT_OUT_EMPTY] = ()


@dataclass(frozen=True)
class UnavailableRecord:
    """An LLM that its endpoint does not know."""

    llm: str
    is_withdrawn: bool = False


@dataclass(frozen=True)
class RegradedRecord:
    """How far newer graders moved one LLM since the night before; as `registry.outcomes.ScoreMove`."""

    llm: str
    regraded: int = 0
    kept: int = 0
    before: float | None = None
    after: float | None = None
    change: float = 0.0


@dataclass(frozen=True)
class RefreshRecord:
    """How a refresh that was due ended; as `flows.reports.night_report.RefreshOutcome`."""

    changed: str = ""
    status: str = ""
    promotion: int | None = None
    digest: str | None = None
    problem: str = ""
    judged_again: tuple[str, ...] = ()
    publish_error: str = ""
    worth: Annotated[Worth | None, Field(exclude_if=lambda one: one is None)] = None


@dataclass(frozen=True)
class NightRouterRecord:
    """The outcome of the night's router.

    Attributes
    ----------
    review
        Path of the promotion report; None without one, then `review_error` says why.
    gate
        The gate's checks and figures, as `flows.gate.gate.gate_as_json` returns them.
    judged_again
        What became of earlier routers on which the gate could not decide; left out where there is none.
    refit
        What a refit of cluster map and prior changed; left out where there was none.
    """

    digest: str = ""
    version: int | None = None
    n_llms: int = 0
    is_unchanged: bool = False
    map_was_fitted: bool = False
    promotion: str = "none"
    publish_error: str = ""
    alias_drifts: tuple[str, ...] = ()
    review: str | None = None
    review_error: str = ""
    left_out: tuple[Reason, ...] = ()
    gate: dict[str, Any] | None = None
    judged_again: Annotated[tuple[str, ...], _LEFT_OUT_EMPTY] = ()
    refit: Annotated[RefitChange | None, Field(exclude_if=lambda one: one is None)] = None

    @property
    def checks(self) -> tuple[GateCheck, ...]:
        """The conditions of the gate; none when no gate was asked."""
        return stored_checks(self.gate)

    @property
    def worth(self) -> Worth | None:
        """What the router is worth; None when that was not measured then."""
        found = Worth.of_data((self.gate or {}).get("worth"))
        return found.alone if found is not None and self.is_unchanged else found


@dataclass(frozen=True)
class ClosingRecord:
    """The state of registry, ledger and disk at the end of the night; as `flows.reports.closing.ClosingState`."""

    spend_by_endpoint: dict[str, float] = field(default_factory=dict)
    spend_by_purpose: dict[str, float] = field(default_factory=dict)
    nightly_usd: tuple[float, ...] = ()
    waiting_promotion: int | None = None
    champion_version: int | None = None
    champion_since_at: _Second | None = None
    ledger_events: int = 0
    ledger_problem: str = ""
    free_bytes: int | None = None
    champion_warning: Annotated[str, Field(exclude_if=lambda text: not text)] = ""


@dataclass(frozen=True)
class NightRecord:
    """What a night found, called, spent and published, as it is stored.

    Attributes
    ----------
    prompt_set
        Digest of the prompt set.
    calling_s
        Seconds, of `duration_s`, in which LLMs were called.
    regraded, refresh
        Left out where there is none, as in nights of earlier releases.
    closing
        Under the key ``aftermath``.
    """

    run_key: str = ""
    as_of: date | None = None
    verdict: str = ""
    is_plan_only: bool = False
    answers_are_recorded: bool = False
    prompt_set: str = ""
    catalogs: tuple[CatalogRecord, ...] = ()
    plan: PlanRecord | None = None
    calls: int = 0
    spent_usd: float = 0.0
    duration_s: float = 0.0
    calling_s: float = 0.0
    profiles: tuple[ProfileRecord, ...] = ()
    canaries: tuple[CanaryRecord, ...] = ()
    drifted: tuple[str, ...] = ()
    absent: tuple[UnavailableRecord, ...] = ()
    quarantined: tuple[Reason, ...] = ()
    regraded: Annotated[tuple[RegradedRecord, ...], _LEFT_OUT_EMPTY] = ()
    refresh: Annotated[RefreshRecord | None, Field(exclude_if=lambda one: one is None)] = None
    router: NightRouterRecord | None = None
    attention: tuple[str, ...] = ()
    closing: Annotated[ClosingRecord | None, Field(alias="aftermath")] = None

    def as_data(self) -> dict[str, Any]:
        """Return the record as JSON values, under the stored keys."""
        return _NIGHT.dump_python(self, mode="json", by_alias=True)

    def as_json(self) -> str:
        """Return the text that is stored; a number that is not finite raises `ValueError`."""
        return json.dumps(self.as_data(), sort_keys=True, allow_nan=False)


_NIGHT = TypeAdapter(NightRecord)


def stored_summary(run: Run) -> dict[str, Any]:
    """Return the JSON that a night stored, as it stands; empty while it runs, and when it failed."""
    return json.loads(run.summary_json or "{}") if run.status in _ENDED else {}


def read_night(run: Run) -> NightRecord:
    """Return the record of a night; one with nothing but defaults while it runs, and when it failed.

    Raises
    ------
    pydantic.ValidationError
        A stored value is not of its type; a `ValueError`.
    """
    return _NIGHT.validate_python(stored_summary(run))
