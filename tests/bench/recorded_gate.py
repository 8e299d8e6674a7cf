"""Measure on recorded answers what representative prompts add to the gate: ``make bench-gate``.

Real answers, the estimator and the cross-fit of real nights. Prompts are divided into roles again and again; a router
of seven LLMs is compared with one that has another LLM in place of one of them. The prompts that are left over show the
true difference.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.bench.folder import OutcomeFolder, read_folder
from flows.fitting.estimation import Estimation
from flows.fitting.folds import folds_of
from flows.fitting.labels import Labels
from flows.gate.cross_fit import CrossFit, Judged, Remaking, cross_fit, judged
from flows.gate.measure import GateOutcomes, at_cost_of, measure
from flows.text import table
from registry.outcomes import OutcomeTable
from routing.embedders import load_embedder
from routing.estimator import PosteriorEstimator
from routing.router import RoutedLLM, Router
from routing.tokens import estimated_input_tokens

DATA = Path(os.environ.get("DATA", Path(__file__).parents[2] / "flows" / "sandbox" / "recorded"))
SIZES = {"map": 150, "representative": 450, "gate": 270}
"""Prompts of the roles; the others show the truth."""

_LLMS = 7
_GIVEN = {"seed": 0, "n_resamples": 500}


@dataclass(frozen=True)
class Widths:
    """How wide the interval of a difference is, on gate prompts alone and with representative ones.

    Attributes
    ----------
    data
        Name of the folder of recorded answers.
    n_gate, n_judging
        Gate prompts, and prompts that judge when representative ones do too.
    gate, both
        Mean width of the 95 % interval.
    gate_error, both_error
        Root mean square of the difference minus the true one.
    n
        Number of comparisons.
    """

    data: str
    n_gate: int
    n_judging: int
    gate: float
    both: float
    gate_error: float
    both_error: float
    n: int

    @property
    def ratio(self) -> float:
        """Width with representative prompts over the width without."""
        return self.both / self.gate

    @property
    def ratio_of_prompts(self) -> float:
        """The same if every prompt said as much as a gate prompt: square root of the numbers of prompts."""
        return float(np.sqrt(self.n_gate / self.n_judging))


def recorded_widths(folder: Path = DATA, *, n: int = 30) -> Widths:
    """Compare routers on `n` divisions of recorded prompts into roles."""
    found, rng = read_folder(folder), np.random.default_rng(0)
    recorded = _Recorded(found, load_embedder("hashing-256").embed([prompt.text for prompt in found.prompts]))
    pairs = [recorded.comparison(rng) for _ in range(n)]
    results, errors = [one for one, _ in pairs], np.array([error for _, error in pairs])
    pooled = [one.interval(**_GIVEN) for one in results]
    return Widths(
        data=found.name,
        n_gate=SIZES["gate"],
        n_judging=round(float(np.mean([len(one.differences) for one in results]))),
        gate=float(np.mean([one.gate.high - one.gate.low for one in results])),
        both=float(np.mean([one.high - one.low for one in pooled])),
        gate_error=float(np.sqrt(np.mean(errors[:, 0] ** 2))),
        both_error=float(np.sqrt(np.mean(errors[:, 1] ** 2))),
        n=n,
    )


def widths_report(found: Widths) -> str:
    """Return the widths as a table for people."""
    headers = ["DATA", "COMPARISONS", "PROMPTS", "WIDTH", "ERROR", "WIDTH RATIO", "RATIO OF PROMPTS"]
    rows = [
        [found.data, str(found.n), str(found.n_gate), f"{found.gate:.4f}", f"{found.gate_error:.4f}", "", ""],
        [
            *(found.data, str(found.n), str(found.n_judging), f"{found.both:.4f}", f"{found.both_error:.4f}"),
            *(f"{found.ratio:.2f}", f"{found.ratio_of_prompts:.2f}"),
        ],
    ]
    return table(headers, rows, right=(1, 2, 3, 4, 5, 6))


class _Recorded:
    """Recorded answers with embeddings."""

    def __init__(self, folder: OutcomeFolder, embeddings: NDArray[np.float32]) -> None:
        self._folder, self._embeddings = folder, embeddings
        self._tokens = estimated_input_tokens([prompt.text for prompt in folder.prompts])

    def comparison(self, rng: np.random.Generator) -> tuple[Judged, tuple[float, float]]:
        """Return one comparison, and how far it is from the truth on gate prompts alone and with the others."""
        order, roles = rng.permutation(len(self._folder.prompts)), {}
        for role, size in SIZES.items():
            roles[role], order = order[:size], order[size:]
        llms = rng.choice(len(self._folder.llms), _LLMS + 1, replace=False)
        teaching = np.setdiff1d(np.arange(len(self._folder.llms)), llms)
        estimator = PosteriorEstimator().fit(
            self._embeddings[roles["map"]],
            1 - self._folder.scores[np.ix_(roles["map"], teaching)],
            few=(
                self._embeddings[roles["representative"]],
                1 - self._folder.scores[np.ix_(roles["representative"], teaching)],
            ),
        )
        folds = folds_of([self._folder.prompts[row].text for row in roles["representative"]])
        challenger, champion = (self._remaking(estimator, roles, one, folds) for one in (llms[1:], llms[:-1]))
        gate, representative, rest = (
            self._outcomes(rows, llms) for rows in (roles["gate"], roles["representative"], order)
        )
        found = cross_fit(challenger, champion, representative, folds, gate, {})
        assert isinstance(found, CrossFit)
        before, truth = measure(champion.router, gate), measure(champion.router, rest)
        result = judged(at_cost_of(before, challenger.router, gate), before, found, **_GIVEN)
        true = float((at_cost_of(truth, challenger.router, rest).scores - truth.scores).mean())
        return result, (result.gate.mean - true, float(result.differences.mean()) - true)

    def _outcomes(self, rows: NDArray[np.int64], llms: Sequence[int]) -> GateOutcomes:
        places = sorted(llms, key=lambda place: self._folder.llms[place])
        cells = np.ix_(rows, places)
        return GateOutcomes(
            keys=tuple(self._folder.llms[place] for place in places),
            embeddings=self._embeddings[rows],
            scores=self._folder.scores[cells],
            costs_usd=self._folder.costs_usd[cells],
            n_dropped=0,
            input_tokens=self._tokens[rows],
        )

    def _remaking(
        self,
        estimator: PosteriorEstimator,
        roles: dict[str, NDArray[np.int64]],
        llms: Sequence[int],
        folds: NDArray[np.int64],
    ) -> Remaking:
        places = sorted(llms, key=lambda place: self._folder.llms[place])
        representative, of_map = (self._labels(roles[role], places) for role in ("representative", "map"))
        estimation = Estimation(estimator, "", False, representative, of_map)
        # A token costs what makes the recorded costs: prices are not compared here.
        routed = [
            RoutedLLM(self._folder.llms[place], 1.0, 1.0, estimation.vector(column))
            for column, place in enumerate(places)
        ]
        router = Router(
            estimator.cluster_map_,
            tuple(routed),
            embedder=load_embedder("hashing-256").id,
            cost_weight=0.0,
            calibration_weights=estimator.cluster_map_.exact_weights(representative.embeddings),
        )
        return Remaking(router, estimation, folds)

    def _labels(self, rows: NDArray[np.int64], places: Sequence[int]) -> Labels:
        cells = np.ix_(rows, places)
        tokens = np.ones((len(rows), len(places)))
        return Labels(
            self._embeddings[rows],
            self._tokens[rows],
            OutcomeTable(
                llm_keys=tuple(self._folder.llms[place] for place in places),
                prompt_digests=tuple(self._folder.prompts[row].digest for row in rows),
                scores=self._folder.scores[cells],
                input_tokens=tokens,
                output_tokens=tokens,
                cost_usd=self._folder.costs_usd[cells],
                failures=np.zeros(len(places), dtype=np.int64),
            ),
        )
