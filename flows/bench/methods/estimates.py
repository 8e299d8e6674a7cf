"""The methods of a benchmark: the errors that each expects of unseen LLMs on gate prompts, in one trial.

Every method that has a setting (k, K, strength of shrinkage) chooses it by simulation on the training LLMs alone: some
are held out as if they were new (`routing.posterior_choice.Plan`), and all methods minimise the same `contrast_loss`.
`kmeans_f1` is a deliberate exception: it chooses K as appendix F.1 of the UniRoute paper does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flows.bench.methods.clairvoyant import ClairvoyantMean
from flows.bench.methods.nearest_neighbours import NearestNeighbours
from routing.cluster_maps import KMeansMap
from routing.day_zero import KnownFacts, LLMFacts
from routing.deferral import area, deferral_curve
from routing.estimator import PosteriorEstimator
from routing.feature_space import PROMPTS_PER_CLUSTER, RESOLUTIONS
from routing.learned_map import LEARNED_K, LEAST_KNOWN, best_setting, contrast_loss, learn, plain_vectors
from routing.posterior_choice import Plan
from routing.prompt_weights import ClusterMap

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Settings to try. K as in the paper's experiments.
KMEANS_K = (5, 10, 25, 50, 100, 300)
NEIGHBOURS = (1, 5, 10, 20, 40, 80, 160, 320)


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


def knn(trial: BenchTrial) -> F64:
    """Average the errors on the k nearest representative prompts; k is chosen by simulation."""
    sizes = [k for k in NEIGHBOURS if k <= len(trial.few_rows)]
    k = sizes[len(sizes) // 2]
    if trial.plan is not None:
        known = NearestNeighbours().fit(trial.few_rows, trial.train_few_errors)
        found = known.predict_each(trial.judged_rows, sizes)
        k = best_setting({size: trial.loss(found[size]) for size in sizes})
    return NearestNeighbours(k).fit(trial.few_rows, trial.test_few_errors).predict(trial.gate_rows)


def kmeans(trial: BenchTrial) -> F64:
    """UniRoute with k-means; K is chosen by simulation."""
    chosen = trial.kmeans_sizes[0]
    if trial.plan is not None:
        losses = {}
        for k in trial.kmeans_sizes:
            cluster_map = trial.map_of(k)
            psi = plain_vectors(cluster_map, trial.few_rows, trial.train_few_errors)
            losses[k] = trial.loss(psi[cluster_map.assign(trial.judged_rows)])
        chosen = best_setting(losses)
    return _routed_by(trial.map_of(chosen), trial)


def kmeans_f1(trial: BenchTrial) -> F64:
    """UniRoute with k-means; K is chosen as in the paper's appendix F.1.

    The training LLMs get their vectors from the map prompts and are routed on the representative prompts; the K with
    the largest area wins. This hides the noise of vectors from few labels, so K tends to be too large.
    """
    if not trial.train_map_errors.shape[1]:
        return _routed_by(trial.map_of(trial.kmeans_sizes[0]), trial)
    areas = {}
    mean_costs = trial.train_few_costs_usd.mean(axis=0)
    for k in trial.kmeans_sizes:
        cluster_map = trial.map_of(k)
        psi = plain_vectors(cluster_map, trial.map_rows, trial.train_map_errors)
        curve = deferral_curve(
            psi[cluster_map.assign(trial.few_rows)],
            np.tile(mean_costs, (len(trial.few_rows), 1)),
            1 - trial.train_few_errors,
            trial.train_few_costs_usd,
            reference_cost_usd=float(mean_costs.max()) or 1.0,
        )
        areas[k] = -area(curve)
    return _routed_by(trial.map_of(best_setting(areas)), trial)


def learned_map(trial: BenchTrial) -> F64:
    """UniRoute with the learned map, as in the paper; K is chosen by simulation."""
    sizes = [k for k in LEARNED_K if k in trial.kmeans_sizes] or [trial.kmeans_sizes[0]]
    if trial.train_map_errors.shape[1] < LEAST_KNOWN:
        return _routed_by(trial.map_of(sizes[0]), trial)
    learned = learn(
        trial.map_rows,
        trial.train_map_errors,
        trial.few_rows,
        trial.train_few_errors,
        sizes=sizes,
        map_of=trial.map_of,
        seed=trial.seed,
        as_in_paper=True,
    )
    psi = plain_vectors(learned.start, trial.few_rows, trial.test_few_errors)
    return learned.cluster_map.weights(trial.gate_rows) @ psi


def posterior(trial: BenchTrial) -> F64:
    """Our default: posterior feature vectors, with every setting chosen by simulation."""
    estimator = PosteriorEstimator(random_state=trial.seed).fit(
        trial.map_rows,
        trial.train_map_errors,
        few=(trial.few_rows, trial.train_few_errors),
        maps=trial.resolutions,
        facts=KnownFacts.of(trial.train_facts) if trial.train_facts else None,
    )
    levels = [estimator.level_prior(llm) for llm in trial.test_facts] or None
    psi = estimator.coefficients(trial.few_rows, trial.test_few_errors, levels=levels)
    return estimator.cluster_map_.weights(trial.gate_rows) @ psi


def clairvoyant(trial: BenchTrial) -> F64:
    """Learn from the unseen LLMs' labels on the map prompts, which no router has: an upper reference."""
    members = ClairvoyantMean(trial.resolutions).fit(trial.map_rows, trial.test_map_errors)
    return members.predict(trial.gate_rows)


def random(trial: BenchTrial) -> F64:
    """Uniform random errors: a method that knows nothing."""
    shape = len(trial.gate_rows), trial.test_few_errors.shape[1]
    return np.random.default_rng(trial.seed).random(shape)


EXPECTED_ERRORS: Mapping[str, Callable[[BenchTrial], F64]] = {
    "knn": knn,
    "kmeans": kmeans,
    "kmeans_f1": kmeans_f1,
    "learned_map": learned_map,
    "posterior": posterior,
    "clairvoyant": clairvoyant,
    "random": random,
}


def _routed_by(cluster_map: ClusterMap, trial: BenchTrial) -> F64:
    psi = plain_vectors(cluster_map, trial.few_rows, trial.test_few_errors)
    return psi[cluster_map.assign(trial.gate_rows)]
