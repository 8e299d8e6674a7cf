"""Estimate what nights cost as LLMs and prompts grow: ``python -m tests.bench.scaling`` prints SCALING.md's tables.

Measured figures are multiplied and nothing else; `Figures` says where each was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import click

LLMS = (10, 100, 1_000)
PROMPTS = (1_000, 100_000, 1_000_000)
_MEASURING_SHARE, _REPRESENTATIVE_SHARE, _MAP_SHARE = 0.3, 0.1, 0.6
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Figures:
    """Figures that are multiplied.

    Attributes
    ----------
    usd_per_call
        ``make demo``: 14.41 USD for 22,170 recorded calls of 16 LLMs, 215 tokens in and 150 out on average.
    calls_per_s
        ``make demo``: on two cores, 223 to 350 calls per second are graded, booked and committed.
    endpoint_calls_per_s
        Assumed: one endpoint at the default concurrency of 16, and two seconds per answer.
    outcome_bytes, index_bytes
        ``make bench-registry``: space of one outcome on PostgreSQL.
    completion_bytes
        ``make demo``: space of the text of one answer (394 characters on average), until `uniroute db prune`.
    prompt_bytes
        ``make demo``: text, membership and a 384-dimensional embedding of one prompt.
    new_llms, canaries
        Assumed: LLMs released per night; the default of ``[night] canary_prompts``.
    asked, map_answers
        Representative prompts that a new LLM is asked, as many as are worth it on every recording so far; the default
        of ``[prompts] map_answers``.
    """

    usd_per_call: float = 14.41 / 22_170
    calls_per_s: float = 250.0
    endpoint_calls_per_s: float = 8.0
    outcome_bytes: float = 134.0
    index_bytes: float = 32.0
    completion_bytes: float = 530.0
    prompt_bytes: float = 3_400.0
    new_llms: int = 2
    canaries: int = 20
    asked: int = 100
    map_answers: int = 1_000


@dataclass(frozen=True)
class Cost:
    """Cost of one night, or of all nights together."""

    calls: float
    usd: float
    hours: float
    hours_one_endpoint: float
    gigabytes: float


def first_night(n_llms: int, n_prompts: int, figures: Figures) -> Cost:
    """Return the cost of the night whose LLMs the prior is learnt from; its prompts are stored and embedded."""
    of_map = min(_MAP_SHARE * n_prompts, figures.map_answers)
    asked = (_MEASURING_SHARE + _REPRESENTATIVE_SHARE) * n_prompts + of_map
    return _cost(n_llms * asked, figures, stored_prompts=n_prompts)


def later_night(n_llms: int, n_prompts: int, figures: Figures) -> Cost:
    """Return the cost of a night in which a few LLMs are new and all others answer their canaries again."""
    asked = _MEASURING_SHARE * n_prompts + min(_REPRESENTATIVE_SHARE * n_prompts, figures.asked)
    return _cost(figures.new_llms * asked + figures.canaries * n_llms, figures, stored_prompts=0)


def _cost(calls: float, figures: Figures, *, stored_prompts: int) -> Cost:
    per_call = figures.outcome_bytes + figures.index_bytes + figures.completion_bytes
    return Cost(
        calls=calls,
        usd=calls * figures.usd_per_call,
        hours=calls / figures.calls_per_s / _SECONDS_PER_HOUR,
        hours_one_endpoint=calls / figures.endpoint_calls_per_s / _SECONDS_PER_HOUR,
        gigabytes=(calls * per_call + stored_prompts * figures.prompt_bytes) / 1e9,
    )


def table(figures: Figures | None = None) -> str:
    """Return both tables as Markdown."""
    figures = figures or Figures()
    parts = []
    for title, night in (("The first night", first_night), ("Each later night", later_night)):
        rows = [
            f"{title}:\n",
            "| LLMs | prompts | calls | USD | hours on two cores | hours at one endpoint | GB of registry |",
            "|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for n_llms in LLMS:
            for n_prompts in PROMPTS:
                cost = night(n_llms, n_prompts, figures)
                amounts = (cost.usd, cost.hours, cost.hours_one_endpoint, cost.gigabytes)
                written = " | ".join(_rounded(amount) for amount in amounts)
                rows.append(f"| {n_llms:,} | {n_prompts:,} | {cost.calls:,.0f} | {written} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _rounded(amount: float) -> str:
    """Format with two digits: the figures behind it are no more precise."""
    if amount >= 100:
        digits = len(f"{amount:.0f}") - 2
        return f"{round(amount, -digits):,.0f}"
    return f"{amount:.2g}" if amount < 10 else f"{amount:.0f}"


@click.command()
def main() -> None:
    """Print the tables."""
    click.echo(table())


if __name__ == "__main__":
    main()
