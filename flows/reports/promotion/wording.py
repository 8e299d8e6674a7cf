"""The sentences and numbers of a promotion report, shared by page and Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from flows.reports.numbers import per_1k, percent, points, signed
from flows.reports.promotion.evidence import CostAtQuality, Evidence
from flows.text import counted, llm_name

_NAMED = 3


@dataclass(frozen=True)
class Number:
    """One of the three numbers of a promotion, with its interval in words."""

    what: str
    value: str
    unit: str
    range: str


@dataclass(frozen=True)
class Command:
    """A command and its purpose."""

    purpose: str
    text: str


def title(evidence: Evidence) -> str:
    """Return the question that the report answers."""
    if evidence.refresh and evidence.champion is not None:
        return f"Refresh: router {evidence.challenger.number} is router {evidence.champion.number} as it can serve"
    replaces = "" if evidence.champion is None else f" (replaces router {evidence.champion.number})"
    return f"Router {evidence.challenger.number} → champion?{replaces}"


def outcome(evidence: Evidence) -> str:
    """Return in two words how the gate, or the checks of a refresh, ended."""
    judged = "Refresh" if evidence.refresh else "Gate"
    if evidence.undecided:
        return f"{judged} undecided"
    return f"{judged} {'passed' if evidence.passed else 'failed'}"


def verdict(evidence: Evidence) -> str:
    """Return the answer in a sentence or two."""
    numbers = evidence.headline
    if evidence.refresh:
        changed = "" if numbers is None else f" {percent(numbers.route_change.mean)} of the prompts change their LLM."
        return (
            f"{evidence.refresh}{changed} Map and vectors are the same, so nothing new is claimed of any LLM, and "
            "there is no statistical test."
        )
    if numbers is None or evidence.champion is None:
        failed = [check.name for check in evidence.checks if not check.passed]
        return (
            f"No router serves yet, so there is no champion to compare with. This one scores "
            f"{evidence.challenger.score:.4f} at {per_1k(evidence.challenger.cost_usd)} USD per 1,000 prompts."
            + (f" The gate refuses it: {'; '.join(failed)}." if failed else "")
        )
    equal = numbers.score_at_equal_cost
    if equal.low > 0:
        opening = f"At the champion's cost the challenger is better by {100 * equal.mean:.1f} points."
    elif equal.high < 0:
        opening = f"At the champion's cost the challenger is worse by {-100 * equal.mean:.1f} points."
    else:
        opening = f"At the champion's cost the two cannot be told apart ({points(equal.mean)} points)."
        if equal.low == equal.mean == equal.high:
            opening = "At the champion's cost the two score the same on every prompt that judges."
        cost = numbers.cost_at_equal_score
        if cost.change is not None and cost.high is not None and cost.high < 0:
            opening += f" At the champion's score the challenger costs {percent(-cost.change)} less."
    failed = [check.name for check in evidence.checks if not check.passed]
    gate = f" The gate refuses it: {'; '.join(failed)}." if failed else ""
    if evidence.undecided:
        gate = f" {evidence.undecided[0].upper()}{evidence.undecided[1:]}."
    causes = [llm_name(effect.key) for effect in evidence.effects if effect.score.low > 0][:_NAMED]
    cause = f" The gain comes from {_listed(causes)}." if causes and equal.low > 0 else ""
    return f"{opening} {percent(numbers.route_change.mean)} of the prompts change their LLM.{cause}{gate}"


def headline_numbers(evidence: Evidence) -> tuple[Number, ...]:
    """Return the three headline numbers, or what there is of them without a champion."""
    numbers = evidence.headline
    if numbers is None:
        side = evidence.challenger
        return (
            Number("score", f"{side.score:.3f}", "", f"n = {counted(evidence.n_gate, 'gate prompt')}"),
            Number("cost", per_1k(side.cost_usd), "USD", "per 1,000 prompts, at its own cost weight"),
            Number("LLMs to choose from", str(side.n_llms), "", "no router serves yet"),
        )
    equal, change = numbers.score_at_equal_cost, numbers.route_change
    return (
        Number(
            "score at equal cost",
            points(equal.mean),
            "points",
            f"95 %: {points(equal.low)} to {points(equal.high)}, n = {_judging(evidence, equal.n)}",
        ),
        _cost_number(numbers.cost_at_equal_score),
        Number(
            "prompts that change their LLM",
            percent(change.mean),
            "",
            f"95 %: {percent(change.low)} to {percent(change.high)}, n = {change.n}",
        ),
    )


def _judging(evidence: Evidence, n: int) -> str:
    """Return how many prompts judge; they have a name of their own when representative ones are among them."""
    return str(n) if n == evidence.n_gate else f"{n} gate and representative prompts"


def _cost_number(found: CostAtQuality) -> Number:
    what = "cost at equal score"
    if found.is_free:
        return Number(what, "–", "", f"the champion costs nothing, n = {found.n}")
    if found.change is None:
        how_often = f"in {percent(found.reached)} of the resamples it is" if found.reached else "in no resample it is"
        return Number(what, "–", "", f"it is never as good as the champion; {how_often}, n = {found.n}")
    low = "at most −100 %" if found.low is None else _change(found.low)
    high = "not reached" if found.high is None else _change(found.high)
    return Number(what, _change(found.change), "", f"95 %: {low} to {high}, n = {found.n}")


def commands(evidence: Evidence) -> tuple[Command, ...]:
    """Return the commands; they name the promotion by its router's digest, as its number is not known yet."""
    name = evidence.challenger.digest[:12]
    back = "" if evidence.champion is None else f" --to {evidence.champion.digest[:12]}"
    return (
        Command("Show its current state", f"uniroute promotion show {name}"),
        Command("Let it serve", f'uniroute promotion approve {name} --reason "…"'),
        Command("Turn it down", f'uniroute promotion reject {name} --reason "…"'),
        Command("Undo it later", f'uniroute promotion rollback{back} --reason "…"'),
    )


def _change(share: float) -> str:
    return f"{signed(100 * share, 1)}\N{NO-BREAK SPACE}%"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
