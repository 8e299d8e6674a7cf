"""What an embedder is: it turns texts into unit rows and has an identity."""

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
    """Identity of an embedder: maps and vectors of one are never used with embeddings of another.

    Attributes
    ----------
    name, revision
        Name of the embedder, and version of its weights or rules.
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
        """The identity as one text, "name@revision/dim"."""
        return f"{self.name}@{self.revision}/{self.dim}"


class Embedder(Protocol):
    """Turns texts into embeddings."""

    @property
    def id(self) -> EmbedderId:
        """Identity of the embedder."""
        ...

    def embed(self, texts: Sequence[str]) -> F32:
        """Return one unit row per text, (n, dim) float32."""
        ...


def encodable(texts: Sequence[str]) -> list[str]:
    """Refuse anything but texts, and replace lone surrogates, which no tokenizer can read.

    Parameters
    ----------
    texts
        Anything.

    Raises
    ------
    InvalidInput
        When it is a single text, or contains something else than texts.
    """
    if isinstance(texts, str):
        raise InvalidInput("texts must be a list of texts, got one text")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"texts must be texts, got {type(text).__name__} at position {position}")
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
