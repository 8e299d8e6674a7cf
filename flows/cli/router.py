"""``uniroute router``: router versions, what they consist of and how they perform."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_routers
from flows.cli.endings import CODES
from flows.cli.options import NounGroup, arranged, config_option, json_option, list_options, opened
from flows.cli.screen import note, show
from flows.text import counted, sanitize, table

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord


@contextmanager
def _within_reach() -> Iterator[None]:
    """Report a version that cannot be fetched now as unavailable rather than damaged: the caller may try later."""
    from flows.errors import VersionUnavailable
    from registry.errors import MlflowDenied, MlflowUnsuitable, PublishIncomplete

    try:
        yield
    except (MlflowDenied, MlflowUnsuitable):
        raise
    except PublishIncomplete as error:
        raise VersionUnavailable(error.message, unchanged="Nothing was changed.", hint=error.hint) from error


@click.group("router", cls=NounGroup)
def router() -> None:
    """List, show, explain, compare and verify router versions; without a command, list them."""


@router.command("list")
@list_options("version", "created_at", "n_llms", limit=20)
@config_option
@json_option
def list_routers(limit: int, sort: str | None, config: str | None, as_json: bool) -> None:
    """List router versions, the latest first, with their figures."""
    with opened(config) as workspace:
        data = arranged([_record_data(record) for record in workspace.registry.routers.list()], sort, limit)
    show("router.list", data, as_json=as_json, text=lambda: _router_table(data))


def _record_data(record: RouterRecord) -> dict[str, Any]:
    return {
        "version": record.mlflow_version,
        "digest": record.digest,
        "parent": record.parent_digest,
        "aliases": list(record.aliases),
        "n_llms": len(record.llm_keys),
        "metrics": dict(record.metrics),
        "created_at": record.created_at.isoformat(timespec="seconds"),
    }


def _router_table(data: list[dict[str, Any]]) -> str:
    if not data:
        return "There is no router yet. Make one: uniroute night run"
    rows = [
        [
            "pending" if row["version"] is None else row["version"],
            row["digest"][:12],
            ", ".join(row["aliases"]),
            row["n_llms"],
            *(
                f"{row['metrics'][name]:.4f}" if name in row["metrics"] else "–"
                for name in ("score", "cost_usd_per_1k", "area")
            ),
            row["created_at"],
        ]
        for row in data
    ]
    headers = ["VERSION", "DIGEST", "ALIASES", "LLMS", "SCORE", "USD/1000", "AREA", "MADE"]
    return table(headers, rows, right=(0, 3, 4, 5, 6))


@router.command("show")
@click.argument("name", default="champion", shell_complete=complete_routers)
@config_option
@json_option
def show_router(name: str, config: str | None, as_json: bool) -> None:
    """Show a router version, by number, alias or digest."""
    from flows.gate.worth import Worth
    from flows.reports.worth import worth_lines
    from flows.versions.store import figure_path, find_router, load_version

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        gate = workspace.registry.promotions.last_gate(record.digest)
        worth = None if gate is None else json.loads(gate.details_json).get("worth")
        with _within_reach():
            loaded = load_version(workspace, record.digest)
        figure = figure_path(workspace, record.digest)
        data = _record_data(record) | {
            "prompt_set": record.prompt_set_digest,
            "embedder": record.embedder_key,
            "cluster_map": record.cluster_map_digest,
            "cost_weight": loaded.cost_weight,
            "n_clusters": loaded.cluster_map.n_clusters,
            "folder_digest": record.folder_digest,
            "figure": str(figure) if figure.is_file() else None,
            "worth": worth,
            "llms": [
                {
                    "key": llm.key,
                    "input_usd_per_mtok": llm.input_usd_per_mtok,
                    "output_usd_per_mtok": llm.output_usd_per_mtok,
                    "mean_error": float(
                        (llm.vector.errors * llm.vector.counts).sum() / max(llm.vector.counts.sum(), 1)
                    ),
                    "coverage": llm.vector.coverage,
                    "errors": [round(float(error), 6) for error in llm.vector.errors],
                    "standard_errors": [round(float(error), 6) for error in llm.vector.standard_errors],
                }
                for llm in loaded.llms
            ],
        }
        text = _router_text(data, worth_lines(Worth.of_data(worth), "the champion before it"), workspace)
    show("router.show", data, as_json=as_json, text=lambda: text)


def _router_text(data: dict[str, Any], worth: Sequence[str], workspace: Workspace) -> str:
    version = "not yet in MLflow" if data["version"] is None else f"version {data['version']}"
    lines = [
        f"router {version}   aliases: {', '.join(data['aliases']) or 'none'}   made {data['created_at']}",
        f"digest      {data['digest']}",
        f"folder      {data['folder_digest'] or 'unknown'} (digest of all its files in MLflow)",
        f"parent      {data['parent'] or 'none'}",
        f"prompt set  {data['prompt_set']}",
        f"embedder    {sanitize(data['embedder'])}",
        f"cluster map {data['cluster_map']} ({counted(data['n_clusters'], 'cluster')})",
        f"cost weight {data['cost_weight']:g} errors per USD",
        *worth,
        f"on gate prompts: {_metrics(data, is_difference=False)}",
        *([f"on the prompts that judge: {differences}"] if (differences := _metrics(data, is_difference=True)) else []),
        "",
        table(
            ["LLM", "ERROR", "STRONGEST CLUSTER", "WEAKEST CLUSTER", "COVERAGE", "USD/MTOK IN", "OUT"],
            [
                [
                    llm["key"],
                    f"{llm['mean_error']:.3f}",
                    _cluster_error(llm, min),
                    _cluster_error(llm, max),
                    f"{llm['coverage']:.1%}",
                    f"{llm['input_usd_per_mtok']:g}",
                    f"{llm['output_usd_per_mtok']:g}",
                ]
                for llm in sorted(data["llms"], key=lambda llm: llm["mean_error"])
            ],
            right=(1, 2, 3, 4, 5, 6),
        ),
        "± is the standard error of the expected error in that cluster; --json gives those of all clusters.",
        "",
        f"deferral-curve figure: {data['figure'] or 'not on this machine'}",
        f"in MLflow: models:/{workspace.settings.mlflow.router_name}/{data['version']}",
    ]
    return "\n".join(lines)


def _figure(value: float) -> str:
    """Write a figure with four decimals, and a number of prompts or a yes (1) as the whole number it is."""
    return f"{value:g}" if value.is_integer() else f"{value:.4f}"


def _metrics(data: dict[str, Any], *, is_difference: bool) -> str:
    """Return the metrics of a version in a line: those of the difference to its champion, or the others."""
    found = sorted(data["metrics"].items())
    shown = [(name, value) for name, value in found if name.startswith("score_difference") == is_difference]
    return ", ".join(f"{name} {_figure(value)}" for name, value in shown)


def _cluster_error(llm: dict[str, Any], choose: Callable[..., int]) -> str:
    """Return the expected error of an LLM in its strongest or weakest cluster, with the standard error."""
    errors = llm["errors"]
    number = choose(range(len(errors)), key=errors.__getitem__)
    return f"{number}: {errors[number]:.3f} ± {llm['standard_errors'][number]:.3f}"


@router.command("history")
@list_options("since", "version", "actor", "kind")
@config_option
@json_option
def show_history(limit: int | None, sort: str | None, config: str | None, as_json: bool) -> None:
    """List every change of the champion.

    Each with its time, version, actor, reason, and whether the gate had passed.
    """
    from flows.audit.serving import history
    from flows.reports.audit import history_text

    with opened(config) as workspace:
        changes = history(workspace.registry)
    shown = arranged(changes if sort or limit is None else changes[-limit:], sort, limit)
    show("router.history", shown, as_json=as_json, text=lambda: history_text(shown))


@router.command("at")
@click.argument("moment")
@config_option
@json_option
def served_at(moment: str, config: str | None, as_json: bool) -> None:
    """Show which router served at MOMENT, and who allowed it.

    MOMENT is a time (2026-03-14T09:00Z) or a day (2026-03-14). The evidence for the decision is shown, too.
    """
    from flows.audit.moments import read_span
    from flows.audit.serving import served_in
    from flows.reports.audit import served_text
    from registry.clock import utc_now

    span = read_span(moment)
    with opened(config) as workspace:
        served = served_in(workspace.registry, span, utc_now())
    show("router.at", {"asked": span.text, "served": served}, as_json=as_json, text=lambda: served_text(served, moment))


@router.command("diff")
@click.argument("before", shell_complete=complete_routers)
@click.argument("after", shell_complete=complete_routers)
@config_option
@json_option
def diff(before: str, after: str, config: str | None, as_json: bool) -> None:
    """Show what differs between two router versions."""
    from flows.audit.differences import diff_versions
    from flows.reports.audit import diff_text
    from flows.versions.store import find_router

    with opened(config) as workspace:
        records = [find_router(workspace.registry, name) for name in (before, after)]
        with _within_reach():
            found = diff_versions(workspace, *records)
    names = [_name_of(record) for record in records]
    data = {"before": records[0].digest, "after": records[1].digest, "differences": found}
    show("router.diff", data, as_json=as_json, text=lambda: diff_text(*names, found))


def _name_of(record: RouterRecord) -> str:
    return f"router {record.digest[:12]}" if record.mlflow_version is None else f"version {record.mlflow_version}"


@router.command("verify")
@click.argument("name", default="champion", shell_complete=complete_routers)
@config_option
@json_option
def verify(name: str, config: str | None, as_json: bool) -> int:
    """Verify a version, and compute it again from stored answers.

    It is compared with everything that was recorded about it.
    """
    from flows.audit.version_check import verify_version
    from flows.cli.audit import STATES, VERDICTS, findings_data
    from flows.findings import findings_text, worst
    from flows.versions.store import find_router

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        found = verify_version(workspace, record)
    severity = worst(found.findings)
    if found.asked_again:
        note(f"asked again since then, while the version rests on earlier answers: {', '.join(found.asked_again)}")
    data = findings_data(found.findings)
    data |= {"version": record.mlflow_version, "digest": record.digest}
    data |= {"rebuilt": found.outcome, "asked_again": found.asked_again}

    def text() -> str:
        verdict = f"{_name_of(record)}: {VERDICTS[severity]}; computed again: {found.outcome}"
        return f"{findings_text(found.findings, STATES)}\n{verdict}"

    show("router.verify", data, as_json=as_json, text=text)
    return CODES[severity]


@router.command("explain")
@click.argument("name", shell_complete=complete_routers)
@click.argument("text")
@click.option("--cost-weight", type=float, help="Errors worth one USD (default: the version's own).")
@config_option
@json_option
def explain(name: str, text: str, cost_weight: float | None, config: str | None, as_json: bool) -> None:
    """Explain why version NAME routes TEXT as it does."""
    from flows.audit.explanation import explain as explain_route
    from flows.reports.audit import explanation_text, far_warning
    from flows.versions.store import find_router

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        with _within_reach():
            found = explain_route(workspace, record, text, cost_weight)
    if found.is_far:
        note(far_warning(found))
    data = asdict(found) | {"version": record.mlflow_version, "digest": record.digest}
    show("router.explain", data, as_json=as_json, text=lambda: explanation_text(found, _name_of(record)))


@router.command("export")
@click.argument("name", shell_complete=complete_routers)
@click.argument("folder", type=click.Path(file_okay=False))
@config_option
@json_option
def export(name: str, folder: str, config: str | None, as_json: bool) -> None:
    """Copy version NAME into FOLDER, for machines without a network.

    FOLDER also gets a script that verifies the version there.
    """
    from pathlib import Path

    from flows.audit.airgap import CHECKER, VERSION, export_version
    from flows.versions.store import find_router

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        with _within_reach():
            found = export_version(workspace, record, Path(folder))
    data = asdict(found) | {"version": record.mlflow_version}

    def text() -> str:
        return "\n".join(
            [
                f"{_name_of(record)} is in {found.folder}: {counted(found.n_files, 'file')} of router {found.digest}",
                f"verify it there: python {found.folder / CHECKER} {found.folder_digest}",
                f'use it there:    mlflow.pyfunc.load_model("{found.folder / VERSION}")',
            ]
        )

    show("router.export", data, as_json=as_json, text=text)
