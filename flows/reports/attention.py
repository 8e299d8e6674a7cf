"""What needs a person's attention after a night, in words, and the line on its canaries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from flows.gate.gate import gate_as_json
from flows.gate.verdict import failed_text, undecided_sentence
from flows.profiling.plan import NightPlan
from flows.profiling.results import Unjudged
from flows.reports.night_report import UNDECIDED_WAITS, NightReport
from flows.reports.readability import readability_attention
from flows.reports.usage import usage_attention
from flows.text import counted, shell_argument

_MUCH_CUT = 0.05
_MOST_MOVES = 2


def plan_attention(plan: NightPlan) -> tuple[str, ...]:
    """Return what a person should do before the planned night is run, one line each."""
    if plan.has_routable:
        return ()
    if not plan.unroutable:
        return (
            "No LLM is there to route to: none that a catalog lists for a configured [[endpoint]] is available. See "
            "uniroute llm list, and check include, exclude and endpoint of [[catalog]]",
        )
    reasons = Counter(
        llm.refusal or ("no price" if llm.price is None else "it is being retired") for llm in plan.unroutable
    )
    shown = "; ".join(f"{reason} ({counted(count, 'LLM')})" for reason, count in reasons.most_common(3))
    return (
        f"No LLM can be routed to: {shown}. Add a [[catalog]] that has their prices, or name under free of [[catalog]] "
        "those that cost nothing",
    )


def attention_lines(report: NightReport) -> tuple[str, ...]:
    """Return what a person should look at, one line each."""
    lines = _of_champion(report)
    lines += [f"catalog: {error}" for error in report.catalog_errors]
    lines += [f"{diff.catalog}: {diff.is_suspicious}" for diff in report.diffs if diff.is_suspicious]
    withdrawn = _withdrawn(report)
    lines += [
        f"{found.llm_key} is incomplete: {found.stopped_by}"
        for found in report.profiles
        if found.stopped_by and found.llm_key not in withdrawn
    ]
    lines += [f"{found.llm_key}: {_waiting(found)} for the judge: {found.reason}" for found in report.unjudged]
    lines += _suspicions(report)
    if not report.is_recorded:
        # Recorded answers stay as they are, no judge is at hand and nobody is billed: the tables say enough.
        lines += usage_attention(report.usage)
        lines += readability_attention(report.readability, is_judged=report.decides_unreadable)
    lines += report.closing.ceilings_passed if report.closing is not None else ()
    router = report.router
    if router is not None:
        lines += [f"{llm_key} is not routed: {reason}" for llm_key, reason in router.left_out]
        lines += [f"{key} is routed by a stale profile: too few answers for a new one" for key in router.carried_over]
        lines += [f"alias moved in MLflow by hand: {drift}; uniroute doctor --repair" for drift in router.alias_drifts]
        if router.publish_error:
            lines.append(f"published: pending. {router.publish_error}")
        if router.review_error:
            lines.append(f"no promotion report: {router.review_error}; the gate decided without it")
        if router.promotion in ("rejected", "waiting for review", UNDECIDED_WAITS):
            reason = "" if router.gate is None else _why(gate_as_json(router.gate))
            lines.append(f"promotion of router {router.digest[:12]}: {router.promotion}" + (reason and f": {reason}"))
        lines += router.judged_again
    if report.closing is not None and report.closing.ledger_problem:
        lines.append(f"the ledger was tampered with: {report.closing.ledger_problem}; uniroute audit verify")
    if report.closing is not None and report.closing.settings_conflict:
        conflict = report.closing.settings_conflict
        lines.append(
            f"two deployments share this registry: {conflict}; let only one run nights, or give both the same settings"
        )
    return tuple(lines)


def _why(gate: Mapping[str, Any]) -> str:
    """Return what stands in the way of a router, and what would change that; empty when nothing does."""
    return undecided_sentence(gate) or failed_text(gate)


def _of_champion(report: NightReport) -> list[str]:
    """Return what comes before all else: LLMs of the champion that cannot serve, and a refresh that was not applied."""
    warning = report.closing.champion_warning if report.closing is not None else ""
    lines = [warning] if warning else []
    found = report.refresh
    if found is None or (report.router is not None and report.router.promotion == "promoted"):
        return lines
    if found.status == "requested":
        approve = f"uniroute promotion approve {found.promotion_id} --reason TEXT"
        lines.append(f"a refresh of the champion ({found.changed}) is not applied: {found.problem}; {approve}")
    elif not found.is_applied:
        lines.append(f"a refresh of the champion ({found.changed}) is not applied: {found.problem}; uniroute llm list")
    if found.publish_error and (report.router is None or not report.router.publish_error):
        lines.append(f"refresh published: pending. {found.publish_error}")
    return lines


def _withdrawn(report: NightReport) -> set[str]:
    """Return what its endpoint is known to be without: that needs nobody, and the digest says it."""
    return {found.llm_key for found in report.absent if found.is_withdrawn}


def _waiting(found: Unjudged) -> str:
    kind = "unreadable" if found.are_unreadable else "stored"
    return counted(found.answers, f"{kind} answer waits", f"{kind} answers wait")


def _suspicions(report: NightReport) -> list[str]:
    """Return what is suspicious about LLMs, one line each: drift, absence, quarantine, answers cut short."""
    lines = [
        f"{found.llm_key} drifted: {found.finding}. Routers rest on its earlier answers; its profile is asked again "
        "from the next night on"
        for found in report.canaries
        if found.is_drifted
    ]
    newly_drifted = {found.llm_key for found in report.canaries if found.is_drifted}
    lines += [
        f"{key} drifted and has not been fully asked again yet" for key in report.drifted if key not in newly_drifted
    ]
    withdrawn = _withdrawn(report)
    lines += [
        f"canaries of {found.llm_key}: {found.stopped_by}"
        for found in report.canaries
        if found.stopped_by and found.llm_key not in withdrawn
    ]
    lines += [
        f"{found.llm_key} is unknown to its endpoint although a catalog lists it; it is left out tonight, and "
        "withdrawn if this happens again"
        for found in report.absent
        if not found.is_withdrawn
    ]
    lines += [
        f"{found.llm_key} is quarantined: it {found.reason}. To decide otherwise: "
        f"uniroute llm include {shell_argument(found.llm_key)} --reason TEXT"
        for found in report.quarantined
    ]
    lines += [
        f"{found.llm_key} is degraded: {found.cut_share:.0%} of its answers were cut at max_tokens; raise max_tokens "
        f"of [[endpoint]] {found.llm_key.partition(':')[0]}"
        for found in report.profiles
        if found.cut_share > _MUCH_CUT
    ]
    return lines


def canary_line(report: NightReport) -> str:
    """Return one line on what the canaries showed."""
    if report.canaries:
        drifted = sum(found.is_drifted for found in report.canaries)
        calls = sum(found.asked for found in report.canaries)
        asked = f"{counted(len(report.canaries), 'LLM')} asked again with {counted(calls, 'call')}"
        moves = [f"{found.llm_key}: {found.moved_text}" for found in report.canaries if found.moved]
        moved = "; ".join(moves[:_MOST_MOVES] + ["and others"] * (len(moves) > _MOST_MOVES))
        return f"canaries: {asked}, {drifted} drifted" + (moved and f" ({moved})")
    if report.is_recorded:
        return "canaries: off, because recorded answers never change ([night] canary_prompts turns them on)"
    return "canaries: none asked"
