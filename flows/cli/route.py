"""``uniroute route``: route a prompt and say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from flows.cli.options import config_option, json_option
from flows.cli.screen import note, show
from flows.reports.plain import inert

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord
    from routing.decisions import Decision


@click.command("route")
@click.argument("text")
@click.option("--router", "name", default="champion", show_default=True, help="Version number, alias or digest.")
@click.option("--cost-weight", type=float, help="What saving costs: errors per USD; 0 is best quality.")
@click.option("--max-cost-usd", type=float, help="Spend at most this on average, in USD per 1 000 prompts.")
@click.option("--min-score", type=float, help="Keep this share of the best LLM's score, as cheaply as possible.")
@click.option("--candidates", help="Choose among these LLMs only, separated by commas.")
@config_option
@json_option
def route(
    text: str,
    name: str,
    cost_weight: float | None,
    max_cost_usd: float | None,
    min_score: float | None,
    candidates: str | None,
    config: str | None,
    as_json: bool,
) -> None:
    """Route TEXT and say which LLM gets it, why, and what that is expected to cost."""
    given = {"--cost-weight": cost_weight, "--max-cost-usd": max_cost_usd, "--min-score": min_score}
    named = [option for option, value in given.items() if value is not None]
    if len(named) > 1:
        raise click.UsageError(f"{' and '.join(named)} exclude each other: give one of them")
    from flows.cli.opening import opened
    from flows.versions import find_router

    with opened(config) as workspace:
        record = find_router(workspace.registry, name)
        decision = decide(workspace, record, text, cost_weight, max_cost_usd, min_score, candidates)
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
) -> Decision:
    """Route one prompt with a router version.

    What it costs is expected from its own length. Only a version from before the lengths of the representative prompts
    were kept, which solves budgets with the tokens of the LLMs' profiles, then routes with those as well.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The router version.
    text
        The prompt.
    cost_weight, max_cost_usd, min_score
        At most one of them; the version's own cost weight without any.
    candidates
        LLM keys, or ids without the endpoint, separated by commas; all LLMs when empty.

    Raises
    ------
    InvalidInput
        The prompt is empty, a number cannot be used, or even the cheapest LLM costs more than the budget.
    NoEligibleLLM
        Every LLM that it may choose was withdrawn, or may not be called any more.
    """
    from flows.versions import load_version, router_folder
    from routing.embedding import load_embedder_for
    from routing.errors import InvalidInput
    from routing.tokens import estimated_input_tokens

    if not text.strip():
        raise InvalidInput("The prompt is empty.", hint='uniroute route "Which gas do plants take in?"')
    router = load_version(workspace, record.digest)
    wanted = [part.strip() for part in (candidates or "").split(",") if part.strip()]
    chosen = [key for key in router.keys if key in wanted or key.partition(":")[2] in wanted]
    unknown = [part for part in wanted if part not in chosen and part not in {key.partition(":")[2] for key in chosen}]
    if unknown:
        raise InvalidInput(
            f"Router {record.digest[:12]} knows no LLM {', '.join(unknown)}.",
            hint="List them with: uniroute router show",
        )
    eligible = _still_available(workspace, chosen or router.keys)
    tokens: float | None = float(estimated_input_tokens([text])[0])
    if max_cost_usd is not None or min_score is not None:
        cost_weight = router.cost_weight_for(max_cost_usd_per_1k=max_cost_usd, min_score=min_score, candidates=eligible)
        tokens = tokens if router.solves_by_tokens else None
    embedder = load_embedder_for(router.embedder, folder=router_folder(workspace, record.digest))
    embedding = embedder.embed([text])[0]
    return router.decide(embedding, input_tokens=tokens, cost_weight=cost_weight, candidates=eligible)


def _still_available(workspace: Workspace, keys: Sequence[str]) -> list[str]:
    """Leave out what went away since the router was made: the next best LLM gets its prompts."""
    from flows.night import utc_now
    from routing.errors import NoEligibleLLM

    today = utc_now().date()
    available = {llm.key for llm in workspace.registry.llms.all() if llm.is_routable_on(today)}
    gone = [key for key in keys if key not in available]
    if len(gone) == len(keys):
        raise NoEligibleLLM(
            f"No LLM is left to choose from: {', '.join(gone[:3])} may not be called any more.",
            hint="See why with: uniroute llm list",
        )
    if gone:
        note(f"not chosen from, because not available any more: {', '.join(gone)}")
    return [key for key in keys if key in available]


def decision_text(decision: Decision, record: RouterRecord) -> str:
    """Say a decision and its reasons for people."""
    version = f"version {record.mlflow_version}" if record.mlflow_version is not None else record.digest[:12]
    lines = [
        f"-> {inert(decision.llm)}",
        f"   expected score {decision.expected_score:.3f} (standard error {decision.standard_error:.3f}), "
        f"expected cost {decision.expected_cost_usd * 1000:.4f} USD per 1 000 prompts",
        f"   because in cluster {decision.cluster} its expected error plus cost weight {decision.cost_weight:g} "
        "times cost is the lowest",
    ]
    if decision.runner_up is not None:
        lines.append(
            f"   runner-up {inert(decision.runner_up)}: expected score {decision.runner_up_score:.3f}, "
            f"{decision.runner_up_cost_usd * 1000:.4f} USD per 1 000 prompts"
        )
    lines.append(f"   router {version} (digest {decision.router_digest[:12]})")
    return "\n".join(lines)
