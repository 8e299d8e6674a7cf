"""``uniroute doctor``: is everything whole, do registry and MLflow agree, and what to type if not."""

from __future__ import annotations

import click

from flows.cli.endings import CODES
from flows.cli.options import config_option, json_option
from flows.cli.screen import show


@click.command("doctor")
@click.option("--repair", is_flag=True, help="Repair what needs no decision; nothing is deleted.")
@config_option
@json_option
def doctor(repair: bool, config: str | None, as_json: bool) -> int:
    """Check that everything is intact and agrees, and say how to repair it.

    Checks disk, registry, schema, lease, ledger, router files, MLflow and the champion's LLMs.
    """
    from flows.checks.doctor import examine
    from flows.config import environment
    from flows.config.loading import load_settings
    from flows.findings import findings_text, worst
    from flows.workspace import Workspace
    from registry.clock import utc_now

    settings = load_settings(config)
    environment.prepare(settings.home)
    with Workspace(settings, migrate=False) as workspace:
        findings = examine(workspace, repair=repair, clock=utc_now)
    severity = worst(findings)
    rows = [
        {"name": one.subject, "status": one.severity, "finding": one.text, "repair": one.next_step} for one in findings
    ]
    data = {"verdict": severity, "is_repaired": repair, "checks": rows}
    show("doctor", data, as_json=as_json, text=lambda: findings_text(findings))
    return CODES[severity]
