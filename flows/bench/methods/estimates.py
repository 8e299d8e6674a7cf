"""The methods of a benchmark: the errors that each expects of unseen LLMs on gate prompts, in one trial.

Every method that has a setting (k, K, strength of shrinkage) chooses it by simulation on the training LLMs alone: some
are held out as if they were new (`routing.posterior.choice.Plan`), and all methods minimise the same `contrast_loss`.
`kmeans_f1` is a deliberate exception: it chooses K as appendix F.1 of the UniRoute paper does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from flows.bench.methods.clairvoyant import ClairvoyantMean
from flows.bench.methods.nearest_neighbours import NearestNeighbours
from flows.bench.methods.posteriors import estimated
from flows.bench.methods.trial import BenchTrial
from routing.deferral import area, deferral_curve
from routing.learned_map import LEARNED_K, LEAST_KNOWN, best_setting, learn, plain_vectors
from routing.prompt_weights import ClusterMap

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Settings to try.
NEIGHBOURS = (1, 5, 10, 20, 40, 80, 160, 320)


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
    return estimated(trial, chosen=False).expected


def posterior_chosen(trial: BenchTrial) -> F64:
    """Estimate posterior vectors from as many answers, to prompts that the known LLMs' answers recommend."""
    return estimated(trial, chosen=True).expected


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
    "posterior_chosen": posterior_chosen,
    "clairvoyant": clairvoyant,
    "random": random,
}


def _routed_by(cluster_map: ClusterMap, trial: BenchTrial) -> F64:
    psi = plain_vectors(cluster_map, trial.few_rows, trial.test_few_errors)
    return psi[cluster_map.assign(trial.gate_rows)]
