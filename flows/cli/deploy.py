"""``uniroute deploy``: set up registry, work pool, deployments and automations for the flows of this code."""

from __future__ import annotations

import re
from pathlib import Path

import click

from flows.cli.options import config_option, dry_run_option, json_option
from flows.cli.screen import show
from flows.text import sanitize

_CHANGES = {"ok": "none"}


def _must_be_a_name(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise click.BadParameter("it may contain only letters, digits, '.', '_' and '-'")
    return value


@click.command("deploy")
@click.option(
    "--pool",
    default="nights",
    show_default=True,
    callback=_must_be_a_name,
    help="Work pool; created if it is missing.",
)
@click.option("--cron", default="0 2 * * *", show_default=True, help="When nights run, in UTC.")
@click.option(
    "--automations",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Prefect automations to apply (default: docker/automations.yaml, if it is there).",
)
@dry_run_option
@config_option
@json_option
def deploy(pool: str, cron: str, automations: Path | None, is_dry_run: bool, config: str | None, as_json: bool) -> None:
    """Set up a Prefect server, and the registry, so that workers run nights.

    The server is the one that PREFECT_API_URL names. Running this again changes nothing more.
    """
    from flows.config import environment
    from flows.config.loading import load_settings
    from flows.deploy.deploy import AUTOMATIONS, deploy
    from flows.findings import findings_text

    settings = load_settings(config)
    environment.prepare(settings.home)
    chosen = automations or (AUTOMATIONS if AUTOMATIONS.is_file() else None)
    findings = deploy(settings, config, pool=pool, cron=cron, automations=chosen, is_dry_run=is_dry_run)
    steps = [
        {"part": one.subject, "change": _CHANGES.get(one.severity, one.severity), "finding": one.text}
        for one in findings
    ]
    data = {"pool": pool, "is_dry_run": is_dry_run, "steps": steps}

    def text() -> str:
        if is_dry_run:
            return f"{findings_text(findings)}\nNothing was changed."
        return f"{findings_text(findings)}\nnext: prefect worker start --pool {sanitize(pool)} --type process"

    show("deploy", data, as_json=as_json, text=text)
