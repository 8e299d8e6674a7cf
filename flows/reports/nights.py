"""The report of a night that is over or under way, from the registry, as data, HTML and Markdown."""

from __future__ import annotations

from typing import Any

from flows.gate.verdict import check_text
from flows.reports.digest import escape
from flows.reports.night_record import NightRecord, ProfileRecord
from flows.reports.numbers import score_interval
from flows.reports.pages import page
from flows.reports.past_night import PastNight
from flows.reports.worth import worth_lines
from flows.text import counted, llm_name

_MOST_LINES = 40


def night_content(seen: PastNight) -> dict[str, Any]:
    """Return the content of the report as plain data."""
    run = seen.run
    return {
        "key": run.key,
        "as_of": run.as_of,
        "status": run.status,
        "attempt": run.attempt,
        "verdict": run.verdict,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "settings_hash": run.settings_hash,
        "prompt_set": run.prompt_set_digest,
        "calls": seen.calls,
        "spent_usd": seen.spent_usd,
        "spend_by_endpoint": dict(sorted(seen.spend_by_endpoint.items())),
        "summary": seen.summary,
    }


def night_html(seen: PastNight) -> str:
    """Write the report as a page."""
    return page(
        "night.html.j2",
        night=seen.run,
        seen=seen,
        record=seen.record,
        verdict=seen.verdict,
        worth=_worth(seen.record),
        refresh=_refresh(seen.record),
    )


def night_markdown(seen: PastNight) -> str:
    """Write the report as Markdown, short enough for a morning's message: at most a few dozen lines."""
    run, record = seen.run, seen.record
    lines = [f"## Night {run.as_of}", "", f"**{escape(seen.verdict, 300)}**", ""]
    lines += [
        f"- run `{escape(run.key, 120)}`: {run.status}, attempt {run.attempt}",
        f"- spent ${seen.spent_usd:.4f} in {counted(seen.calls, 'call')}",
    ]
    for catalog in record.catalogs:
        lines.append(f"- {escape(catalog.catalog)}: {catalog.counts}")
    if record.profiles:
        lines += ["", "| LLM | calls | scored | coverage | score | 95 % | USD |", "|---|---|---|---|---|---|---|"]
        lines += [f"| {' | '.join(_cells(found))} |" for found in record.profiles[:_MOST_LINES]]
    if refresh := _refresh(record):
        lines += ["", *(f"- refresh: {escape(line, 400)}" for line in refresh)]
    router = record.router
    if router is not None:
        lines += ["", f"- router `{router.digest[:12]}`: {escape(router.promotion)}"]
        lines += [f"- {escape(line, 400)}" for line in _worth(record)]
        lines += [f"- {check.outcome}: {escape(check_text(check), 700)}" for check in router.checks]
        lines.append(f"- report: `uniroute report promotion {router.digest[:12]} --open`")
    if record.attention:
        lines += ["", "**Attention**", *(f"- {escape(line, 700)}" for line in record.attention[:_MOST_LINES])]
    return "\n".join(lines) + "\n"


def _refresh(record: NightRecord) -> tuple[str, ...]:
    """Return what became of a refresh that was due, and of the promotions that were judged again after it."""
    found = record.refresh
    if found is None:
        return ()
    ended = f"the champion serves {found.changed} (router {(found.digest or '')[:12]})"
    if found.status != "applied":
        ended = f"due, not applied: {found.changed}; {found.problem}"
    return (ended, *worth_lines(found.worth), *found.judged_again)


def _worth(record: NightRecord) -> tuple[str, ...]:
    return () if record.router is None else worth_lines(record.router.worth)


def _cells(found: ProfileRecord) -> tuple[str, ...]:
    return (
        escape(llm_name(found.llm, 60)) + (" (new)" if found.is_new else ""),
        str(found.calls),
        str(found.scored),
        f"{found.coverage:.1%}",
        "" if found.mean_score is None else f"{found.mean_score:.4f}",
        score_interval(found.mean_score, found.n_in_mean),
        f"{found.spent_usd:.4f}",
    )
