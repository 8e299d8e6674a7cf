"""Embeddings of a folder's prompts, kept in the registry so that no later run or night computes them again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flows.bench.folder import OutcomeFolder
from flows.workspace import Workspace
from routing.embedding import Embedder

# Prompts embedded and stored at a time: a run that is stopped loses no more. An embedder sorts the prompts of a part by
# length.
_PART = 2048


def embeddings_of(
    workspace: Workspace,
    folder: OutcomeFolder,
    *,
    embedder: Embedder | None = None,
    on_progress: Callable[[int, int], object] = lambda done, of: None,
) -> NDArray[np.float32]:
    """Return the embeddings of the folder's prompts, ``(n, dim)`` unit rows, and compute only those not yet stored.

    Parameters
    ----------
    workspace
        Has the embedder and the registry.
    folder
        The prompts.
    embedder
        Used instead of the workspace's.
    on_progress
        Called with the number of prompts embedded so far and the number to embed.
    """
    prompts, repository = folder.prompts, workspace.registry.prompts
    embedder = embedder or workspace.embedder
    repository.freeze(f"bench {folder.name}", prompts)
    stored = set(repository.embeddings(prompts, embedder.id.key).prompt_digests)
    missing = list({prompt.digest: prompt for prompt in prompts if prompt.digest not in stored}.values())
    for start in range(0, len(missing), _PART):
        part = missing[start : start + _PART]
        repository.store_embeddings(embedder.id.key, part, embedder.embed([prompt.text for prompt in part]))
        on_progress(start + len(part), len(missing))
    found = repository.embeddings(prompts, embedder.id.key)
    rows = {digest: row for row, digest in enumerate(found.prompt_digests)}
    return found.matrix[[rows[prompt.digest] for prompt in prompts]]
