"""Features of the posterior estimator: soft clusters of the embedding, and of what is known to be hard for LLMs.

All features are softmax blocks that are linear in the embedding before the exponential, so that a `ClusterMap` computes
them and a router stays one matrix product:

- soft clusters at several resolutions, from k-means on the map prompts;
- *error profiles*: the training LLMs' errors are predicted from the embedding by ridge regression, and prompts are
  clustered by these predictions, in the few directions along which the predictions vary most. Prompts that
  are equally hard for the same kind of LLM share a cluster wherever they lie in the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..cluster_maps import KMeansMap, count_distinct
from ..prompt_weights import F32, F64, I64, Block, ClusterMap

RESOLUTIONS = (5, 10, 25, 50, 100)
PROFILE_RESOLUTIONS = (16, 64)
PROFILE_DIRECTIONS = 4
# Decisions and reports show the finest resolution of at most this many clusters.
SHOWN_CLUSTERS = 25
# Prompts that a cluster should have on average; a resolution with fewer is left out.
PROMPTS_PER_CLUSTER = 10
# Penalty of the ridge regression behind the error profiles, in prompts; nothing depends on it within a factor of ten.
PROFILE_RIDGE = 60.0
# Profiles are scaled to unit variance along their first direction; their clusters overlap on purpose.
PROFILE_SHARPNESS = 2.0
# Most steps of k-means.
_CLUSTER_STEPS = 8


@dataclass(frozen=True, eq=False)
class Features:
    """What a feature space computes for some prompts.

    Attributes
    ----------
    clusters : (n, n_clusters) float32
        Weights of the clusters that are shown.
    design : (n, n_columns) float32
        A column of ones, then the features.
    """

    clusters: F32
    design: F32


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """A fitted map whose features a posterior estimator weighs.

    Attributes
    ----------
    cluster_map
        One softmax block of clusters that are only shown, then the features.
    n_resolution_columns
        Features that are soft clusters of the embedding; the error profiles follow them.
    shown_start
        Position among the features of the clusters that are shown.
    """

    cluster_map: ClusterMap
    n_resolution_columns: int
    shown_start: int

    @cached_property
    def n_columns(self) -> int:
        """Number of columns of `design`: one for the level and one per feature."""
        return 1 + self.cluster_map.n_linear

    @property
    def n_profile_columns(self) -> int:
        """Number of features that are error profiles."""
        return self.cluster_map.n_linear - self.n_resolution_columns

    def design(self, embeddings: npt.ArrayLike) -> F32:
        """Return the features of prompts after a column of ones, (n, n_columns) float32.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.
        """
        return self.features(embeddings).design

    def features(self, embeddings: npt.ArrayLike) -> Features:
        """Compute the clusters and the design of prompts together.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.
        """
        weights, n_clusters = self.cluster_map.weights(embeddings), self.cluster_map.n_clusters
        level = np.ones((len(weights), 1), dtype=np.float32)
        return Features(weights[:, :n_clusters], np.concatenate([level, weights[:, n_clusters:]], axis=1))


def resolution_maps(embeddings: F32, *, seed: int, resolutions: Sequence[int] = RESOLUTIONS) -> tuple[ClusterMap, ...]:
    """Cluster the map prompts at every resolution that they support; at least one.

    Parameters
    ----------
    embeddings : (n, dim) float32
        Unit rows of the map prompts.
    seed
        Seed of k-means.
    resolutions
        Numbers of clusters to try.
    """
    distinct = count_distinct(embeddings, PROMPTS_PER_CLUSTER * max(resolutions))
    supported = [count for count in resolutions if count * PROMPTS_PER_CLUSTER <= distinct]
    return tuple(_clustered(embeddings, count, seed) for count in supported or [min(2, distinct)])


def _clustered(rows: F32, count: int, seed: int) -> ClusterMap:
    # One start and few steps: several resolutions make up for the better centres that more would find.
    return KMeansMap(count, random_state=seed, n_init=1, max_iter=_CLUSTER_STEPS).fit(rows).fitted_


def spreads_of(maps: Sequence[ClusterMap], embeddings: F32) -> tuple[float, ...]:
    """Return the mean squared distance of prompts to their own centre, one per map.

    Parameters
    ----------
    maps
        Hard maps.
    embeddings : (n, dim) float32
        Unit rows of the map prompts.
    """
    size = float(np.einsum("nd,nd->", embeddings, embeddings, dtype=np.float64)) / len(embeddings)
    # |x - c|**2 = |x|**2 - 2 (x @ c - |c|**2 / 2), and the own centre is the one with the largest score.
    largest = ((embeddings @ fitted.matrix.T + fitted.bias).max(axis=1) for fitted in maps)
    return tuple(size - 2 * float(scores.mean(dtype=np.float64)) for scores in largest)


def feature_space(
    maps: Sequence[ClusterMap], spreads: Sequence[float], profiles: Sequence[ClusterMap], *, contrast: float
) -> FeatureSpace:
    """Build the features from k-means maps and error profiles.

    Parameters
    ----------
    maps
        Hard maps, coarse to fine.
    spreads
        Result of `spreads_of` for them.
    profiles
        Result of `profile_maps`; may be empty.
    contrast
        How much more the nearest centre counts: weights are proportional to `exp(-contrast * |x - c|**2 / s)` with s
        the mean squared distance to the own centre, as in the learned map's start. Positive.
    """
    # With all prompts on their centres, any sharpness gives hard weights.
    soft = [
        ClusterMap.soft(fitted.matrix.astype(np.float64), contrast / max(spread, 1e-3))
        for fitted, spread in zip(maps, spreads, strict=True)
    ]
    sizes = [m.n_clusters for m in soft]
    at = max((i for i, size in enumerate(sizes) if size <= SHOWN_CLUSTERS), key=sizes.__getitem__, default=0)
    shown = soft[at]
    features = [*soft, *profiles]
    joined = ClusterMap(
        "posterior",
        np.vstack([shown.matrix, *(m.matrix for m in features)]),
        np.concatenate([shown.bias, *(m.bias for m in features)]),
        (shown.blocks[0], *(Block("soft_feature", m.n_clusters) for m in features)),
    )
    return FeatureSpace(joined, sum(sizes), sum(sizes[:at]))


@dataclass(frozen=True, eq=False)
class ErrorSlopes:
    """Ridge regressions of LLMs' errors on the embedding; LLMs can be left out without refitting.

    Attributes
    ----------
    centred : (n, dim) float32
        Embeddings of the map prompts minus their mean.
    centre : (dim,) float32
        Their mean.
    gram : (dim, dim) float64
        `centred.T @ centred`.
    slopes : (dim, m) float64
        Slopes of every LLM's error.
    """

    centred: F32
    centre: F32
    gram: F64
    slopes: F64

    @classmethod
    def of(cls, embeddings: F32, errors: F64) -> ErrorSlopes:
        """Fit the regressions.

        Parameters
        ----------
        embeddings : (n, dim) float32
            Unit rows of the map prompts, at least one.
        errors : (n, m) float64
            Errors of the training LLMs on them, in [0, 1].
        """
        centre = embeddings.mean(axis=0)
        centred = embeddings - centre
        gram = (centred.T @ centred).astype(np.float64)
        targets = (centred.T @ (errors - errors.mean(axis=0)).astype(np.float32)).astype(np.float64)
        return cls(centred, centre, gram, np.linalg.solve(gram + PROFILE_RIDGE * np.eye(len(gram)), targets))

    def maps(self, columns: Sequence[int] | I64, *, seed: int) -> list[ClusterMap]:
        """Cluster prompts by the errors predicted for them; no map when all predictions are the same.

        Parameters
        ----------
        columns
            Columns of the LLMs to use.
        seed
            Seed of k-means.
        """
        directions = _profile_directions(self.slopes[:, columns], self.gram, len(self.centred))
        if not directions.shape[1]:
            return []
        profiles = (self.centred @ directions.astype(np.float32)).astype(np.float32)
        distinct = count_distinct(profiles, PROMPTS_PER_CLUSTER * max(PROFILE_RESOLUTIONS))
        maps = []
        for count in PROFILE_RESOLUTIONS:
            if count * PROMPTS_PER_CLUSTER > distinct:
                continue
            centres = _clustered(profiles, count, seed).matrix.astype(np.float64)
            # |u - c|**2 with u = (x - centre) @ directions, except for a part that cancels in the softmax.
            matrix = 2 * PROFILE_SHARPNESS * centres @ directions.T
            bias = -PROFILE_SHARPNESS * (centres**2).sum(axis=1) - matrix @ self.centre
            maps.append(ClusterMap("profiles", matrix, bias, (Block("softmax", len(centres)),)))
        return maps


def profile_maps(embeddings: F32, errors: F64, *, seed: int) -> list[ClusterMap]:
    """Cluster prompts by the errors that a ridge regression predicts; no map when all predictions are the same.

    Parameters
    ----------
    embeddings : (n, dim) float32
        Unit rows of the map prompts.
    errors : (n, m) float64
        Errors of the training LLMs on them, in [0, 1]; with no LLM there are no error profiles.
    seed
        Seed of k-means.
    """
    return ErrorSlopes.of(embeddings, errors).maps(range(errors.shape[1]), seed=seed)


def _profile_directions(slopes: F64, gram: F64, n: int) -> F64:
    """Return the directions of the embedding along which predicted errors vary, scaled by how much, (dim, r)."""
    dim, n_llms = slopes.shape
    if not n_llms or n < 2:
        return np.zeros((dim, 0))
    common = slopes.mean(axis=1, keepdims=True)
    own = slopes - common
    # The common part first, then principal directions of what LLMs add to it, in the metric of predicted errors.
    _, rotation = np.linalg.eigh(own.T @ gram @ own)
    n_own = min(PROFILE_DIRECTIONS, n_llms) - 1
    directions = np.hstack([common, own @ rotation[:, ::-1][:, :n_own]])
    spreads = np.sqrt(np.maximum(np.einsum("dr,de,er->r", directions, gram, directions) / n, 0))
    used = spreads > 1e-6
    if not used[0]:
        return np.zeros((dim, 0))
    directions, spreads = directions[:, used], spreads[used]
    # Square roots, so that a direction that matters half as much still separates prompts.
    return directions / np.sqrt(spreads * spreads[0])
