"""From stored answers to feature vectors, with the estimator of the prompt set, which is fitted once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.errors import PrerequisiteError
from flows.fitting.folds import teaching
from flows.fitting.labels import Labels, labels_by_role
from flows.fitting.making import Making, making_of
from flows.fitting.refit_rules import pool_of, teachers, why_due, why_not
from flows.logs import say
from flows.night.asked_prompts import enters_means, fitted_prompts, places_among
from flows.night.llm_facts import facts_of, levels_of
from flows.text import counted
from registry.cluster_maps import ClusterMapRecord, FittedMap, RefitRecord
from routing.cluster_maps import KMeansMap, count_distinct
from routing.day_zero import LevelPrior
from routing.errors import InvalidInput
from routing.estimator import PosteriorEstimator
from routing.features import FeatureVector
from routing.later_llms import taught_by_later
from routing.learned_map import LEARNED_K, TooFewKnown, learn
from routing.posterior.feature_space import PROMPTS_PER_CLUSTER, resolution_maps
from routing.prompt_weights import ClusterMap
from routing.router import RoutedLLM, Router
from routing.stored_estimator import (
    Estimator,
    LearnedEstimator,
    PlainEstimator,
    PreparedPrompts,
    arrays_digest,
    estimator_arrays,
    kind_of,
    read_estimator,
)

if TYPE_CHECKING:
    from flows.config.settings import RoutingSettings
    from flows.night.context import Night
    from registry.llms import LLM
    from routing.embedding import EmbedderId

_ACTOR = "night"


@dataclass(frozen=True, eq=False)
class Refit:
    """A cluster map and prior that were fitted anew.

    Attributes
    ----------
    record
        Why, and from how many LLMs.
    before
        The estimator that was in use, with the same answers.
    """

    record: RefitRecord
    before: Estimation


@dataclass(frozen=True, eq=False)
class Estimation:
    """The estimator of tonight, and the answers it reads.

    Attributes
    ----------
    estimator
        Computes vectors.
    digest
        Its digest, under which the registry keeps it.
    was_fitted
        Whether it was fitted tonight.
    representative, map
        Answers by role; only the posterior reads those to the map prompts.
    levels
        By LLM key, what is expected of its level before its answers.
    n_asked
        ``(m,)``: how many representative prompts each LLM was asked; all when omitted.
    fitted_prompts
        Digests of the representative prompts that the estimator was fitted on, in their order, which may be those of an
        earlier prompt set: it knows how hard these are. Those of `representative` when omitted.
    taught_only
        Keys of LLMs that it was fitted on and that are no columns, because they cannot serve any more.
    refit
        Why it was fitted anew, and the estimator before; None when it was not.
    enters
        ``(n, m)``: the representative prompts whose answers enter plain means, which know nothing of how hard a prompt
        is; all when omitted. The posterior reads all answers.
    """

    estimator: Estimator
    digest: str
    was_fitted: bool
    representative: Labels
    map: Labels
    levels: Mapping[str, LevelPrior | None] = field(default_factory=dict)
    n_asked: Sequence[int] = ()
    fitted_prompts: Sequence[str] = ()
    taught_only: tuple[str, ...] = ()
    refit: Refit | None = None
    enters: NDArray[np.bool_] | None = None

    def vector(self, column: int, *, seen: NDArray[np.bool_] | None = None) -> FeatureVector:
        """Estimate the vector of the LLM in a column.

        Parameters
        ----------
        column
            Place of the LLM in the tables.
        seen
            ``(n,)``: the representative prompts whose answers may enter; by default all.

        Raises
        ------
        InvalidProfile
            None of its answers may enter.
        """
        scores, input_tokens, output_tokens = (
            np.concatenate([getattr(labels.table, name)[:, column] for labels in self._read])
            for name in ("scores", "input_tokens", "output_tokens")
        )
        scored = np.isfinite(scores)
        n_few = len(self.representative.embeddings)
        scored[:n_few] &= self.enters_vector(column)
        if seen is not None:
            scored[:n_few] &= seen
        n_asked = min(self.n_asked[column] if self.n_asked else n_few, int(self.enters_vector(column).sum()))
        return self._prepared.vector(
            scored,
            scores[scored],
            input_tokens[scored],
            output_tokens[scored],
            n_prompts=max(int(scored.sum()), n_asked),
            estimated_tokens=np.concatenate([labels.estimated_tokens for labels in self._read])[scored],
            level=self.levels.get(self.representative.table.llm_keys[column]),
        )

    def enters_vector(self, column: int) -> NDArray[np.bool_]:
        """Return the representative prompts whose answers enter the vector of the LLM in a column, ``(n,)``."""
        if self.enters is None or isinstance(self.estimator, PosteriorEstimator):
            return np.ones(len(self.representative.embeddings), dtype=bool)
        return self.enters[:, column]

    def assign(self, embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the cluster in which the answer to each prompt counts, ``(n,)``."""
        estimator = self.estimator
        counted_in = estimator.start if isinstance(estimator, LearnedEstimator) else estimator.cluster_map_
        return counted_in.assign(embeddings)

    @cached_property
    def _prepared(self) -> PreparedPrompts:
        embeddings = np.concatenate([labels.embeddings for labels in self._read])
        if not isinstance(self.estimator, PosteriorEstimator):
            return self.estimator.prepared(embeddings)
        digests = self.representative.table.prompt_digests, self.map.table.prompt_digests
        places = places_among(self.fitted_prompts or digests[0], [one for part in digests for one in part])
        return self.estimator.prepared(embeddings, places)

    @property
    def _read(self) -> tuple[Labels, ...]:
        is_posterior = isinstance(self.estimator, PosteriorEstimator)
        return (self.representative, self.map) if is_posterior else (self.representative,)


