"""What the methods of a benchmark may see in one trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routing.cluster_maps import KMeansMap
from routing.day_zero import LLMFacts
from routing.learned_map import contrast_loss
from routing.posterior.choice import Plan
from routing.posterior.feature_space import PROMPTS_PER_CLUSTER, RESOLUTIONS
from routing.prompt_weights import ClusterMap

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Numbers of clusters to try, as in the paper's experiments.
KMEANS_K = (5, 10, 25, 50, 100, 300)


@dataclass(frozen=True, eq=False)
class BenchTrial:
    """What methods may see in one trial; only `clairvoyant` may read `test_map_errors`.

    Attributes
    ----------
    map_rows, few_rows, gate_rows : (n, dim) float32
        Embeddings of map, representative and gate prompts.
    train_map_errors, train_few_errors : (n, m) float64
        Errors of the training LLMs.
    train_few_costs_usd : (n, m) float64
        Costs of their answers to the representative prompts.
    test_few_errors : (n, h) float64
        Errors of the unseen LLMs on the representative prompts: all that a method may know about them.
    pool_rows, train_pool_errors, test_pool_errors
        The same of the prompts that representative ones are drawn from; a method that chooses among them may read as
        many of the unseen LLMs' answers as were drawn.
    test_map_errors : (n, h) float64
        Their errors on the map prompts.
    seed
        Seed of everything that is drawn in this trial.
    train_facts, test_facts
        What is known of the LLMs without their answers; empty when nothing is.
    """

    map_rows: F32
    few_rows: F32
    gate_rows: F32
    train_map_errors: F64
    train_few_errors: F64
    train_few_costs_usd: F64
    test_few_errors: F64
    test_map_errors: F64
    pool_rows: F32
    train_pool_errors: F64
    test_pool_errors: F64
    seed: int
    train_facts: Sequence[LLMFacts] = ()
    test_facts: Sequence[LLMFacts] = ()
    _fitted: dict[int, ClusterMap] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def plan(self) -> Plan | None:
        """Which LLMs are pseudo-new, and the prompts that predictions are judged on."""
        return Plan.draw(self.train_map_errors, seed=self.seed)

    @cached_property
    def kmeans_sizes(self) -> tuple[int, ...]:
        """The K to try, at least one: those that the map prompts support."""
        distinct = len(np.unique(self.map_rows, axis=0))
        return tuple(k for k in KMEANS_K if k <= distinct) or (1,)

    def map_of(self, k: int) -> ClusterMap:
        """Return the k-means map of the map prompts with k clusters, which all methods share."""
        if k not in self._fitted:
            self._fitted[k] = KMeansMap(k, random_state=self.seed, n_init=1).fit(self.map_rows).fitted_
        return self._fitted[k]

    @property
    def resolutions(self) -> tuple[ClusterMap, ...]:
        """The maps that methods of several resolutions use; at least one."""
        n = len(self.map_rows)
        enough = [k for k in self.kmeans_sizes if k in RESOLUTIONS and k * PROMPTS_PER_CLUSTER <= n]
        return tuple(map(self.map_of, enough or self.kmeans_sizes[:1]))

    @property
    def judged_rows(self) -> F32:
        """Embeddings of the map prompts that predictions are judged on."""
        assert self.plan is not None, "callers check that there is a plan"
        return self.map_rows[self.plan.judging]

    def loss(self, expected_errors: F64) -> float:
        """Return the loss of errors that were expected of the training LLMs as if they were new."""
        assert self.plan is not None, "callers check that there is a plan"
        return contrast_loss(expected_errors, self.train_map_errors[self.plan.judging])
