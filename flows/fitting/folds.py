"""Folds of the representative prompts: the first only teach, and the others may judge what was fitted without them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_FOLDS, N_TEACHING = 10, 3
"""Number of folds, and of those that only teach. More that are judged say more, by vectors made from fewer answers."""


def folds_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the fold of every prompt, by its text alone: prompts of equal text are never in two folds."""
    return np.array(
        [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % N_FOLDS for text in texts], dtype=np.int64
    )


def teaching(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which prompts only teach: answers to them may enter a prior without bending what the others judge."""
    return folds_of(texts) < N_TEACHING
