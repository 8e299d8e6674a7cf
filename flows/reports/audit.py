"""Answers for auditors as text for a terminal. Everything from outside is sanitised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.gate.verdict import stored_checks
from flows.text import counted, sanitize, table
from registry.promotion_records import UNDECIDED

if TYPE_CHECKING:
    from flows.audit.explanation import Explanation

_DIGEST = 12
_LLMS_SHOWN = 12
_PROMPT_WIDTH = 72


def log_text(events: Sequence[Mapping[str, Any]]) -> str:
    """Return the ledger's events as a table."""
    if not events:
        return "The ledger holds no such event."
    rows = [
        [
            one["number"],
            one["at"][:19].replace("T", " "),
            one["event"],
            _short(one["subject"]),
            one["actor"],
            one["reason"],
        ]
        for one in events
    ]
    return table(["NUMBER", "AT (UTC)", "EVENT", "SUBJECT", "ACTOR", "REASON"], rows, right=(0,))


def history_text(changes: Sequence[Mapping[str, Any]]) -> str:
    """Return the changes of the champion as a table, the latest last."""
    if not changes:
        return "There has been no champion yet. Make a router: uniroute night run"
    rows = [
        [
            one["since"],
            _version(one),
            one["digest"][:_DIGEST],
            one["kind"],
            _gate_word(one),
            one["actor"],
            one["reason"],
        ]
        for one in changes
    ]
    return table(["SINCE", "VERSION", "DIGEST", "BY", "GATE", "WHO", "REASON"], rows, right=(1,))


def served_text(served: Sequence[Mapping[str, Any]], asked: str) -> str:
    """Return which routers served, by whose decision and on what evidence."""
    return "\n\n".join(_served(one, asked) for one in served)


def _served(one: Mapping[str, Any], asked: str) -> str:
    evidence, allowed = one["evidence"], one["allowed_by"]
    until = "still" if one["until"] is None else f"until {one['until']}"
    llms = evidence["llms"]
    more = f" and {len(llms) - _LLMS_SHOWN} more" if len(llms) > _LLMS_SHOWN else ""
    lines = [
        f"On {sanitize(asked)} router version {_version(one)} (digest {one['digest']}) served",
        f"  since        {one['since']}, {until}; {one['kind']} {one['promotion']} (event {one['ledger_event']})",
        f"  made champion by {sanitize(one['actor'])}: {sanitize(one['reason'], width=300)}",
        f"  put forward  by {sanitize(allowed['requested_by'])} at {allowed['requested_at']}",
        f"  decided      by {sanitize(allowed['decided_by'])} at {allowed['decided_at']}",
        f"  gate         {_gate_word(evidence)} (promotion {evidence['promotion']}, "
        f"digest {evidence['gate_digest'][:_DIGEST]})",
    ]
    lines += [
        f"    {check.outcome}  {sanitize(check.name, width=100)}: "
        f"{sanitize(check.value, width=140)} ({sanitize(check.threshold)})"
        for check in stored_checks({"checks": evidence["gate_checks"]})
    ]
    lines += [
        f"  report       {evidence['report_digest'] or 'none was kept'}",
        f"  run          {sanitize(evidence['run'], width=200)} as of {evidence['as_of']}",
        f"  settings     {evidence['settings_hash']}",
        f"  prompt set   {evidence['prompt_set']}",
        f"  embedder     {sanitize(evidence['embedder'])}",
        f"  cluster map  {evidence['cluster_map']}",
        f"  LLMs ({len(llms)})    {', '.join(sanitize(key) for key in llms[:_LLMS_SHOWN])}{more}",
        f"verify it: uniroute router verify {one['version'] or one['digest'][:_DIGEST]}",
    ]
    return "\n".join(lines)


def _gate_word(facts: Mapping[str, Any]) -> str:
    """Return what the gate found; an undecided router was let serve by the person who decided, not by the gate."""
    if facts["gate_passed"]:
        return "passed"
    return UNDECIDED if facts.get("verdict") == UNDECIDED else "not passed"


