"""A night of the past as text for a terminal: the answer to what on-call asks in the morning."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from flows.night.cancel import find_run
from flows.text import inert, table
from flows.workspace import Workspace
from registry.ledger import LedgerEvent
from registry.runs import Run
from registry.store import Registry

_LINES_SHOWN = 12


def night_text(seen: PastNight) -> str:
    """Tell how a night went, what it found, asked, spent and decided, and what to type next."""
    run, summary = seen.run, seen.summary
    ended = f"{run.finished_at:%Y-%m-%d %H:%M:%S} UTC" if run.finished_at is not None else "not yet"
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    verdict = run.verdict or ("This night is under way." if run.status == "active" else "It left no verdict.")
    lines = [
        inert(verdict, width=300),
        "",
        f"run      {inert(run.key, width=200)}",
        f"status   {run.status}{attempt}",
        f"started  {run.started_at:%Y-%m-%d %H:%M:%S} UTC on {inert(run.host)} (process {run.pid})",
        f"ended    {ended}",
        f"spent    ${seen.spent_usd:.4f} in {seen.calls:,} calls{_by_endpoint(seen)}",
        *_found(summary),
        *_made(summary.get("router")),
    ]
    attention = summary.get("attention", [])
    if attention:
        lines += ["", *(f"! {inert(line, width=300)}" for line in attention[:_LINES_SHOWN])]
        lines += [f"! and {len(attention) - _LINES_SHOWN} more"] * (len(attention) > _LINES_SHOWN)
    lines += _profiles(summary.get("profiles", []))
    return "\n".join([*lines, "", f"next: {_next(seen)}"])


def _by_endpoint(seen: PastNight) -> str:
    if len(seen.spend_by_endpoint) < 2:
        return ""
    return ": " + ", ".join(f"{inert(name)} ${usd:.4f}" for name, usd in sorted(seen.spend_by_endpoint.items()))


def _found(summary: dict[str, Any]) -> list[str]:
    lines = []
    for catalog in summary.get("catalogs", []):
        counted = ", ".join(f"{len(catalog[name])} {name}" for name in ("new", "withdrawn", "repriced"))
        new = f" ({', '.join(inert(key, width=60) for key in catalog['new'][:_LINES_SHOWN])})" if catalog["new"] else ""
        lines.append(f"found    {inert(catalog['catalog'])}: {counted}{new}")
    return lines


def _made(router: dict[str, Any] | None) -> list[str]:
    if router is None:
        return []
    name = f"version {router['version']}" if router["version"] is not None else router["digest"][:12]
    return [
        f"router   {name}: {router['n_llms']} LLMs, {'unchanged' if router['is_unchanged'] else router['promotion']}"
    ]


def _profiles(profiles: list[dict[str, Any]]) -> list[str]:
    if not profiles:
        return []
    rows = [
        [
            found["llm"],
            found["calls"],
            found["scored"],
            f"{found['coverage']:.1%}",
            "" if found["mean_score"] is None else f"{found['mean_score']:.3f}",
            f"{found['spent_usd']:.4f}",
        ]
        for found in profiles
    ]
    return ["", table(["LLM", "CALLS", "SCORED", "COVERAGE", "SCORE", "USD"], rows, right=(1, 2, 3, 4, 5))]


def _next(seen: PastNight) -> str:
    run, router = seen.run, seen.summary.get("router")
    if run.status == "active":
        return f"uniroute night cancel {inert(run.key, width=200)} --reason TEXT"
    if router is not None and router["version"] is not None:
        return f"uniroute router show {router['version']}"
    return f"uniroute night events {inert(run.key, width=200)}"


@dataclass(frozen=True)
class PastNight:
    """A night as the registry remembers it.

    Attributes
    ----------
    run
        The run.
    summary
        Its figures; empty while it runs, and when it failed.
    calls, spent_usd
        What was called and spent, in all its attempts; of a running night, so far.
    spend_by_endpoint
        USD by endpoint.
    """

    run: Run
    summary: dict[str, Any]
    calls: int
    spent_usd: Decimal
    spend_by_endpoint: dict[str, Decimal]


def look_back(workspace: Workspace, name: str) -> PastNight:
    """Give a night with its figures and what it spent; `name` as in `find_run`."""
    run = find_run(workspace.registry, name)
    spend = workspace.registry.outcomes.spend(run)
    return PastNight(
        run=run,
        summary=json.loads(run.summary_json or "{}") if run.status in ("completed", "attention") else {},
        calls=spend.calls,
        spent_usd=spend.total_usd,
        spend_by_endpoint={entry.endpoint: entry.cost_usd for entry in spend.by_endpoint},
    )


def events_of(registry: Registry, run: Run) -> tuple[LedgerEvent, ...]:
    """Give the ledger's events from the first start of a run to its last end, and those about the run itself."""
    within = registry.ledger.events(since=run.started_at)
    if run.finished_at is not None:
        within = tuple(event for event in within if event.at <= run.finished_at or event.subject == run.key)
    return within
