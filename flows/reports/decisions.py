"""Promotions for the people who decide them, as plain data and as lines for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flows.gate.verdict import GateCheck, check_text, stored_checks, undecided_sentence
from flows.gate.worth import Worth
from flows.reports.worth import worth_lines
from flows.text import counted, sanitize
from registry.promotion_records import PROMOTE, REJECT, UNDECIDED

if TYPE_CHECKING:
    from pathlib import Path

    from flows.workspace import Workspace
    from registry.promotions import Promotion
    from registry.routers import RouterRecord
    from registry.store import Registry

_OPEN = ("requested", "approved")
_WIDTH = 300
_LONG, _NEXT_PART = 160, ";\n          "
_GATE_WORDS = {PROMOTE: "passed", REJECT: "FAILED", UNDECIDED: "UNDECIDED"}


def promotion_data(registry: Registry, one: Promotion) -> dict[str, Any]:
    """Return a promotion as plain data, with the three changes that matter most."""
    gate = json.loads(one.gate.details_json)
    return {
        "id": one.id or None,
        "kind": "refresh" if one.is_refresh else one.kind,
        "status": one.status,
        "router": _router_data(registry, one.router_digest),
        "champion": _router_data(registry, one.expected_champion),
        "gate_passed": one.gate.passed if gate else None,
        "verdict": one.gate.verdict if gate else None,
        "undecided": undecided_sentence(gate) or None,
        "headline": _headline(gate.get("metrics", {}), gate.get("route_change")),
        "report_digest": one.report_digest,
        "requested_by": one.requested_by,
        "requested_at": one.requested_at,
        "decided_by": one.decided_by,
        "decided_at": one.decided_at,
        "applied_at": one.applied_at,
        "reason": one.reason,
    }


def _router_data(registry: Registry, digest: str | None) -> dict[str, Any] | None:
    if digest is None:
        return None
    return {"digest": digest, "version": registry.routers.get(digest).mlflow_version}


def _headline(metrics: dict[str, float], route_change: float | None) -> dict[str, Any] | None:
    if "score_difference_at_equal_cost" not in metrics:
        return None
    before, after = metrics["champion_cost_usd_per_1k"], metrics["cost_usd_per_1k"]
    return {
        "score_difference_at_equal_cost": metrics["score_difference_at_equal_cost"],
        "score_difference_low": metrics["score_difference_low"],
        "score_difference_high": metrics["score_difference_high"],
        "cost_usd_per_1k": after,
        "champion_cost_usd_per_1k": before,
        "cost_change": after / before - 1 if before > 0 else None,
        "route_change": route_change,
    }


def review_data(workspace: Workspace, one: Promotion) -> dict[str, Any]:
    """Return everything about a promotion: the gate, its events, the report, and what to type."""
    registry = workspace.registry
    report = _report_of(workspace, one) if one.report_digest is not None else None
    events = registry.ledger.events(subject=one.router_digest, event="router:")
    return promotion_data(registry, one) | {
        "gate": json.loads(one.gate.details_json) or None,
        "report": str(report) if report is not None else None,
        "events": [
            {"at": event.at, "event": event.event, "actor": event.actor, "reason": event.reason}
            for event in events
            if json.loads(event.payload_json).get("promotion") == one.id
        ],
        "commands": _commands(one),
    }


def _report_of(workspace: Workspace, one: Promotion) -> Path | None:
    """Return the kept page of a promotion; None when it is not on this machine."""
    # Imported here: a rollback has no page, and what draws pages takes seconds to import.
    from flows.reports.promotion.reviews import kept_review

    return kept_review(workspace, one)


def _commands(one: Promotion) -> list[str]:
    if one.id and one.status in _OPEN:
        return [
            f"uniroute promotion approve {one.id} --reason TEXT",
            f"uniroute promotion reject {one.id} --reason TEXT",
        ]
    if one.status == "applied":
        return ["uniroute promotion rollback --reason TEXT"]
    return [f"uniroute promotion request {one.router_digest[:12]}"]


def headline_lines(data: dict[str, Any]) -> list[str]:
    """Return the three changes that matter most, one per line."""
    found = data["headline"]
    title = f"router {_router_name(data['router'])} instead of {_router_name(data['champion'])}"
    undecided = [f"  UNDECIDED: {sanitize(data['undecided'], width=_WIDTH)}"] if data["undecided"] else []
    if found is None:
        return [title, *undecided]
    cost = "" if found["cost_change"] is None else f" ({found['cost_change']:+.1%})"
    route = "unknown" if found["route_change"] is None else f"{found['route_change']:.1%}"
    return [
        title,
        *undecided,
        f"  score at the champion's cost   {found['score_difference_at_equal_cost']:+.4f} "
        f"(95 % interval {found['score_difference_low']:+.4f} to {found['score_difference_high']:+.4f})",
        f"  cost in USD per 1,000 prompts  {found['champion_cost_usd_per_1k']:.4f} -> "
        f"{found['cost_usd_per_1k']:.4f}{cost}",
        f"  prompts that go elsewhere      {route}",
    ]


def rollback_lines(registry: Registry, target: RouterRecord) -> list[str]:
    """Return which router would serve instead of which, and how both did on gate prompts."""
    champion = registry.routers.aliases().champion
    serving = registry.routers.get(champion) if champion is not None else None
    return [f"{role}  {_record_line(record)}" for role, record in (("now ", serving), ("then", target)) if record]


def _record_line(record: RouterRecord) -> str:
    known, made = record.metrics, f"made {record.created_at:%Y-%m-%d %H:%M} UTC"
    figures = [f"{metric} {known[metric]:.4f}" for metric in ("score", "cost_usd_per_1k") if metric in known]
    name = _router_name({"digest": record.digest, "version": record.mlflow_version})
    return f"{name}: {', '.join([counted(len(record.llm_keys), 'LLM'), *figures, made])}"


def promotion_text(data: dict[str, Any]) -> str:
    """Return a promotion as text for the person who decides it; failed checks come first."""
    state = f"{data['kind']} {data['id'] or '(not kept)'}: {data['status']}"
    lines = [state, *headline_lines(data)]
    gate = data["gate"]
    if gate is not None:
        lines += ["", "Gate: " + _GATE_WORDS[data["verdict"]]]
        lines += [f"  {line}" for line in worth_lines(Worth.of_data(gate.get("worth")))]
        for check in sorted(stored_checks(gate), key=lambda one: one.order):
            lines.append(check_line(check))
        lines.append(f"  policy {gate.get('rules', {}).get('policy_digest', '')[:12]}")
    report = data["report"] or "none on this machine"
    kept = data["report_digest"]
    lines += ["", f"Report: {report}" + (f" (sha256 {kept[:12]})" if kept else "")]
    lines += [_event_line(event) for event in data["events"]]
    lines += ["", *(f"next: {command}" for command in data["commands"])]
    return "\n".join(lines)


def check_line(check: GateCheck) -> str:
    """Return one condition of the gate, a long one a part per line; it may name LLMs, so it is sanitised."""
    text = sanitize(check_text(check), width=700)
    return f"  {check.outcome}  {text.replace('; ', _NEXT_PART) if len(text) > _LONG else text}"


def _event_line(event: dict[str, Any]) -> str:
    """Return one event as a line; names and reasons were typed by people, so they are sanitised."""
    action, at = event["event"].rpartition(":")[2], event["at"]
    reason = f": {sanitize(event['reason'], width=_WIDTH)}" if event["reason"] else ""
    return f"  {at:%Y-%m-%d %H:%M:%S} UTC  {action} by {sanitize(event['actor'])}{reason}"


def outcome_text(data: dict[str, Any]) -> str:
    """Return the result of a decision, and what is useful next."""
    if data["is_dry_run"]:
        return f"{promotion_text(data)}\nThis was a dry run: nothing was decided and nothing was written."
    if data["status"] != "applied":
        return promotion_text(data)
    lines = [f"Router {_router_name(data['router'])} is the champion ({data['kind']} {data['id']})."]
    if data["mlflow_pending"]:
        lines += [
            f"MLflow is pending: {sanitize(data['mlflow_pending'], width=_WIDTH)}",
            "The next night, or uniroute doctor --repair, updates MLflow; until then its consumers keep their router.",
        ]
    return "\n".join([*lines, f"next: {data['commands'][0]}"])


def _router_name(router: dict[str, Any] | None) -> str:
    if router is None:
        return "none"
    short = router["digest"][:12]
    return short if router["version"] is None else f"v{router['version']} ({short})"
