"""The paper's protocol: random splits of prompts and LLMs, every method on the same split, figures per trial.

60 % of the prompts are map prompts, 10 % (or `n_val`) representative, 30 % gate prompts; two thirds of the LLMs are
known beforehand, one third is new. As in the paper, all methods expect an LLM to cost its mean on the
representative prompts, so that they differ only in the errors they expect; routers in service expect the cost of each
prompt by its own length and cluster, which raises the area of every method. Source: UniRoute section 6 and appendix F.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.bench.folder import OutcomeFolder
from flows.bench.report import COST_GRID, METHODS, BenchResult, MethodTrials
from flows.errors import PrerequisiteError
from flows.text import counted
from routing.day_zero import LLMFacts

if TYPE_CHECKING:
    from routing.deferral import DeferralCurve

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

GATE_SHARE, FEW_SHARE, TRAIN_SHARE = 0.3, 0.1, 2 / 3


@dataclass(frozen=True, eq=False)
class Split:
    """Roles of prompts and LLMs in one trial.

    Attributes
    ----------
    map, few, gate
        Rows of the map, representative and gate prompts.
    train, test
        Columns of the LLMs known beforehand and of the new ones.
    """

    map: I64
    few: I64
    gate: I64
    train: I64
    test: I64

    @classmethod
    def draw(cls, n_prompts: int, n_llms: int, n_val: int, *, seed: int) -> Split:
        """Draw a split.

        Parameters
        ----------
        n_prompts, n_llms
            Numbers of prompts and LLMs.
        n_val
            Number of representative prompts. Those beyond a tenth of all prompts are taken from the map prompts.
        seed
            Seed of the draw.
        """
        rng = np.random.default_rng(seed)
        prompts, llms = rng.permutation(n_prompts), rng.permutation(n_llms)
        n_gate = round(GATE_SHARE * n_prompts)
        n_few_or_more = max(n_val, round(FEW_SHARE * n_prompts))
        n_train = min(round(TRAIN_SHARE * n_llms), n_llms - 1)
        gate, rest = prompts[:n_gate], prompts[n_gate:]
        return cls(
            np.sort(rest[n_few_or_more:]),
            np.sort(rest[:n_val]),
            np.sort(gate),
            np.sort(llms[:n_train]),
            np.sort(llms[n_train:]),
        )


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures of one method in one trial, as `routing.deferral` defines them."""

    area: float
    qnc: float
    qnc_vs_best: float
    peak: float
    aiq: float
    reached: bool
    curve: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything that a trial needs except its number.

    Attributes
    ----------
    embeddings : (n, dim) float32
    scores, costs_usd : (n, m) float64
    n_val
        Representative prompts.
    seed
        Seed of the whole benchmark.
    methods
        Names.
    facts
        What is known of the m LLMs without their answers; empty when nothing is.
    """

    embeddings: F32
    scores: F64
    costs_usd: F64
    n_val: int
    seed: int
    methods: Sequence[str] = field(default=METHODS)
    facts: Sequence[LLMFacts] = ()

    def seed_of(self, number: int) -> int:
        """Return the seed of everything that is drawn in one trial."""
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])

    def split(self, number: int) -> Split:
        """Return the split of one trial."""
        return Split.draw(*self.scores.shape, self.n_val, seed=self.seed_of(number))

    def run(self, number: int) -> dict[str, Figures]:
        """Run one trial on one thread; the same number returns the same figures."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=1):
            return self._run(number)

    def _run(self, number: int) -> dict[str, Figures]:
        from flows.bench.methods.clairvoyant import oracle_curve
        from flows.bench.methods.estimates import EXPECTED_ERRORS, BenchTrial
        from routing.baselines import ZeroRouter
        from routing.deferral import deferral_curve

        split = self.split(number)
        errors = 1 - self.scores
        trial = BenchTrial(
            map_rows=self.embeddings[split.map],
            few_rows=self.embeddings[split.few],
            gate_rows=self.embeddings[split.gate],
            train_map_errors=errors[np.ix_(split.map, split.train)],
            train_few_errors=errors[np.ix_(split.few, split.train)],
            train_few_costs_usd=self.costs_usd[np.ix_(split.few, split.train)],
            test_few_errors=errors[np.ix_(split.few, split.test)],
            test_map_errors=errors[np.ix_(split.map, split.test)],
            seed=self.seed_of(number),
            train_facts=tuple(self.facts[column] for column in split.train if self.facts),
            test_facts=tuple(self.facts[column] for column in split.test if self.facts),
        )
        few, gate = np.ix_(split.few, split.test), np.ix_(split.gate, split.test)
        scores, costs = self.scores[gate], self.costs_usd[gate]
        # If all new LLMs happen to be free, every relative cost is zero.
        reference = float(costs.mean(axis=0).max()) or 1.0
        expected_costs = np.tile(self.costs_usd[few].mean(axis=0), (len(costs), 1))
        found: dict[str, Figures] = {}
        for name in self.methods:
            if name == "zero_router":
                keys = [f"{column:06d}" for column in split.test]
                blind = ZeroRouter.fit(self.scores[few], self.costs_usd[few], keys)
                curve = blind.curve(scores, costs, reference_cost_usd=reference)
            elif name == "oracle":
                curve = oracle_curve(scores, costs, reference_cost_usd=reference)
            else:
                expected = EXPECTED_ERRORS[name](trial)
                curve = deferral_curve(expected, expected_costs, scores, costs, reference_cost_usd=reference)
            found[name] = _figures(curve, scores.mean(axis=0), costs.mean(axis=0))
        return found


