"""Rank LLMs by `gamma + cost_weight * cost`; ties go to the cheaper, then to the first key.

Batches are ranked in float32. A prompt whose two best LLMs are closer than float32 arithmetic can tell is ranked again
in float64, where rounding is a million times smaller than what counts as a tie. So decisions are the same for any
number of BLAS threads, although these change the order of summation, and for any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from .decisions import Decision, RoutedLLM
from .errors import InvalidInput

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

# Differences below this many errors, or below this share of the objective, are ties.
_TIE = 1e-9
# Bound on the error of float32 sums over BLAS, as a share of the objective and in errors.
_NEAR_RELATIVE, _NEAR_ERRORS = 5e-5, 1e-5


@dataclass(frozen=True, eq=False)
class Tables:
    """Errors and costs of m LLMs, stacked over the D columns of a cluster map.

    Where the input tokens of the prompts are known, they are one more column of Phi, after the map's: its error is
    zero, its cost is the price of one estimated input token, and the clusters cost the output tokens alone.

    Attributes
    ----------
    errors : (D or D + 1, m) float64
        Expected errors of the clusters, then coefficients of the linear features.
    costs_usd : (D or D + 1, m) float64
        Expected USD of one prompt of a cluster; zero for linear features; USD of one estimated input token.
    standard_errors : (D or D + 1, m) float64
        Standard errors of the clusters' errors; zero for the other columns.
    """

    errors: F64
    costs_usd: F64
    standard_errors: F64

    @classmethod
    def of(cls, llms: Sequence[RoutedLLM], n_clusters: int, n_linear: int) -> Tables:
        """Stack the vectors of LLMs, refusing one of another length than the map.

        Input tokens are those that the LLMs' profiles had in each cluster.
        """
        for llm in llms:
            lengths = len(llm.vector.errors), len(llm.vector.coefficients)
            if lengths != (n_clusters, n_linear):
                raise InvalidInput(
                    f"the feature vector of {llm.key} has {lengths[0]} clusters and {lengths[1]} coefficients, "
                    f"the cluster map {n_clusters} and {n_linear}",
                    hint="recompute the vector for this cluster map",
                )
        nothing = np.zeros(n_linear)
        errors = [np.concatenate([llm.vector.errors, llm.vector.coefficients]) for llm in llms]
        costs = [
            llm.vector.input_tokens.astype(np.float64) * llm.input_usd_per_mtok
            + llm.vector.output_tokens.astype(np.float64) * llm.output_usd_per_mtok
            for llm in llms
        ]
        return cls(
            np.stack(errors, axis=1).astype(np.float64),
            np.stack([np.concatenate([cost / 1e6, nothing]) for cost in costs], axis=1),
            np.stack([np.concatenate([llm.vector.standard_errors, nothing]) for llm in llms], axis=1).astype(
                np.float64
            ),
        )

    def with_input_tokens(self, llms: Sequence[RoutedLLM], n_clusters: int) -> Tables:
        """Return the tables of the same LLMs for prompts whose input tokens are known, with one more column of Phi."""
        costs = self.costs_usd.copy()
        for column, llm in enumerate(llms):
            costs[:n_clusters, column] = llm.vector.output_tokens.astype(np.float64) * llm.output_usd_per_mtok / 1e6
        nothing = np.zeros((1, len(llms)))
        input_prices = np.array([[llm.vector.input_token_ratio * llm.input_usd_per_mtok / 1e6 for llm in llms]])
        return Tables(
            np.vstack([self.errors, nothing]),
            np.vstack([costs, input_prices]),
            np.vstack([self.standard_errors, nothing]),
        )

    def expected_of(self, llm: int, weights: F64) -> tuple[float, float, float]:
        """Return the expected score, the expected USD and the standard error of the score of one LLM on one prompt.

        Parameters
        ----------
        llm
            Column of the LLM.
        weights : (D,) float64
            Phi of the prompt.
        """
        error, cost, standard_error = (self._by_llm[llm] @ weights).tolist()
        return min(max(1.0 - error, 0.0), 1.0), cost, standard_error

    @cached_property
    def _by_llm(self) -> F64:
        return np.ascontiguousarray(np.stack([self.errors, self.costs_usd, self.standard_errors]).T.swapaxes(1, 2))


class Ranking:
    """Choose among some LLMs under one cost weight; everything that does not depend on the prompt is computed once.

    Parameters
    ----------
    tables
        Errors and costs of all LLMs.
    cost_weight
        Errors that one USD is worth, finite and not negative.
    columns
        Indices of the eligible LLMs, ascending; at least one.

    Attributes
    ----------
    explained
        Records already made for hard clusters, by cluster number.
    """

    def __init__(self, tables: Tables, cost_weight: float, columns: Sequence[int]) -> None:
        self.tables = tables
        self.cost_weight = cost_weight
        self.columns: I64 = np.asarray(columns, dtype=np.int64)
        # Divided by (1 + cost_weight), so that no cost weight overflows.
        self._scale = 1.0 / (1.0 + cost_weight)
        self._share = cost_weight * self._scale
        self._costs = tables.costs_usd[:, self.columns]
        self._objective = tables.errors[:, self.columns] * self._scale + self._costs * self._share
        # LLMs that are equal in everything tie on every prompt: only the first can win, so only it is ranked.
        both = np.vstack([self._objective, self._costs])
        distinct = np.sort(np.unique(both, axis=1, return_index=True)[1])
        self._distinct_columns = self.columns[distinct]
        self.explained: dict[int, Decision] = {}
        self._objective_t = np.ascontiguousarray(self._objective.T)
        self._objective_t32 = np.ascontiguousarray(self._objective[:, distinct].T.astype(np.float32))

    @cached_property
    def of_cluster(self) -> I64:
        """Index of the chosen LLM for every cluster of a hard map, (D,) int64."""
        return self.choose_exactly(np.eye(len(self._objective)))

    def choose(self, weights: F32, exact_weights: Callable[[I64], F64]) -> I64:
        """Choose an LLM for every prompt.

        Parameters
        ----------
        weights : (n, D) float32
            Phi of the prompts.
        exact_weights
            Returns Phi in float64 for the prompts at given row numbers.

        Returns
        -------
        (n,) int64
            Index of the chosen LLM among all LLMs of the tables.
        """
        objective = self._objective_t32 @ weights.T
        limit = objective.min(axis=0)
        limit += np.abs(limit) * np.float32(_NEAR_RELATIVE) + np.float32(_NEAR_ERRORS * self._scale)
        near = objective <= limit
        chosen = self._distinct_columns[near.argmax(axis=0)]
        open_rows = np.flatnonzero(np.add.reduce(near, axis=0, dtype=np.uint32) > 1)
        if len(open_rows):
            chosen[open_rows] = self.choose_exactly(exact_weights(open_rows))
        return chosen

    def choose_exactly(self, weights: F64) -> I64:
        """Choose an LLM for every prompt in float64: the rule itself.

        Parameters
        ----------
        weights : (n, D) float64
            Phi of the prompts.

        Returns
        -------
        (n,) int64
            Index of the chosen LLM among all LLMs of the tables.
        """
        return self.columns[_best(weights @ self._objective, weights @ self._costs, _TIE * self._scale)]

    def first_two(self, weights: F64) -> tuple[int, int | None]:
        """Return the indices of the best LLM for one prompt and of the second best, if there is one.

        Parameters
        ----------
        weights : (D,) float64
            Phi of the prompt.
        """
        objective = self._objective_t @ weights
        if len(objective) == 1:
            return int(self.columns[0]), None
        first, least = _take_least(objective)
        second, runner_up = _take_least(objective)
        if runner_up <= self._limit(least):
            return self._first_two_of_ties(weights)
        # The first two are out of the running now; another LLM may still tie with the second.
        if len(objective) > 2 and objective.item(objective.argmin()) <= self._limit(runner_up):
            return self._first_two_of_ties(weights)
        return int(self.columns[first]), int(self.columns[second])

    def _limit(self, least: float) -> float:
        return least + (abs(least) * _TIE + _TIE * self._scale)

    def _first_two_of_ties(self, weights: F64) -> tuple[int, int]:
        objective, costs = weights @ self._objective, weights @ self._costs
        places = []
        for _ in range(2):
            place = int(_best(objective[None], costs[None], _TIE * self._scale)[0])
            objective[place] = np.inf
            places.append(int(self.columns[place]))
        return places[0], places[1]


def _take_least(objective: F64) -> tuple[int, float]:
    """Return the place and value of the minimum, and replace it by infinity."""
    place = int(objective.argmin())
    least = objective.item(place)
    objective[place] = np.inf
    return place, least


def _best(objective: F64, costs: F64, tie: float) -> I64:
    """Column of the smallest objective per row; among ties the smallest cost, then the first column."""
    least = objective.min(axis=1, keepdims=True)
    tied = objective <= least + (np.abs(least) * _TIE + tie)
    tied_costs = np.where(tied, costs, np.inf)
    return (tied_costs <= tied_costs.min(axis=1, keepdims=True) * (1 + _TIE)).argmax(axis=1)


class Decisions(Sequence[Decision]):
    """Decisions of a batch as arrays; the record of one prompt is made on access.

    `decisions[i]` equals `router.decide(embeddings[i])`, with the same input tokens where these are known.

    Parameters
    ----------
    ranking
        The ranking that decided.
    keys
        Keys of the router's LLMs.
    llm_index : (n,) int64
        Position of the chosen LLM in `keys`.
    phi : (n,) int64 or (n, D) float32
        Cluster of every prompt, or its weights in the columns of the ranking's tables.
    n_first
        Number of columns that `cluster` counts.
    explain
        Returns the record of the prompt at a row number.

    Attributes
    ----------
    llm_index : (n,) int64
        Position of the chosen LLM in `keys`.
    keys
        Keys of the router's LLMs.
    cost_weight
        Errors that one USD is worth.
    """

    def __init__(
        self,
        ranking: Ranking,
        keys: tuple[str, ...],
        llm_index: I64,
        phi: I64 | F32,
        n_first: int,
        explain: Callable[[int], Decision],
    ) -> None:
        self._tables, self._phi, self._n_first, self._explain = ranking.tables, phi, n_first, explain
        self.llm_index = llm_index
        self.keys = keys
        self.cost_weight = ranking.cost_weight

    @cached_property
    def llms(self) -> tuple[str, ...]:
        """Keys of the chosen LLMs."""
        return tuple(self.keys[index] for index in self.llm_index.tolist())

    @cached_property
    def cluster(self) -> I64:
        """Cluster of every prompt, (n,) int64."""
        if self._phi.ndim == 1:
            return self._phi.astype(np.int64)
        return self._phi[:, : self._n_first].argmax(axis=1)

    @cached_property
    def expected_score(self) -> F32:
        """Expected score of the chosen LLM, (n,) float32 in [0, 1]."""
        return np.clip(1 - self._chosen(self._tables.errors), 0, 1)

    @cached_property
    def expected_cost_usd(self) -> F32:
        """Expected USD of asking the chosen LLM, (n,) float32."""
        return self._chosen(self._tables.costs_usd)

    @cached_property
    def standard_error(self) -> F32:
        """Upper bound of the standard error of `expected_score`, (n,) float32."""
        return self._chosen(self._tables.standard_errors)

    def _chosen(self, table: F64) -> F32:
        if self._phi.ndim == 1:
            return table[self._phi, self.llm_index].astype(np.float32)
        return np.einsum("nd,nd->n", self._phi, table.T.astype(np.float32)[self.llm_index])

    def __len__(self) -> int:
        return len(self.llm_index)

    @overload
    def __getitem__(self, index: int) -> Decision: ...
    @overload
    def __getitem__(self, index: slice) -> list[Decision]: ...
    def __getitem__(self, index: int | slice) -> Decision | list[Decision]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._explain(range(len(self))[index])
