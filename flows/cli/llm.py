"""``uniroute llm``: the LLMs that the registry knows."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import click

from flows.cli.screen import config_option, json_option, show
from flows.reports.plain import inert, table

if TYPE_CHECKING:
    from flows.drift import Drift
    from registry.llms import LLM, Price

_STATUSES = ("available", "withdrawn", "quarantined", "excluded")


@click.group("llm", invoke_without_command=True)
@click.pass_context
def llm(context: click.Context) -> None:
    """List and show LLMs; without a command, list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_llms)


@llm.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only LLMs of this status.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most.")
@config_option
@json_option
def list_llms(
    status: str | None = None, limit: int | None = None, config: str | None = None, as_json: bool = False
) -> None:
    """List LLMs with price, score and whether they are routed to."""
    from flows.cli.opening import opened
    from flows.drift import Drifts, main_standings

    with opened(config) as workspace:
        llms = workspace.registry.llms.all(status=status)[:limit]
        scores = main_standings(workspace.registry.leaderboard())
        drifts = Drifts(workspace.registry).all()
    data = [
        _llm_data(entry, drifts.get(entry.key))
        | {
            "mean_score": scores[entry.key].mean_score if entry.key in scores else None,
            "prompts_scored": scores[entry.key].n_scored if entry.key in scores else 0,
        }
        for entry in llms
    ]
    show("llm.list", data, as_json=as_json, text=lambda: _llm_table(data))


def _llm_data(entry: LLM, drift: Drift | None) -> dict[str, Any]:
    return {
        "key": entry.key,
        "name": entry.name,
        "released_at": entry.released_at.date().isoformat() if entry.released_at else None,
        "status": entry.status,
        "is_routable": entry.is_routable,
        "refusal": entry.refusal,
        "drifted_on": drift.asked_epoch.isoformat() if drift is not None and drift.is_open else None,
        "drift": drift.reason if drift is not None and drift.is_open else None,
        "price": _price_data(entry.price) if entry.price else None,
    }


def _price_data(price: Price) -> dict[str, Any]:
    return {
        "input_usd_per_mtok": str(price.input_usd_per_mtok),
        "output_usd_per_mtok": str(price.output_usd_per_mtok),
        "since": price.since.isoformat(),
        "catalog": price.catalog,
    }


def _llm_table(data: list[dict[str, Any]]) -> str:
    if not data:
        return "The registry knows no LLM yet. Find some: uniroute night run --plan"
    rows = [
        [
            row["key"],
            row["released_at"] or "",
            row["price"]["input_usd_per_mtok"] if row["price"] else "",
            row["price"]["output_usd_per_mtok"] if row["price"] else "",
            row["prompts_scored"] or "",
            "" if row["mean_score"] is None else f"{row['mean_score']:.3f}",
            _status(row),
        ]
        for row in data
    ]
    headers = ["LLM", "RELEASED", "USD/MTOK IN", "OUT", "PROMPTS", "SCORE", "STATUS"]
    return table(headers, rows, right=(2, 3, 4, 5))


def _status(row: dict[str, Any]) -> str:
    if row["status"] == "available" and not row["is_routable"]:
        return f"available, not routable: {row['refusal'] or 'no price'}"
    return f"drifted on {row['drifted_on']}, to be asked again" if row["drifted_on"] else row["status"]


@llm.command("show")
@click.argument("text")
@config_option
@json_option
def show_llm(text: str, config: str | None, as_json: bool) -> None:
    """Show the LLM whose key, id or name is TEXT, or contains it."""
    from flows.cli.opening import opened
    from flows.drift import Drifts, main_standings
    from registry.errors import NotFound

    with opened(config) as workspace:
        found = workspace.registry.llms.find(text)
        if not found:
            raise NotFound(f"No LLM is called {text!r}.", hint="uniroute llm list")
        if len(found) > 1:
            names = ", ".join(entry.key for entry in found[:8])
            raise NotFound(f"{len(found)} LLMs are called {text!r}: {names}.", hint="Give a whole key.")
        entry = found[0]
        history = workspace.registry.llms.price_history(entry.key)
        scores = main_standings(workspace.registry.leaderboard()).get(entry.key)
        drift = Drifts(workspace.registry).of(entry.key)
    data = _llm_data(entry, drift) | {
        "endpoint": entry.endpoint,
        "canonical_id": entry.canonical_id,
        "first_seen_on": entry.first_seen_on.isoformat(),
        "context_tokens": entry.context_tokens,
        "status_reason": entry.status_reason,
        "price_history": [_price_data(price) for price in history],
        "mean_score": scores.mean_score if scores else None,
        "prompts_scored": scores.n_scored if scores else 0,
        "mean_cost_usd": scores.mean_cost_usd if scores else None,
    }
    show("llm.show", data, as_json=as_json, text=lambda: _llm_text(data))


@llm.command("accept")
@click.argument("key")
@click.option("--reason", required=True, help="Why it may be routed to after all; kept in the ledger.")
@config_option
def accept_llm(key: str, reason: str, config: str | None) -> None:
    """Route to the LLM called KEY again after it was quarantined, withdrawn or excluded."""
    from flows.cli.opening import opened
    from flows.night import utc_now

    with opened(config) as workspace:
        workspace.registry.llms.set_status(key, "available", reason, actor=getpass.getuser(), now=utc_now())
    click.echo(f"{inert(key, width=300)} is available again; the next night routes to it.")


def _llm_text(data: dict[str, Any]) -> str:
    plain = {key: value for key, value in data.items() if key not in ("price", "price_history")}
    lines = [
        f"{key.replace('_', ' '):16} {inert(value, width=200)}" for key, value in plain.items() if value is not None
    ]
    lines += [
        f"price since {price['since']}: {price['input_usd_per_mtok']} in, {price['output_usd_per_mtok']} out "
        f"USD per million tokens ({inert(price['catalog'])})"
        for price in data["price_history"]
    ]
    return "\n".join(lines)
