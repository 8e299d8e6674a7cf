"""The flow of the night: sync, regrade, plan, profile, refit, measure, publish, promote, report.

The registry's rows are the truth; Prefect schedules, retries and displays. A night that is stopped anywhere and started
again asks only what is missing and publishes nothing twice.
"""

from __future__ import annotations

from flows import crash_points
from flows.checks import preflight
from flows.config import environment
from flows.masking import masked_failures

environment.prepare()

import asyncio
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flows.config.loading import SettingsSource
from flows.errors import (
    BudgetExceeded,
    CredentialsMissing,
    FlowError,
    PrerequisiteError,
    RateLimited,
    TransientEndpointError,
    WorkersUnavailable,
)
from flows.fitting.refit import Candidate, embed_prompts, refit
from flows.logs import announce, log_event, say
from flows.night.context import Night
from flows.night.lease import held_lease, kept_alive
from flows.profiling.availability import note_unavailable
from flows.profiling.fan_out import check_fan_out
from flows.profiling.plan import NightPlan
from flows.profiling.profile import profile
from flows.profiling.progress import Progress
from flows.profiling.regrading import score_moves
from flows.profiling.results import NO_WORKER, OVER
from flows.promotion.publish import keep_and_publish, measure_candidate, refresh
from flows.reports.attention import attention_lines, plan_attention
from flows.reports.closing import closing_state
from flows.reports.digest import digest, llm_table, report_note, verdict
from flows.reports.night_report import NightReport, RouterOutcome
from flows.reports.recording import night_record
from flows.reports.terminal import beginning_text
from flows.stages import (
    check_answers,
    check_graders,
    log_profiles,
    log_router,
    note_plan,
    plan,
    readability_tonight,
    regrade,
    sync,
    usage_tonight,
)
from flows.workspace import Workspace
from registry.clock import utc_now


@flow(name="night", flow_run_name="night-{as_of}", retries=0, persist_result=False)
async def night(
    as_of: str | None = None,
    config: str | None = None,
    plan_only: bool = False,
    sandbox: bool = False,
    budget_usd: float | None = None,
    max_new: int | None = None,
    only: list[str] | None = None,
    restarted: bool = False,
) -> NightReport:
    """Run one night.

    Parameters
    ----------
    as_of
        The day of the night, ``YYYY-MM-DD``; today (UTC) when omitted.
    config
        Path of the settings file; found as ``uniroute night run`` finds it when omitted.
    plan_only
        Whether to stop after the plan.
    sandbox
        Whether to run on the sandbox even if there is a settings file.
    budget_usd, max_new
        Override ``[budget] night_usd`` and ``[night] max_new`` of the settings.
    only
        Keys or ids of the LLMs to ask; all that lack answers when omitted.
    restarted
        Whether Prefect restarts this night after a crash: it then waits for the lease of the dead process.

    Returns
    -------
    NightReport
        What was found, called, spent and published.

    Raises
    ------
    UnirouteError
        The night cannot be run, or not completed; the run is marked as failed, and everything stored is kept.
    """
    given = SettingsSource(config, sandbox, budget_usd, max_new)
    with masked_failures(), Workspace(given.load()) as workspace:
        preflight.check(workspace)
        await check_fan_out(workspace.settings.fan_out)
        on = date.fromisoformat(as_of) if as_of is not None else utc_now().date()
        current = Night(workspace, on, given=given)
        async with held_lease(current, restarted=restarted):
            # A heartbeat after the run is closed would find its lease released, and report it as lost.
            async with kept_alive(current), current.interruption:
                report = await _stages(current, plan_only=plan_only, only=only)
            _finish(current, report)
        await _create_artifacts(report)
    return report


