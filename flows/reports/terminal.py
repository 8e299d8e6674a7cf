"""A night's report as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from flows.gate.gate import gate_as_json
from flows.gate.measure import RouterMeasure
from flows.gate.verdict import undecided_sentence
from flows.profiling.plan import PlannedProfile, PlannedRegrades
from flows.reports.asking import order_lines, saved_lines
from flows.reports.attention import canary_line
from flows.reports.decisions import check_line
from flows.reports.digest import area_and_qnc, review_command, verdict
from flows.reports.night_report import NightReport, RefreshOutcome, RouterOutcome
from flows.reports.numbers import score_interval
from flows.reports.readability import readability_cell
from flows.reports.usage import usage_cell
from flows.reports.worth import worth_lines
from flows.text import counted, sanitize, table
from registry.outcomes import ScoreMove

_NAMES_SHOWN = 16


def beginning_text(report: NightReport) -> str:
    """Return what was found and what is going to be asked."""
    return f"{found_text(report)}\n\n{plan_text(report)}\n"


def ending_text(report: NightReport, *, planned_command: str = "uniroute night run") -> str:
    """Return what was asked, made and decided, and what to type next; for a mere plan, the plan.

    Parameters
    ----------
    report
        What the night, or the plan, ended with.
    planned_command
        The command that runs the planned night.
    """
    if report.is_plan_only:
        blocks = [found_text(report), plan_text(report)]
    else:
        blocks = [
            profiles_text(report),
            regraded_text(report.regraded),
            f"C{sanitize(canary_line(report)[1:], width=400)}.",
            refresh_text(report.refresh),
            router_text(report.router),
        ]
    if report.attention:
        blocks.append("\n".join(f"! {sanitize(line, width=700)}" for line in report.attention))
    blocks.append(verdict(report))
    if not report.is_plan_only:
        planned_command = next_command(report)
    elif not report.plan.has_routable:
        planned_command = "uniroute llm list"
    blocks.append(f"next: {planned_command}")
    return "\n\n".join(block for block in blocks if block)


def found_text(report: NightReport) -> str:
    """Return what the catalogs list and what changed."""
    lines = ["On the sandbox: recorded answers of real LLMs; no LLM is called, nothing is spent."] * report.is_recorded
    for diff in report.diffs:
        changes = [("new", diff.new), ("withdrawn", diff.withdrawn)]
        changes.append(("repriced", [change.llm_key for change in diff.repriced]))
        counts = ", ".join(f"{len(keys)} {name}" for name, keys in changes)
        lines.append(f"Found in catalog {sanitize(diff.catalog)} as of {report.as_of}: {counts}")
        lines += [f"  {name}: {_names(keys)}" for name, keys in changes if keys]
        if diff.unlisted:
            lines.append(f"  no longer listed, withdrawn if that is so on the next night too: {_names(diff.unlisted)}")
        if diff.n_left_out:
            lines.append(f"  left out by the settings: {counted(diff.n_left_out, 'LLM')}")
    for llm in report.plan.unroutable[:_NAMES_SHOWN]:
        reason = llm.refusal or ("no price" if llm.price is None else "it is being retired")
        lines.append(f"  not routable: {sanitize(llm.key)} ({sanitize(reason)})")
    return "\n".join(lines)


def _names(keys: Sequence[str]) -> str:
    shown = ", ".join(sanitize(key.partition(":")[2], width=40) for key in keys[:_NAMES_SHOWN])
    return f"{shown} and {len(keys) - _NAMES_SHOWN} more" if len(keys) > _NAMES_SHOWN else shown


def plan_text(report: NightReport) -> str:
    """Return what would be asked and what it would cost."""
    plan = report.plan
    complete = counted(plan.complete, "LLM is complete and is not called", "LLMs are complete and are not called")
    known = f"; {complete}" if plan.complete else ""
    head = (
        f"Plan: {counted(len(plan.profiles), 'LLM')}, {counted(plan.calls, 'call')}, about ${plan.expected_usd:.2f} "
        f"(at most ${plan.worst_usd:.2f}){known}"
    )
    if plan.canaries:
        asked = counted(len(plan.canaries), "complete LLM is", "complete LLMs are")
        head += f"\n  canaries: {asked} asked {counted(plan.canary_calls, 'prompt')} again"
    head += "".join(f"\n  {line}" for line in order_lines(plan.order))
    head += _regrades_text(plan.regrades)
    deferred = f"\n  {len(plan.deferred)} deferred to the next night by [night] max_new" if plan.deferred else ""
    if plan.worth:
        deferred += "\n  new LLMs by what they may gain the router, expected from their facts: uniroute llm show LLM"
    if not report.is_plan_only or not plan.profiles:
        return head + deferred
    rows = [
        [p.llm.key, _state(p), len(p.prompts), f"{p.expected_usd:.4f}", f"{p.worst_usd:.2f}", _source(p)]
        for p in plan.profiles
    ]
    heads = ["LLM", "STATE", "CALLS", "USD", "AT MOST", "PRICED BY"]
    return f"{head}{deferred}\n{table(heads, rows, right=(2, 3, 4))}"


def _source(planned: PlannedProfile) -> str:
    """Return the catalog that the price of an LLM comes from."""
    return planned.llm.price.catalog if planned.llm.price is not None else ""


def _regrades_text(planned: Sequence[PlannedRegrades]) -> str:
    """Return what is graded again without asking LLMs, below the plan; empty when nothing is."""
    by_rule, by_judge, kept, unreadable = (
        sum(getattr(one, name) for one in planned) for name in ("by_rule", "by_judge", "kept", "unreadable")
    )
    worst_usd = sum((one.worst_usd for one in planned), Decimal(0))
    at_most = f"at most ${worst_usd:.2f}; no LLM is asked again"
    text = ""
    if by_rule:
        text += f"\n  regrades: {counted(by_rule, 'stored answer')} by newer graders, without a call"
    if by_judge:
        answers = counted(by_judge, "stored answer")
        text += f"\n  regrades: {answers} by the judge, {at_most}"
    if unreadable:
        answers = counted(unreadable, "unreadable answer")
        text += f"\n  verdicts: {answers} by the judge, {'included' if by_judge else at_most}"
    if kept:
        answers = counted(kept, "stored answer keeps its grade", "stored answers keep their grades")
        text += f"\n  {answers}: the text is gone"
    return text


def regraded_text(moves: Sequence[ScoreMove], *, is_dry_run: bool = False) -> str:
    """Return how far newer graders moved, or would move, each LLM since the night before; empty when none."""
    if not moves:
        return ""
    rows = [
        [
            one.llm_key,
            one.regraded,
            one.kept,
            "" if one.before is None else f"{one.before:.4f}",
            "" if one.after is None else f"{one.after:.4f}",
            f"{one.change:+.4f}",
        ]
        for one in moves
    ]
    headers = ["LLM", "REGRADED", "KEPT", "BEFORE", "AFTER", "CHANGE"]
    title = "Would be regraded" if is_dry_run else "Regraded"
    return f"{title}: stored answers, by newer graders\n{table(headers, rows, right=(1, 2, 3, 4, 5))}"


def _state(planned: PlannedProfile) -> str:
    if planned.is_drifted:
        return "drifted"
    return "new" if planned.is_new else "resumed"


def profiles_text(report: NightReport) -> str:
    """Return what each LLM was asked, scored and cost."""
    if not report.profiles:
        return "Asked: nothing, every profile is complete."
    rows = [
        [
            found.llm_key,
            found.asked,
            found.failed,
            f"{found.coverage:.1%}",
            "" if found.mean_score is None else f"{found.mean_score:.4f}",
            score_interval(found.mean_score, found.n_in_mean),
            readability_cell(report.readability.get(found.llm_key)),
            f"{found.spent_usd:.4f}",
            usage_cell(report.usage.get(found.llm_key)),
        ]
        for found in report.profiles
    ]
    rate = f" ({report.calls / report.calling_s:.0f}/s)" if report.calling_s > 0 else ""
    head = (
        f"Asked: {counted(report.calls, 'call')}{rate}, spent ${sum(found.spent_usd for found in report.profiles):.4f}"
    )
    headers = ["LLM", "CALLS", "FAILED", "COVERAGE", "SCORE", "95 %", "UNREADABLE", "USD", "USAGE"]
    return "\n".join([head, table(headers, rows, right=(1, 2, 3, 4, 6, 7)), *saved_lines(report.profiles)])


def refresh_text(found: RefreshOutcome | None) -> str:
    """Return what became of a refresh that was due; empty when none was."""
    if found is None:
        return ""
    changed = sanitize(found.changed, width=300)
    ended = f"Refresh: the champion now serves {changed}."
    if not found.is_applied:
        ended = f"Refresh due, not applied ({changed}): {sanitize(found.problem, width=400)}."
    again = (f"  {sanitize(line, width=700)}" for line in found.judged_again)
    return "\n".join([ended, *worth_lines(found.worth), *again])


def router_text(router: RouterOutcome | None) -> str:
    """Return which router was made, how it did on gate prompts, and whether it serves."""
    if router is None:
        return ""
    name = f"version {router.version}" if router.version is not None else f"{router.digest[:12]} (not yet in MLflow)"
    if router.is_unchanged:
        unchanged = f"Router: unchanged; {name} stays champion, nothing was published."
        again = (f"  {sanitize(line, width=700)}" for line in router.judged_again)
        return "\n".join([unchanged, *worth_lines(router.worth), *again])
    is_fitted = router.map_was_fitted or router.refit is not None
    fitted = "a cluster map was fitted" if is_fitted else "the cluster map was kept, nothing was refitted"
    lines = [f"Router {name}: {counted(router.n_llms, 'LLM')}; {fitted}; published as challenger; {router.promotion}."]
    lines += [f"  {sanitize(line, width=400)}" for line in (router.refit.lines if router.refit is not None else ())]
    gate = router.gate
    if gate is not None:
        pairs = [("champion before", gate.champion), ("challenger", gate.challenger)]
        rows = [[title, *measure_cells(found)] for title, found in pairs if found is not None]
        headers = [f"ON {len(gate.outcomes.embeddings)} GATE PROMPTS", "SCORE", "USD/1000", "AREA", "QNC", "PEAK"]
        lines.append(table(headers, rows, right=(1, 2, 3, 4, 5)))
        lines += worth_lines(router.worth)
        undecided = undecided_sentence(gate_as_json(gate))
        lines += [f"Undecided: {undecided}."] if undecided else []
        lines += [check_line(check) for check in gate.checks]
    return "\n".join(lines)


def measure_cells(found: RouterMeasure) -> list[str]:
    """Return score, cost, area, QNC and peak as cells of a table."""
    return [f"{found.score:.4f}", f"{found.cost_usd * 1000:.4f}", *area_and_qnc(found), f"{found.peak:.4f}"]


def next_command(report: NightReport) -> str:
    """Return the one command that is useful after a night."""
    if report.closing is not None and report.closing.waiting_promotion is not None:
        return review_command(report)
    if report.router is not None and report.router.version is not None:
        return f"uniroute router show {report.router.version}"
    return "uniroute llm list"
