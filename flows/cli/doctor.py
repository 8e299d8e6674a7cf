"""``uniroute doctor``: is everything whole, do registry and MLflow agree, and what to type when not."""

from __future__ import annotations

from dataclasses import asdict

import click

from flows.cli.options import config_option, json_option
from flows.cli.outcome import ExitCode
from flows.cli.screen import show
from flows.text import inert

_CODES = {
    "ok": ExitCode.DONE,
    "attention": ExitCode.ATTENTION,
    "unreachable": ExitCode.TRY_LATER,
    "refused": ExitCode.CONFIGURATION,
    "damaged": ExitCode.INTEGRITY,
}


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Repair what needs no decision; nothing is ever deleted.")
@config_option
@json_option
def doctor(repair: bool, config: str | None, as_json: bool) -> int:
    """Check registry, schema, lease, ledger, router files, MLflow and disk; one line each, with the repair."""
    from flows.checks.doctor import examine, worst
    from flows.config import environment
    from flows.config.loading import load_settings
    from flows.workspace import Workspace
    from registry.clock import utc_now

    settings = load_settings(config)
    environment.prepare(settings.home)
    with Workspace(settings, migrate=False) as workspace:
        checks = examine(workspace, repair=repair, clock=utc_now)
    verdict = worst(checks)
    data = {"verdict": verdict, "is_repaired": repair, "checks": [asdict(check) for check in checks]}

    def text() -> str:
        lines = []
        for check in checks:
            lines.append(f"{check.status:<11}  {check.name}: {inert(check.finding, width=400)}")
            if check.repair:
                lines.append(f"{'':<11}  next: {inert(check.repair, width=400)}")
        return "\n".join(lines)

    show("doctor", data, as_json=as_json, text=text)
    return _CODES[verdict]
