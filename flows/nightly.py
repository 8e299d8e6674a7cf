"""The night: sync, plan, profile, refit, measure, publish, promote, tell.

The registry's rows are the truth. Prefect schedules, retries and shows; stopped anywhere and started again, the night
asks only what is missing and publishes nothing twice.
"""

from __future__ import annotations

from flows import checkpoints, environment, preflight

environment.prepare()

import asyncio  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from collections.abc import AsyncIterator  # noqa: E402
from contextlib import asynccontextmanager  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import date  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from prefect import flow, task  # noqa: E402
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402

from flows.absence import note_absences  # noqa: E402
from flows.aftermath import aftermath_of  # noqa: E402
from flows.announcements import announce  # noqa: E402
from flows.assignment import NO_WORKER  # noqa: E402
from flows.canary import missing_canaries, settle_drifts  # noqa: E402
from flows.errors import (  # noqa: E402
    BudgetExceeded,
    CredentialsMissing,
    Interrupted,
    PrerequisiteError,
    TransientEndpointError,
    WorkersUnavailable,
)
from flows.fan_out import check_fan_out  # noqa: E402
from flows.given_settings import GivenSettings  # noqa: E402
from flows.holding import is_gone, kept_alive, start_after_a_crash  # noqa: E402
from flows.logs import log_event, say  # noqa: E402
from flows.memorised import Quarantine, quarantine_memorisers  # noqa: E402
from flows.milestones import log_endings, log_router, log_take_over, note_plan  # noqa: E402
from flows.night import Night, NightReport, utc_now  # noqa: E402
from flows.plan import NightPlan, chosen, plan_night  # noqa: E402
from flows.profile import Asked, profile  # noqa: E402
from flows.progress import Progress  # noqa: E402
from flows.publish import keep_and_publish, measure_candidate  # noqa: E402
from flows.refit import Candidate, embed_prompts, refit  # noqa: E402
from flows.reports.digest import digest, llm_table, summary, verdict  # noqa: E402
from flows.reports.suspicion import suspicion_lines  # noqa: E402
from flows.reports.terminal import beginning_text  # noqa: E402
from flows.substitution import quarantine_substituted  # noqa: E402
from flows.sync import sync  # noqa: E402
from flows.workspace import Workspace  # noqa: E402
from registry.runs import Run  # noqa: E402
from routing.errors import UnirouteError  # noqa: E402


@task(name="check-graders", cache_policy=NO_CACHE)
def check_graders(night: Night) -> None:
    """Let every grader pass its own gate before money is spent."""
    night.check_graders()


@task(name="plan", cache_policy=NO_CACHE)
def plan(night: Night, only: list[str] | None = None) -> NightPlan:
    """Plan what to ask and what it costs; nothing is called."""
    available = night.registry.llms.all(status="available")
    askable = [llm for llm in available if llm.endpoint in night.sampling and not night.is_judge(llm)]
    llms = chosen(askable, only)
    missing = {
        llm.key: night.registry.outcomes.missing(
            llm.key, night.profiled_prompts, night.grader_versions, night.asked_sampling(llm)
        )
        for llm in llms
        if llm.is_routable_on(night.as_of)
    }
    seen = night.outcome_table(llms, night.profiled_prompts)
    output_tokens = seen.output_tokens[np.isfinite(seen.output_tokens)]
    return plan_night(
        llms,
        night.as_of,
        missing,
        len(night.profiled_prompts),
        max_new=night.settings.night.max_new,
        max_tokens={entry.name: entry.max_tokens for entry in night.workspace.endpoint_settings()},
        seen_output_tokens=float(output_tokens.mean()) if output_tokens.size else None,
        canaries=missing_canaries(night, llms, missing),
        drifted=[drift.llm_key for drift in night.drifts.all().values() if drift.is_due(night.as_of)],
    )


