"""Embeddings of a folder's prompts, kept in the registry so that no later run or night computes them again."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from flows.bench.folder import OutcomeFolder
from flows.workspace import Workspace
from routing.embedding import Embedder

# Prompts are embedded and stored in parts that take about so long: a run that is stopped loses no more, and progress is
# seen from the first second.
_PART_S = 0.5
_SMALLEST_PART, _LARGEST_PART = 8, 2048
# An embedder reads the beginning of a text only; and reading an empty one takes time, too.
_CHARACTERS_READ, _CHARACTERS_OF_EMPTY = 1200, 20


def embeddings_of(
    workspace: Workspace,
    folder: OutcomeFolder,
    *,
    embedder: Embedder | None = None,
    on_progress: Callable[[int, int, float], object] = lambda done, of, share: None,
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
        Called with the number of prompts embedded so far, at first none, the number to embed, and the share of the work
        that is done: long texts take longer. Never called when there is nothing to embed.
    """
    prompts, repository = folder.prompts, workspace.registry.prompts
    embedder = embedder or workspace.embedder
    repository.freeze(f"bench {folder.name}", prompts)
    stored = set(repository.embeddings(prompts, embedder.id.key).prompt_digests)
    missing = list({prompt.digest: prompt for prompt in prompts if prompt.digest not in stored}.values())
    # Texts of one length together: an embedder pads those of a part to the longest.
    missing.sort(key=lambda prompt: len(prompt.text), reverse=True)
    work = np.cumsum([min(len(prompt.text), _CHARACTERS_READ) + _CHARACTERS_OF_EMPTY for prompt in missing])
    done, size = 0, _SMALLEST_PART
    if missing:
        on_progress(0, len(missing), 0.0)
    while done < len(missing):
        part, began_s = missing[done : done + size], time.monotonic()
        repository.store_embeddings(embedder.id.key, part, embedder.embed([prompt.text for prompt in part]))
        done += len(part)
        on_progress(done, len(missing), float(work[done - 1] / work[-1]))
        faster = _PART_S / max(time.monotonic() - began_s, 1e-3)
        size = int(np.clip(size * faster, _SMALLEST_PART, min(2 * size, _LARGEST_PART)))
    found = repository.embeddings(prompts, embedder.id.key)
    rows = {digest: row for row, digest in enumerate(found.prompt_digests)}
    return found.matrix[[rows[prompt.digest] for prompt in prompts]]
