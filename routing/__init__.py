"""The mathematics: prompts in, decision out. No database, no network, no clock."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The module of every public name. Names are imported on first use: a consumer that only routes never loads
# scikit-learn, and torch is not loaded before the first text is embedded.
_HOMES = {
    "ArtifactCorrupt": "errors",
    "ArtifactError": "errors",
    "ArtifactIncompatible": "errors",
    "ArtifactTooNew": "errors",
    "BootstrapDifference": "deferral",
    "ClusterMap": "prompt_weights",
    "Decision": "decisions",
    "Decisions": "ranking",
    "DeferralCurve": "deferral",
    "Embedder": "embedding",
    "EmbedderId": "embedding",
    "EmbedderUnavailable": "errors",
    "Expected": "router",
    "FORMATS": "artifact",
    "FeatureVector": "features",
    "HashingEmbedder": "embedders",
    "InvalidInput": "errors",
    "InvalidProfile": "errors",
    "KMeansMap": "cluster_maps",
    "Manifest": "artifact",
    "NoEligibleLLM": "errors",
    "PosteriorEstimator": "estimator",
    "Qnc": "deferral",
    "RoutedLLM": "decisions",
    "Router": "router",
    "RoutingError": "errors",
    "SentenceTransformerEmbedder": "embedders",
    "UnirouteError": "errors",
    "ZeroRouter": "baselines",
    "aiq": "deferral",
    "area": "deferral",
    "deferral_curve": "deferral",
    "estimated_input_tokens": "tokens",
    "load_embedder": "embedders",
    "load_embedder_for": "embedders",
    "load_router": "artifact",
    "paired_bootstrap": "deferral",
    "peak": "deferral",
    "plain_feature_vector": "features",
    "qnc": "deferral",
    "save_router": "artifact",
    "scores_at_costs": "deferral",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
