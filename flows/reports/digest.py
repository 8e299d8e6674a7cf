"""The digest of a night in at most 40 lines of Markdown, its verdict, and how each LLM ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.gate.gate import gate_as_json
from flows.gate.measure import RouterMeasure
from flows.gate.verdict import check_text, undecided_sentence
from flows.profiling.results import ProfileOutcome
from flows.reports.asking import saved_lines
from flows.reports.attention import canary_line
from flows.reports.closing import ClosingState
from flows.reports.night_report import NightReport, RefreshOutcome, RouterOutcome
from flows.reports.numbers import score_interval
from flows.reports.readability import readability_cell
from flows.reports.usage import usage_cell
from flows.reports.worth import worth_lines
from flows.text import counted
from registry.outcomes import ScoreMove
from registry.publishing import markdown, one_line

_NAMES_SHOWN = 5
_BARS = "▁▂▃▄▅▆▇█"


def escape(text: object, width: int = 80) -> str:
    """Sanitise untrusted text for Markdown: one line without control characters, markup or links, cut to a width."""
    # Escaping doubles the length at most.
    return markdown(one_line(str(text), width), 2 * width + 8)


def report_note(name: str, router: RouterOutcome) -> str:
    """Return what is said beside the link to a promotion report, in Markdown; the reason may be anybody's words."""
    where = f"Also in its MLflow run, and: `uniroute report promotion {router.digest[:12]} --open`"
    return f"Router {name}: {escape(router.promotion, 400)}. {where}"


def verdict(report: NightReport) -> str:
    """Return one line on how the night went."""
    if report.is_plan_only:
        plan = report.plan
        return (
            f"Night {report.as_of} planned: {counted(len(plan.profiles), 'LLM')}, {counted(plan.calls, 'call')}, about "
            f"${plan.expected_usd:.2f} (at most ${plan.worst_usd:.2f}). Nothing was called."
        )
    calls = counted(report.calls, "call")
    line = f"Night {report.as_of} finished in {report.duration_s:.0f} s: {calls}, ${report.spent_usd:.2f}"
    if report.attention:
        return f"{line} — {counted(len(report.attention), 'thing needs', 'things need')} attention"
    return f"{line} — nothing needs attention"


def digest(report: NightReport) -> str:
    """Return the night in Markdown, in a fixed order, so that two nights can be compared by eye."""
    lines = [f"**{verdict(report)}**", ""]
    if report.closing is not None and report.closing.champion_warning:
        lines = [f"**{escape(report.closing.champion_warning, 400)}**", "", *lines]
    if report.is_recorded:
        lines += ["The answers are recorded answers of real LLMs (sandbox); no LLM was called.", ""]
    lines += [*_catalog_lines(report), *_profile_lines(report.profiles), *_regrade_lines(report.regraded)]
    lines += [*_usage_lines(report), *_readability_lines(report), f"- {escape(canary_line(report), 400)}"]
    lines += refresh_lines(report.refresh)
    if report.router is not None:
        lines += _router_lines(report.router)
    if report.closing is not None:
        lines += ["", *_closing_lines(report, report.closing)]
    if report.attention:
        lines += ["", "**Attention**", *(f"- {escape(line, 700)}" for line in report.attention[:8])]
    return "\n".join(lines)


def area_and_qnc(found: RouterMeasure) -> tuple[str, str]:
    """Return area and QNC as cells of a table; a dash where no LLM costs anything."""
    if found.is_free:
        return "–", "–"
    return f"{found.area:.4f}", f"{found.qnc:.3f}" if found.qnc_is_reached else "not reached"


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(escape(key, 60) for key in keys[:_NAMES_SHOWN])
    more = f" and {len(keys) - _NAMES_SHOWN} more" if len(keys) > _NAMES_SHOWN else ""
    return f"{len(keys)}" + (f" ({shown}{more})" if keys else "")


def _catalog_lines(report: NightReport) -> list[str]:
    lines = []
    for diff in report.diffs:
        lines.append(
            f"- {escape(diff.catalog)}: new {_named(diff.new)}; withdrawn {_named(diff.withdrawn)}; "
            f"repriced {_named([change.llm_key for change in diff.repriced])}"
            + (f"; no longer listed, to be withdrawn next night {_named(diff.unlisted)}" if diff.unlisted else "")
            + (f"; {diff.n_left_out:,} left out by the settings" if diff.n_left_out else "")
        )
    plan = report.plan
    if gone := [found.llm_key for found in report.absent if found.is_withdrawn]:
        lines.append(f"- withdrawn, because their endpoint does not know them: {_named(gone)}")
    if plan.unroutable:
        lines.append(f"- not routable: {_named([llm.key for llm in plan.unroutable])}")
    if plan.deferred:
        lines.append(f"- deferred to the next night: {_named([llm.key for llm in plan.deferred])}")
    return lines


