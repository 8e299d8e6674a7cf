"""From stored answers to feature vectors: the estimator of this prompt set, fitted once, and what it says of LLMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.errors import PrerequisiteError
from registry.cluster_maps import ClusterMapRecord
from registry.outcomes import OutcomeTable
from registry.prompts import Prompt
from routing.cluster_maps import KMeansMap
from routing.errors import InvalidInput
from routing.estimator import PosteriorEstimator
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
    """What LLMs answered to the prompts that vectors are estimated from.

    Attributes
    ----------
    embeddings
        ``(n, dim)`` float32.
    estimated_tokens
        ``(n,)`` float32, input tokens as they are estimated from a text.
    table
        Scores and tokens, ``(n, m)``; NaN where there is no answer.
    """

    embeddings: NDArray[np.float32]
    estimated_tokens: NDArray[np.float32]
    table: OutcomeTable

    def coverage(self) -> NDArray[np.float64]:
        """Give the share of the prompts that each LLM has a score for, ``(m,)``."""
        return np.isfinite(self.table.scores).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Estimation:
    """The estimator of tonight, and the answers it reads.

    Attributes
    ----------
    estimator
        Gives vectors.
    digest
        Under which the registry keeps it.
    was_fitted
        Whether it was fitted tonight.
    representative, map
        Answers by role; the map prompts only count for the posterior.
    """

    estimator: PlainEstimator | PosteriorEstimator
    digest: str
    was_fitted: bool
    representative: Labels
    map: Labels

    def vector(self, column: int) -> FeatureVector:
        """Estimate the vector of the LLM in a column from every answer it gave."""
        scores, input_tokens, output_tokens = (
            np.concatenate([getattr(labels.table, name)[:, column] for labels in self._read])
            for name in ("scores", "input_tokens", "output_tokens")
        )
        scored = np.isfinite(scores)
        return self._prepared.vector(
            scored,
            scores[scored],
            input_tokens[scored],
            output_tokens[scored],
            n_prompts=max(int(scored.sum()), len(self.representative.embeddings)),
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
    """Read the estimator, or fit it when there is none for prompt set, embedder and settings.

    Parameters
    ----------
    night
        The night under way; its prompts are embedded.
    llms
        The columns.

    Raises
    ------
    PrerequisiteError
        The prompts are too few or too alike for the clusters asked for.
    """
    representative, of_map = (
        labels_of(night, llms, night.prompt_set.with_role(role)) for role in ("representative", "map")
    )
    record = night.cluster_map
    if record is not None:
        estimator = read_estimator(record.kind, record.arrays)
        return Estimation(estimator, record.digest, False, representative, of_map)
    try:
        estimator = fit_estimator(night, representative, of_map)
    except InvalidInput as error:
        raise PrerequisiteError(error.message, hint="Give more prompts, or set [routing] n_clusters lower.") from None
    record = _record(night, estimator)
    night.registry.routers.save_cluster_map(record)
    return Estimation(estimator, record.digest, True, representative, of_map)


def labels_of(night: Night, llms: list[LLM], prompts: tuple[Prompt, ...]) -> Labels:
    """Give what the registry holds of these LLMs on these prompts."""
    estimated_tokens = estimated_input_tokens([prompt.text for prompt in prompts])
    return Labels(night.embeddings_of(prompts), estimated_tokens, night.outcome_table(llms, prompts))


def fit_estimator(night: Night, representative: Labels, of_map: Labels) -> PlainEstimator | PosteriorEstimator:
    """Fit cluster map and prior on the answers to the map prompts.

    Raises
    ------
    InvalidInput
        The prompts are too few or too alike for the clusters asked for.
    """
    wanted = night.settings.routing
    if wanted.method == "kmeans":
        fitted = KMeansMap(n_clusters=wanted.n_clusters, random_state=wanted.seed).fit(of_map.embeddings)
        return PlainEstimator(fitted.fitted_)
    # The training LLMs: those that answered the map prompts as well.
    known = (of_map.coverage() >= wanted.min_coverage) & (representative.coverage() >= wanted.min_coverage)
    errors, few_errors = (1 - labels.table.scores[:, known] for labels in (of_map, representative))
    return PosteriorEstimator(random_state=wanted.seed).fit(
        of_map.embeddings, errors, few=(representative.embeddings, few_errors)
    )


def assemble(night: Night, found: Estimation, routed: Sequence[RoutedLLM], embedder: EmbedderId) -> Router:
    """Make a router of an estimator and of the LLMs with their vectors: tonight's, or an earlier night's once more."""
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
    wanted = night.settings.routing
    arrays = estimator_arrays(estimator)
    return ClusterMapRecord(
        digest=arrays_digest(wanted.method, arrays),
        kind=wanted.method,
        prompt_set_digest=night.prompt_set.digest,
        embedder_key=night.workspace.embedder.id.key,
        n_clusters=estimator.cluster_map_.n_clusters,
        seed=wanted.seed,
        arrays=arrays,
        run_id=night.run.id,
    )
