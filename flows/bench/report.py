"""Results of a benchmark: figures per trial, sign tests, JSON for other tools and a table for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flows.bench.folder import OutcomeFolder
from flows.text import counted, sanitize, table

METHODS = (
    "zero_router",
    "knn",
    "kmeans",
    "kmeans_f1",
    "learned_map",
    "posterior",
    "posterior_chosen",
    "clairvoyant",
    "oracle",
    "random",
)
COST_GRID = tuple(step / 100 for step in range(101))
BASE, OURS, CEILING = "zero_router", "posterior", "clairvoyant"
CHOSEN = "posterior_chosen"
POSTERIORS = (OURS, CHOSEN)


@dataclass(frozen=True)
class IntervalFigures:
    """What the intervals of a method are worth, over all trials and unseen LLMs.

    Attributes
    ----------
    level_error
        Root mean squared error of an LLM's level.
    level_coverage, cluster_coverage
        Share of the 95 % intervals of levels, and of errors by cluster, that hold what gate prompts show.
    """

    level_error: float
    level_coverage: float
    cluster_coverage: float


@dataclass(frozen=True)
class MethodTrials:
    """Figures of one method, one entry a trial, as `routing.deferral` defines them.

    Attributes
    ----------
    name
        The method.
    area, peak, aiq
        In [0, 1].
    qnc
        Relative to the most expensive LLM; 1 where the best LLM is not matched.
    qnc_vs_best
        Relative to the cost of the best LLM.
    reached
        Whether the best LLM is matched.
    curve
        Mean over trials of the best score reachable at each relative cost of `COST_GRID`.
    intervals
        Errors and intervals of levels; None for a method without.
    """

    name: str
    area: tuple[float, ...]
    qnc: tuple[float, ...]
    qnc_vs_best: tuple[float, ...]
    peak: tuple[float, ...]
    aiq: tuple[float, ...]
    reached: tuple[bool, ...]
    curve: tuple[float, ...]
    intervals: IntervalFigures | None = None


@dataclass(frozen=True)
class SignTest:
    """How often our method had the larger area, and how likely that is by chance (two-sided, without ties)."""

    wins: int
    losses: int
    p: float


@dataclass(frozen=True)
class BenchResult:
    """Everything a benchmark run measured.

    Attributes
    ----------
    data
        Name of the outcome folder.
    trials, n_val
        Number of trials, and of representative prompts in each.
    n_llms, n_prompts
        Kept LLMs and prompts.
    methods
        Figures by method.
    """

    data: str
    trials: int
    n_val: int
    n_llms: int
    n_prompts: int
    methods: tuple[MethodTrials, ...]

    def method(self, name: str) -> MethodTrials | None:
        """Return the figures of a method; None when it was not measured."""
        return next((found for found in self.methods if found.name == name), None)

    def share_of_clairvoyant(self, name: str = OURS) -> float | None:
        """Return how far a method gets from ZeroRouter to the clairvoyant one; None when one of them is missing."""
        base, ours, ceiling = (self.method(name) for name in (BASE, name, CEILING))
        if base is None or ours is None or ceiling is None:
            return None
        span = np.mean(ceiling.area) - np.mean(base.area)
        return float((np.mean(ours.area) - np.mean(base.area)) / span) if span else None

    def sign_test(self, name: str) -> SignTest | None:
        """Compare the areas of our method and another one, paired by trial."""
        from scipy.stats import binomtest

        ours, other = self.method(OURS), self.method(name)
        if ours is None or other is None or name == OURS:
            return None
        difference = np.subtract(ours.area, other.area)
        wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
        p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
        return SignTest(wins, losses, p)


def as_json(result: BenchResult) -> str:
    """Return the result as JSON for other tools; numbers are finite or null."""
    tests = {method.name: result.sign_test(method.name) for method in result.methods}
    content = {
        "data": result.data,
        "trials": result.trials,
        "n_val": result.n_val,
        "n_llms": result.n_llms,
        "n_prompts": result.n_prompts,
        "methods": {method.name: _method_data(method) for method in result.methods},
        "share_of_clairvoyant": result.share_of_clairvoyant(),
        "sign_test": {
            name: {"wins": test.wins, "losses": test.losses, "p": test.p}
            for name, test in tests.items()
            if test is not None
        },
    }
    return json.dumps(content, indent=1, allow_nan=False)


def study_as_json(results: Sequence[BenchResult]) -> str:
    """Return the results for several numbers of representative prompts: a list of `as_json` results, by `n_val`."""
    return json.dumps([json.loads(as_json(result)) for result in results], indent=1, allow_nan=False)


def study_as_text(results: Sequence[BenchResult]) -> str:
    """Return the mean area of every method against the number of representative prompts, as a table for people."""
    names = [method.name for method in results[0].methods]
    rows = []
    for name in names:
        areas = [found.area for result in results if (found := result.method(name)) is not None]
        rows.append([name, *(f"{np.mean(area):.4f} ± {_sd(area):.4f}" for area in areas)])
    return "\n".join(
        [
            f"{sanitize(results[0].data)}: area against the number of representative prompts, "
            f"{counted(results[0].trials, 'trial')}",
            "",
            table(["METHOD", *(f"N_VAL {result.n_val:,}" for result in results)], rows),
        ]
    )


def _method_data(method: MethodTrials) -> dict[str, Any]:
    figures = {name: getattr(method, name) for name in ("area", "qnc", "qnc_vs_best", "peak")}
    data = {name: _spread(values) for name, values in figures.items()} | {"reach_rate": float(np.mean(method.reached))}
    return data if method.intervals is None else data | asdict(method.intervals)


def _spread(values: tuple[float, ...]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "sd": _sd(values), "per_trial": [float(value) for value in values]}


def _sd(values: tuple[float, ...]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def as_text(result: BenchResult, folder: OutcomeFolder) -> str:
    """Return the table for people, with what was left out and what the cost is."""
    rows = []
    for method in sorted(result.methods, key=lambda method: -float(np.mean(method.area))):
        test = result.sign_test(method.name)
        rows.append(
            [
                method.name,
                *(
                    f"{np.mean(values):.4f} ± {_sd(values):.4f}"
                    for values in (method.area, method.qnc, method.qnc_vs_best, method.peak, method.aiq)
                ),
                f"{np.mean(method.reached):.0%}",
                "" if test is None else f"{test.wins}:{test.losses} p={test.p:.1g}",
            ]
        )
    headers = ["METHOD", "AREA", "QNC", "QNC/BEST", "PEAK", "AIQ", "REACHED", f"{OURS.upper()} WINS:LOSSES"]
    dropped, without_text = counted(folder.n_dropped, "prompt"), counted(folder.n_without_text, "prompt")
    lines = [
        f"{sanitize(result.data)}: {counted(result.n_llms, 'LLM')} x {counted(result.n_prompts, 'prompt')}, "
        f"{counted(result.trials, 'trial')}, {counted(result.n_val, 'representative prompt')}; "
        f"cost is {folder.cost_note}",
        *(f"left out: {sanitize(name)} ({reason})" for name, reason in folder.left_out),
        *([f"dropped: {dropped} that some kept LLM did not answer"] if folder.n_dropped else []),
        *([f"dropped: {without_text} without a text"] if folder.n_without_text else []),
        "",
        table(headers, rows),
        "",
        "± is the standard deviation over trials.",
    ]
    for name in POSTERIORS:
        share, method = result.share_of_clairvoyant(name), result.method(name)
        if method is not None and method.intervals is not None:
            found = method.intervals
            lines.append(
                f"{name} misses an LLM's level by {found.level_error:.3f} (root mean square); its 95 % intervals cover "
                f"{found.level_coverage:.1%} of the levels and {found.cluster_coverage:.1%} of the errors by cluster."
            )
        if share is not None:
            lines.append(f"{name} goes {share:.1%} of the way from {BASE} to {CEILING}.")
    return "\n".join(lines)
