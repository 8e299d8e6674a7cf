"""What new LLMs are asked and why, and what was not asked because it would have changed nothing, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from flows.profiling.plan import PlannedOrder
from flows.profiling.results import ProfileOutcome
from flows.text import counted
from registry.prompts.prompt_orders import PromptOrderRecord

REASONS: Mapping[str, str] = {
    "random": "drawn at random",
    "variance": "the known LLMs disagree",
    "medoids": "the known LLMs answer it as they answer many others",
    "coverage": "it is near many prompts that are asked by nothing else",
    "design": "it says most about what is left to know",
    "answered": "answered by most of the known LLMs",
}
"""By strategy of an order, why the prompts that were not drawn for every LLM stand where they do."""


def reason_of(order: PromptOrderRecord, rank: int, n_asked: int) -> str:
    """Return why a prompt stands at a rank, from 1, of an order, and whether it is among those that are asked."""
    why = REASONS["random"] if rank <= order.n_random else REASONS.get(order.strategy, order.strategy)
    return why if rank <= n_asked else f"{why} (not asked)"


def choice_lines(order: PromptOrderRecord, n_asked: int) -> list[str]:
    """Return what an order is, how many of its first prompts LLMs are asked, and how it compares with other orders."""
    n = len(order.prompt_digests)
    who = "each new LLM" if order.role == "representative" else "each LLM of the night that fits the map"
    drawn = min(order.n_random, n_asked)
    at_random = "all drawn at random" if drawn == n_asked else f"{drawn:,} of them drawn at random"
    known = f", chosen on {counted(order.n_known, 'known LLM')}" if order.losses.get("by_strategy") else ""
    lines = [
        f"{order.role} prompts: the first {n_asked:,} of {n:,} for {who}, {at_random}; "
        f"order {order.strategy}{known} ({order.digest[:12]})"
    ]
    tried = sorted(order.losses.get("by_strategy", {}).items(), key=lambda one: one[1])
    if tried:
        lines.append("expected area lost, by order: " + ", ".join(f"{name} {loss:.4f}" for name, loss in tried))
    return lines


def order_lines(order: PlannedOrder | None) -> list[str]:
    """Return which representative prompts new LLMs are asked, and what other numbers of them would buy."""
    if order is None:
        return []
    known = f"chosen on {counted(order.n_known, 'known LLM')}" if order.strategy != "random" else "in a random order"
    lines = [
        f"representative prompts: {order.n_asked} of {order.n_prompts} for each new LLM, {known} "
        f"({order.strategy}, {order.digest[:12]})"
    ]
    if order.expected_loss:
        bought = ", ".join(f"{n} {loss:.4f}" for n, loss in order.expected_loss.items())
        lines.append(f"expected area lost against asking all, by answers: {bought} ([prompts] ask)")
    return lines


def saved_lines(profiles: Sequence[ProfileOutcome]) -> list[str]:
    """Return what the early end of profiles saved; nothing when none ended early."""
    return saved_of([(one.llm_key, one.saved_calls, one.saved_usd) for one in profiles])


def saved_of(saved: Sequence[tuple[str, int, Decimal | float]]) -> list[str]:
    """Return the same from keys, calls and USD."""
    ended = [one for one in saved if one[1]]
    if not ended:
        return []
    calls, usd = sum(one[1] for one in ended), sum(float(one[2]) for one in ended)
    return [
        f"decided early: {counted(len(ended), 'LLM')}, {counted(calls, 'call')} and about ${usd:.4f} saved "
        "([profiling] decided)"
    ]
