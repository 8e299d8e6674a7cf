"""Feature vectors as they are stored: their fields, their digest and their row."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from registry.db.columns import array_bytes
from routing.day_zero import LevelPrior
from routing.errors import InvalidInput
from routing.features import FeatureVector

_VECTOR_ARRAYS = ("errors", "standard_errors", "counts", "input_tokens", "output_tokens")


class VectorFields(Protocol):
    """What `save_vectors` reads; `routing.features.FeatureVector` has it."""

    errors: NDArray[np.float32]
    standard_errors: NDArray[np.float32]
    counts: NDArray[np.int64]
    input_tokens: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    n_prompts: int
    n_scored: int
    input_token_ratio: float
    prior_share: float | None
    level: LevelPrior | None
    overall: float | None
    overall_standard_error: float | None


@dataclass(frozen=True, eq=False)
class StoredVector:
    """The latest feature vector of one LLM on one cluster map.

    All arrays have shape ``(n_clusters,)``, except the coefficients of the map's features, which have their own length.
    `level_mean` and `level_variance` are what was expected of its level before its answers; None when nothing was.
    `overall` is its level with a standard error; None for vectors of earlier releases.
    """

    llm_key: str
    cluster_map_digest: str
    prompt_set_digest: str
    run_id: int
    digest: str
    errors: NDArray[np.float32]
    standard_errors: NDArray[np.float32]
    counts: NDArray[np.int64]
    input_tokens: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    n_prompts: int
    n_scored: int
    input_token_ratio: float
    level_mean: float | None
    level_variance: float | None
    prior_share: float | None
    overall: float | None
    overall_standard_error: float | None

    @property
    def level(self) -> LevelPrior | None:
        """What was expected of its level before its answers; None when nothing was."""
        if self.level_mean is None or self.level_variance is None:
            return None
        return LevelPrior(self.level_mean, self.level_variance)

    def as_vector(self) -> FeatureVector:
        """Return it as routers read it."""
        return FeatureVector(**{one.name: getattr(self, one.name) for one in fields(FeatureVector)})


def vector_digest(vector: VectorFields, prompt_set_digest: str) -> str:
    """Return the digest under which a feature vector is stored."""
    return vector_row("the LLM", vector, len(vector.errors), prompt_set_digest)["digest"]


def vector_row(key: str, vector: VectorFields, n_clusters: int, prompt_set_digest: str) -> dict[str, Any]:
    """Return a feature vector as a row of its table, without the LLM and the map.

    Parameters
    ----------
    key
        The LLM, for messages.
    vector
        The vector.
    n_clusters
        Clusters of its map.
    prompt_set_digest
        The prompts that it rests on.

    Raises
    ------
    InvalidInput
        An array has another shape, or a number is not finite.
    """
    row: dict[str, Any] = {}
    digest = hashlib.sha256(prompt_set_digest.encode())
    for name in _VECTOR_ARRAYS:
        kind = np.int64 if name == "counts" else np.float32
        values = np.ascontiguousarray(getattr(vector, name), dtype=kind)
        if values.shape != (n_clusters,):
            raise InvalidInput(f"{name} of {key} has shape {values.shape}; the cluster map has {n_clusters} clusters")
        digest.update(array_bytes(values))
        row[name] = values
    row["coefficients"] = np.ascontiguousarray(vector.coefficients, dtype=np.float32)
    if row["coefficients"].ndim != 1:
        raise InvalidInput(f"coefficients of {key} have shape {row['coefficients'].shape}, not one dimension")
    digest.update(array_bytes(row["coefficients"]))
    ratio = float(vector.input_token_ratio)
    if not math.isfinite(ratio):
        raise InvalidInput(f"input_token_ratio of {key} is not finite")
    facts = {"n_prompts": int(vector.n_prompts), "n_scored": int(vector.n_scored), "input_token_ratio": ratio}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    # What the vector started from is not in the digest: it shows in the numbers, which routers carry without it.
    level = vector.level
    start = {
        "level_mean": None if level is None else level.mean,
        "level_variance": None if level is None else level.variance,
        "prior_share": vector.prior_share,
        "overall": vector.overall,
        "overall_standard_error": vector.overall_standard_error,
    }
    return {**row, **facts, **start, "prompt_set_digest": prompt_set_digest, "digest": digest.hexdigest()}
