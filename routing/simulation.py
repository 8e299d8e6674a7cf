"""Choose settings honestly: pretend that some training LLMs are new.

The training LLMs have labels on many prompts. Some of them are held out as *pseudo-new* LLMs: they show a method only
their answers to the representative prompts, as a new LLM would, and the method is judged on map prompts that it was not
fitted on. Every method chooses by this procedure and by the same loss; test LLMs and gate prompts are never seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .errors import InvalidInput
from .prompt_weights import F64, I64

Setting = TypeVar("Setting")

# Share of the map prompts that methods are judged on, and the most that are needed.
JUDGED_SHARE, JUDGED_MOST = 0.3, 2000
N_FOLDS = 3


@dataclass(frozen=True, eq=False)
class Plan:
    """Say who is held out where.

    Attributes
    ----------
    fitting : (n,) int64
        Rows of the map prompts that methods may be fitted on, ascending.
    judging : (n,) int64
        Rows that they are judged on, ascending.
    folds
        Columns of the pseudo-new LLMs, fold by fold; every training LLM is in exactly one.
    """

    fitting: I64
    judging: I64
    folds: tuple[I64, ...]

    @classmethod
    def draw(cls, errors: F64, *, seed: int) -> Plan | None:
        """Draw a plan; None when there is nobody to hold out or nothing to judge by.

        Parameters
        ----------
        errors : (n, m) float64
            Errors of the training LLMs on the map prompts, NaN where there is no label. Judged are prompts that all of
            them have a label for.
        seed
            Seed of the draw.
        """
        n, n_llms = errors.shape
        complete = np.flatnonzero(np.isfinite(errors).all(axis=1))
        n_judged = min(JUDGED_MOST, int(JUDGED_SHARE * len(complete)))
        if n_llms < 2 or n_judged < 1:
            return None
        rng = np.random.default_rng(seed)
        judging = np.sort(rng.permutation(complete)[:n_judged])
        parts = np.array_split(rng.permutation(n_llms), min(N_FOLDS, n_llms))
        return cls(np.setdiff1d(np.arange(n), judging), judging, tuple(np.sort(part) for part in parts))


def contrast_loss(expected_errors: npt.ArrayLike, errors: npt.ArrayLike) -> float:
    """Give the mean squared error of the differences between LLMs.

    Routing depends on differences between LLMs alone, so what is predicted wrongly for all of them alike does not
    count: the mean over LLMs is taken off every prompt, and this is the mean square of what is left. It has far less
    noise than the area under a simulated deferral curve.

    Parameters
    ----------
    expected_errors, errors : array-like of shape (n, m)
        Predicted errors and errors; prompts with a NaN among the latter are left out.

    Raises
    ------
    InvalidInput
        When no prompt has a label of every LLM.
    """
    wanted = np.asarray(errors, dtype=np.float64)
    complete = np.isfinite(wanted).all(axis=1)
    if not complete.any():
        raise InvalidInput("no prompt has a label of every LLM: there is nothing to judge a prediction by")
    residual = np.asarray(expected_errors, dtype=np.float64)[complete] - wanted[complete]
    centred: F64 = residual - residual.mean(axis=1, keepdims=True)
    return float(np.mean(centred**2))


def best_setting(losses: Mapping[Setting, float]) -> Setting:
    """Give the setting with the smallest loss; among equal ones the first.

    Parameters
    ----------
    losses
        At least one.
    """
    return min(losses, key=losses.__getitem__)
