"""``uniroute night``: run, schedule, review and cancel nights."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_llms, complete_runs
from flows.cli.endings import ExitCode
from flows.cli.options import (
    NounGroup,
    acting_person,
    arranged,
    config_option,
    dry_run_option,
    json_option,
    list_options,
    opened,
    output_options,
    reason_option,
)
from flows.cli.screen import event_line, show
from flows.text import sanitize, table

if TYPE_CHECKING:
    from flows.reports.night_report import NightReport
    from registry.runs import Run


@click.group("night", cls=NounGroup)
def night() -> None:
    """Run, schedule, review and cancel nights; without a command, list them."""


@night.command("run")
@config_option
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Run the night of this day (default: today).")
@click.option(
    "--plan",
    "plan_only",
    is_flag=True,
    help="Show what would be asked and what it would cost, without calling anything.",
)
@click.option("--budget-usd", type=float, help="Budget of this night in USD, instead of [budget] night_usd.")
@click.option("--only", multiple=True, shell_complete=complete_llms, help="Ask only this LLM; can be repeated.")
@click.option("--max-new", type=int, help="At most this many new LLMs, instead of [night] max_new.")
@json_option
def run(
    config: str | None,
    as_of: datetime | None,
    plan_only: bool,
    budget_usd: float | None,
    only: tuple[str, ...],
    max_new: int | None,
    as_json: bool,
) -> int:
    """Run one night: find, profile, publish, promote.

    It finds new LLMs, profiles them, publishes a router, and promotes it when the gate passes. With --json, standard
    output is a stream of JSON lines: "started" comes once the night holds the lease, "finished" is the last; without
    it, the night ended early.
    """
    from flows.logs import listening

    def print_event(event: str, facts: dict[str, Any]) -> None:
        click.echo(event_line("night.run", event, **facts))

    with listening(print_event) if as_json else nullcontext():
        report = run_night_now(
            config,
            as_of=as_of.date().isoformat() if as_of else None,
            plan_only=plan_only,
            budget_usd=budget_usd,
            only=list(only) or None,
            max_new=max_new,
        )
    from flows.reports.digest import llm_endings
    from flows.reports.recording import night_record
    from flows.reports.terminal import ending_text

    status = "attention" if report.attention else "completed"
    if as_json:
        facts = {
            "status": status,
            "llms": llm_endings(report),
            "data": night_record(report).as_data(),
            "warnings": report.attention,
        }
        click.echo(event_line("night.run", "finished", run=report.run_key, **facts))
    else:
        options = {"--config": config, "--as-of": as_of and as_of.date(), "--budget-usd": budget_usd}
        again = _command(options | {"--max-new": max_new}, only)
        click.echo(ending_text(report, planned_command=again))
    return ExitCode.ATTENTION if report.attention else ExitCode.DONE


def _command(options: Mapping[str, object], only: Sequence[str]) -> str:
    """Return the command that runs a night with these options."""
    given = [(name, str(value)) for name, value in options.items() if value is not None]
    given += [("--only", sanitize(key, width=400)) for key in only]
    return shlex.join(["uniroute", "night", "run", *(word for pair in given for word in pair)])


def run_night_now(config: str | None, **parameters: Any) -> NightReport:
    """Run one night in this process, as a flow run on the configured Prefect server or an embedded one.

    Parameters
    ----------
    config
        Path of the settings file; found when omitted.
    parameters
        Those of `flows.nightly.night`.
    """
    import asyncio

    from flows.config import environment
    from flows.config.loading import load_settings
    from flows.config.prefect_server import require_prefect
    from flows.logs import say
    from flows.night.lease import is_gone
    from flows.workspace import Workspace
    from registry.clock import utc_now

    settings = load_settings(config).overridden(budget_usd=parameters["budget_usd"], max_new=parameters["max_new"])
    environment.prepare(settings.home, quiet=not output_options().is_verbose)
    with Workspace(settings) as workspace:
        workspace.registry.runs.require_free(utc_now(), holder_is_gone=is_gone)
        # Importing what it checks takes longer than refusing a second night.
        from flows.checks import preflight

        preflight.check(workspace)
    say("Starting Prefect ...")
    require_prefect()
    from flows.nightly import night as night_flow

    return asyncio.run(night_flow(config=config, **parameters))


@night.command("serve")
@config_option
@click.option("--cron", default="0 2 * * *", show_default=True, help="When to run, in UTC.")
@click.option("--port", default=4200, show_default=True, help="Port of Prefect's server, if one must be started.")
@json_option
def serve(config: str | None, cron: str, port: int, as_json: bool) -> None:
    """Run nights on a schedule, until stopped.

    Without a configured Prefect server, one is started on loopback.
    """
    from flows import logs
    from flows.config import environment
    from flows.config.loading import load_settings
    from flows.deploy.serve import serve_nights

    settings = load_settings(config)
    environment.prepare(settings.home, quiet=False)
    logs.set_up(settings)
    if as_json:
        click.echo(event_line("night.serve", "starting", cron=cron, port=port))
    serve_nights(config, cron, port=port)


@night.command("list")
@config_option
@list_options("as_of", "status", "started_at", limit=20)
@json_option
def list_nights(config: str | None, limit: int, sort: str | None, as_json: bool) -> None:
    """List nights, newest first."""
    with opened(config) as workspace:
        runs = workspace.registry.runs.list(limit=None if sort else limit)
    data = arranged([_run_data(entry) for entry in runs], sort, limit)

    def text() -> str:
        if not data:
            return "No night has run yet. Run one: uniroute night run"
        rows = [[row["as_of"], row["status"], row["verdict"] or ""] for row in data]
        return table(["AS OF", "STATUS", "VERDICT"], rows)

    show("night.list", data, as_json=as_json, text=text)


def _run_data(entry: Run) -> dict[str, Any]:
    return {
        "key": entry.key,
        "as_of": entry.as_of.isoformat(),
        "status": entry.status,
        "verdict": entry.verdict,
        "attempt": entry.attempt,
        "started_at": entry.started_at.isoformat(timespec="seconds"),
        "finished_at": entry.finished_at.isoformat(timespec="seconds") if entry.finished_at else None,
    }


@night.command("show")
@click.argument("name", metavar="[RUN]", default="latest", shell_complete=complete_runs)
@config_option
@json_option
def show_night(name: str, config: str | None, as_json: bool) -> None:
    """Show a night.

    RUN is its key, its day, or 'latest' (the default).
    """
    from flows.reports.past_night import look_back

    with opened(config) as workspace:
        seen = look_back(workspace, name)
    facts = {
        "settings_hash": seen.run.settings_hash,
        "prompt_set": seen.run.prompt_set_digest,
        "spent_usd": seen.spent_usd,
        "calls": seen.calls,
        "spend_by_endpoint": seen.spend_by_endpoint,
        "summary": seen.summary,
    }

    def text() -> str:
        from flows.reports.past_night import night_text

        return night_text(seen)

    show("night.show", _run_data(seen.run) | facts, as_json=as_json, text=text)


@night.command("events")
@click.argument("name", metavar="[RUN]", default="latest", shell_complete=complete_runs)
@config_option
@list_options("number", "event", "actor")
@json_option
def list_events(name: str, config: str | None, limit: int | None, sort: str | None, as_json: bool) -> None:
    """List the ledger's events from the start of a night to its end.

    RUN is its key, its day, or 'latest' (the default).
    """
    from flows.night.cancel import find_run
    from flows.reports.past_night import events_of

    with opened(config) as workspace:
        found = events_of(workspace.registry, find_run(workspace.registry, name))
    rows = [
        {
            "number": event.number,
            "at": event.at.isoformat(timespec="seconds"),
            "event": event.event,
            "subject": event.subject,
            "actor": event.actor,
            "reason": event.reason,
        }
        for event in found
    ]
    data = arranged(rows, sort, limit)

    def text() -> str:
        cells = [[row["number"], row["at"], row["event"], row["subject"], row["actor"], row["reason"]] for row in data]
        return table(["#", "AT", "EVENT", "SUBJECT", "ACTOR", "REASON"], cells, right=(0,)) if cells else "No events."

    show("night.events", data, as_json=as_json, text=text)


@night.command("cancel")
@click.argument("name", metavar="[RUN]", default="latest", shell_complete=complete_runs)
@reason_option
@dry_run_option
@config_option
@json_option
def cancel(name: str, reason: str, is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Ask a running night to stop.

    Answers that have arrived are kept, and nothing is published. RUN is its key, its day, or 'latest' (the default).
    """
    from flows.night.cancel import cancel_night
    from registry.clock import utc_now

    with opened(config) as workspace:
        asked = cancel_night(
            workspace.registry, name, reason, actor=acting_person(), now=utc_now(), is_dry_run=is_dry_run
        )
    data = {
        "run": asked.run_key,
        "host": asked.host,
        "pid": asked.pid,
        "was_signalled": asked.was_signalled,
        "is_dry_run": is_dry_run,
    }

    def text() -> str:
        where = f"{sanitize(asked.run_key)} on {sanitize(asked.host)} (process {asked.pid})"
        if is_dry_run:
            return f"Would ask {where} to stop. Nothing was changed."
        how = "It was signalled." if asked.was_signalled else f"It will notice within {asked.heard_within_s:.0f} s."
        return f"Asked {where} to stop. {how}\nnext: uniroute night show {sanitize(asked.run_key)}"

    show("night.cancel", data, as_json=as_json, text=text)
