"""Phi: what a router computes from the embedding of a prompt alone.

Every router predicts `gamma(x, h) = Phi(x) @ Psi(h)` (UniRoute, arXiv 2502.08773, eq. 6). A `ClusterMap` is Phi as a
frozen value that needs only numpy: linear scores of the embedding, then one activation per block of columns. That one
form covers k-means (one `nearest` block), the learned map and soft assignment (one `softmax` block), several
resolutions side by side (blocks whose shares sum to one), and linear features (a `linear` block) beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .checks import checked_embedding, checked_embeddings, finite_array
from .errors import InvalidInput

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
Activation = Literal["nearest", "softmax", "linear", "soft_feature"]
# Stored by number: append only.
_ACTIVATIONS: tuple[Activation, ...] = ("nearest", "softmax", "linear", "soft_feature")
# Columns of these are clusters: their weights sum to one and their coefficients are errors. All others are features,
# which enter gamma with coefficients of any size.
_CLUSTERS = ("nearest", "softmax")

# BLAS sums in another order for another number of threads. Two float32 scores of unit rows that differ by less than the
# first are compared again in float64; float64 scores that differ by less than the second are equal: the lower cluster
# wins.
_NEAR = 2e-5
_EQUAL = 1e-9


@dataclass(frozen=True)
class Block:
    """Adjacent columns of a map, and how their scores become weights.

    Attributes
    ----------
    activation
        `nearest`: one for the largest score, else zero. `softmax`: exponentials over their sum. `linear`: the scores.
        `soft_feature`: as `softmax`, but its columns are features, not clusters.
    size
        Number of columns.
    share
        Factor on the weights of a `nearest` or `softmax` block, in (0, 1]; these sum to one. A feature block has 1.
    """

    activation: Activation
    size: int
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class ClusterMap:
    """Phi as a frozen value: computes the weights of prompts from their embeddings, equal output for equal input.

    Attributes
    ----------
    kind
        The method that fitted it, such as "kmeans"; a label that artifacts keep.
    matrix : (n_columns, dim) float32
        Column scores are `embeddings @ matrix.T + bias`.
    bias : (n_columns,) float32
    blocks
        Partition of the columns; the first block is the one that `assign` reports. Soft features come after the
        clusters, linear ones last.
    """

    kind: str
    matrix: F32
    bias: F32
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        matrix = finite_array(self.matrix, f"matrix of the {self.kind} map", shape=(None, None)).astype(np.float32)
        bias = finite_array(self.bias, f"bias of the {self.kind} map", shape=(len(matrix),)).astype(np.float32)
        for array in (matrix, bias):
            array.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "blocks", tuple(self.blocks))
        self._check_blocks()

    def _check_blocks(self) -> None:
        partitions = [block for block in self.blocks if block.activation in _CLUSTERS]
        ranks = [{"soft_feature": 1, "linear": 2}.get(block.activation, 0) for block in self.blocks]
        if any(block.activation not in _ACTIVATIONS or block.size < 1 for block in self.blocks):
            raise InvalidInput(f"a block of the {self.kind} map has an unknown activation or no columns")
        if not partitions or ranks != sorted(ranks):
            raise InvalidInput(f"a {self.kind} map needs a nearest or softmax block first and linear blocks last")
        if sum(block.size for block in self.blocks) != len(self.matrix):
            raise InvalidInput(f"the blocks of the {self.kind} map do not cover its {len(self.matrix)} columns")
        shares = sum(block.share for block in partitions)
        if not all(0 < block.share <= 1 for block in self.blocks) or abs(shares - 1) > 1e-6:
            raise InvalidInput(
                f"the shares of the {self.kind} map's blocks must be positive and sum to one, got {shares}"
            )

    @classmethod
    def nearest(cls, centres: npt.ArrayLike, *, kind: str = "kmeans") -> ClusterMap:
        """Assign every prompt to its nearest centre.

        The nearest centre maximises `x @ c - |c|**2 / 2`.

        Parameters
        ----------
        centres : array-like of shape (n_clusters, dim)
            Cluster centres.
        kind
            Label of the method.
        """
        points = np.asarray(centres, dtype=np.float64)
        return cls(kind, points, -0.5 * (points**2).sum(axis=1), (Block("nearest", len(points)),))

    @classmethod
    def soft(cls, centres: npt.ArrayLike, sharpness: float, *, kind: str = "soft") -> ClusterMap:
        """Weight every centre by `exp(-sharpness * |x - c|**2)`, normalised over the centres.

        Parameters
        ----------
        centres : array-like of shape (n_clusters, dim)
            Cluster centres.
        sharpness
            Positive; the larger, the closer to the nearest centre alone.
        kind
            Label of the method.
        """
        points = np.asarray(centres, dtype=np.float64)
        bias = -sharpness * (points**2).sum(axis=1)
        return cls(kind, 2 * sharpness * points, bias, (Block("softmax", len(points)),))

    @property
    def dim(self) -> int:
        """Length of an embedding row."""
        return int(self.matrix.shape[1])

    @cached_property
    def n_clusters(self) -> int:
        """Number of columns whose weights sum to one: all but the features."""
        return sum(block.size for block in self.blocks if block.activation in _CLUSTERS)

    @property
    def n_linear(self) -> int:
        """Number of feature columns, which come after the clusters and enter linearly."""
        return len(self.matrix) - self.n_clusters

    @cached_property
    def is_hard(self) -> bool:
        """Whether every prompt belongs to exactly one cluster."""
        return len(self.blocks) == 1 and self.blocks[0].activation == "nearest"

    @cached_property
    def digest(self) -> str:
        """Identity of the map: SHA-256 over its kind and its arrays."""
        summary = hashlib.sha256(self.kind.encode())
        for name, array in sorted(self.arrays().items()):
            summary.update(f"{name} {array.dtype.str} {array.shape}".encode())
            summary.update(array.tobytes())
        return summary.hexdigest()

    def weights(self, embeddings: npt.ArrayLike) -> F32:
        """Compute the weight of every column for every prompt.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.

        Returns
        -------
        (n, n_clusters + n_linear) float32
            Cluster weights sum to one; features follow them.

        Raises
        ------
        InvalidInput
            When a row has the wrong length, is zero or is not finite.
        """
        rows = checked_embeddings(embeddings, self.dim)
        # Reductions over the first axis of a (columns, prompts) array are many times faster than over the last one.
        scores = np.ascontiguousarray((rows @ self.matrix.T).T)
        scores += self.bias[:, None]
        return self._activate(scores, lambda part, start: self._largest(part, rows, start)).T

    def exact_weights(self, embeddings: npt.ArrayLike) -> F64:
        """Compute the weights in float64, bit for bit the same for any number of threads; ten times slower.

        What goes into a digest, such as a router's calibration weights, is computed with this.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.

        Returns
        -------
        (n, n_clusters + n_linear) float64
            As `weights`.
        """
        rows = checked_embeddings(embeddings, self.dim)
        scores = self._exact_scores(rows, slice(None))
        return self._activate(scores, lambda part, _: _first_largest(part)).T

    def exact_weights_of(self, embedding: npt.ArrayLike) -> F64:
        """Compute the weights of one prompt as `exact_weights` does, in a few microseconds.

        Parameters
        ----------
        embedding : array-like of shape (dim,)
            Unit row.

        Returns
        -------
        (n_clusters + n_linear,) float64
        """
        scores = self._matrix64 @ checked_embedding(embedding, self.dim) + self._bias64
        starts, sizes, shares = self._soft_layout
        if not len(starts):
            return self._activate(scores[:, None], lambda part, _: _first_largest(part))[:, 0]
        if len(starts) == 1:
            soft = scores[: sizes[0]]
            soft -= np.maximum.reduce(soft)
            np.exp(soft, out=soft)
            soft *= shares[0] / np.add.reduce(soft)
            return scores
        soft = scores[: starts[-1] + sizes[-1]]
        soft -= np.maximum.reduceat(soft, starts).repeat(sizes)
        np.exp(soft, out=soft)
        soft *= (shares / np.add.reduceat(soft, starts)).repeat(sizes)
        return scores

    def assign(self, embeddings: npt.ArrayLike) -> I64:
        """Return the cluster of every prompt: the largest weight of the first block, the lower number for ties.

        Parameters
        ----------
        embeddings : array-like of shape (n, dim)
            Unit rows.

        Returns
        -------
        (n,) int64
            Cluster numbers.
        """
        rows = checked_embeddings(embeddings, self.dim)
        size = self.blocks[0].size
        scores = np.ascontiguousarray((rows @ self.matrix[:size].T).T)
        scores += self.bias[:size, None]
        return self._largest(scores, rows, 0)

    def exact_assign_of(self, embedding: npt.ArrayLike) -> int:
        """Return the cluster of one prompt as `assign` does, in a few microseconds.

        Parameters
        ----------
        embedding : array-like of shape (dim,)
            Unit row.
        """
        size = self.blocks[0].size
        scores = self._matrix64[:size] @ checked_embedding(embedding, self.dim) + self._bias64[:size]
        return int((scores >= scores.max() - _EQUAL).argmax())

    def _activate(self, scores: Any, largest: Callable[[Any, int], I64]) -> Any:
        """Turn the scores of a (columns, prompts) array into weights, in place."""
        start = 0
        for block in self.blocks:
            part = scores[start : start + block.size]
            if block.activation in ("softmax", "soft_feature"):
                part -= part.max(axis=0)
                np.exp(part, out=part)
                part *= scores.dtype.type(block.share) / part.sum(axis=0)
            elif block.activation == "nearest":
                winner = largest(part, start)
                part[:] = 0
                part[winner, np.arange(part.shape[1])] = block.share
            start += block.size
        return scores

    def _largest(self, scores: F32, rows: F32, start: int) -> I64:
        """Row of the largest score per prompt of a (columns, prompts) array; near ties are settled in float64."""
        near = scores >= scores.max(axis=0) - np.float32(_NEAR)
        winner = near.argmax(axis=0)
        open_rows = np.flatnonzero(np.add.reduce(near, axis=0, dtype=np.uint16) > 1)
        if len(open_rows):
            exact = self._exact_scores(rows[open_rows], slice(start, start + len(scores)))
            winner[open_rows] = _first_largest(exact)
        return winner

    def _exact_scores(self, rows: F32, columns: slice) -> F64:
        # einsum without `optimize` never calls BLAS, whose order of summation changes with the number of threads.
        return np.einsum("kd,nd->kn", self._matrix64[columns], rows.astype(np.float64)) + self._bias64[columns, None]

    @cached_property
    def _soft_layout(self) -> tuple[I64, I64, F64]:
        """Starts, sizes and shares of the soft blocks, which come first; empty when one is hard."""
        blocks = [block for block in self.blocks if block.activation != "linear"]
        if any(block.activation == "nearest" for block in blocks):
            blocks = []
        sizes = np.array([block.size for block in blocks], dtype=np.int64)
        return np.cumsum(sizes) - sizes, sizes, np.array([block.share for block in blocks])

    @cached_property
    def _matrix64(self) -> F64:
        return self.matrix.astype(np.float64)

    @cached_property
    def _bias64(self) -> F64:
        return self.bias.astype(np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything but the kind as arrays, for storage; `from_arrays` is the inverse."""
        return {
            "matrix": self.matrix,
            "bias": self.bias,
            "block_activations": np.array([_ACTIVATIONS.index(b.activation) for b in self.blocks], dtype="<i8"),
            "block_sizes": np.array([b.size for b in self.blocks], dtype="<i8"),
            "block_shares": np.array([b.share for b in self.blocks], dtype="<f8"),
        }

    @classmethod
    def from_arrays(cls, kind: str, arrays: Mapping[str, np.ndarray]) -> ClusterMap:
        """Rebuild a map from its kind and the arrays that `arrays` returned.

        Raises
        ------
        InvalidInput
            When an array is missing or the arrays do not fit together.
        """
        missing = sorted({"matrix", "bias", "block_activations", "block_sizes", "block_shares"} - set(arrays))
        if missing:
            raise InvalidInput(f"the stored {kind} map lacks its arrays {', '.join(missing)}")
        codes = arrays["block_activations"].tolist()
        if any(code not in range(len(_ACTIVATIONS)) for code in codes):
            raise InvalidInput(f"the stored {kind} map uses an activation this version does not know")
        sizes, shares = arrays["block_sizes"].tolist(), arrays["block_shares"].tolist()
        if not len(codes) == len(sizes) == len(shares):
            raise InvalidInput(f"the stored {kind} map describes its blocks inconsistently")
        blocks = tuple(map(Block, [_ACTIVATIONS[code] for code in codes], sizes, shares))
        return cls(kind, arrays["matrix"], arrays["bias"], blocks)


def _first_largest(scores: F64) -> I64:
    return (scores >= scores.max(axis=0) - _EQUAL).argmax(axis=0)
