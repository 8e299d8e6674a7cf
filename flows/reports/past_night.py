"""A night of the past, read from the registry: run, stored record, spend and events, as terminal text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flows.night.cancel import find_run
from flows.reports.asking import order_lines, saved_of
from flows.reports.night_record import (
    CatalogRecord,
    NightRecord,
    NightRouterRecord,
    ProfileRecord,
    read_night,
    stored_summary,
)
from flows.reports.numbers import score_interval
from flows.reports.readability import share_cell
from flows.reports.worth import worth_lines
from flows.text import counted, sanitize, table
from flows.workspace import Workspace
from registry.ledger import LedgerEvent
from registry.runs import Run
from registry.store import Registry

_LINES_SHOWN = 12


@dataclass(frozen=True)
class PastNight:
    """A night as the registry remembers it.

    Attributes
    ----------
    run
        The run.
    record
        What it stored at its end; defaults while it runs, and when it failed.
    calls, spent_usd
        Calls made and USD spent in all its attempts; of a running night, so far.
    spend_by_endpoint
        USD by endpoint.
    """

    run: Run
    record: NightRecord
    calls: int
    spent_usd: Decimal
    spend_by_endpoint: dict[str, Decimal]

    @property
    def summary(self) -> dict[str, Any]:
        """The stored record as JSON values, just as that night wrote it."""
        return stored_summary(self.run)

    @property
    def verdict(self) -> str:
        """How the night went, in one line."""
        return self.run.verdict or (
            "This night is under way." if self.run.status == "active" else "It left no verdict."
        )


def look_back(workspace: Workspace, name: str) -> PastNight:
    """Return a night with its figures and its spend; `name` as in `find_run`."""
    run = find_run(workspace.registry, name)
    spend = workspace.registry.outcomes.spend(run)
    return PastNight(
        run=run,
        record=read_night(run),
        calls=spend.calls,
        spent_usd=spend.total_usd,
        spend_by_endpoint={entry.endpoint: entry.cost_usd for entry in spend.by_endpoint},
    )


def events_of(registry: Registry, run: Run) -> tuple[LedgerEvent, ...]:
    """Return the ledger's events from the first start of a run to its last end, and those about the run itself."""
    within = registry.ledger.events(since=run.started_at)
    if run.finished_at is not None:
        within = tuple(event for event in within if event.at <= run.finished_at or event.subject == run.key)
    return within


def night_text(seen: PastNight) -> str:
    """Return a night for a terminal: how it went, what it found, asked, spent and decided, and what to type next."""
    run, record = seen.run, seen.record
    ended = f"{run.finished_at:%Y-%m-%d %H:%M:%S} UTC" if run.finished_at is not None else "not yet"
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    lines = [
        sanitize(seen.verdict, width=300),
        "",
        f"run      {sanitize(run.key, width=200)}",
        f"status   {run.status}{attempt}",
        f"started  {run.started_at:%Y-%m-%d %H:%M:%S} UTC on {sanitize(run.host)} (process {run.pid})",
        f"ended    {ended}",
        f"spent    ${seen.spent_usd:.4f} in {counted(seen.calls, 'call')}{_by_endpoint(seen)}",
        *map(_found, record.catalogs),
        *(f"asked    {line}" for line in order_lines(record.plan.order if record.plan is not None else None)),
        *(f"saved    {line}" for line in saved_of([(p.llm, p.saved_calls, p.saved_usd) for p in record.profiles])),
    ]
    if record.refresh is not None:
        ended = record.refresh.status if not record.refresh.problem else f"not applied, {record.refresh.problem}"
        lines.append(f"refresh  {sanitize(record.refresh.changed, width=200)}: {sanitize(ended, width=200)}")
        lines += [f"worth    {line}" for line in worth_lines(record.refresh.worth)]
    if record.router is not None:
        refit = record.router.refit.lines if record.router.refit is not None else []
        lines += [f"refit    {sanitize(line.removeprefix('refit: '), width=400)}" for line in refit]
        lines += [_made(record.router), *(f"worth    {line}" for line in worth_lines(record.router.worth))]
    if record.attention:
        lines += ["", *(f"! {sanitize(line, width=700)}" for line in record.attention[:_LINES_SHOWN])]
        lines += [f"! and {len(record.attention) - _LINES_SHOWN} more"] * (len(record.attention) > _LINES_SHOWN)
    if record.profiles:
        lines += ["", _profiles(record.profiles)]
    return "\n".join([*lines, "", f"next: {_next(seen)}"])


def _by_endpoint(seen: PastNight) -> str:
    if len(seen.spend_by_endpoint) < 2:
        return ""
    return ": " + ", ".join(f"{sanitize(name)} ${usd:.4f}" for name, usd in sorted(seen.spend_by_endpoint.items()))


def _found(catalog: CatalogRecord) -> str:
    new = ", ".join(sanitize(key, width=60) for key in catalog.new[:_LINES_SHOWN])
    return f"found    {sanitize(catalog.catalog)}: {catalog.counts}" + (f" ({new})" if new else "")


def _made(router: NightRouterRecord) -> str:
    name = f"version {router.version}" if router.version is not None else router.digest[:12]
    return (
        f"router   {name}: {counted(router.n_llms, 'LLM')}, {'unchanged' if router.is_unchanged else router.promotion}"
    )


def _profiles(profiles: Sequence[ProfileRecord]) -> str:
    rows = [
        [
            found.llm,
            found.calls,
            found.scored,
            f"{found.coverage:.1%}",
            "" if found.mean_score is None else f"{found.mean_score:.4f}",
            score_interval(found.mean_score, found.n_in_mean),
            share_cell(found.unreadable_share) if found.scored else "",
            f"{found.spent_usd:.4f}",
        ]
        for found in profiles
    ]
    headers = ["LLM", "CALLS", "SCORED", "COVERAGE", "SCORE", "95 %", "UNREADABLE", "USD"]
    return table(headers, rows, right=(1, 2, 3, 4, 6, 7))


def _next(seen: PastNight) -> str:
    run, router = seen.run, seen.record.router
    if run.status == "active":
        return f"uniroute night cancel {sanitize(run.key, width=200)} --reason TEXT"
    if router is not None and router.version is not None:
        return f"uniroute router show {router.version}"
    return f"uniroute night events {sanitize(run.key, width=200)}"
