"""Resample prompts: the means that a paired comparison of two routers could have had on other, similar prompts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .checks import finite_array, finite_number
from .errors import InvalidInput

F64 = npt.NDArray[np.float64]

# Counts drawn at once: enough resamples of thousands of prompts for a rare quantile would not fit in memory.
_CELLS = 1 << 22
# Resampled means that must lie below a quantile for it to be one.
_MEANS_BELOW = 20
# A level that would take more resamples is computed exactly instead.
_MOST_MEANS = 20_000
# Steps of the exact distribution per largest difference, and its width in standard deviations on either side.
_STEPS, _WIDTH = 1000, 12


def resampled_means(differences: F64, *, seed: int, n_resamples: int) -> F64:
    """Return the mean of every resample of paired differences, ``(n_resamples,)`` float64.

    Resampling n prompts draws counts from a multinomial over the distinct differences: far fewer than the prompts.

    Parameters
    ----------
    differences : (n,) float64
        One difference per prompt, n at least 1.
    seed
        Seed of the resampling.
    n_resamples
        Number of resamples.
    """
    values, counts = np.unique(differences, return_counts=True)
    rng, n = np.random.default_rng(seed), len(differences)
    step = max(1, _CELLS // len(values))
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    return np.concatenate([rng.multinomial(n, counts / n, size=size) @ values for size in sizes]) / n


def paired_lower_bound(
    first: npt.ArrayLike, second: npt.ArrayLike, *, level: float, seed: int, n_resamples: int = 2000
) -> float:
    """Return a lower bound of the mean of `first` minus `second`: the truth lies below it with probability `level`.

    The percentile bootstrap of the paired differences, together with one prompt won and one prompt lost outright. A
    plain bootstrap cannot draw a loss that these prompts happen not to contain: where two routers differ on only a few
    prompts, it errs several times as often as it claims. The pair of pseudo-prompts corrects that and widens the
    interval by half a prompt (Bonett and Price 2012, adjusted Wald interval for paired proportions).

    Parameters
    ----------
    first, second : array-like of shape (n,)
        Scores in [0, 1] of two routers on the same prompts in the same order.
    level
        Probability that the bound is too high, in (0, 0.5].
    seed
        Seed of the resampling.
    n_resamples
        Minimum number of resamples; a small level takes more.

    Raises
    ------
    InvalidInput
        When there is no prompt, shapes differ, or a number is out of range.
    """
    ours = finite_array(first, "first", shape=(None,), minimum=0, maximum=1)
    theirs = finite_array(second, "second", shape=(len(ours),), minimum=0, maximum=1)
    return mean_lower_bound(ours - theirs, level=level, seed=seed, n_resamples=n_resamples)


def mean_lower_bound(
    differences: npt.ArrayLike, *, level: float, seed: int, n_resamples: int = 2000, largest: float = 1.0
) -> float:
    """Return a lower bound of a mean of paired differences, as `paired_lower_bound` does.

    Parameters
    ----------
    differences : array-like of shape (n,)
        One difference per prompt, which may be larger than 1.
    level, seed, n_resamples
        As for `paired_lower_bound`.
    largest
        What a prompt won outright counts, such as each of the two pseudo-prompts.

    Raises
    ------
    InvalidInput
        When there is no prompt, or a number is out of range.
    """
    found = finite_array(differences, "differences", shape=(None,))
    if not len(found):
        raise InvalidInput("a paired bound needs at least one prompt")
    if finite_number(level, "level", minimum=0, maximum=0.5) == 0:
        raise InvalidInput("level must be above 0: no bound holds for certain")
    most = finite_number(largest, "largest", minimum=0)
    differing = np.concatenate([found, [most, -most]])
    n_means = max(n_resamples, math.ceil(_MEANS_BELOW / level))
    if n_means > max(n_resamples, _MOST_MEANS):
        return _exact_quantile(differing, level)
    return float(np.quantile(resampled_means(differing, seed=seed, n_resamples=n_means), level))


def _exact_quantile(differences: F64, level: float) -> float:
    """Return the quantile of the mean of all possible resamples of some differences, not all zero.

    The sum of n draws has the n-th power of one draw's characteristic function (Feller 1971, chapter XV); differences
    are rounded to a fine grid.
    """
    n, step = len(differences), float(np.abs(differences).max()) / _STEPS
    drawn = np.rint(differences / step).astype(np.int64)
    centre = int(np.rint(drawn.mean()))
    reach = _WIDTH * math.sqrt(n * float(drawn.var())) + n + 2 * _STEPS
    size = 1 << math.ceil(math.log2(2 * reach))
    one = np.bincount((drawn - centre) % size, minlength=size) / n
    sums = np.fft.fftshift(np.fft.irfft(np.fft.rfft(one) ** n, size))
    at = int(np.searchsorted(np.cumsum(np.maximum(sums, 0)), level))
    return (at - size // 2 + n * centre) * step / n
