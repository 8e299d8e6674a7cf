"""Measure how often the gate is wrong over 200 simulated nights, with its correction and without: ``make bench-gate``.

Every night another challenger meets the champion on the same gate prompts: it sends some of them to other LLMs, which
are right with a probability that makes it truly better or worse by a known amount. The bound and the alpha spending of
real nights decide. A promoted challenger is the next champion, including all the luck it had. The champion may also be
refreshed before every night: some of its prompts go to other LLMs, and the account of tests continues.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import click
import numpy as np
from scipy.stats import norm

from flows.gate.alpha_spending import level_of
from flows.text import table
from routing.resampling import paired_lower_bound

NIGHTS = 200
HISTORIES = 200
TRUTHS = (-0.05, -0.02, 0.0, 0.03, 0.06)
"""True difference in score of every challenger: clearly worse, at the edge of what is tolerated, no better, better."""

REFRESHED = 0.05
"""Share of the prompts that a nightly refresh moves: an LLM with a twentieth of the traffic is withdrawn every day."""

_ALONE = 0.025
_CLEAR = 0.7
"""Distance from the bound, in standard errors, beyond which no bootstrap is needed to see whether it holds."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of the simulated nights.

    Attributes
    ----------
    n_prompts
        Number of gate prompts; the default is that of the sandbox's recorded answers.
    score
        True mean score of the first champion.
    moved
        Share of the prompts that a challenger sends to other LLMs.
    refreshed
        Share of the prompts that a refresh before each night sends to other LLMs, which are as often right.
    epsilon, total
        As the settings ``epsilon`` and ``false_promotion_rate`` of the gate.
    """

    n_prompts: int = 359
    score: float = 0.65
    moved: float = 0.3
    refreshed: float = 0.0
    epsilon: float = 0.02
    total: float = 0.05


@dataclass(frozen=True)
class Record:
    """Results of challengers that truly differ by `truth` from the champion they meet.

    Attributes
    ----------
    truth
        True difference in score.
    is_corrected
        Whether the level was spent, or every night was judged at 2.5 %.
    is_refreshed
        Whether the champion was refreshed before every night.
    promotions_per_history
        Mean number of promotions in `n_nights`.
    any_promotion
        Share of the histories with at least one.
    nights_to_first
        Median night of the first promotion over the histories that have one; None if there is none.
    n_nights, n_histories
        Numbers of simulated nights and histories.
    """

    truth: float
    is_corrected: bool
    is_refreshed: bool
    promotions_per_history: float
    any_promotion: float
    nights_to_first: float | None
    n_nights: int
    n_histories: int

    @property
    def per_night(self) -> float:
        """Promotions per night."""
        return self.promotions_per_history / self.n_nights


def simulate(
    truth: float, *, is_corrected: bool, conditions: Conditions, n_nights: int = NIGHTS, n_histories: int = HISTORIES
) -> Record:
    """Simulate histories of nights whose challengers all differ by `truth` from the champion they meet."""
    promoted = [
        history(truth, is_corrected=is_corrected, conditions=conditions, n_nights=n_nights, seed=seed)
        for seed in range(n_histories)
    ]
    firsts = [nights[0] for nights in promoted if nights]
    return Record(
        truth=truth,
        is_corrected=is_corrected,
        is_refreshed=conditions.refreshed > 0,
        promotions_per_history=float(np.mean([len(nights) for nights in promoted])),
        any_promotion=len(firsts) / n_histories,
        nights_to_first=float(np.median(firsts)) if firsts else None,
        n_nights=n_nights,
        n_histories=n_histories,
    )


def history(truth: float, *, is_corrected: bool, conditions: Conditions, n_nights: int, seed: int) -> tuple[int, ...]:
    """Return the nights, from 1, on which a challenger was promoted; a truly better one ends the history."""
    rng = np.random.default_rng(seed)
    champion = rng.random(conditions.n_prompts) < conditions.score
    score, tested, promoted = conditions.score, 0, []
    for night in range(1, n_nights + 1):
        if conditions.refreshed:
            is_lost = rng.random(conditions.n_prompts) < conditions.refreshed
            champion = np.where(is_lost, rng.random(conditions.n_prompts) < score, champion)
        is_moved = rng.random(conditions.n_prompts) < conditions.moved
        is_right = rng.random(conditions.n_prompts) < score + truth / conditions.moved
        challenger = np.where(is_moved, is_right, champion)
        tested += 1
        level = level_of(conditions.total, tested) if is_corrected else _ALONE
        wins, losses = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
        if not _passes(wins, losses, conditions.n_prompts, level, conditions.epsilon):
            continue
        promoted.append(night)
        if truth > 0:
            break
        champion, score, tested = challenger, score + truth, 0
    return tuple(promoted)


@lru_cache(maxsize=1 << 16)
def _passes(wins: int, losses: int, n_prompts: int, level: float, epsilon: float) -> bool:
    """Whether the gate's bound holds; with scores that are right or wrong only the counts matter, so few differ."""
    mean = (wins - losses) / n_prompts
    margin = (mean + epsilon) / (np.sqrt(wins + losses + 2) / n_prompts) + norm.ppf(level)
    if abs(margin) > _CLEAR:
        return bool(margin > 0)
    ours = np.repeat([1.0, 0.0, 0.0], [wins, losses, n_prompts - wins - losses])
    theirs = np.repeat([0.0, 1.0, 0.0], [wins, losses, n_prompts - wins - losses])
    return paired_lower_bound(ours, theirs, level=level, seed=0) >= -epsilon


def report(records: Sequence[Record]) -> str:
    """Return the records as a table for people."""
    rows = [
        [
            f"{one.truth:+.2f}",
            "yes" if one.is_corrected else "no",
            "yes" if one.is_refreshed else "no",
            *(["", ""] if one.truth > 0 else [f"{one.promotions_per_history:.2f}", f"{one.per_night:.2%}"]),
            f"{one.any_promotion:.0%}",
            "never" if one.nights_to_first is None else f"{one.nights_to_first:.0f}",
        ]
        for one in records
    ]
    headers = [
        "TRUE DIFFERENCE",
        "CORRECTED",
        "REFRESHED",
        "PROMOTIONS",
        "PER NIGHT",
        "HISTORIES WITH ANY",
        "FIRST ON NIGHT",
    ]
    return table(headers, rows, right=(0, 3, 4, 5, 6))


def main() -> None:
    """Simulate every truth with and without correction and refreshes, and print the results for people and machines."""
    conditions, refreshed = Conditions(), Conditions(refreshed=REFRESHED)
    kinds = ((False, conditions), (True, conditions), (True, refreshed))
    records = [simulate(truth, is_corrected=flag, conditions=kind) for truth in TRUTHS for flag, kind in kinds]
    scope = f"{conditions.n_prompts} gate prompts, epsilon {conditions.epsilon}"
    click.echo(f"{HISTORIES} histories of {NIGHTS} nights each, {scope}:")
    click.echo(report(records))
    click.echo(json.dumps([asdict(one) for one in records]))


if __name__ == "__main__":
    main()
