"""``uniroute route``: route a prompt, with reasons, or a file of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_llm_list, complete_routers
from flows.cli.options import config_option, json_option, opened
from flows.cli.screen import note, show
from flows.text import counted, sanitize

if TYPE_CHECKING:
    from flows.batch.routing import PreparedRouting, RoutedFile
    from flows.workspace import Workspace
    from registry.routers import RouterRecord
    from routing.decisions import Decision

_FILE = click.Path(path_type=Path)
_PROGRESS_EVERY_S = 2.0


@click.command("route")
@click.argument("text", required=False)
@click.option("--input", "source", type=_FILE, help="Route the column 'prompt' of a .parquet or .jsonl file instead.")
@click.option("--output", "target", type=_FILE, help="File for the routed rows; appears once it is complete.")
@click.option("--chunk", type=click.IntRange(min=1), help="Prompts in memory at a time.  [default: 10000]")
@click.option("--overwrite", "may_overwrite", is_flag=True, help="Replace an existing output.")
@click.option(
    "--router",
    "name",
    default="champion",
    show_default=True,
    shell_complete=complete_routers,
    help="Router version: number, alias or digest.",
)
@click.option("--cost-weight", type=float, help="Errors worth one USD; 0 is best quality.")
@click.option("--max-cost-usd", type=float, help="Spend at most this on average, in USD per 1,000 prompts.")
@click.option("--min-score", type=float, help="Keep this share of the best LLM's score, at the lowest cost.")
@click.option(
    "--candidates", shell_complete=complete_llm_list, help="Choose only among these LLMs, separated by commas."
)
@click.option("--exclude", shell_complete=complete_llm_list, help="Choose none of these LLMs, separated by commas.")
@config_option
@json_option
def route(
    text: str | None,
    source: Path | None,
    target: Path | None,
    chunk: int | None,
    may_overwrite: bool,
    name: str,
    cost_weight: float | None,
    max_cost_usd: float | None,
    min_score: float | None,
    candidates: str | None,
    exclude: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Route TEXT, or a file of prompts.

    For TEXT it prints which LLM gets it, why, and the expected cost.
    """
    _refuse_mixture(text, {"--input": source, "--output": target, "--chunk": chunk, "--overwrite": may_overwrite})
    given = {"--cost-weight": cost_weight, "--max-cost-usd": max_cost_usd, "--min-score": min_score}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(named)} exclude each other: use one of them")
    from flows.versions.store import find_router

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        criteria = (cost_weight, max_cost_usd, min_score, candidates, exclude)
        if source is not None and target is not None:
            _route_file(workspace, record, criteria, source, target, chunk, may_overwrite, as_json)
            return
        decision = decide(workspace, record, text or "", *criteria)
    data: dict[str, Any] = asdict(decision) | {"router_version": record.mlflow_version, "router": record.digest}
    show("route", data, as_json=as_json, text=lambda: decision_text(decision, record))


def decide(
    workspace: Workspace,
    record: RouterRecord,
    text: str,
    cost_weight: float | None = None,
    max_cost_usd: float | None = None,
    min_score: float | None = None,
    candidates: str | None = None,
    exclude: str | None = None,
) -> Decision:
    """Route one prompt with a router version.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The router version.
    text
        The prompt.
    cost_weight, max_cost_usd, min_score, candidates, exclude
        As for `flows.batch.routing.prepare`, whose errors this raises, too.

    Raises
    ------
    InvalidInput
        The prompt is empty.
    """
    from routing.errors import InvalidInput

    if not text.strip():
        raise InvalidInput("The prompt is empty.", hint='uniroute route "Which gas do plants take in?"')
    return _prepared(workspace, record, cost_weight, max_cost_usd, min_score, candidates, exclude).decide(text)


def _prepared(workspace: Workspace, record: RouterRecord, *criteria: Any) -> PreparedRouting:
    from flows.batch.routing import prepare
    from routing.errors import named

    prepared = prepare(workspace, record, *criteria)
    if prepared.unavailable:
        note(f"left out because they are no longer available: {named(prepared.unavailable)}")
    return prepared


def _refuse_mixture(text: str | None, of_files: Mapping[str, object]) -> None:
    """Refuse a command line that is neither for one prompt nor for a file of prompts."""
    named = [option for option, value in of_files.items() if value]
    if text is not None and named:
        raise click.UsageError(f"TEXT and {' and '.join(named)} exclude each other: route one prompt or a file of them")
    missing = [option for option in ("--input", "--output") if option not in named]
    if text is None and len(missing) == 1:
        raise click.UsageError(f"{missing[0]} is missing: a file of prompts needs --input and --output")
    if text is None and missing:
        raise click.UsageError("Missing argument 'TEXT', or --input and --output for a file of prompts.")


def _route_file(
    workspace: Workspace,
    record: RouterRecord,
    criteria: Sequence[Any],
    source: Path,
    target: Path,
    chunk: int | None,
    may_overwrite: bool,
    as_json: bool,
) -> None:
    from flows.batch.routing import CHUNK, route_file

    shown_s = 0.0

    def show_progress(rows: int, seconds: float) -> None:
        nonlocal shown_s
        if seconds - shown_s >= _PROGRESS_EVERY_S:
            shown_s = seconds
            click.echo(f"{counted(rows, 'prompt')} routed", err=True)

    prepared = _prepared(workspace, record, *criteria)
    routed = route_file(
        prepared, source, target, chunk_rows=chunk or CHUNK, may_overwrite=may_overwrite, on_progress=show_progress
    )
    click.echo(_duration_text(routed), err=True)
    data = asdict(routed) | {"prompts_per_second": routed.prompts_per_second, "router_version": record.mlflow_version}
    show("route.file", data, as_json=as_json, text=lambda: _file_text(routed))


def _duration_text(routed: RoutedFile) -> str:
    """Return how long routing a file took; the rate only where it is not a fraction."""
    rate = routed.prompts_per_second
    duration = f"{counted(routed.rows, 'prompt')} in {routed.seconds:.1f} s"
    return f"{duration}, {rate:,.0f} per second" if rate >= 1 else duration


def _file_text(routed: RoutedFile) -> str:
    """Describe the result of routing a file."""
    lines = [f"-> {sanitize(routed.path, width=200)}: {counted(routed.rows, 'prompt')}"]
    lines += [f"   {share:6.1%} {sanitize(llm)}" for llm, share in routed.share_per_llm.items()]
    lines.append(f"   router digest {routed.digest[:12]}")
    return "\n".join(lines)


def decision_text(decision: Decision, record: RouterRecord) -> str:
    """Describe a decision and its reasons."""
    version = f"version {record.mlflow_version}" if record.mlflow_version is not None else record.digest[:12]
    lines = [
        f"-> {sanitize(decision.llm)}",
        f"   expected score {decision.expected_score:.3f} (standard error {decision.standard_error:.3f}), "
        f"expected cost {decision.expected_cost_usd * 1000:.4f} USD per 1,000 prompts",
        f"   because in cluster {decision.cluster} its expected error plus cost weight {decision.cost_weight:g} "
        "times cost is the lowest",
    ]
    if decision.runner_up is not None:
        lines.append(
            f"   runner-up {sanitize(decision.runner_up)}: expected score {decision.runner_up_score:.3f}, "
            f"{decision.runner_up_cost_usd * 1000:.4f} USD per 1,000 prompts"
        )
    lines.append(f"   router {version} (digest {decision.router_digest[:12]})")
    return "\n".join(lines)