async def _stages(night: Night, *, plan_only: bool, only: list[str] | None) -> NightReport:
    started_s = time.monotonic()
    check_graders(night)
    synced = sync(night, night.workspace.catalogs())
    _reach(night, "catalogs")
    if not plan_only:
        await asyncio.to_thread(regrade, night)
        _reach(night, "regraded")
    planned = plan(night, only)
    note_plan(night, planned)
    _reach(night, "planned")
    report = NightReport(
        run_key=night.run_key,
        as_of=night.as_of,
        prompt_set=night.prompt_set,
        diffs=synced.diffs,
        catalog_errors=synced.errors,
        plan=planned,
        is_plan_only=plan_only,
        is_recorded=night.settings.is_sandbox,
    )
    if plan_only:
        return replace(report, attention=plan_attention(planned), duration_s=time.monotonic() - started_s)
    say(beginning_text(report))
    try:
        _require_routable(planned, only)
    except PrerequisiteError as error:
        report = replace(report, refresh=await asyncio.to_thread(refresh, night))
        return _without_router(night, report, error, started_s)
    report = await _profiled(night, report, synced.unlisted)
    # Before anything that may fail for want of answers: what cannot serve must not be sent prompts until tomorrow.
    report = replace(report, refresh=await asyncio.to_thread(refresh, night))
    _reach(night, "champion refreshed")
    _require_answers(report)
    await asyncio.to_thread(embed_prompts, night)
    _reach(night, "embedded")
    try:
        candidate = _refit_within_limits(night, report)
    except (PrerequisiteError, BudgetExceeded, TransientEndpointError) as error:
        return _without_router(night, report, error, started_s)
    _reach(night, "refitted")
    report = replace(report, router=_published(night, candidate))
    report = replace(report, closing=closing_state(night, report.usage), duration_s=time.monotonic() - started_s)
    return replace(report, attention=attention_lines(report))


async def _profiled(night: Night, report: NightReport, unlisted: frozenset[str]) -> NightReport:
    """Ask the LLMs what the plan says, and report their answers."""
    progress = Progress(report.plan, night.settings.budget.night_usd)
    result = await profile(night, report.plan, progress)
    log_profiles(night, result.profiles)
    moves = score_moves(night)
    report = replace(
        report,
        profiles=result.profiles,
        canaries=result.canaries,
        spent_usd=result.spent_usd,
        calling_s=progress.elapsed_s,
        regraded=moves,
        unjudged=result.unjudged,
        absent=note_unavailable(night, result.profiles, result.canaries, unlisted),
        quarantined=check_answers(night, result),
        drifted=tuple(drift.llm_key for drift in night.drifts.all().values() if drift.is_open),
        usage=usage_tonight(night, result),
        readability=readability_tonight(night, result, moves),
        decided=result.decided,
        decides_unreadable=night.settings.judge.unreadable,
    )
    _reach(night, "profiled")
    return report


def _published(night: Night, candidate: Candidate) -> RouterOutcome:
    """Put a router to the gate and publish it."""
    gate = measure_candidate(night, candidate)
    _reach(night, "measured")
    router = keep_and_publish(night, candidate, gate)
    _reach(night, "published")
    log_router(night, router)
    return replace(router, carried_over=candidate.carried_over)


def _without_router(night: Night, report: NightReport, error: FlowError, started_s: float) -> NightReport:
    """Return the report of a night that can make no router although its champion cannot serve as it is.

    That is what a person has to read first, so such a night ends with a digest, and `error` is a line of it.

    Raises
    ------
    FlowError
        `error`: the champion can serve as it is.
    """
    closing = closing_state(night, report.usage)
    if report.refresh is None and not closing.champion_warning:
        raise error
    report = replace(report, closing=closing, duration_s=time.monotonic() - started_s)
    no_router = f"no router was made: {error.message.rstrip('.')}"
    return replace(
        report, attention=(*attention_lines(report), f"{no_router}; {error.hint}" if error.hint else no_router)
    )


def _reach(night: Night, name: str) -> None:
    """Announce that a stage is done, and stop here if a signal asked for it."""
    crash_points.reach(name)
    announce("reached", run=night.run_key, stage=name)
    night.interruption.raise_if_requested()


def _require_routable(plan: NightPlan, only: list[str] | None) -> None:
    """Stop before anything is called when no LLM can be routed to: no router could be built.

    Raises
    ------
    PrerequisiteError
        Saying what to do.
    """
    if not plan.has_routable and not only:
        raise PrerequisiteError(
            f"{plan_attention(plan)[0]}.",
            unchanged="Nothing was called; the champion stays as it is.",
            hint="uniroute llm list",
        )