def run_trials(
    folder: OutcomeFolder,
    embeddings: F32,
    *,
    trials: int,
    n_val: int | None = None,
    seed: int = 0,
    methods: Sequence[str] = METHODS,
    on_trial: Callable[[], object] = lambda: None,
    workers: int | None = None,
) -> BenchResult:
    """Measure methods over random splits.

    Parameters
    ----------
    folder
        Recorded outcomes.
    embeddings
        Embeddings of the folder's prompts, ``(n, dim)`` unit rows.
    trials
        Number of splits.
    n_val
        Number of representative prompts; a tenth of the prompts by default.
    seed
        Seed of the splits: equal seeds result in equal figures, for any number of workers.
    methods
        Names of the methods to measure.
    on_trial
        Called after every trial.
    workers
        Processes; by default one per core that may be used.

    Raises
    ------
    PrerequisiteError
        There are too few prompts for a split, or every LLM is free.
    """
    n_prompts, n_llms = folder.scores.shape
    few = round(FEW_SHARE * n_prompts) if n_val is None else n_val
    _check(folder, few)
    bench = Bench(embeddings, folder.scores, folder.costs_usd, few, seed, tuple(methods), folder.facts)
    count = min(trials, workers or len(os.sched_getaffinity(0)))
    per_trial = []
    for found in _results(bench, trials, count):
        per_trial.append(found)
        on_trial()
    figures = {name: [found[name] for found in per_trial] for name in methods}
    return BenchResult(
        data=folder.name,
        trials=trials,
        n_val=few,
        n_llms=n_llms,
        n_prompts=n_prompts,
        methods=tuple(_collected(name, found) for name, found in figures.items()),
    )


def _check(folder: OutcomeFolder, n_val: int) -> None:
    n_prompts, _ = folder.scores.shape
    n_map = n_prompts - round(GATE_SHARE * n_prompts) - max(n_val, round(FEW_SHARE * n_prompts))
    if n_val < 1 or n_map < 1 or round(GATE_SHARE * n_prompts) < 1:
        raise PrerequisiteError(
            f"{counted(n_prompts, 'prompt')} cannot be split into map, {n_val} representative and gate prompts.",
            unchanged="Nothing was measured.",
            hint="Provide more prompts, or fewer representative ones with --n-val.",
        )
    if not folder.costs_usd.mean(axis=0).max() > 0:
        raise PrerequisiteError(
            f"Every LLM of {folder.name} is free: there is no cost to save.",
            unchanged="Nothing was measured.",
            hint="Add prices to models.parquet, and token counts if there are any.",
        )


def _results(bench: Bench, trials: int, workers: int) -> Iterator[dict[str, Figures]]:
    if workers < 2:
        yield from map(bench.run, range(trials))
        return
    # Spawned, not forked: a fork of a process with BLAS threads may wait for locks that are never released.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_adopt, initargs=(bench,)) as pool:
        yield from pool.map(_run_adopted, range(trials))


# The benchmark of this worker process, sent once instead of with every trial.
_adopted: list[Bench] = []


def _adopt(bench: Bench) -> None:
    _adopted[:] = [bench]


def _run_adopted(number: int) -> dict[str, Figures]:
    return _adopted[0].run(number)


def _figures(curve: DeferralCurve, mean_scores: F64, mean_costs_usd: F64) -> Figures:
    from routing.deferral import aiq, area, peak, qnc, scores_at_costs

    # The cheapest of the most accurate LLMs.
    best = int(np.lexsort((mean_costs_usd, -mean_scores))[0])
    best_score = float(mean_scores[best])
    to_most_expensive = qnc(curve, best_score)
    free = mean_costs_usd[best] == 0
    to_best = to_most_expensive if free else qnc(curve, best_score, best_cost_usd=float(mean_costs_usd[best]))
    return Figures(
        area(curve),
        to_most_expensive.value,
        to_best.value,
        peak(curve),
        aiq(curve),
        to_most_expensive.reached,
        tuple(scores_at_costs(curve, COST_GRID).tolist()),
    )


def _collected(name: str, found: Sequence[Figures]) -> MethodTrials:
    def column(attribute: str) -> tuple[float, ...]:
        return tuple(getattr(figures, attribute) for figures in found)

    return MethodTrials(
        name=name,
        area=column("area"),
        qnc=column("qnc"),
        qnc_vs_best=column("qnc_vs_best"),
        peak=column("peak"),
        aiq=column("aiq"),
        reached=tuple(figures.reached for figures in found),
        curve=tuple(np.mean([figures.curve for figures in found], axis=0).tolist()),
    )