def estimate(night: Night, llms: list[LLM]) -> Estimation:
    """Read the estimator, or fit it when there is none for this prompt set, embedder and settings, or a refit is due.

    Parameters
    ----------
    night
        The current night; its prompts are embedded.
    llms
        The LLMs, in the order of the columns.

    Raises
    ------
    PrerequisiteError
        The prompts are too few or too similar for the requested number of clusters, or too few LLMs are known.
    """
    labels = labels_by_role(night, llms)
    in_use = night.fitted_map
    if in_use is None:
        return _first_fit(night, llms, labels)
    refit = in_use.refit if in_use.refit is not None and in_use.refit.run_key == night.run.key else None
    record, was_fitted, pool = in_use.record, False, llms
    if night.settings.routing.refit.is_on and refit is None:
        pool = pool_of(night, llms)
        found = _refitted(night, in_use, pool, labels if pool == llms else labels_by_role(night, pool))
        if found is not None:
            (record, refit), was_fitted = found, True
    found = _with_levels(night, llms, record, was_fitted, labels)
    if refit is None:
        return found
    earlier = _with_levels(night, llms, night.registry.routers.cluster_map(refit.before), False, labels)
    taught_only = tuple(llm.key for llm in pool if llm not in llms)
    return replace(found, taught_only=taught_only, refit=Refit(refit, earlier))


def _with_levels(
    night: Night, llms: list[LLM], record: ClusterMapRecord, was_fitted: bool, labels: tuple[Labels, Labels]
) -> Estimation:
    """Read a stored estimator, with what it expects of the LLMs before their answers."""
    estimator = read_estimator(record.kind, record.arrays)
    levels = levels_of(night.registry, record.digest, estimator, facts_of(night.registry, llms))
    n_asked = [night.asked.n_counted(llm) for llm in llms]
    fitted_on = fitted_prompts(night.registry, record)
    enters = enters_means(night.registry, night.prompt_set, {llm.key: night.counted_sampling(llm) for llm in llms})
    return Estimation(estimator, record.digest, was_fitted, *labels, levels, n_asked, fitted_on, enters=enters)


def _first_fit(night: Night, llms: list[LLM], labels: tuple[Labels, Labels]) -> Estimation:
    pool = pool_of(night, llms) if night.settings.routing.refit.is_on else llms
    n = counted(len(labels[1].embeddings), "map prompt")
    say(f"Fitting the cluster map on {n}, once for this prompt set; that can take a minute.")
    try:
        answers = labels if pool == llms else labels_by_role(night, pool)
        estimator = fit_estimator(night, *answers, making_of(night, pool))
    except InvalidInput as error:
        hint = "Provide more prompts, or set [routing] n_clusters lower."
        if isinstance(error, TooFewKnown):
            hint = 'Let a catalog list more LLMs, or set [routing] method = "posterior" or "kmeans".'
        raise PrerequisiteError(error.message, hint=hint) from None
    record = _record(night, estimator)
    night.registry.routers.save_cluster_map(record)
    taught_only = tuple(llm.key for llm in pool if llm not in llms)
    return replace(_with_levels(night, llms, record, True, labels), taught_only=taught_only)


def _refitted(
    night: Night, in_use: FittedMap, pool: list[LLM], labels: tuple[Labels, Labels]
) -> tuple[ClusterMapRecord, RefitRecord] | None:
    """Fit cluster map and prior anew if that is due; None when those in use stay."""
    rules = night.settings.routing
    known, later = teachers(rules, *labels, _texts(night), night.asked.map_rows())
    n_llms = int((known | later).sum())
    why = why_due(rules, in_use, n_llms, night.as_of)
    if not why:
        return None
    obstacle = why_not(in_use, int(known.sum()), n_llms)
    if not obstacle:
        say(f"Fitting cluster map and prior anew, from stored answers: {why}; that can take a minute.")
        try:
            record = _record(night, fit_estimator(night, *labels, making_of(night, pool)))
        except InvalidInput as error:
            obstacle = error.message
    if obstacle:
        say(f"Cluster map and prior stay, although a refit is due ({why}): {obstacle}.")
        return None
    given = {"before": in_use.record.digest, "why": why, "n_llms": n_llms, "actor": _ACTOR, "now": night.clock()}
    return record, night.registry.routers.save_refit(record, night.run, **given)


