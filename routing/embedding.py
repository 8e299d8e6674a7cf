"""Turn texts into unit rows. Only this module reaches for sentence-transformers and torch, and only when embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EmbedderId:
    """Identify an embedder: maps and vectors of one never meet embeddings of another.

    Attributes
    ----------
    name, revision
        What it is, and which weights or rules.
    dim
        Length of a row.
    normalised
        Whether rows have unit length.
    """

    name: str
    revision: str
    dim: int
    normalised: bool = True

    @property
    def key(self) -> str:
        """The identity in one text, "name@revision/dim"."""
        return f"{self.name}@{self.revision}/{self.dim}"


class Embedder(Protocol):
    """Turn texts into embeddings."""

    @property
    def id(self) -> EmbedderId:
        """Identity of the embedder."""
        ...

    def embed(self, texts: Sequence[str]) -> F32:
        """Give one unit row per text, (n, dim) float32."""
        ...


def encodable(texts: Sequence[str]) -> list[str]:
    """Refuse what is no text; replace lone surrogates, which no tokenizer can read.

    Parameters
    ----------
    texts
        Anything.

    Raises
    ------
    InvalidInput
        When it is one text, or holds something that is none.
    """
    if isinstance(texts, str):
        raise InvalidInput("texts must be a list of texts, got one text")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"texts must be texts, got {type(text).__name__} at position {position}")
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
