"""From stored answers to feature vectors, with the estimator of the prompt set, which is fitted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.errors import PrerequisiteError
from flows.logs import say
from flows.text import counted
from registry.cluster_maps import ClusterMapRecord
from registry.outcomes import OutcomeTable
from registry.prompts import Prompt
from routing.cluster_maps import KMeansMap
from routing.errors import InvalidInput
from routing.estimator import PosteriorEstimator
from routing.feature_space import resolution_maps
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router
from routing.stored_estimator import PlainEstimator, PreparedPrompts, arrays_digest, estimator_arrays, read_estimator
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM
    from routing.embedding import EmbedderId


@dataclass(frozen=True, eq=False)
class Labels:
    """Answers of LLMs to the prompts that vectors are estimated from.

    Attributes
    ----------
    embeddings
        ``(n, dim)`` float32.
    estimated_tokens
        ``(n,)`` float32, input tokens estimated from the texts.
    table
        Scores and tokens, ``(n, m)``; NaN where there is no answer.
    """

    embeddings: NDArray[np.float32]
    estimated_tokens: NDArray[np.float32]
    table: OutcomeTable

    def coverage(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the share of the prompts, or of some rows of them, that each LLM has a score for, ``(m,)``."""
        scores = self.table.scores if rows is None else self.table.scores[rows]
        return np.isfinite(scores).mean(axis=0)


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
    n_asked
        ``(m,)``: how many representative prompts each LLM was asked; all when omitted.
    """

    estimator: PlainEstimator | PosteriorEstimator
    digest: str
    was_fitted: bool
    representative: Labels
    map: Labels
    n_asked: Sequence[int] = ()

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
        if seen is not None:
            scored[: len(seen)] &= seen
        n_asked = self.n_asked[column] if self.n_asked else len(self.representative.embeddings)
        return self._prepared.vector(
            scored,
            scores[scored],
            input_tokens[scored],
            output_tokens[scored],
            n_prompts=max(int(scored.sum()), n_asked),
            estimated_tokens=np.concatenate([labels.estimated_tokens for labels in self._read])[scored],
        )

    @cached_property
    def _prepared(self) -> PreparedPrompts:
        return self.estimator.prepared(np.concatenate([labels.embeddings for labels in self._read]))

    @property
    def _read(self) -> tuple[Labels, ...]:
        is_posterior = isinstance(self.estimator, PosteriorEstimator)
        return (self.representative, self.map) if is_posterior else (self.representative,)


def estimate(night: Night, llms: list[LLM]) -> Estimation:
    """Read the estimator, or fit it when there is none for this prompt set, embedder and settings.

    Parameters
    ----------
    night
        The current night; its prompts are embedded.
    llms
        The LLMs, in the order of the columns.

    Raises
    ------
    PrerequisiteError
        The prompts are too few or too similar for the requested number of clusters.
    """
    representative, of_map = (
        labels_of(night, llms, night.prompt_set.with_role(role)) for role in ("representative", "map")
    )
    n_asked = [night.asked.n_counted(llm) for llm in llms]
    record = night.cluster_map
    if record is not None:
        estimator = read_estimator(record.kind, record.arrays)
        return Estimation(estimator, record.digest, False, representative, of_map, n_asked)
    say(
        f"Fitting the cluster map on {counted(len(of_map.embeddings), 'map prompt')}, once for this prompt set; "
        "that can take a minute."
    )
    try:
        estimator = fit_estimator(night, representative, of_map)
    except InvalidInput as error:
        raise PrerequisiteError(
            error.message, hint="Provide more prompts, or set [routing] n_clusters lower."
        ) from None
    record = _record(night, estimator)
    night.registry.routers.save_cluster_map(record)
    return Estimation(estimator, record.digest, True, representative, of_map, n_asked)


def labels_of(night: Night, llms: list[LLM], prompts: tuple[Prompt, ...]) -> Labels:
    """Return what the registry knows about these LLMs on these prompts."""
    estimated_tokens = estimated_input_tokens([prompt.text for prompt in prompts])
    return Labels(night.embeddings_of(prompts), estimated_tokens, night.outcome_table(llms, prompts))


def fit_estimator(night: Night, representative: Labels, of_map: Labels) -> PlainEstimator | PosteriorEstimator:
    """Fit cluster map and prior on the answers to the map prompts.

    Raises
    ------
    InvalidInput
        The prompts are too few or too similar for the requested number of clusters.
    """
    settings = night.settings.routing
    if settings.method == "kmeans":
        fitted = KMeansMap(n_clusters=settings.n_clusters, random_state=settings.seed).fit(of_map.embeddings)
        return PlainEstimator(fitted.fitted_)
    # The training LLMs: those that answered the map prompts as well, as far as these are asked.
    rows = night.asked.map_rows()
    known = (of_map.coverage(rows) >= settings.min_coverage) & (representative.coverage() >= settings.min_coverage)
    errors, few_errors = (1 - labels.table.scores[:, known] for labels in (of_map, representative))
    few = (representative.embeddings, few_errors)
    estimator = PosteriorEstimator(random_state=settings.seed)
    if rows is None:
        return estimator.fit(of_map.embeddings, errors, few=few)
    # What was not asked still shapes the clusters: embeddings cost nothing.
    maps = resolution_maps(of_map.embeddings, seed=settings.seed)
    return estimator.fit(of_map.embeddings[rows], errors[rows], few=few, maps=maps)


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


def _record(night: Night, estimator: PlainEstimator | PosteriorEstimator) -> ClusterMapRecord:
    settings = night.settings.routing
    arrays = estimator_arrays(estimator)
    return ClusterMapRecord(
        digest=arrays_digest(settings.method, arrays),
        kind=settings.method,
        prompt_set_digest=night.prompt_set.digest,
        embedder_key=night.workspace.embedder.id.key,
        n_clusters=estimator.cluster_map_.n_clusters,
        seed=settings.seed,
        arrays=arrays,
        run_id=night.run.id,
    )
