"""Routers of ordinary size with random errors, and prompts for them, for measurements of speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from registry.publishing import RouterPublisher
    from routing.embedding import Embedder
    from routing.router import Router

_LLMS = 20
_CLUSTERS = 30
_VOCABULARY = 500


def random_texts(seed: int, count: int, words: int) -> list[str]:
    """Return `count` texts of `words` random words each."""
    drawn = np.random.default_rng(seed).integers(0, _VOCABULARY, (count, words))
    vocabulary = np.array([f"word{number}" for number in range(_VOCABULARY)])
    return [" ".join(chosen) for chosen in vocabulary[drawn].tolist()]


def random_router(seed: int, embedder: Embedder) -> Router:
    """Make a router of 20 LLMs and 30 clusters with random errors and prices."""
    from routing.cluster_maps import KMeansMap
    from routing.features import FeatureVector
    from routing.router import RoutedLLM, Router
    from routing.tokens import estimated_input_tokens

    random = np.random.default_rng(seed)
    texts = random_texts(seed, 20 * _CLUSTERS, 12)
    embeddings = embedder.embed(texts)
    cluster_map = KMeansMap(n_clusters=_CLUSTERS, random_state=seed).fit(embeddings).fitted_
    k = cluster_map.n_clusters
    llms = tuple(
        RoutedLLM(
            f"bench:llm-{number:02}",
            10.0 ** random.uniform(-1, 1),
            10.0 ** random.uniform(-1, 1.5),
            FeatureVector(
                errors=random.uniform(0.1, 0.7, k),
                standard_errors=np.full(k, 0.05),
                counts=np.full(k, 20),
                input_tokens=np.full(k, 100.0),
                output_tokens=np.full(k, 200.0),
                n_prompts=20 * k,
                n_scored=20 * k,
            ),
        )
        for number in range(_LLMS)
    )
    return Router(
        cluster_map,
        llms,
        embedder=embedder.id,
        cost_weight=1.0,
        calibration_weights=cluster_map.weights(embeddings),
        calibration_tokens=estimated_input_tokens(texts),
    )


def tracking_url(folder: Path) -> str:
    """Return the URL of the MLflow that `published` creates in a folder."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def published(folder: Path, name: str, routers: Sequence[Router], embedder: Embedder) -> RouterPublisher:
    """Publish routers to an MLflow of their own, the first as champion.

    Parameters
    ----------
    folder
        Folder for MLflow and the routers' folders.
    name
        Name of the registered router.
    routers
        Routers to publish, as versions 1, 2 and so on.
    embedder
        Embedder of the routers.
    """
    from registry.publishing import PublishRequest, RouterPublisher
    from routing.artifact import save_router
    from routing.embedders import keep_embedder

    publisher = RouterPublisher(tracking_url(folder), artifact_root=folder / "artifacts", experiment=name)
    for number, router in enumerate(routers, start=1):
        router_folder = folder / f"router-{number}"
        save_router(router, router_folder)
        keep_embedder(embedder, router_folder)
        publisher.publish(
            PublishRequest(
                router_folder=router_folder,
                name=name,
                publish_key=f"number:{number}",
                description="A router with random errors, for a measurement.",
            )
        )
    publisher.set_alias(name, "champion", 1)
    return publisher