def _require_answers(report: NightReport) -> None:
    """Stop when no LLM has any answer, old or new: there is nothing to build a router from.

    Raises
    ------
    CredentialsMissing
        The endpoints refuse the key.
    BudgetExceeded
        The budget did not allow a single call.
    RateLimited
        The endpoints limited all calls for longer than the night is patient.
    TransientEndpointError
        The endpoints did not answer, or not before the night was over.
    WorkersUnavailable
        No worker took the profiles that were handed out.
    """
    if report.plan.complete or not report.profiles or any(profile.scored for profile in report.profiles):
        return
    reasons = sorted({profile.stopped_by for profile in report.profiles} - {""}) or ["No endpoint answered."]
    unchanged = "The registry and the champion stay as they are."
    stopped_for = {profile.stopped_for for profile in report.profiles}
    if "refused_auth" in stopped_for or stopped_for == {"forbidden"}:
        raise CredentialsMissing(reasons[0], unchanged=unchanged, hint="Check the key that [[endpoint]] names.")
    if all(profile.stopped_for == NO_WORKER for profile in report.profiles):
        hint = "Start workers of the pool, or set [fan_out] runner, then: uniroute night run"
        raise WorkersUnavailable(reasons[0], unchanged=unchanged, hint=hint)
    if all(profile.stopped_for.startswith("budget") for profile in report.profiles):
        scope = report.profiles[0].stopped_for.rpartition(" ")[2]
        raise BudgetExceeded(reasons[0], scope=scope, unchanged=unchanged, hint="Raise [budget], or --budget-usd.")
    if any(profile.stopped_for == OVER for profile in report.profiles):
        hint = "Raise [night] max_hours, then: uniroute night run"
        raise TransientEndpointError(reasons[0], kind="timeout", unchanged=unchanged, hint=hint)
    if all(profile.stopped_for == "rate_limited" for profile in report.profiles):
        hint = "Lower requests_per_second of [[endpoint]], or later: uniroute night run"
        raise RateLimited(reasons[0], kind="rate_limited", unchanged=unchanged, hint=hint)
    raise TransientEndpointError(
        reasons[0],
        kind="unreachable",
        unchanged=unchanged,
        hint="Check base_url of [[endpoint]], then: uniroute night run",
    )


def _refit_within_limits(night: Night, report: NightReport) -> Candidate:
    """Refit; if a limit of the night left no LLM that can be routed to, say so, because then there is nothing to fix.

    Raises
    ------
    BudgetExceeded
        No LLM can be routed to yet because of the budget.
    TransientEndpointError
        No LLM can be routed to yet because the night was over, or because calls were limited for too long.
    """
    try:
        return refit(night)
    except PrerequisiteError:
        limits = ("budget", OVER, "rate_limited")
        stopped = [profile for profile in report.profiles if profile.stopped_for.startswith(limits)]
        if not stopped:
            raise
        message = f"No LLM is complete enough to be routed to: {stopped[0].stopped_by}."
        unchanged = "Answers so far are kept; the champion stays as it is."
        if not stopped[0].stopped_for.startswith("budget"):
            hint = "Continue with: uniroute night run"
            raise TransientEndpointError(message, kind="timeout", unchanged=unchanged, hint=hint) from None
        raise BudgetExceeded(
            message,
            scope=stopped[0].stopped_for.rpartition(" ")[2],
            unchanged=unchanged,
            hint="Raise [budget], or continue tomorrow: uniroute night run",
        ) from None


def _finish(night: Night, report: NightReport) -> None:
    status = "attention" if report.attention else "completed"
    crash_points.reach("told")
    record = night_record(report)
    night.registry.runs.finish(night.run, status, verdict=record.verdict, summary=record.as_json(), now=night.clock())
    facts = {"calls": report.calls, "cost_usd": report.spent_usd, "duration_s": report.duration_s}
    log_event("finished", run=night.run_key, status=status, attention=len(report.attention), **facts)


async def _create_artifacts(report: NightReport) -> None:
    """Show the digest, the table of LLMs and a link to the promotion report in Prefect."""
    await create_markdown_artifact(key="night-digest", markdown=digest(report), description=verdict(report))
    rows = llm_table(report)
    if rows:
        await create_table_artifact(key="night-llms", table=rows, description="LLMs profiled tonight")
    router = report.router
    if router is not None and router.review_path:
        name = f"v{router.version}" if router.version is not None else router.digest[:12]
        await create_link_artifact(
            key="promotion-report",
            link=Path(router.review_path).resolve().as_uri(),
            link_text=f"Promotion report of router {name}",
            description=report_note(name, router),
        )
