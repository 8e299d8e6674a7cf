"""What a router knows of every LLM, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from .checks import finite_number
from .errors import InvalidInput
from .features import FeatureVector

if TYPE_CHECKING:
    from .ranking import Ranking

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

# What provenance may hold: everything JSON writes in one token.
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class RoutedLLM:
    """Hold what a router needs of one LLM: its key, its prices and its feature vector.

    Attributes
    ----------
    key
        Identity, "endpoint:llm_id".
    input_usd_per_mtok, output_usd_per_mtok
        Prices in USD per million tokens, finite and not negative.
    vector
        Expected errors and tokens per cluster.
    """

    key: str
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    vector: FeatureVector

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise InvalidInput(f"the key of an LLM must be a non-empty string, got {self.key!r}")
        for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
            price = finite_number(getattr(self, name), f"{name} of {self.key}", minimum=0)
            object.__setattr__(self, name, price)


@dataclass(frozen=True, slots=True)
class Decision:
    """Answer which LLM a prompt goes to, and why.

    Attributes
    ----------
    llm
        Key of the chosen LLM.
    expected_score
        Its expected score on this prompt, in [0, 1].
    standard_error
        Upper bound of the standard error of `expected_score`: the clusters' errors may move together.
    expected_cost_usd
        Expected USD of asking it this prompt.
    cluster
        Number of the prompt's cluster.
    runner_up, runner_up_score, runner_up_cost_usd
        The second choice under the same rule, or None when only one LLM was eligible.
    cost_weight
        Error that one USD is worth: the rule minimises expected error + cost_weight * expected cost.
    router_digest
        Identity of the router that decided.
    """

    llm: str
    expected_score: float
    standard_error: float
    expected_cost_usd: float
    cluster: int
    runner_up: str | None
    runner_up_score: float | None
    runner_up_cost_usd: float | None
    cost_weight: float
    router_digest: str


class Decisions(Sequence[Decision]):
    """Hold the decisions of a batch as arrays; the record of one prompt is made when it is asked for.

    `decisions[i]` equals `router.decide(embeddings[i])`, with the same input tokens where these are known.

    Parameters
    ----------
    ranking
        What decided.
    keys
        Keys of the router's LLMs.
    llm_index : (n,) int64
        Position of the chosen LLM in `keys`.
    phi : (n,) int64 or (n, D) float32
        Cluster of every prompt, or its weights in the columns of the ranking's tables.
    n_first
        Number of columns that `cluster` counts.
    explain
        Gives the record of the prompt with a row number.

    Attributes
    ----------
    llm_index : (n,) int64
        Position of the chosen LLM in `keys`.
    keys
        Keys of the router's LLMs.
    cost_weight
        Error that one USD is worth.
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