def _profile_lines(profiles: Sequence[ProfileOutcome]) -> list[str]:
    if not profiles:
        return ["- profiled: nothing was missing"]
    failed = sum(found.failed for found in profiles)
    return [
        f"- profiled: {_named([found.llm_key for found in profiles])}",
        f"- answers: {sum(found.scored for found in profiles):,} scored, {failed:,} without a score "
        f"({failed / max(sum(found.asked for found in profiles), 1):.1%})",
        *(f"- {line}" for line in saved_lines(profiles)),
    ]


def _usage_lines(report: NightReport) -> list[str]:
    """Return one line if the token counts of some answers are not those that were reported."""
    wrong = [f"{escape(key, 60)} {cell}" for key, facts in report.usage.items() if (cell := usage_cell(facts))]
    more = f" and {len(wrong) - _NAMES_SHOWN} more" if len(wrong) > _NAMES_SHOWN else ""
    return [f"- token counts not as reported: {'; '.join(wrong[:_NAMES_SHOWN])}{more}"] if wrong else []


def _readability_lines(report: NightReport) -> list[str]:
    """Return whose answers could not be read, most of them first, and about how many a judge decided tonight."""
    unread = sorted((one for one in report.readability.items() if one[1].share), key=lambda one: -(one[1].share or 0))
    shown = ", ".join(f"{escape(key, 60)} {readability_cell(read)}" for key, read in unread[:_NAMES_SHOWN])
    more = f" and {len(unread) - _NAMES_SHOWN} more" if len(unread) > _NAMES_SHOWN else ""
    lines = [f"- no answer could be read in: {shown}{more}"] if unread else []
    unknown = [key for key, read in report.readability.items() if read.n_scored and read.share is None]
    if unknown:
        lines.append(f"- how many answers could be read is unknown: {_named(unknown)}")
    if report.decided:
        answers = counted(sum(report.decided.values()), "unreadable answer")
        lines.append(f"- judged: {answers} of {counted(len(report.decided), 'LLM')}")
    return lines


def _regrade_lines(moves: Sequence[ScoreMove]) -> list[str]:
    """Return which LLMs newer graders moved, the furthest first, and how many grades could not be renewed."""
    if not moves:
        return []
    moved = sorted((one for one in moves if one.change), key=lambda one: -abs(one.change))
    answers = counted(sum(one.regraded for one in moves), "stored answer")
    shown = ", ".join(f"{escape(one.llm_key, 60)} {one.change:+.4f}" for one in moved[:_NAMES_SHOWN])
    more = f" and {len(moved) - _NAMES_SHOWN} more" if len(moved) > _NAMES_SHOWN else ""
    lines = [
        f"- regraded: {answers} of {counted(len(moves), 'LLM')} by newer graders; scores moved: {shown or 'none'}{more}"
    ]
    kept = sum(one.kept for one in moves)
    if kept:
        lines.append(f"- earlier grades kept: {counted(kept, 'answer')} whose text is gone")
    return lines


def refresh_lines(found: RefreshOutcome | None) -> list[str]:
    """Return what became of a refresh that was due, and of the promotions that were judged again after it."""
    if found is None:
        return []
    if found.is_applied:
        lines = [f"- refresh: the champion now serves {escape(found.changed, 300)} (`{(found.digest or '')[:12]}`)"]
    else:
        lines = [f"- refresh due, not applied: {escape(found.changed, 300)}; {escape(found.problem, 400)}"]
    lines += [f"- {escape(line, 400)}" for line in worth_lines(found.worth)[:1]]
    return lines + [f"- {escape(line, 700)}" for line in found.judged_again]


def _router_lines(router: RouterOutcome) -> list[str]:
    name = f"v{router.version}" if router.version is not None else router.digest[:12]
    if router.is_unchanged:
        again = [f"- {escape(line, 700)}" for line in router.judged_again]
        worth = [f"- {escape(line, 400)}" for line in worth_lines(router.worth)]
        return [f"- router: unchanged, {name} stays champion", *worth, *again]
    lines = [
        f"- cluster map: {'fitted' if router.map_was_fitted or router.refit else 'kept, nothing was refitted'}",
        *(f"- {escape(line, 400)}" for line in (router.refit.lines if router.refit is not None else ())),
        f"- router {name}: {counted(router.n_llms, 'LLM')}, {router.promotion}",
    ]
    if router.review_path:
        lines.append(f"- report: `uniroute report promotion {router.digest[:12]} --open`")
    gate = router.gate
    if gate is not None:
        lines.append("")
        lines += ["| on gate prompts | score | USD per 1,000 | area | QNC |", "|---|---|---|---|---|"]
        for title, found in (("champion before", gate.champion), ("challenger", gate.challenger)):
            if found is not None:
                cells = (f"{found.score:.4f}", f"{found.cost_usd * 1000:.4f}", *area_and_qnc(found))
                lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
        lines += [f"- {escape(line, 400)}" for line in worth_lines(router.worth)]
        undecided = undecided_sentence(gate_as_json(gate))
        lines += [f"- **undecided**: {escape(undecided, 400)}"] if undecided else []
        lines += [f"- {check.outcome}: {escape(check_text(check), 700)}" for check in gate.checks]
    return lines


