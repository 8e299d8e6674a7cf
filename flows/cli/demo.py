"""``uniroute demo``: two nights on recorded answers of real LLMs."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.options import json_option
from flows.cli.screen import show
from flows.text import counted, table

if TYPE_CHECKING:
    from flows.config.settings import Settings
    from flows.reports.night_report import NightReport
    from flows.workspace import Workspace

FIRST_NIGHT, SECOND_NIGHT, LATER_NIGHT = "2024-07-01", "2024-08-01", "2024-10-01"
WEIGHT = "UNIROUTE_ROUTING__COST_WEIGHT"
_PROMPT = (
    "A train travels 120 km in 1.5 hours. What is its average speed?\n"
    "Options:\nA. 60 km/h\nB. 70 km/h\nC. 80 km/h\nD. 90 km/h"
)


@click.command("demo")
@click.option("--fresh", is_flag=True, help="Move the state of an earlier demo aside and start over.")
@json_option
def demo(fresh: bool, as_json: bool) -> None:
    """Watch two nights on recorded answers of real LLMs.

    LLMs are found, profiled over HTTP, routed, published to MLflow and promoted.
    """
    from flows.reports.recording import night_record

    started_s = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        reports, settings = _watch(fresh=fresh)
    duration_s = time.monotonic() - started_s
    data = {
        "home": settings.home,
        "duration_s": duration_s,
        "nights": [night_record(report).as_data() for report in reports],
    }
    closing = f"\nThe demo took {duration_s:.0f} s. The answers were recorded answers of real LLMs."
    show("demo", data, as_json=as_json, text=lambda: closing)


def _watch(*, fresh: bool) -> tuple[list[NightReport], Settings]:
    """Run both nights and print what they do."""
    from flows.config import environment
    from flows.config.loading import SettingsSource
    from flows.reports.terminal import ending_text
    from flows.workspace import Workspace

    settings = SettingsSource(sandbox=True).load()
    environment.prepare(settings.home)
    _prepare_home(settings, fresh=fresh)
    click.echo(_INTRODUCTION.format(home=_short(settings.home), cost_weight=settings.routing.cost_weight))
    reports = []
    for number, as_of in enumerate((FIRST_NIGHT, SECOND_NIGHT), start=1):
        click.echo(f"\n{'=' * 30} night {number}, as of {as_of} {'=' * 30}\n")
        reports.append(_run_sandbox_night(as_of))
        click.echo(ending_text(reports[-1]).rpartition("\n\n")[0])
    click.echo(f"\n{'=' * 30} what the two nights resulted in {'=' * 30}\n")
    with Workspace(settings) as workspace:
        click.echo(_ending(workspace, reports))
    return reports, settings


_INTRODUCTION = """\
uniroute demo: two nights on RECORDED answers of real LLMs (MMLU-Pro questions, real release dates and prices), served
by an OpenAI-compatible endpoint on loopback. No key is needed, no LLM is called, nothing is spent: every USD below is
what the recorded calls would have cost. State is kept in {home}.
Dates and cost weight ({cost_weight:g} errors per USD) were chosen on other prompts than those that routers are judged
on below, so that on those others routing costs about half of what the best single LLM costs: make bench-demo."""


def _run_sandbox_night(as_of: str) -> NightReport:
    """Run a night on the sandbox, even if there is a settings file in this folder."""
    import asyncio

    from flows.nightly import night

    return asyncio.run(night(as_of=as_of, sandbox=True))


def _prepare_home(settings: Settings, *, fresh: bool) -> None:
    """Keep the demo apart from real nights, and move an earlier demo aside if asked to."""
    from flows.errors import PrerequisiteError
    from flows.workspace import SANDBOX, Workspace

    if fresh and settings.home.exists():
        aside = settings.home.with_name(f"{settings.home.name}-{time.strftime('%Y%m%d-%H%M%S')}")
        shutil.move(settings.home, aside)
        click.echo(f"The earlier state is now in {_short(aside)}.")
    with Workspace(settings) as workspace:
        real = [llm for llm in workspace.registry.llms.all() if llm.endpoint != SANDBOX]
    if real:
        raise PrerequisiteError(
            f"The home folder {settings.home} holds real nights, with {counted(len(real), 'LLM')} of other endpoints.",
            unchanged="Nothing was changed: the demo keeps its own state.",
            hint="UNIROUTE_HOME=./demo-home uniroute demo",
        )


def _ending(workspace: Workspace, reports: list[NightReport]) -> str:
    """Return what each night resulted in, how challenger and champion compare, one decision, and what to type next."""
    blocks = [_nights_table(reports), _comparison(reports[-1]), _one_decision(workspace), _commands(workspace)]
    if not any(report.calls for report in reports):
        blocks.insert(
            0,
            "These nights had already run in this home folder: nothing was asked or published twice.\n"
            "To watch them from the start: uniroute demo --fresh",
        )
    return "\n\n".join(block for block in blocks if block)


def _nights_table(reports: list[NightReport]) -> str:
    rows = []
    for report in reports:
        router = report.router
        found = sum(len(diff.new) for diff in report.diffs)
        version = f"{router.version} ({router.promotion})" if router is not None and router.version is not None else ""
        rows.append(
            [report.as_of, found, len(report.profiles), f"{report.calls:,}", f"{report.spent_usd:.4f}", version]
        )
    headers = ["NIGHT", "NEW LLMS FOUND", "LLMS CALLED", "CALLS", "USD", "ROUTER VERSION"]
    return table(headers, rows, right=(1, 2, 3, 4))


def _comparison(report: NightReport) -> str:
    from flows.reports.terminal import measure_cells
    from flows.reports.worth import worth_lines

    gate = report.router.gate if report.router is not None else None
    if gate is None or gate.champion is None:
        return ""
    rows = [
        [title, *measure_cells(found)]
        for title, found in (("champion", gate.champion), ("challenger", gate.challenger))
    ]
    prompts = counted(len(gate.outcomes.embeddings), "gate prompt")
    lines = [
        f"Challenger against the champion of night 1, on {prompts} that nothing was fitted on:",
        table(["", "SCORE", "USD/1000", "AREA", "QNC", "PEAK"], rows, right=(1, 2, 3, 4, 5)),
        *worth_lines(gate.worth),
    ]
    return "\n".join(lines)


def _one_decision(workspace: Workspace) -> str:
    from flows.cli.route import decide, decision_text

    record = workspace.registry.routers.get("champion")
    decision = decide(workspace, record, _PROMPT)
    return f'One prompt, routed by the champion: "{_PROMPT.splitlines()[0]} ..."\n{decision_text(decision, record)}'


def _commands(workspace: Workspace) -> str:
    from flows.versions.store import figure_path

    record = workspace.registry.routers.get("champion")
    folder = Path(".venv/bin")
    prefix = f"{folder}/" if (folder / "uniroute").is_file() else ""
    lines = [
        f'{prefix}uniroute route "Which planet is the largest?" --cost-weight 5',
        f"{prefix}uniroute llm list",
        f"{prefix}uniroute router show {record.mlflow_version}",
        f"{prefix}uniroute report promotion champion --open",
        f"{prefix}uniroute audit verify",
        f"{WEIGHT}={workspace.settings.routing.cost_weight:g} {prefix}uniroute night run --as-of {LATER_NIGHT}",
        f"{prefix}mlflow ui --backend-store-uri {workspace.settings.mlflow_url} --port 5000",
    ]
    lines += [
        f"deferral-curve figure: {_short(figure_path(workspace, record.digest))}",
        "your own LLMs: README.md, Your own endpoint in five steps",
    ]
    return "Look further:\n" + "\n".join(f"  {line}" for line in lines)


def _short(path: Path) -> Path:
    """Return a path relative to this folder if it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
