"""Measure how often the gate is wrong over 200 simulated nights, and how soon it promotes: ``make bench-gate``.

The procedure is simulated, not a coin: the vectors of two LLMs per router are means of their answers to the
representative prompts of each cluster, shrunk towards the LLM's own mean, and routers choose by them. Every night
another challenger meets the champion on the same prompts: it has a new LLM in place of one of the champion's, which is
worse or better by as much as makes the true difference of the routers what is wanted; what noise in the choices adds
to that is known, and subtracted. Gate prompts judge alone, or representative ones too, each by vectors that never saw
it. Bound and alpha spending are those of real nights. The champion may also be refreshed before every night: an
LLM with a twentieth of the traffic is replaced by one that is as good, and the account of tests continues.

There is a coin as well: each challenger sends other prompts, drawn anew, to LLMs that are right by chance. Nights then
have little in common, which gives a wrong promotion the most chances.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from flows.fitting.folds import N_FOLDS, N_TEACHING
from flows.gate.alpha_spending import level_of
from flows.gate.cross_fit import joined
from flows.text import table
from routing.resampling import mean_lower_bound

NIGHTS = 200
HISTORIES = 2000
EDGE = -0.02
"""True difference at the edge of what is tolerated by ``[gate] epsilon``: every promotion there is a false one."""

REFRESHED = 0.05
"""Share of the prompts that a nightly refresh moves: an LLM with a twentieth of the traffic is withdrawn every day."""

_ALONE = 0.025
_SHRINKAGE = 4.0
_COIN_SCORE, _COIN_MOVED = 0.65, 0.3
"""True score of the coin's champion, and the share of the prompts that a challenger sends elsewhere."""

_LARGEST_BATCH = 500
_CLEAR = 0.5
"""Distance from the bound, in standard errors, beyond which no bootstrap is needed to see whether it holds."""

