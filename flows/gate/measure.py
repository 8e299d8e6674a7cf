"""How a router does on gate prompts, with the scores and costs recorded for the LLMs it chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing.deferral import DeferralCurve, aiq, area, deferral_curve, peak, qnc
from routing.equal_cost import EqualCost, scores_at_equal_cost
from routing.router import Expected, Router


@dataclass(frozen=True, eq=False)
class GateOutcomes:
    """Recorded outcomes of the LLMs of both routers on the gate prompts.

    Attributes
    ----------
    keys
        LLM keys, one per column.
    embeddings
        ``(n, dim)`` float32, the gate prompts that every LLM has a score for.
    scores, costs_usd
        ``(n, m)`` recorded score in [0, 1] and cost in USD.
    n_dropped
        Gate prompts left out because some LLM has no score there.
    other_embeddings
        The same prompts for routers with another embedder, by its key.
    input_tokens
        ``(n,)`` estimated from the prompts' texts, as a consumer's decisions count them. None counts the tokens of the
        LLMs' profiles in a prompt's cluster.
    chance
        ``(n,)`` expected score of a blind guess, in [0, 1], NaN where the grader does not know it. None: nowhere.
    letters
        The accepted option of each prompt; nothing unless all prompts are multiple choice.
    """

    keys: tuple[str, ...]
    embeddings: NDArray[np.float32]
    scores: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    n_dropped: int
    other_embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    input_tokens: NDArray[np.float32] | None = None
    chance: NDArray[np.float64] | None = None
    letters: tuple[str, ...] = ()

    @property
    def reference_cost_usd(self) -> float:
        """Mean cost of the most expensive LLM: 1 on the relative cost axis."""
        return float(self.costs_usd.mean(axis=0).max())

    @property
    def best_score(self) -> float:
        """Mean score of the most accurate LLM."""
        return float(self.scores.mean(axis=0).max())

    def columns(self, keys: Sequence[str]) -> list[int]:
        """Return the columns of these LLMs."""
        return [self.keys.index(key) for key in keys]

    def known(self, router: Router) -> tuple[str, ...]:
        """Return those of a router's LLMs that were asked."""
        return tuple(key for key in router.keys if key in self.keys)

    def embeddings_for(self, router: Router) -> NDArray[np.float32]:
        """Return the prompts' embeddings ``(n, dim)`` by a router's embedder."""
        return self.other_embeddings.get(router.embedder.key, self.embeddings)

    def rows(self, kept: NDArray[np.int64]) -> GateOutcomes:
        """Return the outcomes on some of the prompts, by row."""
        return replace(
            self,
            embeddings=self.embeddings[kept],
            scores=self.scores[kept],
            costs_usd=self.costs_usd[kept],
            other_embeddings={key: matrix[kept] for key, matrix in self.other_embeddings.items()},
            input_tokens=None if self.input_tokens is None else self.input_tokens[kept],
            chance=None,
            letters=(),
        )

    def expected_by(self, router: Router) -> Expected:
        """Return what a router expects of each of its LLMs on these prompts."""
        return router.expected(self.embeddings_for(router), input_tokens=self.input_tokens)


@dataclass(frozen=True, eq=False)
class RouterMeasure:
    """How a router does on gate prompts.

    Attributes
    ----------
    score, cost_usd
        Mean recorded score and USD per prompt at the router's own cost weight.
    area, qnc, qnc_is_reached, peak, aiq
        Measures of the deferral curve, as `routing.deferral` defines them.
    curve
        The deferral curve.
    scores, costs_usd
        ``(n,)`` recorded score and cost of the chosen LLM, by prompt.
    chosen
        Key of the chosen LLM, by prompt.
    shares
        Share of the gate prompts each LLM gets, in the order of the router's keys.
    """

    score: float
    cost_usd: float
    area: float
    qnc: float
    qnc_is_reached: bool
    peak: float
    aiq: float
    curve: DeferralCurve
    scores: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    chosen: tuple[str, ...]
    shares: tuple[tuple[str, float], ...]

    @property
    def is_free(self) -> bool:
        """Whether no LLM costs anything: then area, QNC and AIQ, which set score against cost, say nothing."""
        return self.curve.is_free


def measure(router: Router, outcomes: GateOutcomes) -> RouterMeasure:
    """Measure a router on gate prompts with the recorded outcomes.

    An LLM that is not among the outcomes was never asked these prompts: the router is measured without it.
    """
    answered = _answered(router, outcomes)
    embeddings = outcomes.embeddings_for(router)
    curve = deferral_curve(*answered, reference_cost_usd=outcomes.reference_cost_usd)
    keys = outcomes.known(router)
    eligible = keys if len(keys) < len(router.keys) else None
    chosen = router.route(embeddings, input_tokens=outcomes.input_tokens, candidates=eligible).llm_index
    columns = np.array([outcomes.keys.index(key) if key in keys else -1 for key in router.keys])[chosen]
    rows = np.arange(len(chosen))
    scores, costs_usd = outcomes.scores[rows, columns], outcomes.costs_usd[rows, columns]
    reached = qnc(curve, outcomes.best_score)
    counts = np.bincount(chosen, minlength=len(router.keys))
    return RouterMeasure(
        score=float(scores.mean()),
        cost_usd=float(costs_usd.mean()),
        area=area(curve),
        qnc=reached.value,
        qnc_is_reached=reached.reached,
        peak=peak(curve),
        aiq=aiq(curve),
        curve=curve,
        scores=scores,
        costs_usd=costs_usd,
        chosen=tuple(router.keys[column] for column in chosen.tolist()),
        shares=tuple((key, float(count / len(chosen))) for key, count in zip(router.keys, counts, strict=True)),
    )


def at_cost_of(other: RouterMeasure, router: Router, outcomes: GateOutcomes) -> EqualCost:
    """Measure a router that may spend exactly what another one spends."""
    return scores_at_equal_cost(*_answered(router, outcomes), target_usd=other.cost_usd, own_weight=router.cost_weight)


def _answered(router: Router, outcomes: GateOutcomes) -> tuple[NDArray[Any], ...]:
    """Return expected errors and costs, recorded scores and costs of a router's LLMs, ``(n, m)`` each."""
    keys = outcomes.known(router)
    expected = outcomes.expected_by(router)
    places, columns = [router.keys.index(key) for key in keys], outcomes.columns(keys)
    believed = expected.errors[:, places], expected.costs_usd[:, places]
    return *believed, outcomes.scores[:, columns], outcomes.costs_usd[:, columns]
