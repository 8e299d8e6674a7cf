"""``uniroute audit``: the ledger, and whether anything has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_subjects
from flows.cli.endings import CODES
from flows.cli.options import NounGroup, arranged, config_option, json_option, list_options, opened
from flows.cli.screen import show
from flows.text import counted

if TYPE_CHECKING:
    from flows.findings import Finding, Severity
    from registry.ledger import LedgerEvent
    from registry.store import Registry

STATES: Mapping[Severity, str] = MappingProxyType(
    {"ok": "intact", "attention": "unknown", "unreachable": "unreachable", "damaged": "changed"}
)
"""What an auditor calls the severity of a finding, in JSON and on the terminal."""
VERDICTS: Mapping[Severity, str] = MappingProxyType(
    {
        "ok": "nothing has changed",
        "attention": "nothing that could be compared has changed; for the rest there is nothing to compare it with",
        "unreachable": "nothing that could be reached has changed",
        "damaged": "SOMETHING WAS CHANGED: do not rely on it, and find out who changed it",
    }
)


def findings_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings and their verdict for machines."""
    from flows.findings import worst

    rows = [{"subject": one.subject, "state": STATES[one.severity], "said": one.text} for one in findings]
    return {"verdict": STATES[worst(findings)], "findings": rows}


@click.group("audit", cls=NounGroup, bare="log")
def audit() -> None:
    """Read, verify and export the ledger; without a command, list its events."""


@audit.command("log")
@click.option("--since", help="Only events at or after this day or moment (2026-03-14, 2026-03-14T09:00Z).")
@click.option("--subject", shell_complete=complete_subjects, help="Only events about this router version, LLM or run.")
@click.option("--event", help="Only events that start with this, such as router:promotion:.")
@list_options("number", "at", "event", "subject", "actor", limit=50)
@config_option
@json_option
def log(
    since: str | None,
    subject: str | None,
    event: str | None,
    limit: int,
    sort: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """List the ledger's latest events.

    The newest is last, unless they are sorted.
    """
    from flows.audit.moments import read_span
    from flows.reports.audit import log_text

    since_at = None if since is None else read_span(since).since_at
    with opened(config) as workspace:
        registry = workspace.registry
        at_most = limit if sort is None else None
        found = registry.ledger.events(subject=_subject(registry, subject), event=event, since=since_at, limit=at_most)
    rows = [_event_data(one) for one in found]
    shown = rows if sort is None else arranged(rows, sort, limit)
    show("audit.log", shown, as_json=as_json, text=lambda: log_text(shown))


def _subject(registry: Registry, name: str | None) -> str | None:
    """Return the subject of a name: the digest of the router version with that name, else the name itself."""
    from flows.versions.store import find_router
    from registry.errors import NotFound

    if name is None:
        return None
    try:
        return find_router(registry, name).digest
    except NotFound:
        return name


def _event_data(event: LedgerEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.moment,
        "event": event.event,
        "subject": event.subject,
        "actor": event.actor,
        "reason": event.reason,
        "payload": _payload(event.payload_json),
        "hash": event.hash,
    }


def _payload(text: str) -> Any:
    """Read an event's further facts; a payload that is not JSON is shown verbatim."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@audit.command("verify")
@click.option("--head", help="Hash of a ledger head that was noted earlier: it must be part of the chain.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False),
    help="File that `audit export` wrote earlier: each of its events must be in the chain, unchanged.",
)
@config_option
@json_option
def verify(head: str | None, against: str | None, config: str | None, as_json: bool) -> int:
    """Verify the ledger and everything that rests on it.

    Checks its chain, the ledger heads noted in MLflow, that the nights' rows fit their digests, and that versions,
    files and reports are what the ledger says. A history that was rewritten with all its hashes is only found by what
    was kept elsewhere: --head, --against.
    """
    from pathlib import Path

    from flows.audit.earlier import read_export, read_head
    from flows.audit.verification import verify_everything
    from flows.config.loading import load_settings
    from flows.findings import findings_text, worst
    from flows.workspace import Workspace

    noted = None if head is None else read_head(head)
    export = None if against is None else read_export(Path(against))
    with Workspace(load_settings(config), migrate=False) as workspace:
        found = verify_everything(workspace, head=noted, export=export)
    severity = worst(found.findings)

    def text() -> str:
        return f"{findings_text(found.findings, STATES)}\n{found.covers}\n{VERDICTS[severity]}"

    data = findings_data(found.findings) | {"covers": found.covers}
    show("audit.verify", data, as_json=as_json, text=text)
    return CODES[severity]


@audit.command("export")
@click.option("--since", help="From this day or moment on (default: from the first event).")
@click.option("--until", help="Up to the end of this day, or before this moment (default: to the last event).")
@click.option("--out", type=click.Path(dir_okay=False), help="Write to this file instead of standard output.")
@config_option
@json_option
def export(since: str | None, until: str | None, out: str | None, config: str | None, as_json: bool) -> None:
    """Write the ledger as JSON lines that anyone can verify.

    registry/README.md has a Python snippet that verifies it.
    """
    from datetime import timedelta

    from flows.audit.export import export_lines
    from flows.audit.moments import read_span

    since_at = None if since is None else read_span(since).since_at
    span = None if until is None else read_span(until)
    is_day = span is not None and span.until_at > span.since_at
    until_at = None if span is None else span.until_at + timedelta(microseconds=1) if is_day else span.until_at
    with opened(config) as workspace:
        lines = list(export_lines(workspace.registry, since_at, until_at))
    if out is None:
        click.echo("\n".join(lines))
        return
    _write(out, lines)
    data = {"file": out} | {name: value for name, value in json.loads(lines[0]).items() if name != "schema"}
    show("audit.export", data, as_json=as_json, text=lambda: f"{counted(data['n_events'], 'event')} written to {out}")


def _write(out: str, lines: list[str]) -> None:
    from pathlib import Path

    from flows.errors import PrerequisiteError

    try:
        Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise PrerequisiteError(f"{out} cannot be written: {error.strerror}.", hint="--out FILE") from None
