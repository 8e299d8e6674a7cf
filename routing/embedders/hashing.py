"""Hashed words: an embedder without weights, for tests and quick trials."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..embedding import F32, EmbedderId, encodable
from ..errors import InvalidInput

HASHING = "hashing"


class HashingEmbedder:
    """Embed by hashed words and word pairs: no weights, milliseconds. For tests and quick trials, not for quality.

    Parameters
    ----------
    dim
        Length of a row, at least 2.
    """

    def __init__(self, dim: int = 256) -> None:
        if not isinstance(dim, int) or dim < 2:
            raise InvalidInput(f"a hashing embedder needs an integer dimension of at least 2, got {dim!r}")
        self.id = EmbedderId(HASHING, "words-1", dim)

    def embed(self, texts: Sequence[str]) -> F32:
        """Embed texts.

        Parameters
        ----------
        texts
            Any texts; one without a word gets the first unit vector.

        Returns
        -------
        (n, dim) float32
            Unit rows in the order of the texts.
        """
        cleaned = encodable(texts)
        rows = np.zeros((len(cleaned), self.id.dim), dtype=np.float32)
        if cleaned:
            rows[:] = self._vectorizer.transform(cleaned).toarray()
        rows[~rows.any(axis=1), 0] = 1.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(n_features=self.id.dim, ngram_range=(1, 2), norm=None, dtype=np.float32)