def fit_estimator(night: Night, representative: Labels, of_map: Labels, making: Making) -> Estimator:
    """Fit cluster map and prior on the answers to the map prompts.

    Where ``[routing.refit]`` asks for anything, LLMs that answered representative prompts alone teach the prior, too:
    by their answers to the prompts that only teach, so that the others may judge.

    Parameters
    ----------
    night
        Whose settings count.
    representative, of_map
        Answers by role.
    making
        What a posterior is fitted with besides answers.

    Raises
    ------
    InvalidInput
        The prompts are too few or too similar for the requested number of clusters, or too few LLMs are known.
    """
    settings, seed = night.settings.routing, night.settings.routing.seed
    if settings.method == "kmeans":
        return PlainEstimator(KMeansMap(n_clusters=settings.clusters, random_state=seed).fit(of_map.embeddings).fitted_)
    # What was not asked still shapes the clusters: embeddings cost nothing.
    rows = night.asked.map_rows()
    known, later = teachers(settings, representative, of_map, _texts(night), rows)
    errors, few_errors = (1 - labels.table.scores[:, known] for labels in (of_map, representative))
    asked = slice(None) if rows is None else rows
    map_rows, map_errors = of_map.embeddings[asked], errors[asked]
    if settings.method == "learned_map":
        return _learned(settings, map_rows, map_errors, representative.embeddings, few_errors)
    keys = [key for key, is_known in zip(of_map.table.llm_keys, known, strict=True) if is_known]
    fitted = PosteriorEstimator(random_state=seed).fit(
        map_rows,
        map_errors,
        few=(representative.embeddings, few_errors),
        maps=None if rows is None else resolution_maps(of_map.embeddings, seed=seed),
        facts=None if making.facts is None else making.facts.of_keys(keys),
        asked=making.asked,
        form=making.form,
    )
    if not later.any():
        return fitted
    taught_by = teaching(_texts(night))
    later_errors = 1 - representative.table.scores[np.ix_(taught_by, later)]
    few = (representative.embeddings[taught_by], later_errors)
    return taught_by_later(fitted, (map_rows, map_errors), few, np.flatnonzero(taught_by))


def _learned(
    settings: RoutingSettings,
    rows: NDArray[np.float32],
    errors: NDArray[np.float64],
    few_rows: NDArray[np.float32],
    few_errors: NDArray[np.float64],
) -> LearnedEstimator:
    distinct = count_distinct(rows, PROMPTS_PER_CLUSTER * max(LEARNED_K))
    sizes = [size for size in LEARNED_K if size * PROMPTS_PER_CLUSTER <= distinct] or [min(2, distinct)]

    @cache
    def map_of(size: int) -> ClusterMap:
        return KMeansMap(size, random_state=settings.seed).fit(rows).fitted_

    given = {"sizes": [settings.clusters] if settings.clusters else sizes, "map_of": map_of, "seed": settings.seed}
    found = learn(rows, errors, few_rows, few_errors, **given)
    return LearnedEstimator(found.cluster_map, found.start, errors.shape[1], settings.clusters)


def _texts(night: Night) -> list[str]:
    return [prompt.text for prompt in night.prompt_set.with_role("representative")]


def assemble(night: Night, found: Estimation, routed: Sequence[RoutedLLM], embedder: EmbedderId) -> Router:
    """Make a router from an estimator and the LLMs with their vectors, for tonight or to rebuild an earlier one."""
    return Router(
        found.estimator.cluster_map_,
        tuple(routed),
        embedder=embedder,
        cost_weight=night.settings.routing.cost_weight,
        calibration_weights=found.estimator.cluster_map_.exact_weights(found.representative.embeddings),
        calibration_tokens=found.representative.estimated_tokens,
        provenance={"prompt_set": night.prompt_set.digest, "cluster_map": found.digest},
    )


def _record(night: Night, estimator: Estimator) -> ClusterMapRecord:
    settings = night.settings.routing
    arrays = estimator_arrays(estimator)
    return ClusterMapRecord(
        digest=arrays_digest(kind_of(estimator), arrays),
        kind=kind_of(estimator),
        prompt_set_digest=night.prompt_set.digest,
        embedder_key=night.workspace.embedder.id.key,
        n_clusters=estimator.cluster_map_.n_clusters,
        seed=settings.seed,
        arrays=arrays,
        run_id=night.run.id,
    )
