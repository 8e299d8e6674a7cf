"""Embeddings of a folder's prompts, kept in the registry so that no second run and no night computes them again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flows.bench.folder import OutcomeFolder
from flows.workspace import Workspace


def embeddings_of(workspace: Workspace, folder: OutcomeFolder) -> NDArray[np.float32]:
    """Give the embeddings of the folder's prompts, ``(n, dim)`` unit rows, computing only those that are not stored.

    Parameters
    ----------
    workspace
        Names the embedder, and holds the registry that stores.
    folder
        The prompts.
    """
    prompts, embedder = folder.prompts, workspace.embedder
    repository = workspace.registry.prompts
    repository.freeze(f"bench {folder.name}", prompts)
    stored = set(repository.embeddings(prompts, embedder.id.key).prompt_digests)
    missing = list({prompt.digest: prompt for prompt in prompts if prompt.digest not in stored}.values())
    if missing:
        matrix = embedder.embed([prompt.text for prompt in missing])
        repository.store_embeddings(embedder.id.key, missing, matrix)
    found = repository.embeddings(prompts, embedder.id.key)
    rows = {digest: row for row, digest in enumerate(found.prompt_digests)}
    return found.matrix[[rows[prompt.digest] for prompt in prompts]]
