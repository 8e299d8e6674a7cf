"""How hard each representative prompt is beyond what its embedding says, learned from the known LLMs' answers to it.

A new LLM's mean error on a hundred drawn prompts is off mostly because the drawn prompts happen to be easy or hard.
Which ones are is known: the known LLMs answered them too. What the features do not explain of their errors, their
*residuals*, becomes a few numbers per prompt:

- its *difficulty*: the mean residual of the known LLMs;
- its *loadings*: how much more an LLM errs on it, the further the LLM lies along the directions in which LLMs differ
  most. The same directions move the LLM's error surface, so answers say more about the LLM where it matters.

In the likelihood of an LLM's answers they are further columns of the design; on any other prompt they are zero. This is
a linear item response model whose abilities have a Gaussian prior (Lord 1980; Bock and Aitkin 1981).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..prompt_weights import F64

# Most directions in which LLMs differ that a prior follows.
N_DIRECTIONS = 3
# Least variance of what one LLM makes of a prompt's difficulty; few known LLMs look more alike than they are.
_LEAST_SLOPE_VARIANCE = 0.02
# With fewer than three known LLMs nothing shows what difficulty is worth: half, give or take a third.
_UNKNOWN_SLOPE, _UNKNOWN_VARIANCE = 0.5, 0.1


@dataclass(frozen=True, eq=False)
class Difficulty:
    """What the known LLMs' answers say about each representative prompt.

    Attributes
    ----------
    columns : (N, 1 + N_DIRECTIONS) float64
        Difficulty in errors, and loadings in errors per standard deviation; zero where nothing is known.
    slope, slope_variance
        Mean and variance over LLMs of the coefficient of the difficulty; below one, because the mean of a few LLMs is
        itself uncertain.
    """

    columns: F64
    slope: float
    slope_variance: float

    @classmethod
    def of(cls, residuals: F64, positions: F64) -> Self:
        """Learn the difficulty of prompts.

        Parameters
        ----------
        residuals : (N, m) float64
            Errors of the known LLMs minus those that the features explain; NaN where there is no answer.
        positions : (m, N_DIRECTIONS) float64
            Result of `positions_of`.
        """
        answered = np.isfinite(residuals)
        counts = answered.sum(axis=1)
        filled = np.where(answered, residuals, 0.0)
        totals = filled.sum(axis=1)
        difficulty = totals / np.maximum(counts, 1)
        apart = np.where(answered, filled - difficulty[:, None], 0.0)
        n_llms = residuals.shape[1]
        slope, variance = _slopes(filled, answered, totals, counts)
        loadings = np.zeros((len(residuals), N_DIRECTIONS))
        used = positions.any(axis=0)
        if used.any() and n_llms > 1 and len(residuals):
            own = positions[:, used]
            raw = apart @ own @ np.linalg.inv(own.T @ own)
            rest = np.where(answered, apart - raw @ own.T, 0.0)
            n_free = int((counts - 1 - own.shape[1]).clip(0).sum())
            noise = float((rest**2).sum()) / max(n_free, 1) / n_llms
            # A loading from m answers is mostly noise: keep the share of its variance that is not.
            signal = np.maximum(raw.var(axis=0) - noise, 0.0)
            loadings[:, used] = raw * (signal / (signal + noise + 1e-12))
        return cls(np.column_stack([difficulty, loadings]), slope, variance)


def positions_of(errors: F64) -> F64:
    """Return where LLMs stand along the directions in which their errors differ most, (m, N_DIRECTIONS).

    Parameters
    ----------
    errors : (n, m) float64
        Errors on many prompts, without gaps. The directions are principal components over LLMs, each with mean zero
        and variance one; there are at most `m - 2`, the rest are zero.
    """
    n_llms = errors.shape[1]
    positions = np.zeros((n_llms, N_DIRECTIONS))
    n_used = min(N_DIRECTIONS, n_llms - 2)
    if n_used < 1:
        return positions
    gram = errors.T @ errors
    centre = np.eye(n_llms) - 1 / n_llms
    sizes, vectors = np.linalg.eigh(centre @ gram @ centre)
    leading = vectors[:, ::-1][:, :n_used]
    leading = leading - leading.mean(axis=0)
    kept = (sizes[::-1][:n_used] > 1e-9 * max(sizes[-1], 1e-9)) & (leading.std(axis=0) > 1e-9)
    leading = leading[:, kept]
    # The sign of a principal component is arbitrary: LLMs that fail more often lie on the positive side.
    signs = np.where(leading.T @ errors.mean(axis=0) < 0, -1.0, 1.0)
    positions[:, : leading.shape[1]] = leading * signs / leading.std(axis=0)
    return positions


def _slopes(filled: F64, answered: np.ndarray, totals: F64, counts: np.ndarray) -> tuple[float, float]:
    """Regress every known LLM's residuals on the difficulty without it; return the slopes' mean and variance."""
    slopes = []
    for column in range(filled.shape[1]):
        own = answered[:, column] & (counts > 1)
        others = (totals[own] - filled[own, column]) / (counts[own] - 1)
        size = float(others @ others)
        if size > 1e-9:
            slopes.append(float(others @ filled[own, column]) / size)
    if len(slopes) < 3:
        return _UNKNOWN_SLOPE, _UNKNOWN_VARIANCE
    return float(np.mean(slopes)), max(float(np.var(slopes)), _LEAST_SLOPE_VARIANCE)
