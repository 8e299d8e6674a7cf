"""Early stop: the profile of a new LLM ends when more answers would change no decision of the champion.

What the champion would decide is looked at on the map prompts, at cost weights around its own: consumers may ask for
others. Everything that is read is stored and does not change during the night, so a night that is killed and started
again stops where it would have.

Before the remaining answers are in, the expected error that they will lead to is normally distributed around the
present one. Its variance is what they take away: the posterior variance now minus the posterior variance with them
(pre-posterior analysis, Raiffa and Schlaifer 1961). What no answer will ever settle does not count as open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from flows.night.asked_prompts import fitted_prompts, places_among
from flows.night.llm_facts import facts_of, levels_of, routed_llm
from routing.errors import RoutingError
from routing.estimator import PosteriorEstimator
from routing.features import FeatureVector
from routing.router import Router
from routing.stored_estimator import read_estimator
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM
    from registry.prompts import Prompt

STEP: Final = 25
"""After how many more answers it is looked at again."""
WEIGHTS: Final = (0.25, 1.0, 4.0)
"""Multiples of the cost weight of the settings at which no decision may be open."""


@dataclass(frozen=True, eq=False)
class _Basis:
    """What does not change during a night: the champion on the map prompts, and the estimator of its vectors."""

    map_digest: str
    estimator: PosteriorEstimator
    fitted_prompts: tuple[str, ...]
    router: Router
    embeddings: NDArray[np.float32]
    input_tokens: NDArray[np.float32]
    errors: NDArray[np.float64]
    costs_usd: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Answers:
    """What an LLM answered of the first n of the prompts that it is asked; scores, input and output tokens of all."""

    prompts: tuple[Prompt, ...]
    n: int
    columns: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, night: Night, llm: LLM, prompts: tuple[Prompt, ...], n: int) -> _Answers:
        table = night.registry.outcomes.table([llm.key], prompts, night.grader_versions, night.asked_sampling(llm))
        return cls(prompts, n, tuple(one[:, 0] for one in (table.scores, table.input_tokens, table.output_tokens)))

    @property
    def first(self) -> NDArray[np.bool_]:
        """Which of the prompts are among the first and have a score."""
        return np.isfinite(self.columns[0]) & (np.arange(len(self.prompts)) < self.n)


class EarlyStop:
    """Say whether an LLM needs no more answers.

    Parameters
    ----------
    night
        The night under way.
    """

    def __init__(self, night: Night) -> None:
        self._night = night

    def may_stop(self, llm: LLM) -> bool:
        """Whether the profile of an LLM may end early: it is asked by an order, and some others serve."""
        is_wanted = self._night.settings.profiling.decided > 0
        return is_wanted and self._night.asked.scope_tonight(llm) is not None and self._basis is not None

    def is_decided(self, llm: LLM, n: int) -> bool:
        """Whether the answers to the first prompts of an LLM's order decide.

        Parameters
        ----------
        llm
            An LLM whose profile may end early.
        n
            Number of prompts that it was asked. Fewer than are drawn uniformly are never enough, because other tests
            need those, nor are fewer than an LLM needs to be routed to.
        """
        night, prompts = self._night, self._night.asked.representative(llm)
        least = max(night.asked.n_random(llm), night.settings.routing.min_answers)
        if self._basis is None or not least <= n < len(prompts):
            return False
        answers = _Answers.of(night, llm, prompts, n)
        # What failed, or was not asked because the night was told to end, is missing: nothing is decided without it.
        if answers.first.sum() < max(1.0, night.settings.routing.min_coverage * n - 1e-9):
            return False
        try:
            return self._openness(llm, answers) <= night.settings.profiling.decided
        except RoutingError:
            # Without a vector, or one that may be used, nothing is decided.
            return False

    def _openness(self, llm: LLM, answers: _Answers) -> float:
        basis, night = self._basis, self._night
        assert basis is not None
        now, later = self._vectors(llm, answers)
        expected = replace(basis.router, llms=(routed_llm(llm, now),)).expected(
            basis.embeddings, input_tokens=basis.input_tokens
        )
        weights = basis.router.cluster_map.weights(basis.embeddings)[:, : len(now.errors)].astype(np.float64)
        others = [place for place, key in enumerate(basis.router.keys) if key != llm.key]
        return most_open_decision(
            expected.errors[:, 0].astype(np.float64),
            expected.costs_usd[:, 0].astype(np.float64),
            weights @ open_deviations(now.standard_errors, later.standard_errors),
            basis.errors[:, others],
            basis.costs_usd[:, others],
            cost_weights=[night.settings.routing.cost_weight * one for one in WEIGHTS],
        )

    def _vectors(self, llm: LLM, answers: _Answers) -> tuple[FeatureVector, FeatureVector]:
        """Return the vector by the answers to the first prompts, and one as certain as all answers would make it."""
        night, basis, prompts = self._night, self._basis, answers.prompts
        assert basis is not None
        first = answers.first
        every = first | (np.arange(len(prompts)) >= answers.n)
        places = places_among(basis.fitted_prompts, [one.digest for one in prompts])
        prepared = basis.estimator.prepared(night.embeddings_of(prompts), places)
        level = levels_of(night.registry, basis.map_digest, basis.estimator, facts_of(night.registry, [llm]))[llm.key]
        tokens = estimated_input_tokens([prompt.text for prompt in prompts])

        def vector(scored: NDArray[np.bool_]) -> FeatureVector:
            # The certainty of a vector depends on how many answers there are to what, and on their mean.
            filled = [np.where(first, values, np.mean(values[first])) for values in answers.columns]
            return prepared.vector(
                scored,
                *(values[scored] for values in filled),
                n_prompts=len(prompts),
                estimated_tokens=tokens[scored],
                level=level,
            )

        return vector(first), vector(every)

    @cached_property
    def _basis(self) -> _Basis | None:
        """The champion's LLMs that can serve, by their vectors on the map of tonight; None with fewer than two."""
        night = self._night
        in_use, champion = night.fitted_map, night.registry.routers.aliases().champion
        if in_use is None or champion is None or night.settings.routing.method != "posterior":
            return None
        record = in_use.record
        served = set(night.registry.routers.get(champion).llm_keys)
        stored = night.registry.routers.vectors(record.digest, prompt_set_digest=night.prompt_set.digest)
        known = {one.llm_key: one for one in stored if one.llm_key in served}
        priced = [llm for llm in night.registry.llms.all() if llm.key in known and llm.is_routable_on(night.as_of)]
        estimator = read_estimator(record.kind, record.arrays)
        if len(priced) < 2 or not isinstance(estimator, PosteriorEstimator):
            return None
        prompts = night.prompt_set.with_role("map")
        embeddings = night.embeddings_of(prompts)
        tokens = estimated_input_tokens([prompt.text for prompt in prompts])
        router = Router(
            estimator.cluster_map_,
            tuple(routed_llm(llm, known[llm.key].as_vector()) for llm in priced),
            embedder=night.workspace.embedder.id,
            cost_weight=night.settings.routing.cost_weight,
            calibration_weights=estimator.cluster_map_.exact_weights(embeddings[:1]),
        )
        expected = router.expected(embeddings, input_tokens=tokens)
        return _Basis(
            record.digest,
            estimator,
            fitted_prompts(night.registry, record),
            router,
            embeddings,
            tokens,
            expected.errors.astype(np.float64),
            expected.costs_usd.astype(np.float64),
        )