def _closing_lines(report: NightReport, found: ClosingState) -> list[str]:
    """Return the pending decision, the money, and the health of everything, in three lines."""
    lines = []
    if found.waiting_promotion is not None:
        lines.append(f"- **decide**: promotion {found.waiting_promotion} waits: `{review_command(report)}`")
    places = ", ".join(f"{escape(one.endpoint)} ${one.cost_usd:.2f}" for one in found.by_endpoint)
    purposes = ", ".join(f"{one.purpose} ${one.cost_usd:.2f}" for one in found.by_purpose)
    spent = f"{places} ({purposes})" if places else "nothing"
    lines.append(f"- spent: {spent}; last nights {spark_line([float(usd) for usd in found.nightly_usd])}")
    champion = "none"
    if found.champion_since_at is not None:
        name = "not in MLflow yet" if found.champion_version is None else f"v{found.champion_version}"
        champion = f"{name} since {found.champion_since_at:%Y-%m-%d}"
    aliases = "differ from MLflow's" if report.router is not None and report.router.alias_drifts else "agree"
    if report.router is not None and report.router.publish_error:
        aliases = "wait for MLflow"
    ledger = f"broken ({escape(found.ledger_problem, 120)})" if found.ledger_problem else "intact"
    events = counted(found.ledger_events, "event")
    lines.append(
        f"- health: champion {champion}; aliases {aliases}; ledger of {events} {ledger}; "
        f"{found.free_bytes / 1e9:.0f} GB free"
    )
    return lines


def spark_line(values: Sequence[float]) -> str:
    """Draw values as bars of eight heights, the largest as the highest; values that are all zero as a low line."""
    highest = max(values, default=0.0)
    return "".join(_BARS[round(7 * value / highest) if highest > 0 else 0] for value in values)


def review_command(report: NightReport) -> str:
    """Return the command that shows the promotion that waits for a decision."""
    assert report.closing is not None and report.closing.waiting_promotion is not None
    return f"uniroute promotion show {report.closing.waiting_promotion}"


def llm_endings(report: NightReport) -> list[dict[str, Any]]:
    """Return, for every LLM of the night, how it ended and why, as the last of a run's JSON lines shows it."""
    endings = {
        found.llm_key: {
            "llm": found.llm_key,
            "status": "incomplete" if found.stopped_by else "profiled",
            "reason": found.stopped_by,
            "calls": found.asked,
            "scored": found.scored,
            "coverage": found.coverage,
            "mean_score": found.mean_score,
            "unreadable_share": unreadable_share(report, found.llm_key),
            "spent_usd": float(found.spent_usd),
        }
        for found in report.profiles
    }
    others = [(canary.llm_key, "drifted", canary.finding) for canary in report.canaries if canary.is_drifted]
    others += [(llm.key, "deferred", "[night] max_new") for llm in report.plan.deferred]
    others += [
        (one.llm_key, "withdrawn" if one.is_withdrawn else "absent", "its endpoint does not know it")
        for one in report.absent
    ]
    others += [(one.llm_key, "quarantined", one.reason) for one in report.quarantined]
    nothing = {
        "calls": 0,
        "scored": 0,
        "coverage": None,
        "mean_score": None,
        "unreadable_share": None,
        "spent_usd": 0.0,
    }
    for key, status, reason in others:
        endings[key] = endings.get(key, {"llm": key} | nothing) | {"status": status, "reason": reason}
    return list(endings.values())


def unreadable_share(report: NightReport, llm_key: str) -> float | None:
    """Return the share of an LLM's answers of tonight in which none could be read; None when none was asked."""
    read = report.readability.get(llm_key)
    return None if read is None else read.share


def llm_table(report: NightReport) -> list[dict[str, Any]]:
    """Return the LLMs profiled tonight as rows of a table."""
    return [
        {
            "LLM": escape(found.llm_key),
            "new": "yes" if found.is_new else "no",
            "calls": found.asked,
            "without score": found.failed,
            "USD": f"{found.spent_usd:.4f}",
            "usage": usage_cell(report.usage.get(found.llm_key)),
            "coverage": f"{found.coverage:.1%}",
            "score": "" if found.mean_score is None else f"{found.mean_score:.4f}",
            "95 %": score_interval(found.mean_score, found.n_in_mean),
            "unreadable": readability_cell(report.readability.get(found.llm_key)),
        }
        for found in report.profiles
    ]