F32 = NDArray[np.float32]
Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Conditions:
    """Conditions of the simulated nights.

    Attributes
    ----------
    n_clusters
        Number of clusters, all of the same size.
    n_gate, n_representative
        Prompts per cluster; by default as many in all as the sandbox's recorded answers have. The second is a multiple
        of the number of folds.
    refreshed
        Share of the prompts that a refresh before each night sends to another LLM, which is as often right.
    is_cross_fit
        Whether representative prompts judge too.
    is_coin
        Whether a coin decides what challengers send elsewhere, instead of vectors.
    is_corrected
        Whether the level is spent, or every night is judged at 2.5 %.
    epsilon, total
        As the settings ``epsilon`` and ``false_promotion_rate`` of the gate.
    """

    n_clusters: int = 20
    n_gate: int = 18
    n_representative: int = 30
    refreshed: float = 0.0
    is_cross_fit: bool = True
    is_coin: bool = False
    is_corrected: bool = True
    epsilon: float = 0.02
    total: float = 0.05

    @property
    def n_judging(self) -> int:
        """Number of prompts that judge."""
        n_folds = (N_FOLDS - N_TEACHING) * self.is_cross_fit
        return self.n_clusters * (self.n_gate + self.n_representative * n_folds // N_FOLDS)


@dataclass(frozen=True)
class Record:
    """Results of challengers that truly differ by `truth` from the champion they meet.

    Attributes
    ----------
    truth
        True difference in score.
    is_coin, is_cross_fit, is_corrected, is_refreshed
        As in `Conditions`.
    any_promotion
        Share of the histories with a promotion; the first one ends a history.
    first_night
        Share of the histories with one on the first night.
    nights_to_first
        Median night of the first promotion, a history without one counting as longer than all; None if that is most.
    width
        Mean width of the 95 % interval of the difference.
    n_judging, n_nights, n_histories
        Numbers of prompts that judge, nights and histories.
    """

    truth: float
    is_coin: bool
    is_cross_fit: bool
    is_corrected: bool
    is_refreshed: bool
    any_promotion: float
    first_night: float
    nights_to_first: int | None
    width: float
    n_judging: int
    n_nights: int
    n_histories: int

    @property
    def standard_error(self) -> float:
        """Standard error of `any_promotion`."""
        return float(np.sqrt(self.any_promotion * (1 - self.any_promotion) / self.n_histories))


def simulate(
    truth: float, conditions: Conditions, *, n_nights: int = NIGHTS, n_histories: int = HISTORIES, seed: int = 0
) -> Record:
    """Simulate histories of nights whose challengers all differ by `truth` from the champion they meet."""
    kind = _Coins if conditions.is_coin else _Histories
    sizes = [min(_LARGEST_BATCH, n_histories - start) for start in range(0, n_histories, _LARGEST_BATCH)]
    parts = [
        kind(truth, conditions, size, np.random.default_rng([seed, number])).run(n_nights)
        for number, size in enumerate(sizes)
    ]
    first = np.concatenate([nights for nights, _ in parts])
    median = int(np.sort(np.where(first > 0, first, n_nights + 1))[(n_histories - 1) // 2])
    return Record(
        truth=truth,
        is_coin=conditions.is_coin,
        is_cross_fit=conditions.is_cross_fit,
        is_corrected=conditions.is_corrected,
        is_refreshed=conditions.refreshed > 0,
        any_promotion=float((first > 0).mean()),
        first_night=float((first == 1).mean()),
        nights_to_first=median if median <= n_nights else None,
        width=float(np.mean([width for _, width in parts])),
        n_judging=conditions.n_judging,
        n_nights=n_nights,
        n_histories=n_histories,
    )


@dataclass(frozen=True, eq=False)
class _LLM:
    """An LLM in every history: how often it is right per cluster, ``(h, c, 1)``, and its answers, ``(h, c, n)``."""

    rates: F32
    right: Right


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Where a router chooses its own LLM: by published vectors ``(h, c, 1)``, by those before each judged fold."""

    published: Right
    folds: Right


class _Histories:
    """Histories that are simulated side by side until their first promotion."""

    def __init__(self, truth: float, conditions: Conditions, n: int, rng: np.random.Generator) -> None:
        self._truth, self._conditions, self._rng, self._n = truth, conditions, rng, n
        self._other, self._leaving = self._llm(self._rates()), self._llm(self._rates())
        # The share of the clusters in which the LLM that the challenger replaces is the better one.
        is_used = self._leaving.rates > self._other.rates
        self._gap = truth / np.maximum(is_used.mean(axis=1, keepdims=True), 0.1)

    def run(self, n_nights: int) -> tuple[NDArray[np.int64], float]:
        """Return the night, from 1, of each history's first promotion, or 0, and the mean width of the intervals."""
        first, widths = np.zeros(self._n, dtype=np.int64), []
        for night in range(1, n_nights + 1):
            if self._conditions.refreshed:
                self._refresh()
            found, largest, truths = self._night()
            means, spreads = found.mean(axis=1, dtype=np.float64), found.var(axis=1, dtype=np.float64)
            widths.append(float(np.mean(2 * norm.ppf(0.975) * np.sqrt(spreads / found.shape[1]))))
            level = level_of(self._conditions.total, night) if self._conditions.is_corrected else _ALONE
            # What the choices of this night add to the true difference that is wanted.
            least = truths - self._truth - self._conditions.epsilon
            errors = np.sqrt(spreads * found.shape[1] + 2 * largest**2) / (found.shape[1] + 2)
            margins = (means - least) / errors + norm.ppf(level)
            passes = margins > 0
            for place in np.flatnonzero((first == 0) & (np.abs(margins) < _CLEAR)).tolist():
                bound = mean_lower_bound(found[place], level=level, seed=0, largest=largest[place])
                passes[place] = bound >= least[place]
            first[(first == 0) & passes] = night
            if (first > 0).all():
                break
        return first, float(np.mean(widths))

    def _rates(self) -> F32:
        return self._rng.uniform(0.45, 0.85, (self._n, self._conditions.n_clusters, 1)).astype(np.float32)

    def _llm(self, rates: F32) -> _LLM:
        size = (*rates.shape[:2], self._conditions.n_gate + self._conditions.n_representative)
        return _LLM(rates, self._rng.random(size, dtype=np.float32) < rates)

    def _refresh(self) -> None:
        """Let another LLM, as good as the one the champion had, answer some of the prompts."""
        before, fresh = self._leaving, self._llm(self._leaving.rates)
        is_moved = self._rng.random(before.right.shape, dtype=np.float32) < self._conditions.refreshed
        self._leaving = _LLM(before.rates, np.where(is_moved, fresh.right, before.right))

    def _night(self) -> tuple[NDArray[Any], ...]:
        """Return the differences of tonight's challengers, ``(h, n)``, what the largest counts, and the true ones."""
        newcomer = self._llm(np.clip(self._leaving.rates + self._gap, 0.02, 0.98).astype(np.float32))
        ours, theirs = self._choices(newcomer), self._choices(self._leaving)
        n_gate, n = self._conditions.n_gate, self._n
        truths = (self._mean_rate(newcomer, ours.published) - self._mean_rate(self._leaving, theirs.published)).ravel()
        gate = self._answers(newcomer, ours.published) - self._answers(self._leaving, theirs.published)
        published = gate[:, :, :n_gate].reshape(n, -1)
        if not self._conditions.is_cross_fit:
            return published, np.ones(n), truths
        control = self._answers(newcomer, ours.folds.mean(axis=2, keepdims=True, dtype=np.float32))
        control -= self._answers(self._leaving, theirs.folds.mean(axis=2, keepdims=True, dtype=np.float32))
        per_fold = self._conditions.n_representative // N_FOLDS
        chosen = [
            self._answers(llm, np.repeat(one.folds, per_fold, axis=2), start=n_gate + N_TEACHING * per_fold)
            for llm, one in ((newcomer, ours), (self._leaving, theirs))
        ]
        representative = (chosen[0] - chosen[1]).reshape(n, -1)
        both = joined(published, control[:, :, :n_gate].reshape(n, -1), representative)
        return both.differences, both.largest, truths

    def _choices(self, llm: _LLM) -> _Chosen:
        """Return where a router of an LLM and the other one chooses the LLM."""
        pairs = zip(self._estimates(llm), self._estimates(self._other), strict=True)
        return _Chosen(*(ours > theirs for ours, theirs in pairs))

    def _mean_rate(self, llm: _LLM, is_llm: Right) -> NDArray[np.float64]:
        return np.where(is_llm, llm.rates, self._other.rates).mean(axis=(1, 2), dtype=np.float64)

    def _answers(self, llm: _LLM, share: F32 | Right, *, start: int = 0) -> F32:
        """Return the scores on all prompts, or those from `start`, when the LLM gets a share of them."""
        ours, other = (one.right[:, :, start:].astype(np.float32) for one in (llm, self._other))
        return other + share * (ours - other)

    def _estimates(self, llm: _LLM) -> tuple[F32, F32]:
        """Return the estimated scores per cluster from all answers, ``(h, c, 1)``, and from those before each fold."""
        answers = llm.right[:, :, self._conditions.n_gate :].reshape(self._n, self._conditions.n_clusters, N_FOLDS, -1)
        so_far = answers.sum(axis=3, dtype=np.float32).cumsum(axis=2)
        n = (np.arange(N_FOLDS, dtype=np.float32) + 1) * answers.shape[3]
        found = (so_far + _SHRINKAGE * so_far.mean(axis=1, keepdims=True) / n) / (n + _SHRINKAGE)
        return found[:, :, -1:], found[:, :, N_TEACHING - 1 : -1]


class _Coins(_Histories):
    """Histories in which a coin decides what a challenger sends elsewhere, and whether that is answered correctly."""

    def __init__(self, truth: float, conditions: Conditions, n: int, rng: np.random.Generator) -> None:
        super().__init__(truth, conditions, n, rng)
        self._right = self._draw() < _COIN_SCORE

    def _draw(self) -> F32:
        return self._rng.random((self._n, self._conditions.n_judging), dtype=np.float32)

    def _refresh(self) -> None:
        is_moved = self._draw() < self._conditions.refreshed
        self._right = np.where(is_moved, self._draw() < _COIN_SCORE, self._right)

    def _night(self) -> tuple[NDArray[Any], ...]:
        is_moved, is_right = self._draw() < _COIN_MOVED, self._draw() < _COIN_SCORE + self._truth / _COIN_MOVED
        challenger = np.where(is_moved, is_right, self._right)
        differences = challenger.astype(np.float32) - self._right
        return differences, np.ones(self._n), np.full(self._n, self._truth)


def report(records: Sequence[Record]) -> str:
    """Return the records as a table for people."""
    rows = [
        [
            f"{one.truth:+.2f}",
            "coin" if one.is_coin else "vectors",
            "yes" if one.is_corrected else "no",
            "yes" if one.is_cross_fit else "no",
            "yes" if one.is_refreshed else "no",
            f"{one.any_promotion:.1%} ± {one.standard_error:.1%}",
            f"{one.first_night:.1%}",
            f"over {one.n_nights}" if one.nights_to_first is None else str(one.nights_to_first),
            f"{one.width:.4f}",
            f"{one.n_nights} x {one.n_histories:,}",
        ]
        for one in records
    ]
    headers = [
        "TRUE DIFFERENCE",
        "CHOICES",
        "CORRECTED",
        "CROSS-FIT",
        "REFRESHED",
        "HISTORIES WITH ANY",
        "FIRST NIGHT",
        "MEDIAN NIGHT",
        "WIDTH",
        "NIGHTS",
    ]
    return table(headers, rows, right=(0, 5, 6, 7, 8, 9))


def main() -> None:
    """Simulate every truth, compare interval widths on recorded answers, and print both for people and machines."""
    from tests.bench.recorded_gate import recorded_widths, widths_report

    gate, both = Conditions(is_cross_fit=False), Conditions()
    coin = replace(gate, is_coin=True)
    records = [simulate(EDGE, replace(kind, is_corrected=False), n_histories=HISTORIES // 8) for kind in (coin, gate)]
    kinds = (coin, gate, both)
    records += [simulate(EDGE, replace(kind, refreshed=share)) for kind in kinds for share in (0.0, REFRESHED)]
    records += [
        simulate(truth, kind, n_histories=HISTORIES // 8) for truth in (-0.05, 0.0, 0.03, 0.06) for kind in (gate, both)
    ]
    click.echo(f"{gate.n_judging} gate prompts, with representative ones {both.n_judging}, epsilon {gate.epsilon}:")
    click.echo(report(records))
    widths = recorded_widths()
    click.echo("\nRecorded answers, mean over divisions of the prompts into roles:")
    click.echo(widths_report(widths))
    click.echo(json.dumps({"histories": [asdict(one) for one in records], "recorded": asdict(widths)}))


if __name__ == "__main__":
    main()
