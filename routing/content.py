"""Content of a router as canonical JSON and arrays: exactly what its digest covers and a router folder stores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from .decisions import F32, RoutedLLM, Scalar
from .embedding import EmbedderId
from .prompt_weights import ClusterMap
from .strict_json import canonical_json

VECTOR_ARRAYS = ("errors", "standard_errors", "counts", "input_tokens", "output_tokens", "coefficients")
RATIOS, TOKENS = "vectors/input_token_ratios", "calibration_tokens"


class Content(Protocol):
    """What the digest of a `Router` covers; `Router` describes each of them."""

    cluster_map: ClusterMap
    llms: tuple[RoutedLLM, ...]
    embedder: EmbedderId
    cost_weight: float
    calibration_weights: F32
    calibration_tokens: F32
    provenance: Mapping[str, Scalar]


def format_of(router: Content) -> int:
    """Return the first format that can hold the router, so that older content keeps its bytes and its digest.

    Format 2 adds the input tokens of the calibration prompts and the LLMs' ratios of input tokens to the estimate.
    """
    return 2 if len(router.calibration_tokens) or any(llm.vector.input_token_ratio != 1 for llm in router.llms) else 1


def describe(router: Content) -> dict[str, Any]:
    """Return everything in a router that is not an array, as JSON values."""
    return {
        "cluster_map": {"kind": router.cluster_map.kind},
        "cost_weight": router.cost_weight,
        "embedder": asdict(router.embedder),
        "llms": [
            {
                "key": llm.key,
                "input_usd_per_mtok": llm.input_usd_per_mtok,
                "output_usd_per_mtok": llm.output_usd_per_mtok,
                "n_prompts": llm.vector.n_prompts,
                "n_scored": llm.vector.n_scored,
            }
            for llm in router.llms
        ],
        "provenance": dict(router.provenance),
    }


def arrays_of(router: Content) -> dict[str, np.ndarray]:
    """Return the arrays of a router, little-endian and C-contiguous, one row per LLM in `vectors/...`."""
    arrays = {f"map/{name}": array for name, array in router.cluster_map.arrays().items()}
    for name in VECTOR_ARRAYS:
        arrays[f"vectors/{name}"] = np.stack([getattr(llm.vector, name) for llm in router.llms])
    arrays["calibration_weights"] = router.calibration_weights
    if format_of(router) > 1:
        arrays[TOKENS] = router.calibration_tokens
        arrays[RATIOS] = np.array([llm.vector.input_token_ratio for llm in router.llms], dtype=np.float64)
    return {
        name: np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")) for name, array in sorted(arrays.items())
    }


def content_digest(router: Content) -> str:
    """Return the SHA-256 over everything that a router contains."""
    summary = hashlib.sha256(canonical_json(describe(router)).encode())
    for name, array in arrays_of(router).items():
        summary.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        summary.update(array.tobytes())
    return summary.hexdigest()