def open_deviations(now: NDArray[np.float64], later: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviations by which expectations may still move.

    Parameters
    ----------
    now, later
        ``(K,)`` standard errors with the answers so far, and with all that are planned.
    """
    return np.sqrt(np.maximum(now.astype(np.float64) ** 2 - later.astype(np.float64) ** 2, 0.0))


def most_open_decision(
    errors: NDArray[np.float64],
    costs_usd: NDArray[np.float64],
    deviations: NDArray[np.float64],
    other_errors: NDArray[np.float64],
    other_costs_usd: NDArray[np.float64],
    *,
    cost_weights: Sequence[float],
) -> float:
    """Return the largest probability, over prompts and cost weights, that the choice for or against an LLM changes.

    Parameters
    ----------
    errors, costs_usd, deviations
        ``(n,)``: what is expected of the LLM on each prompt, and how far its expected error may still move.
    other_errors, other_costs_usd
        ``(n, m)``: what is expected of the LLMs that it is compared with; at least one.
    cost_weights
        Errors that one USD is worth.

    Returns
    -------
    float
        In [0, 0.5]; 0 when nothing may move.
    """
    most = 0.0
    for weight in cost_weights:
        best = (other_errors + weight * other_costs_usd).min(axis=1)
        apart = np.abs(errors + weight * costs_usd - best)
        distance = np.divide(apart, deviations, out=np.full_like(apart, np.inf), where=deviations > 0)
        most = max(most, float(ndtr(-distance).max(initial=0.0)))
    return most