@task(name="check-answers", cache_policy=NO_CACHE)
def check_answers(night: Night, asked: Asked) -> tuple[Quarantine, ...]:
    """Take over the new answers of drifted LLMs, and quarantine LLMs whose answers are not to be believed."""
    settle_drifts(night)
    substituted = quarantine_substituted(night, (*asked.profiles, *asked.canaries))
    return (*substituted, *quarantine_memorisers(night))


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
        The day to look at the world, ``YYYY-MM-DD``; today (UTC) when omitted.
    config
        Path of the settings file; found as ``uniroute night run`` finds it when omitted.
    plan_only
        Whether to stop after the plan.
    sandbox
        Whether to run on the sandbox whatever settings file lies about.
    budget_usd, max_new
        Instead of ``[budget] night_usd`` and ``[night] max_new`` of the settings.
    only
        Keys or ids of the LLMs to ask; all that have something missing when omitted.
    restarted
        Whether Prefect starts this night again because it crashed: the lease of the dead is waited for then.

    Returns
    -------
    NightReport
        What was found, called, spent and published.

    Raises
    ------
    UnirouteError
        The night cannot be run, or not to its end; the run is marked as failed and what is stored stays.
    """
    given = GivenSettings(config, sandbox, budget_usd, max_new)
    with Workspace(given.load()) as workspace:
        preflight.check(workspace)
        await check_fan_out(workspace.settings.fan_out)
        on = date.fromisoformat(as_of) if as_of is not None else utc_now().date()
        under_way = Night(workspace, on, given=given)
        async with _lease(under_way, restarted=restarted):
            async with under_way.interruption:
                report = await _stages(under_way, plan_only=plan_only, only=only)
            _finish(under_way, report)
            await _tell_prefect(report)
    return report


async def _stages(night: Night, *, plan_only: bool, only: list[str] | None) -> NightReport:
    started_s = time.monotonic()
    check_graders(night)
    diffs, catalog_errors = sync(night, night.workspace.catalogs())
    _reach(night, "catalogs")
    planned = plan(night, only)
    note_plan(night, planned)
    _reach(night, "planned")
    report = NightReport(
        run_key=night.run_key,
        as_of=night.as_of,
        prompt_set=night.prompt_set,
        diffs=diffs,
        catalog_errors=catalog_errors,
        plan=planned,
        is_plan_only=plan_only,
        is_recorded=night.settings.is_sandbox,
    )
    if plan_only:
        return replace(report, duration_s=time.monotonic() - started_s)
    say(beginning_text(report))
    progress = Progress(planned, night.settings.budget.night_usd)
    asked = await profile(night, planned, progress)
    log_endings(night, asked.profiles)
    report = replace(
        report,
        profiles=asked.profiles,
        canaries=asked.canaries,
        spent_usd=asked.spent_usd,
        calling_s=progress.elapsed_s,
        absent=note_absences(night, asked.profiles, asked.canaries),
        quarantined=check_answers(night, asked),
        drifted=tuple(drift.llm_key for drift in night.drifts.all().values() if drift.is_open),
    )
    _reach(night, "profiled")
    _refuse_silence(report)
    await asyncio.to_thread(embed_prompts, night)
    _reach(night, "embedded")
    candidate = _refit_within_budget(night, report)
    _reach(night, "refitted")
    gate = measure_candidate(night, candidate)
    _reach(night, "measured")
    router = keep_and_publish(night, candidate, gate)
    _reach(night, "published")
    log_router(night, router)
    router = replace(router, carried_over=candidate.carried_over)
    report = replace(report, router=router, aftermath=aftermath_of(night), duration_s=time.monotonic() - started_s)
    return replace(report, attention=_attention(report))


def _reach(night: Night, name: str) -> None:
    """Stop between two stages when a signal asked for it."""
    checkpoints.reach(name)
    announce("reached", run=night.run_key, stage=name)
    night.interruption.refuse_to_go_on()


def _refuse_silence(report: NightReport) -> None:
    """Stop when nobody answered and nobody had before: there is nothing to make a router of.

    Raises
    ------
    CredentialsMissing
        The endpoints refuse the key.
    BudgetExceeded
        The budget allowed not a single call.
    TransientEndpointError
        The endpoints did not answer.
    WorkersUnavailable
        Nobody took what was handed out.
    """
    if report.plan.complete or not report.profiles or any(found.scored for found in report.profiles):
        return
    reasons = sorted({found.stopped_by for found in report.profiles if found.stopped_by}) or ["No endpoint answered."]
    unchanged = "The registry and the champion stay as they are."
    if any(found.stopped_for == "refused_auth" for found in report.profiles):
        raise CredentialsMissing(reasons[0], unchanged=unchanged, hint="Check the key that [[endpoint]] names.")
    if all(found.stopped_for == NO_WORKER for found in report.profiles):
        hint = "Start workers of the pool, or set [fan_out] runner, then: uniroute night run"
        raise WorkersUnavailable(reasons[0], unchanged=unchanged, hint=hint)
    if all(found.stopped_for.startswith("budget") for found in report.profiles):
        scope = report.profiles[0].stopped_for.rpartition(" ")[2]
        raise BudgetExceeded(reasons[0], scope=scope, unchanged=unchanged, hint="Raise [budget], or --budget-usd.")
    raise TransientEndpointError(
        reasons[0],
        kind="unreachable",
        unchanged=unchanged,
        hint="Check base_url of [[endpoint]], then: uniroute night run",
    )


def _refit_within_budget(night: Night, report: NightReport) -> Candidate:
    """Refit; when the budget left no LLM to be routed, say that, because nothing has to be mended then.

    Raises
    ------
    BudgetExceeded
        No LLM can be routed yet, and the budget is why.
    """
    try:
        return refit(night)
    except PrerequisiteError:
        stopped = [found for found in report.profiles if found.stopped_for.startswith("budget")]
        if not stopped:
            raise
        raise BudgetExceeded(
            f"No LLM is complete enough to be routed: {stopped[0].stopped_by}.",
            scope=stopped[0].stopped_for.rpartition(" ")[2],
            unchanged="Answers so far are kept; the champion stays as it is.",
            hint="Raise [budget], or go on tomorrow: uniroute night run",
        ) from None


def _attention(report: NightReport) -> tuple[str, ...]:
    """Collect what a person should look at, one line each."""
    lines = [f"catalog: {error}" for error in report.catalog_errors]
    lines += [f"{diff.catalog}: {diff.is_suspicious}" for diff in report.diffs if diff.is_suspicious]
    lines += [f"{found.llm_key} is incomplete: {found.stopped_by}" for found in report.profiles if found.stopped_by]
    lines += suspicion_lines(report)
    router = report.router
    if router is not None:
        lines += [f"{llm_key} is not routed: {reason}" for llm_key, reason in router.left_out]
        lines += [f"{key} is routed by a stale profile: too few answers for a new one" for key in router.carried_over]
        lines += [f"alias moved in MLflow by hand: {drift}; uniroute doctor --repair" for drift in router.alias_drifts]
        if router.publish_error:
            lines.append(f"published: pending. {router.publish_error}")
        if router.review_error:
            lines.append(f"no promotion report: {router.review_error}; the gate decided all the same")
        if router.promotion in ("rejected", "waiting for review"):
            lines.append(f"promotion of router {router.digest[:12]}: {router.promotion}")
    if report.aftermath is not None and report.aftermath.ledger_problem:
        lines.append(f"the ledger was tampered with: {report.aftermath.ledger_problem}; uniroute audit verify")
    if report.aftermath is not None and report.aftermath.rival:
        lines.append(
            f"two deployments share this registry: {report.aftermath.rival}; let one run nights, or both alike"
        )
    return tuple(lines)


@asynccontextmanager
async def _lease(night: Night, *, restarted: bool = False) -> AsyncIterator[None]:
    """Hold the lease of the night and keep it alive; a failure is written into the run before it goes on."""
    wanted = night.settings.night

    def start() -> Run:
        return night.registry.runs.start(
            night.run_key,
            as_of=night.as_of,
            settings_hash=night.settings.digest,
            settings_json=night.settings.canonical(),
            prompt_set_digest=night.prompt_set.digest,
            host=socket.gethostname(),
            pid=os.getpid(),
            now=night.clock(),
            lease_s=wanted.lease_s,
            holder_is_gone=is_gone,
        )

    night.run = await start_after_a_crash(night.registry.runs, start) if restarted else start()
    announce("started", run=night.run_key, night=night.as_of, attempt=night.run.attempt)
    log_take_over(night)
    try:
        async with kept_alive(night):
            yield
    except BaseException as error:
        is_ours = isinstance(error, UnirouteError)
        reason = error.message if is_ours else type(error).__name__
        was_stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
        status = "interrupted" if was_stopped else "failed"
        night.registry.runs.finish(night.run, status, verdict=reason, summary="{}", now=night.clock())
        log_event("finished", level=logging.ERROR, run=night.run_key, status=status, reason=reason)
        raise


def _finish(night: Night, report: NightReport) -> None:
    status = "attention" if report.attention else "completed"
    checkpoints.reach("told")
    night.registry.runs.finish(night.run, status, verdict=verdict(report), summary=summary(report), now=night.clock())
    facts = {"calls": report.calls, "cost_usd": report.spent_usd, "duration_s": report.duration_s}
    log_event("finished", run=night.run_key, status=status, attention=len(report.attention), **facts)


async def _tell_prefect(report: NightReport) -> None:
    """Leave the digest, the table of LLMs and the way to the promotion report in Prefect."""
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
            description=f"Router {name}: {router.promotion}. Also in its MLflow run, and: "
            f"`uniroute report promotion {router.digest[:12]} --open`",
        )
