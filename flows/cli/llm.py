"""``uniroute llm``: the LLMs of the registry, and decisions about them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from flows.cli.completion import complete_llms
from flows.cli.endings import ExitCode
from flows.cli.options import (
    NounGroup,
    acting_person,
    all_option,
    arranged,
    config_option,
    dry_run_option,
    json_option,
    list_options,
    opened,
    reason_option,
)
from flows.cli.screen import show
from flows.text import counted, sanitize, shell_argument, table

if TYPE_CHECKING:
    from flows.night.epochs import Drift
    from flows.reports.night_report import RefreshOutcome
    from flows.workspace import Workspace
    from registry.llms import LLM, Price

_STATUSES = ("available", "withdrawn", "quarantined", "excluded")


@click.group("llm", cls=NounGroup)
def llm() -> None:
    """List, show and decide about LLMs; without a command, list them."""


@llm.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only LLMs with this status.")
@all_option
@list_options("key", "released_at", "status", "mean_score", "prompts_scored")
@config_option
@json_option
def list_llms(
    status: str | None, is_all: bool, limit: int | None, sort: str | None, config: str | None, as_json: bool
) -> None:
    """List LLMs with their price, score and status."""
    from flows.night.epochs import Drifts, leaderboard_by_llm

    with opened(config) as workspace:
        known = workspace.registry.llms.all(status=status)
        scores = leaderboard_by_llm(workspace.registry.leaderboard())
        drifts = Drifts(workspace.registry).all()
    llms = [entry for entry in known if is_all or not entry.is_left_out]
    data = [
        _llm_data(entry, drifts.get(entry.key))
        | {
            "mean_score": scores[entry.key].mean_score if entry.key in scores else None,
            "prompts_scored": scores[entry.key].n_scored if entry.key in scores else 0,
        }
        for entry in llms
    ]
    data = arranged(data, sort, limit)
    show("llm.list", data, as_json=as_json, text=lambda: _llm_table(data, n_left_out=len(known) - len(llms)))


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
        "input_usd_per_mtok": price.input_usd_per_mtok,
        "output_usd_per_mtok": price.output_usd_per_mtok,
        "since": price.since.isoformat(),
        "catalog": price.catalog,
    }


def _llm_table(data: list[dict[str, Any]], n_left_out: int) -> str:
    from flows.reports.numbers import score_interval

    hidden = f"{counted(n_left_out, 'LLM')} left out by the settings: uniroute llm list --all" if n_left_out else ""
    if not data:
        return hidden or "The registry has no LLMs yet. Find some: uniroute night run --plan"
    rows = [
        [
            row["key"],
            row["released_at"] or "",
            _usd(row["price"]["input_usd_per_mtok"]) if row["price"] else "",
            _usd(row["price"]["output_usd_per_mtok"]) if row["price"] else "",
            row["price"]["catalog"] if row["price"] else "",
            row["prompts_scored"] or "",
            "" if row["mean_score"] is None else f"{row['mean_score']:.4f}",
            score_interval(row["mean_score"], row["prompts_scored"]),
            _status(row),
        ]
        for row in data
    ]
    headers = ["LLM", "RELEASED", "USD/MTOK IN", "OUT", "PRICED BY", "PROMPTS", "SCORE", "95 %", "STATUS"]
    return "\n".join(filter(None, (table(headers, rows, right=(2, 3, 5, 6)), hidden)))


def _status(row: dict[str, Any]) -> str:
    if row["status"] == "available" and not row["is_routable"]:
        return f"available, not routable: {row['refusal'] or 'no price'}"
    return f"drifted on {row['drifted_on']}, will be asked again" if row["drifted_on"] else row["status"]


@llm.command("show")
@click.argument("text", metavar="LLM", shell_complete=complete_llms)
@click.option("--unreadable", "with_unreadable", is_flag=True, help="Also answers in which no answer could be read.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=5, show_default=True, help="At most this many unreadable answers."
)
@config_option
@json_option
def show_llm(text: str, with_unreadable: bool, limit: int, config: str | None, as_json: bool) -> None:
    """Show one LLM, by its key, id or name or a part of it.

    With --unreadable, some of the answers in which its graders could read no answer: prompt, reference and answer.
    """
    from flows.night.epochs import Drifts, leaderboard_by_llm
    from flows.reports.day_zero import day_zero_data, day_zero_sentences, prior_of_llm
    from flows.reports.readability import readability_sentence, unreadable_data, unreadable_text
    from flows.reports.usage import usage_sentence
    from registry.outcomes import Readability, UsageFacts

    with opened(config) as workspace:
        entry = _the_llm(workspace, text)
        scores = leaderboard_by_llm(workspace.registry.leaderboard()).get(entry.key)
        drift = Drifts(workspace.registry).of(entry.key)
        usage = workspace.registry.outcomes.usage([entry.key]).get(entry.key, UsageFacts())
        history, prior = workspace.registry.llms.price_history(entry.key), prior_of_llm(workspace, entry)
        answers = ()
        if with_unreadable and scores is not None:
            asked = entry.key, scores.prompt_set_digest, scores.sampling
            answers = workspace.registry.outcomes.unreadable(*asked, limit=limit)
    read = scores.readability if scores else Readability()
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
        "usage_checked": usage.n_answers,
        "usage_flags": dict(usage.flags),
        "unreadable_share": read.share,
        "prompts_checked": read.n_known,
        "prompts_unreadable": read.n_unreadable,
        "prompts_judged": read.n_judged,
        **day_zero_data(prior),
        "unreadable_answers": [unreadable_data(one) for one in answers] if with_unreadable else None,
    }

    def words() -> str:
        sentences = {"usage": usage_sentence(usage), "unreadable": readability_sentence(read)}
        sentences |= day_zero_sentences(prior)
        more = f"\n\n{unreadable_text(answers, read)}" if with_unreadable else ""
        return _llm_text(data, sentences) + more

    show("llm.show", data, as_json=as_json, text=words)


def _the_llm(workspace: Workspace, text: str) -> LLM:
    """Return the only LLM with this key, id or name or a part of it."""
    from registry.errors import NotFound

    found = workspace.registry.llms.find(text)
    if not found:
        raise NotFound(f"No LLM is called {text!r}.", hint="uniroute llm list")
    if len(found) > 1:
        names = ", ".join(entry.key for entry in found[:8])
        raise NotFound(f"{len(found)} LLMs are called {text!r}: {names}.", hint="Type a whole key.")
    return found[0]


_IN_WORDS = (
    "price",
    "price_history",
    "usage_checked",
    "usage_flags",
    "unreadable_share",
    "prompts_checked",
    "prompts_unreadable",
    "prompts_judged",
    "level",
    "level_standard_error",
    "prior_share",
    "day_zero",
    "day_zero_off",
    "unreadable_answers",
)


def _llm_text(data: dict[str, Any], sentences: dict[str, str]) -> str:
    from flows.reports.numbers import score_interval

    interval = score_interval(data["mean_score"], data["prompts_scored"]) or None
    plain = {key: value for key, value in data.items() if key not in _IN_WORDS} | {"score_95_%": interval} | sentences
    if data["mean_score"] is not None:
        plain["mean_score"] = f"{data['mean_score']:.4f}"
    if data["mean_cost_usd"] is not None:
        plain["mean_cost_usd"] = f"{data['mean_cost_usd']:.8f}"
    lines = [
        f"{key.replace('_', ' '):16} {sanitize(_words(value), width=200)}"
        for key, value in plain.items()
        if value is not None
    ]
    lines += [
        f"price since {price['since']}: {_usd(price['input_usd_per_mtok'])} in, "
        f"{_usd(price['output_usd_per_mtok'])} out USD per million tokens ({sanitize(price['catalog'])})"
        for price in data["price_history"]
    ]
    lines += [f"next: {step}" for step in _next_steps(data)]
    return "\n".join(lines)


def _words(value: Any) -> Any:
    return ("no", "yes")[value] if isinstance(value, bool) else value


def _next_steps(data: dict[str, Any]) -> list[str]:
    key = shell_argument(data["key"])
    if data["refusal"] is not None and "held for review" in data["refusal"]:
        return [f"uniroute llm accept-price {key} --reason TEXT"]
    if data["status"] != "available":
        return [f"uniroute llm include {key} --reason TEXT"]
    has_more = data["prompts_unreadable"] and data["unreadable_answers"] is None
    return [f"uniroute llm show {key} --unreadable"] if has_more else []


@llm.command("diff")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="First day to compare (default: that of the latest night)."
)
@list_options("on", "change", "llm")
@config_option
@json_option
def diff(since: datetime | None, limit: int | None, sort: str | None, config: str | None, as_json: bool) -> None:
    """List what has changed about LLMs.

    New, withdrawn, repriced and drifted LLMs, and decisions about them.
    """
    from flows.reports.llm_changes import changes_since
    from registry.clock import utc_now

    with opened(config) as workspace:
        latest = workspace.registry.runs.latest()
        day = since.date() if since else latest.as_of if latest else utc_now().date()
        found = changes_since(workspace.registry, day)
    rows = [
        {
            "on": one.on,
            "change": one.change,
            "llm": one.llm_key,
            "before": one.before,
            "after": one.after,
            "reason": one.reason,
        }
        for one in found
    ]
    data = {"since": day, "changes": arranged(rows, sort, limit)}

    def text() -> str:
        if not data["changes"]:
            return f"Nothing has changed since {day}."
        cells = [
            [row["on"], row["change"], row["llm"], row["before"] or "", row["after"] or "", row["reason"]]
            for row in data["changes"]
        ]
        return table(["ON", "CHANGE", "LLM", "BEFORE", "AFTER", "SAID BY"], cells)

    show("llm.diff", data, as_json=as_json, text=text)


def _decision(verb: str, status: str, consequence: str, summary: str) -> None:
    """Add the command by which a person gives an LLM a status."""

    def decide(name: str, reason: str, is_dry_run: bool, config: str | None, as_json: bool) -> int:
        from registry.clock import utc_now

        refresh = None
        with opened(config) as workspace:
            llms = workspace.registry.llms
            before = llms.get(name)
            if not is_dry_run:
                llms.set_status(before.key, status, reason, actor=acting_person(), now=utc_now())
                refresh = _refresh(workspace) if status != "available" else None
        data = {"key": before.key, "before": before.status, "after": status, "reason": reason, "is_dry_run": is_dry_run}
        data["refresh"] = _refresh_data(refresh)

        def text() -> str:
            key = sanitize(before.key, width=300)
            if is_dry_run:
                return f"{key} would change from {before.status} to {status}. Nothing was changed."
            done = f"{key} is now {status} (it was {before.status}); {consequence}."
            return "\n".join([done, *_refresh_text(refresh)])

        show(f"llm.{verb}", data, as_json=as_json, text=text)
        return _refresh_code(refresh)

    decide.__doc__ = summary
    llm.command(verb)(_with_decision_options(decide))


def _refresh(workspace: Workspace) -> RefreshOutcome | None:
    """Let the champion serve without what cannot serve any more, and at the prices in force, at once."""
    from flows.promotion.refresh import refresh_at_once
    from registry.clock import utc_now

    return refresh_at_once(workspace, actor=acting_person(), clock=utc_now)


def _refresh_data(found: RefreshOutcome | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "changed": found.changed,
        "status": found.status,
        "promotion": found.promotion_id,
        "router": found.digest,
        "problem": found.problem or None,
        "judged_again": list(found.judged_again),
        "mlflow_pending": found.publish_error or None,
    }


def _refresh_text(found: RefreshOutcome | None) -> list[str]:
    from flows.reports.worth import worth_lines

    if found is None:
        return []
    changed, digest = sanitize(found.changed, width=300), (found.digest or "")[:12]
    if found.is_applied:
        lines = [f"The champion now serves {changed} (router {digest}, promotion {found.promotion_id})."]
    else:
        lines = [f"The champion is not refreshed ({changed}): {sanitize(found.problem, width=400)}."]
    lines += [*worth_lines(found.worth), *(sanitize(line, width=700) for line in found.judged_again)]
    if found.publish_error:
        lines.append(f"MLflow is pending: {sanitize(found.publish_error, width=300)}")
    if found.status == "requested":
        lines.append(f"next: uniroute promotion approve {found.promotion_id} --reason TEXT")
    return lines


def _refresh_code(found: RefreshOutcome | None) -> int:
    is_fine = found is None or (found.is_applied and not found.publish_error)
    return ExitCode.DONE if is_fine else ExitCode.ATTENTION


def _with_decision_options(decide: Callable[..., int]) -> Callable[..., int]:
    for option in (json_option, config_option, dry_run_option, reason_option):
        decide = option(decide)
    return click.argument("name", metavar="LLM", shell_complete=complete_llms)(decide)


_decision(
    "include",
    "available",
    "the next night routes to it",
    "Route to LLM again.\n\nAfter it was quarantined, withdrawn or excluded. LLM is a whole key.",
)
_decision(
    "exclude",
    "excluded",
    "the next night neither asks nor routes to it",
    "Neither ask LLM nor route to it.\n\nThe champion serves without it at once, or after a review ([gate] refresh). "
    "That lasts until it is included. LLM is a whole key.",
)
_decision(
    "quarantine",
    "quarantined",
    "the next night neither asks nor routes to it",
    "Take LLM out of routing because its answers are in doubt.\n\nThe champion serves without it at once, or after a "
    "review ([gate] refresh). That lasts until it is included. LLM is a whole key.",
)


@llm.command("accept-price")
@click.argument("name", metavar="LLM", shell_complete=complete_llms)
@reason_option
@dry_run_option
@config_option
@json_option
def accept_price(name: str, reason: str, is_dry_run: bool, config: str | None, as_json: bool) -> int:
    """Accept the price of LLM that was held for review.

    Prices that change by more than a factor of ten are held. The champion counts with the price at once, or after a
    review ([gate] refresh). LLM is a whole key.
    """
    from registry.clock import utc_now
    from registry.errors import NotFound

    refresh = None
    with opened(config) as workspace:
        llms = workspace.registry.llms
        before, held = llms.get(name), llms.held_price(name)
        if held is None:
            raise NotFound(
                f"No price of {name} is waiting for review.", hint=f"uniroute llm show {shell_argument(name)}"
            )
        if not is_dry_run:
            llms.accept_price(name, actor=acting_person(), reason=reason, now=utc_now())
            refresh = _refresh(workspace)
    data = {
        "key": before.key,
        "before": _price_data(before.price) if before.price else None,
        "after": _price_data(held),
        "reason": reason,
        "is_dry_run": is_dry_run,
        "refresh": _refresh_data(refresh),
    }
    price = f"{_usd(held.input_usd_per_mtok)} in, {_usd(held.output_usd_per_mtok)} out USD per million tokens"
    outcome = "would be in force. Nothing was changed." if is_dry_run else "is in force from now on."
    show(
        "llm.accept-price",
        data,
        as_json=as_json,
        text=lambda: "\n".join(
            [f"For {sanitize(before.key, width=300)} the price {price} {outcome}", *_refresh_text(refresh)]
        ),
    )
    return _refresh_code(refresh)


def _usd(price: Decimal) -> str:
    return f"{price.normalize():f}"
