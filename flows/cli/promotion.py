"""``uniroute promotion``: which router may serve, who decided that, and how to undo it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_promotions, complete_routers, complete_waiting_promotions
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
    reason_option,
)
from flows.cli.screen import note, show
from flows.text import table

if TYPE_CHECKING:
    from flows.promotion.decisions import Decision, Person
    from flows.workspace import Workspace

_STATUSES = ("requested", "approved", "rejected", "superseded", "applied", "failed")
_actor_option = click.option("--actor", help="Who decides (default: the account that runs this).")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.group("promotion", cls=NounGroup)
def promotion() -> None:
    """Request, review, decide and undo promotions; without a command, list them."""


@promotion.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only promotions with this status.")
@list_options("id", "status", "requested_at", "decided_at", limit=20)
@config_option
@json_option
def list_promotions(status: str | None, limit: int | None, sort: str | None, config: str | None, as_json: bool) -> None:
    """List promotions and rollbacks, the latest first."""
    from flows.reports.decisions import promotion_data

    with opened(config) as workspace:
        found = workspace.registry.promotions.list(status=status, limit=None if sort else limit)
        data = arranged([promotion_data(workspace.registry, one) for one in found], sort, limit)
    show("promotion.list", data, as_json=as_json, text=lambda: _list_text(data))


def _list_text(data: list[dict[str, Any]]) -> str:
    if not data:
        return "No promotion has been requested yet. Nights do that, or you: uniroute promotion request VERSION"
    rows = [
        [
            row["id"],
            row["kind"],
            row["status"],
            _name(row["router"]),
            _name(row["champion"]),
            row["requested_by"],
            row["decided_by"] or "",
            row["verdict"] or "",
            row["reason"] or "",
        ]
        for row in data
    ]
    headers = ["ID", "KIND", "STATUS", "ROUTER", "AGAINST", "REQUESTED BY", "DECIDED BY", "VERDICT", "REASON"]
    return table(headers, rows, right=(0,))


def _name(router: dict[str, Any] | None) -> str:
    if router is None:
        return "none"
    return f"v{router['version']}" if router["version"] is not None else router["digest"][:12]


@promotion.command("show")
@click.argument("name", metavar="ID", shell_complete=complete_promotions)
@config_option
@json_option
def show_promotion(name: str, config: str | None, as_json: bool) -> None:
    """Show what a promotion changes and what the gate found.

    The decisions so far are shown, too, and what to type next. ID is the promotion's number, or its router's digest,
    version or alias.
    """
    from flows.reports.decisions import promotion_text, review_data

    with opened(config) as workspace:
        data = review_data(workspace, workspace.registry.promotions.find(name))
    show("promotion.show", data, as_json=as_json, text=lambda: promotion_text(data))


@promotion.command("request")
@click.argument("version", metavar="V", shell_complete=complete_routers)
@click.option("--reason", default="", help="Why; recorded in the ledger.")
@_actor_option
@dry_run_option
@config_option
@json_option
def request_promotion(
    version: str, reason: str, actor: str | None, is_dry_run: bool, config: str | None, as_json: bool
) -> int:
    """Request the promotion of version V.

    The gate compares it with the champion on stored answers.
    """
    from flows.promotion import decisions
    from registry.clock import utc_now
    from registry.promotion_records import REJECT

    with opened(config) as workspace:
        done = decisions.request(
            workspace, version, by=_person(actor), reason=reason, clock=utc_now, is_dry_run=is_dry_run
        )
        _show_outcome(workspace, done, "promotion.request", is_dry_run=is_dry_run, as_json=as_json)
    if done.promotion.gate.decision == REJECT:
        return ExitCode.REFUSED
    is_open = done.promotion.gate.is_undecided or not is_dry_run
    return ExitCode.ATTENTION if is_open else ExitCode.DONE


@promotion.command("approve")
@click.argument("name", metavar="ID", shell_complete=complete_waiting_promotions)
@reason_option
@_actor_option
@_yes_option
@dry_run_option
@config_option
@json_option
def approve_promotion(name: str, **options: Any) -> int:
    """Approve promotion ID: its router serves from now on.

    The gate must still pass, or still be undecided on one that was requested as undecided, and the champion must still
    be the same. ID is the promotion's number, or its router's digest.
    """
    from flows.promotion.decisions import approve

    return _decide(name, "promotion.approve", approve, **options)


@promotion.command("reject")
@click.argument("name", metavar="ID", shell_complete=complete_waiting_promotions)
@reason_option
@_actor_option
@_yes_option
@dry_run_option
@config_option
@json_option
def reject_promotion(name: str, **options: Any) -> int:
    """Reject promotion ID: the champion keeps serving.

    ID is the promotion's number, or its router's digest.
    """
    from flows.promotion.decisions import reject

    return _decide(name, "promotion.reject", reject, **options)


def _decide(
    name: str,
    schema: str,
    decide: Callable[..., Decision],
    *,
    reason: str,
    actor: str | None,
    yes: bool,
    is_dry_run: bool,
    config: str | None,
    as_json: bool,
) -> int:
    from flows.reports.decisions import headline_lines, promotion_data
    from registry.clock import utc_now

    decision = {"by": _person(actor), "reason": reason, "clock": utc_now}
    with opened(config) as workspace:
        promotion_id = workspace.registry.promotions.find(name).id
        if not is_dry_run:
            waiting = decide(workspace, promotion_id, is_dry_run=True, **decision).promotion
            verb = schema.partition(".")[2]
            lines = headline_lines(promotion_data(workspace.registry, waiting))
            _confirm([*lines, f"{verb} promotion {promotion_id}"], yes)
        done = decide(workspace, promotion_id, is_dry_run=is_dry_run, **decision)
        _show_outcome(workspace, done, schema, is_dry_run=is_dry_run, as_json=as_json)
    return ExitCode.ATTENTION if done.pending else ExitCode.DONE


@promotion.command("rollback")
@click.option(
    "--to",
    metavar="V",
    shell_complete=complete_routers,
    help="Version to return to (default: the champion before this one).",
)
@click.option("--as-is", is_flag=True, help="Let it serve as it was, also with LLMs that cannot serve.")
@reason_option
@_actor_option
@_yes_option
@dry_run_option
@config_option
@json_option
def roll_back(
    to: str | None,
    as_is: bool,
    reason: str,
    actor: str | None,
    yes: bool,
    is_dry_run: bool,
    config: str | None,
    as_json: bool,
) -> int:
    """Let an earlier champion serve again, at once.

    There is no gate and no refit, and MLflow may be down. A version with LLMs that cannot serve is refreshed: it
    serves without them, unless you insist with --as-is.
    """
    from flows.promotion import decisions
    from flows.reports.decisions import rollback_lines
    from registry.clock import utc_now

    by = _person(actor)
    with opened(config) as workspace:
        target, remarks = decisions.rollback_target(workspace, to, on=utc_now().date(), as_is=as_is)
        lines = [*rollback_lines(workspace.registry, target), *remarks]
        if is_dry_run:
            data = {"to": {"digest": target.digest, "version": target.mlflow_version}, "is_dry_run": True}
            show("promotion.rollback", data, as_json=as_json, text=lambda: "\n".join(lines), warnings=remarks)
            return ExitCode.DONE
        _confirm([*lines, "roll back"], yes)
        done = decisions.rollback(workspace, to=target.digest, by=by, reason=reason, clock=utc_now, as_is=as_is)
        _show_outcome(workspace, done, "promotion.rollback", is_dry_run=False, as_json=as_json)
    return ExitCode.ATTENTION if done.pending else ExitCode.DONE


def _person(actor: str | None) -> Person:
    from flows.promotion.decisions import Person

    account = acting_person()
    return Person(account if actor is None else actor, account)


def _confirm(lines: list[str], yes: bool) -> None:
    """Show what would change, and ask for confirmation on a terminal."""
    *changes, question = lines
    click.echo("\n".join(changes), err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to confirm on; use --yes to decide without confirmation")
    click.confirm(f"{question[0].upper()}{question[1:]}?", abort=True, err=True)


def _show_outcome(workspace: Workspace, done: Decision, schema: str, *, is_dry_run: bool, as_json: bool) -> None:
    from flows.reports.decisions import outcome_text, review_data

    for remark in done.remarks:
        note(remark)
    data = review_data(workspace, done.promotion) | {"is_dry_run": is_dry_run, "mlflow_pending": done.pending or None}
    show(schema, data, as_json=as_json, text=lambda: outcome_text(data))
