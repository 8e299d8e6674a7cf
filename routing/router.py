"""The router: a frozen value that turns embeddings into decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt

from .budgets import cost_weight_keeping, cost_weight_within
from .checks import finite_array, finite_number
from .content import content_digest
from .decisions import Decision, RoutedLLM, Scalar
from .embedding import EmbedderId
from .errors import MOST_NAMED, InvalidInput, NoEligibleLLM, named
from .prompt_weights import ClusterMap
from .ranking import Decisions, Ranking, Tables
from .tokens import MOST_TOKENS, checked_tokens, checked_tokens_of, with_tokens

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

# Prompts ranked at once when their tokens are known: the objective of all prompts may not fit in memory.
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Expected:
    """What a router expects of every LLM on every prompt.

    Attributes
    ----------
    errors : (n, m) float32
        Expected errors, in [0, 1].
    costs_usd : (n, m) float32
        Expected USD per prompt.
    """

    errors: F32
    costs_usd: F32


@dataclass(frozen=True, eq=False)
class Router:
    """Choose the LLM with the smallest expected error plus `cost_weight` times expected cost.

    A frozen value: the same content has the same digest and gives the same decisions for any process, any number of
    threads and any order of the LLMs. Construction fails unless every number in it is finite.

    Attributes
    ----------
    cluster_map
        Phi. A fitted `KMeansMap` is accepted too and replaced by its `fitted_`.
    llms
        What is known of every LLM; kept sorted by key.
    embedder
        Identity of the embedder that the map was fitted with.
    cost_weight
        Errors that one USD per prompt is worth, finite and not negative; at zero, only quality counts.
    calibration_weights : (n_rep, D) float32
        Phi of the representative prompts; `cost_weight_for` solves budgets on them.
    calibration_tokens : (n_rep,) float32
        Estimated input tokens of the representative prompts; empty when they are not known.
    provenance
        What the router was made from, as JSON scalars. It is part of the digest, so it holds no times or run numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from routing import ClusterMap, EmbedderId, RoutedLLM, Router, plain_feature_vector
    >>> axes = np.eye(2)
    >>> def profile(scores, output_tokens):
    ...     return plain_feature_vector([0, 1], scores, [50, 50], output_tokens, n_clusters=2, n_prompts=2)
    >>> llms = [
    ...     RoutedLLM("small", 0.1, 0.4, profile([1, 0], [100, 100])),
    ...     RoutedLLM("large", 2.5, 10.0, profile([1, 1], [300, 300])),
    ... ]
    >>> router = Router(
    ...     ClusterMap.nearest(axes),
    ...     llms,
    ...     embedder=EmbedderId("axes", "1", 2),
    ...     cost_weight=50,
    ...     calibration_weights=axes,
    ... )
    >>> router.route(axes).llms
    ('small', 'large')
    >>> router.decide(axes[1], cost_weight=1000).llm
    'small'
    """

    cluster_map: ClusterMap
    llms: tuple[RoutedLLM, ...]
    embedder: EmbedderId = field(kw_only=True)
    cost_weight: float = field(kw_only=True)
    calibration_weights: F32 = field(kw_only=True)
    calibration_tokens: F32 = field(kw_only=True, default_factory=lambda: np.zeros(0, dtype=np.float32))
    provenance: Mapping[str, Scalar] = field(kw_only=True, default_factory=dict)

    def __post_init__(self) -> None:
        cluster_map = getattr(self.cluster_map, "fitted_", self.cluster_map)
        llms = tuple(sorted(self.llms, key=lambda llm: llm.key))
        if not llms:
            raise NoEligibleLLM("a router needs at least one LLM", hint="profile an LLM first")
        keys = [llm.key for llm in llms]
        if len(set(keys)) < len(keys):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise InvalidInput(f"a router cannot have the same LLM twice: {named(twice)}")
        if cluster_map.dim != self.embedder.dim:
            raise InvalidInput(
                f"the map reads {cluster_map.dim} dimensions, {self.embedder.key} has {self.embedder.dim}"
            )
        width = cluster_map.n_clusters + cluster_map.n_linear
        calibration = finite_array(self.calibration_weights, "calibration_weights", shape=(None, width))
        calibration = calibration.astype(np.float32)
        calibration.setflags(write=False)
        tokens = _checked_calibration_tokens(self.calibration_tokens, len(calibration))
        for name, value in {
            "cluster_map": cluster_map,
            "llms": llms,
            "cost_weight": _checked_cost_weight(self.cost_weight),
            "calibration_weights": calibration,
            "calibration_tokens": tokens,
            "provenance": _checked_provenance(self.provenance),
        }.items():
            object.__setattr__(self, name, value)
        # Everything that does not depend on a prompt is computed here, not at the first decision.
        _ = self._own_ranking, self._own_ranking_by_tokens, self.digest

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the LLMs, ascending: the columns of `expected` and the numbers of `Decisions.llm_index`."""
        return tuple(llm.key for llm in self.llms)

    @cached_property
    def digest(self) -> str:
        """Identity of the router: SHA-256 over everything that it contains."""
        return content_digest(self)

    @property
    def solves_by_tokens(self) -> bool:
        """Whether `cost_weight_for` counts the representative prompts' own input tokens, as routing with them does."""
        return len(self.calibration_tokens) > 0

    def expected(self, embeddings: npt.ArrayLike, *, input_tokens: npt.ArrayLike | None = None) -> Expected:
        """Return the expected error and cost of every LLM on every prompt.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows of the router's embedder.
        input_tokens
            As for `route`.
        """
        weights = self.cluster_map.weights(embeddings)
        errors = np.clip(weights @ self._tables.errors.astype(np.float32), 0, 1)
        if input_tokens is None:
            return Expected(errors, weights @ self._tables.costs_usd.astype(np.float32))
        phi = with_tokens(weights, checked_tokens(input_tokens, len(weights)))
        return Expected(errors, phi @ self._tables_by_tokens.costs_usd.astype(np.float32))

    def route(
        self,
        embeddings: npt.ArrayLike,
        *,
        input_tokens: npt.ArrayLike | None = None,
        cost_weight: float | None = None,
        candidates: Collection[str] | None = None,
    ) -> Decisions:
        """Choose an LLM for every prompt.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows of the router's embedder.
        input_tokens : array-like of shape (n,), optional
            Input tokens of every prompt, such as `estimated_input_tokens` returns, finite and not negative; with
            None, a prompt is expected to have the tokens that the LLMs' profiles had in its cluster.
        cost_weight
            Instead of the router's own; finite and not negative.
        candidates
            Keys of the eligible LLMs; None means all.

        Raises
        ------
        InvalidInput
            When an embedding, a number of tokens or the cost weight must not be used, or a candidate is unknown.
        NoEligibleLLM
            When `candidates` is empty.
        """
        ranking = self._ranking(cost_weight, candidates, by_tokens=input_tokens is not None)
        if input_tokens is not None:
            return self._route_by_tokens(ranking, embeddings, input_tokens)
        if self.cluster_map.is_hard:
            clusters = self.cluster_map.assign(embeddings)
            return self._decisions(ranking, embeddings, ranking.of_cluster[clusters], clusters)
        weights = self.cluster_map.weights(embeddings)
        rows = np.asarray(embeddings)
        chosen = ranking.choose(weights, lambda numbers: self.cluster_map.exact_weights(rows[numbers]))
        return self._decisions(ranking, rows, chosen, weights)

    def decide(
        self,
        embedding: npt.ArrayLike,
        *,
        input_tokens: float | None = None,
        cost_weight: float | None = None,
        candidates: Collection[str] | None = None,
    ) -> Decision:
        """Choose an LLM for one prompt and explain the choice.

        Parameters
        ----------
        embedding : array-like of shape (dim,)
            Unit row of the router's embedder.
        input_tokens, cost_weight, candidates
            As for `route`.
        """
        if input_tokens is None:
            return self._explain(self._ranking(cost_weight, candidates), embedding)
        ranking = self._ranking(cost_weight, candidates, by_tokens=True)
        return self._explain(ranking, embedding, checked_tokens_of(input_tokens))

    def cost_weight_for(
        self,
        *,
        max_cost_usd_per_1k: float | None = None,
        min_score: float | None = None,
        candidates: Collection[str] | None = None,
    ) -> float:
        """Solve for the cost weight that keeps a budget or a quality on the representative prompts.

        A router that knows the input tokens of these prompts counts them, so the result is for routing with
        `input_tokens`; one that does not (`solves_by_tokens` is false) counts those of the LLMs' profiles, and the
        result is for routing without.

        Parameters
        ----------
        max_cost_usd_per_1k
            Largest expected USD per 1,000 prompts; the result is the smallest cost weight that stays within it.
        min_score
            Share of the best single LLM's expected score to keep, in [0, 1]; the result is the largest cost weight that
            keeps it.
        candidates
            As for `route`.

        Returns
        -------
        float
            Finite, not negative.

        Raises
        ------
        InvalidInput
            Unless exactly one of the two limits is given; when even the cheapest choice exceeds the budget.
        """
        if (max_cost_usd_per_1k is None) == (min_score is None):
            raise InvalidInput("give either max_cost_usd_per_1k or min_score")
        if not len(self.calibration_weights):
            raise InvalidInput("this router has no calibration prompts to solve a budget on")
        columns = self._columns(None if candidates is None else frozenset(candidates))
        errors, costs = self._calibrated(columns)
        if min_score is not None:
            return cost_weight_keeping(errors, costs, min_score)
        return cost_weight_within(errors, costs, cast(float, max_cost_usd_per_1k) / 1000)

    def expected_on_calibration(self) -> tuple[F64, F64]:
        """Return the expected errors and USD of every LLM on the representative prompts, ``(n_rep, m)`` each."""
        return self._calibrated(list(range(len(self.keys))))

    def _calibrated(self, columns: list[int]) -> tuple[F64, F64]:
        phi, tables = self.calibration_weights.astype(np.float64), self._tables
        if self.solves_by_tokens:
            phi, tables = with_tokens(phi, self.calibration_tokens.astype(np.float64)), self._tables_by_tokens
        return phi @ tables.errors[:, columns], phi @ tables.costs_usd[:, columns]

    @cached_property
    def _tables(self) -> Tables:
        return Tables.of(self.llms, self.cluster_map.n_clusters, self.cluster_map.n_linear)

    @cached_property
    def _tables_by_tokens(self) -> Tables:
        return self._tables.with_input_tokens(self.llms, self.cluster_map.n_clusters)

    def _ranking(
        self, cost_weight: float | None, candidates: Collection[str] | None, *, by_tokens: bool = False
    ) -> Ranking:
        if cost_weight is None and candidates is None:
            return self._own_ranking_by_tokens if by_tokens else self._own_ranking
        if isinstance(candidates, str):
            raise InvalidInput(f"candidates must be a collection of keys, got the text {candidates!r}")
        weight = self.cost_weight if cost_weight is None else cost_weight
        return self._other_rankings(weight, None if candidates is None else frozenset(candidates), by_tokens)

    @cached_property
    def _own_ranking(self) -> Ranking:
        return Ranking(self._tables, self.cost_weight, range(len(self.keys)))

    @cached_property
    def _own_ranking_by_tokens(self) -> Ranking:
        return Ranking(self._tables_by_tokens, self.cost_weight, range(len(self.keys)))

    @cached_property
    def _other_rankings(self) -> Callable[[float, frozenset[str] | None, bool], Ranking]:
        # Bounded: a consumer that varies the cost weight per request must not grow the memory.
        @lru_cache(maxsize=16)
        def build(cost_weight: float, candidates: frozenset[str] | None, by_tokens: bool) -> Ranking:
            tables = self._tables_by_tokens if by_tokens else self._tables
            return Ranking(tables, _checked_cost_weight(cost_weight), self._columns(candidates))

        return build

    def _columns(self, candidates: Collection[str] | None) -> list[int]:
        if candidates is None:
            return list(range(len(self.keys)))
        unknown = sorted(set(candidates) - set(self.keys))
        if unknown:
            raise InvalidInput(
                f"candidates this router does not know: {named(unknown, MOST_NAMED // 2)}",
                hint=f"it knows {named(self.keys, MOST_NAMED // 2)}",
            )
        if not candidates:
            raise NoEligibleLLM("no candidate is left to choose from", hint="allow at least one LLM")
        return [column for column, key in enumerate(self.keys) if key in candidates]

    def _route_by_tokens(self, ranking: Ranking, embeddings: npt.ArrayLike, input_tokens: npt.ArrayLike) -> Decisions:
        weights = self.cluster_map.weights(embeddings)
        rows, tokens = np.asarray(embeddings), checked_tokens(input_tokens, len(weights))
        phi = with_tokens(weights, tokens)

        def exact_phi(numbers: I64) -> F64:
            return with_tokens(self.cluster_map.exact_weights(rows[numbers]), tokens[numbers])

        chosen = [
            ranking.choose(phi[start : start + _CHUNK], lambda numbers, start=start: exact_phi(numbers + start))
            for start in range(0, max(len(phi), 1), _CHUNK)
        ]
        return self._decisions(ranking, rows, np.concatenate(chosen), phi, tokens)

    def _decisions(
        self,
        ranking: Ranking,
        embeddings: npt.ArrayLike,
        llm_index: I64,
        phi: I64 | F32,
        input_tokens: F64 | None = None,
    ) -> Decisions:
        def explain(row: int) -> Decision:
            tokens = None if input_tokens is None else float(input_tokens[row])
            return self._explain(ranking, np.asarray(embeddings)[row], tokens)

        return Decisions(ranking, self.keys, llm_index, phi, self.cluster_map.blocks[0].size, explain)

    def _explain(self, ranking: Ranking, embedding: npt.ArrayLike, input_tokens: float | None = None) -> Decision:
        if not self.cluster_map.is_hard:
            weights = self.cluster_map.exact_weights_of(embedding)
            cluster = int(weights[: self.cluster_map.blocks[0].size].argmax())
            return self._decision(ranking, weights, cluster, input_tokens)
        cluster = self.cluster_map.exact_assign_of(embedding)
        known = ranking.explained.get(cluster) if input_tokens is None else None
        if known is None:
            one_hot = np.zeros(self.cluster_map.n_clusters)
            one_hot[cluster] = 1.0
            known = self._decision(ranking, one_hot, cluster, input_tokens)
            if input_tokens is None:
                ranking.explained[cluster] = known
        return known

    def _decision(self, ranking: Ranking, weights: F64, cluster: int, input_tokens: float | None) -> Decision:
        if input_tokens is not None:
            joined = np.empty(len(weights) + 1)
            joined[:-1], joined[-1] = weights, input_tokens
            weights = joined
        first, second = ranking.first_two(weights)
        score, cost, standard_error = ranking.tables.expected_of(first, weights)
        runner_up = runner_up_score = runner_up_cost = None
        if second is not None:
            runner_up = self.keys[second]
            runner_up_score, runner_up_cost, _ = ranking.tables.expected_of(second, weights)
        return Decision(
            self.keys[first],
            score,
            standard_error,
            cost,
            cluster,
            runner_up,
            runner_up_score,
            runner_up_cost,
            ranking.cost_weight,
            self.digest,
        )


def _checked_cost_weight(value: float) -> float:
    return finite_number(value, "cost_weight", minimum=0)


def _checked_calibration_tokens(given: npt.ArrayLike, n_prompts: int) -> F32:
    tokens = finite_array(given, "calibration_tokens", shape=(None,), minimum=0, maximum=MOST_TOKENS)
    if len(tokens) not in (0, n_prompts):
        raise InvalidInput(
            f"calibration_tokens must be as many as calibration_weights has rows, got {len(tokens)} for {n_prompts}"
        )
    checked = tokens.astype(np.float32)
    checked.setflags(write=False)
    return checked


def _checked_provenance(given: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    for name, value in given.items():
        if isinstance(value, float):
            finite_number(value, f"provenance {name}")
        if not isinstance(name, str) or not (value is None or isinstance(value, (str, int, float, bool))):
            raise InvalidInput(f"provenance {name!r} must be a text, a number, true, false or null, got {value!r}")
    return MappingProxyType(dict(sorted(given.items())))
