"""The features of the posterior estimator: soft clusters of the embedding, and of what is known to be hard for LLMs.

All features are softmax blocks that are linear in the embedding before the exponential, so that a `ClusterMap` computes
them and a router stays one matrix product:

- soft clusters at several resolutions, from k-means on the map prompts;
- *error profiles*: the training LLMs' errors are predicted from the embedding by ridge regression, and prompts are
  clustered by what is predicted for them, in the few directions along which the predictions vary most. Prompts that
  are equally hard for the same kind of LLM share a cluster wherever they lie in the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .cluster_maps import KMeansMap
from .prompt_weights import F32, F64, Block, ClusterMap

RESOLUTIONS = (5, 10, 25, 50, 100)
PROFILE_RESOLUTIONS = (16, 64)
PROFILE_DIRECTIONS = 4
# The block that decisions and reports show, as the finest resolution of at most so many clusters.
SHOWN_CLUSTERS = 25
# Prompts that a cluster should have on average; a resolution that has fewer is left out.
PROMPTS_PER_CLUSTER = 10
# Penalty of the ridge regression behind the error profiles, in prompts; nothing depends on it within a factor of ten.
PROFILE_RIDGE = 60.0
# Profiles are scaled to unit variance along their first direction; their clusters overlap on purpose.
PROFILE_SHARPNESS = 2.0


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Hold a fitted map whose features a posterior estimator weighs.

    Attributes
    ----------
    cluster_map
        One softmax block of clusters, for show, then the features.
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
        """Give the features of prompts after a column of ones, (n, n_columns) float32.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.
        """
        weights = self.cluster_map.weights(embeddings)
        features = weights[:, self.cluster_map.n_clusters :]
        return np.concatenate([np.ones((len(features), 1), dtype=np.float32), features], axis=1)

    def clusters(self, embeddings: npt.ArrayLike) -> F32:
        """Give the weights of the clusters that are shown, (n, n_clusters) float32.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.
        """
        return self.cluster_map.weights(embeddings)[:, : self.cluster_map.n_clusters]


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
    distinct = len(np.unique(embeddings, axis=0))
    supported = [count for count in resolutions if count * PROMPTS_PER_CLUSTER <= distinct]
    return tuple(
        KMeansMap(count, random_state=seed).fit(embeddings).fitted_ for count in supported or [min(2, distinct)]
    )


def feature_space(
    maps: Sequence[ClusterMap], profiles: Sequence[ClusterMap], embeddings: F32, *, contrast: float
) -> FeatureSpace:
    """Build the features from k-means maps and error profiles.

    Parameters
    ----------
    maps
        Hard maps, coarse to fine.
    profiles
        What `profile_maps` gave; may be empty.
    embeddings : (n, dim) float32
        Unit rows of the map prompts.
    contrast
        How much nearer the own centre counts: weights are proportional to `exp(-contrast * |x - c|**2 / s)` with s the
        mean squared distance to the own centre, as in the learned map's start. Positive.
    """
    soft = [_softened(fitted, embeddings, contrast) for fitted in maps]
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


def _softened(fitted: ClusterMap, embeddings: F32, contrast: float) -> ClusterMap:
    centres = fitted.matrix.astype(np.float64)
    apart = embeddings - fitted.matrix[fitted.assign(embeddings)]
    spread = float(np.einsum("nd,nd->", apart, apart, dtype=np.float64)) / len(embeddings)
    # With all prompts on their centres any sharpness gives hard weights.
    return ClusterMap.soft(centres, contrast / max(spread, 1e-3))


def profile_maps(embeddings: F32, errors: F64, *, seed: int) -> list[ClusterMap]:
    """Cluster prompts by the errors that a ridge regression predicts for them; nothing when all are predicted alike.

    Parameters
    ----------
    embeddings : (n, dim) float32
        Unit rows of the map prompts.
    errors : (n, m) float64
        Errors of the training LLMs on them, in [0, 1]; with no LLM there are no error profiles.
    seed
        Seed of k-means.
    """
    centre = embeddings.mean(axis=0)
    directions = _profile_directions(embeddings - centre, errors)
    if not directions.shape[1]:
        return []
    profiles = ((embeddings - centre) @ directions).astype(np.float32)
    distinct = len(np.unique(profiles, axis=0))
    maps = []
    for count in PROFILE_RESOLUTIONS:
        if count * PROMPTS_PER_CLUSTER > distinct:
            continue
        centres = KMeansMap(count, random_state=seed).fit(profiles).cluster_centers_.astype(np.float64)
        # |u - c|**2 with u = (x - centre) @ directions, but for a part that no softmax sees.
        matrix = 2 * PROFILE_SHARPNESS * centres @ directions.T
        bias = -PROFILE_SHARPNESS * (centres**2).sum(axis=1) - matrix @ centre
        maps.append(ClusterMap("profiles", matrix, bias, (Block("softmax", len(centres)),)))
    return maps


def _profile_directions(centred: F32, errors: F64) -> F64:
    """Give the directions of the embedding along which predicted errors vary, scaled by how much, (dim, r)."""
    n, dim = centred.shape
    if not errors.shape[1] or n < 2:
        return np.zeros((dim, 0))
    gram = (centred.T @ centred).astype(np.float64)
    targets = (centred.T @ (errors - errors.mean(axis=0)).astype(np.float32)).astype(np.float64)
    slopes = np.linalg.solve(gram + PROFILE_RIDGE * np.eye(dim), targets)
    common = slopes.mean(axis=1, keepdims=True)
    own = slopes - common
    # The common part first, then principal directions of what LLMs add to it, in the metric of predicted errors.
    _, rotation = np.linalg.eigh(own.T @ gram @ own)
    n_own = min(PROFILE_DIRECTIONS, errors.shape[1]) - 1
    directions = np.hstack([common, own @ rotation[:, ::-1][:, :n_own]])
    spreads = np.sqrt(np.maximum(np.einsum("dr,de,er->r", directions, gram, directions) / n, 0))
    used = spreads > 1e-6
    if not used[0]:
        return np.zeros((dim, 0))
    directions, spreads = directions[:, used], spreads[used]
    # Square roots: a direction that matters half as much still separates prompts.
    return directions / np.sqrt(spreads * spreads[0])
