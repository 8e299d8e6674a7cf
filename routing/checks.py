"""Checks of numbers that enter the mathematics: a single NaN would make `argmin` choose its LLM."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput


def finite_number(value: float, name: str, *, minimum: float | None = None, maximum: float | None = None) -> float:
    """Return `value` as a float, or refuse it under a given name.

    Parameters
    ----------
    value
        The number to check.
    name
        What the number is, for the message.
    minimum, maximum
        Inclusive limits; None means no limit on that side.

    Raises
    ------
    InvalidInput
        When the value is not a finite number within the limits.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{name} must be {_allowed(minimum, maximum)}, got {value!r}") from None
    if (
        not math.isfinite(number)
        or (minimum is not None and number < minimum)
        or (maximum is not None and number > maximum)
    ):
        raise InvalidInput(f"{name} must be {_allowed(minimum, maximum)}, got {value!r}")
    return number


def _allowed(minimum: float | None, maximum: float | None) -> str:
    """Describe the numbers within limits; only for error messages, as it takes longer than the check."""
    if minimum is not None and maximum is not None:
        return f"a finite number in [{minimum:g}, {maximum:g}]"
    if minimum is not None:
        return f"a finite number of at least {minimum:g}"
    if maximum is not None:
        return f"a finite number of at most {maximum:g}"
    return "a finite number"


def finite_array(
    values: npt.ArrayLike,
    name: str,
    *,
    shape: Sequence[int | None],
    minimum: float | None = None,
    maximum: float | None = None,
) -> npt.NDArray[np.float64]:
    """Return `values` as a float64 array of the given shape, or refuse them under a given name.

    Parameters
    ----------
    values
        The numbers to check.
    name
        What the numbers are, for the message.
    shape
        Expected length of every axis; None allows any length.
    minimum, maximum
        Inclusive limits of every number; None means no limit on that side.

    Raises
    ------
    InvalidInput
        When the shape differs, or a number is not finite or outside the limits; the message names the position.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} must be an array of numbers") from None
    if array.ndim != len(shape) or any(
        expected is not None and length != expected for length, expected in zip(array.shape, shape, strict=False)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise InvalidInput(f"{name} must have shape ({wanted}), got {array.shape}")
    bad = ~np.isfinite(array)
    if minimum is not None:
        bad |= array < minimum
    if maximum is not None:
        bad |= array > maximum
    if bad.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(bad))
        limits = f"[{'-inf' if minimum is None else f'{minimum:g}'}, {'inf' if maximum is None else f'{maximum:g}'}]"
        at = place[0] if len(place) == 1 else place
        raise InvalidInput(f"{name} must be finite and in {limits}, got {array[place]} at position {at}")
    return array


def checked_embeddings(embeddings: npt.ArrayLike, dim: int) -> npt.NDArray[np.float32]:
    """Return prompt embeddings as float32 rows; the one place where they are cast and checked.

    Parameters
    ----------
    embeddings : array-like of shape (n, dim)
        One row per prompt. Rows are expected to have unit length; only zero and non-finite rows are refused.
    dim
        Length of a row.

    Raises
    ------
    InvalidInput
        When the shape differs, or when a row is zero, holds NaN or infinity, or is too large for float32.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(embeddings, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidInput("embeddings must be an array of numbers") from None
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidInput(f"embeddings must have shape (any, {dim}), got {array.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        squared_norms = np.einsum("nd,nd->n", array, array)
    if not (np.isfinite(squared_norms) & (squared_norms > 0)).all():
        row = int(np.argmin(np.isfinite(squared_norms) & (squared_norms > 0)))
        cause = "is a zero row" if squared_norms[row] == 0 else "holds NaN, infinity or a number too large"
        raise InvalidInput(f"embeddings must be finite and non-zero: row {row} {cause}")
    return array


def checked_embedding(embedding: npt.ArrayLike, dim: int) -> npt.NDArray[np.float64]:
    """Return one prompt's embedding in float64, rounded to float32 and checked as `checked_embeddings` does.

    Parameters
    ----------
    embedding : array-like of shape (dim,)
        Unit row.
    dim
        Length of the row.

    Raises
    ------
    InvalidInput
        As `checked_embeddings`.
    """
    row = np.asarray(embedding)
    if row.shape != (dim,) or row.dtype != np.float32 or not 0 < row.dot(row) < math.inf:
        if row.ndim != 1:
            raise InvalidInput(f"an embedding must have shape ({dim},), got {row.shape}")
        row = checked_embeddings(row[None], dim)[0]
    return row.astype(np.float64)
