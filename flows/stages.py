"""The small stages of a night: check graders, sync catalogs, regrade, plan, check answers, and log how stages ended."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.catalogs import Catalog
from flows.errors import CatalogError, CatalogUnavailable
from flows.logs import log_event
from flows.masking import masked_failures
from flows.night.context import Night
from flows.profiling.availability import quarantine_unanswered
from flows.profiling.canaries import missing_canaries, settle_drifts
from flows.profiling.contamination import quarantine_contaminated
from flows.profiling.plan import NightPlan, PlannedOrder, chosen, plan_night
from flows.profiling.regrading import planned_regrades, regrade_by_rule
from flows.profiling.results import ProfileOutcome, ProfilingResult, Quarantine
from flows.profiling.unreadable import readability_of
from flows.reports.day_zero import standings
from registry.llms import CatalogDiff, CatalogFetch, UnreadCatalog

if TYPE_CHECKING:
    from flows.reports.night_report import RouterOutcome
    from registry.outcomes import Readability, ScoreMove, UsageFacts


@dataclass(frozen=True)
class SyncResult:
    """What syncing the catalogs found.

    Attributes
    ----------
    diffs
        What changed, catalog by catalog.
    errors
        One line for each catalog that could not be read.
    """

    diffs: tuple[CatalogDiff, ...]
    errors: tuple[str, ...]

    @property
    def unlisted(self) -> frozenset[str]:
        """Keys of the LLMs that their endpoint's own list lacks for the first night."""
        return frozenset(key for diff in self.diffs for key in diff.unlisted)


@task(name="check-graders", cache_policy=NO_CACHE)
@masked_failures()
def check_graders(night: Night) -> None:
    """Put every grader through its self-check before money is spent."""
    night.check_graders()


@task(
    name="sync-catalog",
    task_run_name="sync {name}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=lambda _task, _run, state: isinstance(state.result(raise_on_failure=False), CatalogUnavailable),
)
@masked_failures()
def fetch_catalog(catalog: Catalog, name: str) -> CatalogFetch:
    """Fetch a catalog; retried only if it did not answer."""
    return catalog.fetch()


def sync(night: Night, catalogs: Sequence[Catalog]) -> SyncResult:
    """Read every catalog and record them together; one that fails leaves yesterday's listings as they are.

    Raises
    ------
    CatalogError
        No catalog could be read.
    """
    fetches: list[CatalogFetch] = []
    unread: list[UnreadCatalog] = []
    failures: list[CatalogError] = []
    for catalog in catalogs:
        try:
            fetches.append(fetch_catalog(catalog, catalog.name))
        except CatalogError as error:
            failures.append(error)
            unread.append(UnreadCatalog(catalog.name, catalog.endpoint, catalog.precedence, catalog.leaves_out))
    if failures and not fetches:
        raise failures[0]
    diffs = night.registry.llms.record_fetches(night.run, fetches, night.as_of, unread=unread)
    return SyncResult(diffs, tuple(error.message for error in failures))


@task(name="regrade", cache_policy=NO_CACHE)
@masked_failures()
def regrade(night: Night) -> None:
    """Grade stored answers again whose grader is newer now; those that need a judge wait until the night may pay."""
    for moved in regrade_by_rule(night, night.run):
        facts = {"regraded": moved.regraded, "kept": moved.kept, "change": moved.change}
        log_event("regraded", run=night.run_key, llm=moved.llm_key, **facts)


