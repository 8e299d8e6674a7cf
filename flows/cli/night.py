"""``uniroute night``: run a night, schedule nights, look back at them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from flows.cli.outcome import ExitCode
from flows.cli.screen import config_option, envelope, json_option, show
from flows.reports.plain import table

if TYPE_CHECKING:
    from flows.night import NightReport


@click.group(invoke_without_command=True)
@click.pass_context
def night(context: click.Context) -> None:
    """Run, schedule and look back at nights; without a command, list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_nights)


@night.command("run")
@config_option
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Look at the world as of this day (default: today).")
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be asked and what it would cost; call nothing.")
@json_option
def run(config: str | None, as_of: datetime | None, plan_only: bool, as_json: bool) -> int:
    """Run one night: find new LLMs, profile them, publish a router, promote it when the gate passes."""
    report = run_night_now(config, as_of.date().isoformat() if as_of else None, plan_only=plan_only)
    from flows.reports.digest import as_data
    from flows.reports.terminal import ending_text

    click.echo(envelope("night.run", as_data(report)) if as_json else ending_text(report))
    return ExitCode.ATTENTION if report.attention else ExitCode.DONE


def run_night_now(config: str | None, as_of: str | None, *, plan_only: bool) -> NightReport:
    """Run one night in this process, as a flow run on Prefect's embedded server or the one that is configured."""
    import asyncio

    from flows import environment, preflight
    from flows.settings import load_settings
    from flows.workspace import Workspace

    settings = load_settings(config)
    environment.prepare(settings.home)
    with Workspace(settings) as workspace:
        preflight.check(workspace)
    click.echo("Starting Prefect ...", err=True)
    from flows.nightly import night as night_flow

    return asyncio.run(night_flow(as_of=as_of, config=config, plan_only=plan_only))


@night.command("serve")
@config_option
@click.option("--cron", default="0 2 * * *", show_default=True, help="When to run, in UTC.")
@click.option("--port", default=4200, show_default=True, help="Port of Prefect's server, if one has to be started.")
def serve(config: str | None, cron: str, port: int) -> None:
    """Run nights on a schedule, until stopped. Without a configured Prefect server one is started on loopback."""
    from flows import environment
    from flows.schedule import serve_nights
    from flows.settings import load_settings

    environment.prepare(load_settings(config).home, quiet=False)
    serve_nights(config, cron, port=port)


@night.command("list")
@config_option
@click.option("--limit", default=20, show_default=True, help="How many nights, the latest first.")
@json_option
def list_nights(config: str | None = None, limit: int = 20, as_json: bool = False) -> None:
    """List the nights, the latest first."""
    from flows.cli.opening import opened

    with opened(config) as workspace:
        runs = workspace.registry.runs.list(limit=limit)
    data = [
        {"key": run.key, "as_of": run.as_of.isoformat(), "status": run.status, "verdict": run.verdict} for run in runs
    ]
    show(
        "night.list",
        data,
        as_json=as_json,
        text=lambda: (
            table(["AS OF", "STATUS", "VERDICT"], [[row["as_of"], row["status"], row["verdict"] or ""] for row in data])
            if data
            else "No night has run yet. Run one: uniroute night run"
        ),
    )
