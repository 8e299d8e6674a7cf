"""Input tokens of a prompt: estimated before any LLM has counted them, and appended to Phi, the cluster weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import finite_array, finite_number

# English, and most code, has about four bytes per token in the byte-level vocabularies of current LLMs.
_BYTES_PER_TOKEN = 4
# More than any prompt has, and small enough that the cost stays finite in float32.
MOST_TOKENS = 1e12


def estimated_input_tokens(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Estimate the input tokens of prompts: their UTF-8 bytes, divided by four.

    Bytes rather than characters, because a character outside Latin script takes more bytes and tokens. The estimate is
    the same for all LLMs; tokenizers differ from it and from each other by a few tenths, which an LLM's feature vector
    keeps as its `input_token_ratio`.

    Parameters
    ----------
    texts
        The prompts; lone surrogates count three bytes.

    Returns
    -------
    (n,) float32
        Tokens, not rounded; zero only for an empty text.

    Examples
    --------
    >>> from routing import estimated_input_tokens
    >>> estimated_input_tokens(["Who was it?", ""]).tolist()
    [2.75, 0.0]
    """
    sizes_bytes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    return (np.array(sizes_bytes, dtype=np.float64) / _BYTES_PER_TOKEN).astype(np.float32)


def checked_tokens(input_tokens: npt.ArrayLike, n: int) -> npt.NDArray[np.float64]:
    """Return the input tokens of n prompts in float64, or refuse them.

    Parameters
    ----------
    input_tokens : array-like of shape (n,)
        Finite, in [0, 1e12].
    n
        Number of prompts.

    Raises
    ------
    InvalidInput
        When their number is not n, or one is NaN, infinite, negative or too large.
    """
    return finite_array(input_tokens, "input_tokens", shape=(n,), minimum=0, maximum=MOST_TOKENS)


def checked_tokens_of(input_tokens: float) -> float:
    """Return the input tokens of one prompt, or refuse them as `checked_tokens` does."""
    return finite_number(input_tokens, "input_tokens", minimum=0, maximum=MOST_TOKENS)


def with_tokens(weights: npt.NDArray[Any], input_tokens: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Append the input tokens of prompts to their Phi as its last column.

    Parameters
    ----------
    weights : (n, D)
        Phi of the prompts.
    input_tokens : (n,) float64

    Returns
    -------
    (n, D + 1), with the dtype of `weights`
        Every column is contiguous, as the cluster map returns them and as ranking reads them.
    """
    return np.vstack([weights.T, input_tokens.astype(weights.dtype)]).T
