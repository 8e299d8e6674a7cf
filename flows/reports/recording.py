"""A night as the registry stores it and machines read it, from its report."""

from __future__ import annotations

from flows.gate.gate import gate_as_json
from flows.profiling.plan import NightPlan
from flows.profiling.results import CanaryOutcome, ProfileOutcome
from flows.reports.closing import ClosingState
from flows.reports.digest import unreadable_share, verdict
from flows.reports.night_record import (
    CanaryRecord,
    CatalogRecord,
    ClosingRecord,
    GroupMoveRecord,
    NightRecord,
    NightRouterRecord,
    PlannedLLM,
    PlannedRegradesRecord,
    PlanRecord,
    ProfileRecord,
    Reason,
    RefreshRecord,
    RegradedRecord,
    UnavailableRecord,
)
from flows.reports.night_report import NightReport, RefreshOutcome, RouterOutcome


def night_record(report: NightReport) -> NightRecord:
    """Return a night as the registry stores it and machines read it."""
    plan, router, closing = report.plan, report.router, report.closing
    return NightRecord(
        run_key=report.run_key,
        as_of=report.as_of,
        verdict=verdict(report),
        is_plan_only=report.is_plan_only,
        answers_are_recorded=report.is_recorded,
        prompt_set=report.prompt_set.digest,
        catalogs=tuple(
            CatalogRecord(
                catalog=diff.catalog,
                new=diff.new,
                withdrawn=diff.withdrawn,
                repriced=tuple(change.llm_key for change in diff.repriced),
                left_out=diff.n_left_out,
            )
            for diff in report.diffs
        ),
        plan=_plan_record(plan),
        calls=report.calls,
        spent_usd=float(report.spent_usd),
        duration_s=report.duration_s,
        calling_s=report.calling_s,
        profiles=tuple(_profile_record(found, report) for found in report.profiles),
        canaries=tuple(map(_canary_record, report.canaries)),
        drifted=report.drifted,
        absent=tuple(UnavailableRecord(found.llm_key, found.is_withdrawn) for found in report.absent),
        quarantined=tuple(Reason(found.llm_key, found.reason) for found in report.quarantined),
        refresh=None if report.refresh is None else _refresh_record(report.refresh),
        router=None if router is None else _router_record(router),
        regraded=tuple(
            RegradedRecord(one.llm_key, one.regraded, one.kept, one.before, one.after, one.change)
            for one in report.regraded
        ),
        attention=report.attention,
        closing=None if closing is None else _closing_record(closing),
    )


def _plan_record(plan: NightPlan) -> PlanRecord:
    return PlanRecord(
        calls=plan.calls,
        expected_usd=float(plan.expected_usd),
        worst_usd=float(plan.worst_usd),
        llms=tuple(
            PlannedLLM(one.llm.key, one.is_new, len(one.prompts), float(one.expected_usd), float(one.worst_usd))
            for one in plan.profiles
        ),
        deferred=tuple(llm.key for llm in plan.deferred),
        unroutable=tuple(Reason(llm.key, llm.refusal) for llm in plan.unroutable),
        order=plan.order,
        regrades=tuple(
            PlannedRegradesRecord(
                one.llm_key, one.by_rule, one.by_judge, one.kept, float(one.worst_usd), one.unreadable
            )
            for one in plan.regrades
        ),
    )


def _profile_record(found: ProfileOutcome, report: NightReport) -> ProfileRecord:
    usage = report.usage.get(found.llm_key)
    return ProfileRecord(
        llm=found.llm_key,
        is_new=found.is_new,
        calls=found.asked,
        scored=found.scored,
        spent_usd=float(found.spent_usd),
        coverage=found.coverage,
        mean_score=found.mean_score,
        n_in_mean=found.n_in_mean,
        stopped_by=found.stopped_by,
        cut_share=found.cut_share,
        downgrades=found.downgrades,
        usage_flags={} if usage is None else dict(usage.flags),
        unreadable_share=unreadable_share(report, found.llm_key),
        saved_calls=found.saved_calls,
        saved_usd=float(found.saved_usd),
    )


def _canary_record(found: CanaryOutcome) -> CanaryRecord:
    return CanaryRecord(
        llm=found.llm_key,
        calls=found.asked,
        pairs=found.pairs,
        worse=found.worse,
        better=found.better,
        p_value=found.p_value,
        is_drifted=found.is_drifted,
        spent_usd=float(found.spent_usd),
        stopped_by=found.stopped_by,
        nights=found.nights,
        moved=tuple(GroupMoveRecord(one.group, one.prompts, one.before, one.now) for one in found.moved),
    )


def _refresh_record(found: RefreshOutcome) -> RefreshRecord:
    return RefreshRecord(
        changed=found.changed,
        status=found.status,
        promotion=found.promotion_id,
        digest=found.digest,
        problem=found.problem,
        judged_again=found.judged_again,
        publish_error=found.publish_error,
        worth=found.worth,
    )


def _router_record(router: RouterOutcome) -> NightRouterRecord:
    return NightRouterRecord(
        digest=router.digest,
        version=router.version,
        n_llms=router.n_llms,
        is_unchanged=router.is_unchanged,
        map_was_fitted=router.map_was_fitted,
        promotion=router.promotion,
        publish_error=router.publish_error,
        alias_drifts=router.alias_drifts,
        review=router.review_path or None,
        review_error=router.review_error,
        left_out=tuple(Reason(key, reason) for key, reason in router.left_out),
        gate=None if router.gate is None else gate_as_json(router.gate),
        judged_again=router.judged_again,
        refit=router.refit,
    )


def _closing_record(found: ClosingState) -> ClosingRecord:
    return ClosingRecord(
        spend_by_endpoint={one.endpoint: float(one.cost_usd) for one in found.by_endpoint},
        spend_by_purpose={one.purpose: float(one.cost_usd) for one in found.by_purpose},
        nightly_usd=tuple(float(usd) for usd in found.nightly_usd),
        waiting_promotion=found.waiting_promotion,
        champion_version=found.champion_version,
        champion_since_at=found.champion_since_at,
        ledger_events=found.ledger_events,
        ledger_problem=found.ledger_problem,
        free_bytes=found.free_bytes,
        champion_warning=found.champion_warning,
    )