def diff_text(before: str, after: str, found: Mapping[str, Any]) -> str:
    """Return the differences between two versions, block by block."""
    if not found:
        return f"{before} and {after} do not differ."
    blocks = [f"What differs from {before} to {after}:"]
    llms = found.get("llms", {})
    blocks += [
        f"LLMs {side}: {', '.join(sanitize(key) for key in llms[side])}" for side in ("in", "out") if side in llms
    ]
    if "prices" in found:
        rows = [[one["llm"], one["side"], f"{one['before']:g}", f"{one['after']:g}"] for one in found["prices"]]
        blocks.append(table(["PRICE OF", "USD/MTOK", "BEFORE", "AFTER"], rows, right=(2, 3)))
    if "vectors" in found:
        rows = [
            [
                one["llm"],
                f"{one['mean_error_before']:.4f}",
                f"{one['mean_error_after']:.4f}",
                f"{one['largest_change']:.4f}" if "largest_change" in one else "",
                one.get("clusters_changed", ""),
            ]
            for one in found["vectors"]
        ]
        headers = ["VECTOR OF", "MEAN ERROR BEFORE", "AFTER", "LARGEST CHANGE", "CLUSTERS"]
        blocks.append(table(headers, rows, right=(1, 2, 3, 4)))
    if "routes" in found:
        blocks.append(_routes_text(found["routes"]))
    for name in ("metrics", "settings", "router", "made from"):
        if name in found:
            rows = [[one["name"], _cell(one["before"]), _cell(one["after"])] for one in found[name]]
            blocks.append(table([name.upper(), "BEFORE", "AFTER"], rows))
    return "\n\n".join(blocks)


def _routes_text(routes: Mapping[str, Any]) -> str:
    if "not_compared" in routes:
        return f"routes were not compared: {routes['not_compared']}"
    head = f"the LLM differs on {routes['changed']:,} of {counted(routes['gate_prompts'], 'gate prompt')}"
    rows = [[one["from"], one["to"], one["prompts"]] for one in routes["largest_flows"]]
    return f"{head} ({routes['share_changed']:.1%})\n{table(['FROM', 'TO', 'PROMPTS'], rows, right=(2,))}"


_REASONS = {
    "score": "its expected error is smaller by more than its extra cost is worth",
    "cost": "its cost is smaller by more than its extra expected error is worth",
    "both": "its expected error is smaller, and it costs less",
    "tie": "of two with the same total it is the cheaper one, or the first",
    "only LLM": "it is the only LLM",
}


def explanation_text(found: Explanation, version: str) -> str:
    """Return where a prompt goes, why, and what that rests on."""
    winner = found.contenders[0]
    lines = [f"-> {sanitize(winner.llm)}   ({version}, cluster {found.cluster}): {_REASONS[found.because]}"]
    if len(found.contenders) > 1:
        second = found.contenders[1]
        error, cost = winner.expected_score - second.expected_score, second.cost_term - winner.cost_term
        lines.append(f"   against {sanitize(second.llm)}: {error:+.4f} by score, {cost:+.4f} by cost (in errors)")
    rows = [
        [
            one.llm,
            f"{one.expected_score:.4f}",
            f"{one.standard_error:.4f}",
            f"{one.expected_cost_usd * 1000:.4f}",
            f"{one.cost_term:.4f}",
            f"{one.total:.4f}",
        ]
        for one in found.contenders
    ]
    headers = ["LLM", "SCORE", "STD ERROR", "USD/1000", f"COST x {found.cost_weight:g}", "TOTAL"]
    lines += ["", table(headers, rows, right=(1, 2, 3, 4, 5)), "total: expected error plus cost weight times cost"]
    if found.nearest:
        near = [
            [one.prompt_id, f"{one.similarity:.3f}", sanitize(one.text, width=_PROMPT_WIDTH)] for one in found.nearest
        ]
        lines += ["", "nearest representative prompts", table(["PROMPT", "COSINE", "TEXT"], near, right=(1,))]
    return "\n".join(lines)


def far_warning(found: Explanation) -> str:
    """Return a warning that the prompt is unlike everything the version was measured on."""
    nearest = f"{found.nearest[0].similarity:.3f}" if found.nearest else "none"
    return (
        f"this prompt is far from every representative prompt (nearest cosine {nearest}, 19 in 20 of them have one of "
        f"at least {found.usual_similarity:.3f}): its expected score is unreliable"
    )


def _version(one: Mapping[str, Any]) -> str:
    return "not in MLflow" if one["version"] is None else str(one["version"])


def _short(subject: str) -> str:
    is_digest = len(subject) == 64 and all(sign in "0123456789abcdef" for sign in subject)
    return subject[:_DIGEST] if is_digest else subject


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else sanitize(value)
