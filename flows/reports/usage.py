"""The usage that endpoints reported, and the ceilings that a night passed, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.endpoints.usage import BOUNDED, ESTIMATED, FEW_INPUT, FEW_OUTPUT, FLAGS, HIDDEN_OUTPUT, MUCH_OUTPUT
from flows.text import counted
from registry.outcomes import UsageFacts

if TYPE_CHECKING:
    from flows.night.context import Night

_MUCH_ESTIMATED = 0.05
_NOTHING = UsageFacts()


def usage_cell(facts: UsageFacts | None) -> str:
    """Return how many answers have estimated, bounded or completed token counts, as a cell of a table."""
    found = facts or _NOTHING
    kinds = (("estimated", ESTIMATED), ("bounded", BOUNDED), ("completed", {HIDDEN_OUTPUT}))
    return ", ".join(f"{found.count(flags):,} {word}" for word, flags in kinds if found.count(flags))


def usage_sentence(facts: UsageFacts) -> str:
    """Return what was wrong with the usage of an LLM's answers, how often and of how many."""
    if not facts.n_answers:
        return "unknown"
    wrong = "; ".join(f"{n:,} with {FLAGS.get(flag, flag)}" for flag, n in facts.flags.items())
    return f"of {counted(facts.n_answers, 'answer')} {wrong or 'all as reported'}"


def usage_attention(usage: Mapping[str, UsageFacts]) -> list[str]:
    """Return what a person should look at, one line for each LLM whose reported usage cannot be right."""
    lines = []
    for key, facts in usage.items():
        few = facts.count({FEW_INPUT, FEW_OUTPUT})
        if facts.count(BOUNDED):
            endpoint = key.partition(":")[0]
            remedy = f", and if it is right, raise max_tokens of [[endpoint]] {endpoint}"
            lines.append(
                f"{key} reported more tokens than its calls allow ({usage_sentence(facts)}); it may be billed for more "
                f"than is booked: compare the bill{remedy if facts.count({MUCH_OUTPUT}) else ''}"
            )
        elif few > _MUCH_ESTIMATED * facts.n_answers:
            lines.append(f"{key} reported too few tokens for its texts: {usage_sentence(facts)}")
    return lines


def ceilings_passed(night: Night, usage: Mapping[str, UsageFacts]) -> tuple[str, ...]:
    """Return which ceilings of the budget the night ended above, one line each.

    Parameters
    ----------
    night
        The night, with all that it spent in its registry.
    usage
        By LLM key, the facts on tonight's answers.
    """
    budget, spend = night.settings.budget, night.registry.outcomes.spend(night.run)
    lines = [
        f"one answer of {key} cost {facts.highest_usd:.6f} USD, above the ceiling of {budget.call_usd} USD per call"
        for key, facts in usage.items()
        if facts.highest_usd > budget.call_usd
    ]
    judge = night.settings.judge.llm
    lines += [
        f"{key} cost {usd:.6f} USD, above the ceiling of {budget.llm_usd} USD per LLM"
        for key, usd in spend.by_llm.items()
        if usd > budget.llm_usd and key != judge
    ]
    if spend.total_usd > budget.night_usd:
        lines.append(f"the night cost {spend.total_usd:.6f} USD, above its ceiling of {budget.night_usd} USD")
    return tuple(lines)