@task(name="plan", cache_policy=NO_CACHE)
@masked_failures()
def plan(night: Night, only: list[str] | None = None) -> NightPlan:
    """Plan what to ask and what that costs; nothing is called."""
    available = night.registry.llms.all(status="available")
    askable = [
        llm for llm in available if llm.endpoint in night.sampling and not night.is_judge(llm) and not llm.is_left_out
    ]
    llms = chosen(askable, only)
    missing = {
        llm.key: night.registry.outcomes.missing(
            llm.key, night.prompts_for(llm), night.grader_versions, night.asked_sampling(llm)
        )
        for llm in llms
        if llm.is_routable_on(night.as_of)
    }
    seen = night.outcome_table(llms, night.profiled_prompts)
    output_tokens = seen.output_tokens[np.isfinite(seen.output_tokens)]
    drifted = [drift.llm_key for drift in night.drifts.all().values() if drift.is_due(night.as_of)]
    new = [
        llm
        for llm in llms
        if llm.key in missing and llm.key not in drifted and len(missing[llm.key]) == len(night.prompts_for(llm))
    ]
    planned = plan_night(
        llms,
        night.as_of,
        missing,
        {key: len(night.prompts_for(llm)) for llm in llms if (key := llm.key) in missing},
        max_new=night.settings.night.max_new,
        max_tokens={entry.name: entry.max_tokens for entry in night.workspace.endpoint_settings()},
        seen_output_tokens=float(output_tokens.mean()) if output_tokens.size else None,
        canaries=missing_canaries(night, llms, missing),
        drifted=drifted,
        worth=standings(night.workspace, new).worth if len(new) > 1 else {},
    )
    return replace(planned, regrades=planned_regrades(night), order=_planned_order(night, planned))


def _planned_order(night: Night, planned: NightPlan) -> PlannedOrder | None:
    """Return the order by which most of the planned LLMs that are asked by one are asked, the latest of several."""
    scopes = [scope for one in planned.profiles if (scope := night.asked.scope_tonight(one.llm)) is not None]
    if not scopes:
        return None
    counts = Counter(scope.order_digest for scope in scopes)
    digest = max(counts, key=lambda one: counts[one])
    order = night.asked.order_of(digest)
    return PlannedOrder(
        digest=digest,
        strategy=order.strategy,
        n_asked=max(scope.n_prompts for scope in scopes if scope.order_digest == digest),
        n_prompts=len(order.prompt_digests),
        n_known=order.n_known,
        expected_loss=dict(order.losses.get("by_n", {})),
    )


def note_plan(night: Night, plan: NightPlan) -> None:
    """Record and log how many calls this attempt is about to make."""
    calls = plan.calls + plan.canary_calls
    night.registry.monitoring.note_plan(night.run, calls)
    log_event("planned", run=night.run_key, llms=len(plan.profiles), calls=calls, cost_usd=plan.expected_usd)


def log_profiles(night: Night, profiles: Iterable[ProfileOutcome]) -> None:
    """Log how the profile of each LLM ended."""
    for profile in profiles:
        log_event(
            "llm_stopped" if profile.stopped_by else "llm_profiled",
            run=night.run_key,
            llm=profile.llm_key,
            calls=profile.asked,
            failed=profile.failed,
            coverage=profile.coverage,
            cost_usd=profile.spent_usd,
            reason=profile.stopped_by or None,
        )


@task(name="check-answers", cache_policy=NO_CACHE)
@masked_failures()
def check_answers(night: Night, result: ProfilingResult) -> tuple[Quarantine, ...]:
    """Adopt the new answers of drifted LLMs, and quarantine LLMs whose answers cannot be trusted."""
    settle_drifts(night)
    unanswered = quarantine_unanswered(night, (*result.profiles, *result.canaries))
    return (*unanswered, *quarantine_contaminated(night))


def usage_tonight(night: Night, result: ProfilingResult) -> Mapping[str, UsageFacts]:
    """Return, by LLM key, what was wrong with the usage of tonight's answers, in all attempts of the night."""
    asked = {found.llm_key for found in (*result.profiles, *result.canaries)}
    return night.registry.outcomes.usage(sorted(asked), run=night.run)


def readability_tonight(night: Night, result: ProfilingResult, moves: Iterable[ScoreMove]) -> Mapping[str, Readability]:
    """Return, by LLM key, how many answers could be read of LLMs that were profiled, regraded or judged tonight."""
    changed = {found.llm_key for found in (*result.profiles, *moves)} | set(result.decided)
    return readability_of(night, sorted(changed))


def log_router(night: Night, router: RouterOutcome) -> None:
    """Log the outcome of the night's router, and whether it still has to be published."""
    facts = {"run": night.run_key, "router": router.digest[:12], "version": router.version}
    log_event("promotion_decided", promotion=router.promotion, **facts)
    if router.publish_error:
        log_event("publication_pending", level=logging.WARNING, reason=router.publish_error, **facts)
