"""Whether two routers differ by rounding only: another processor sums in another order.

Float32 has seven digits, of which sums lose one or two. What two processors compute from the same answers therefore
agrees to about a millionth, and where two LLMs are that close the choice between them may fall either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.text import counted
from routing.router import Router

WITHIN = 1e-6
"""Expected errors that differ by no more are equal, and LLMs whose objectives do are tied."""
_ONE_ROUNDING = float(np.finfo(np.float32).eps)
_AT_ONCE = 2048
_LEAST_NAMED = 1e-12


@dataclass(frozen=True)
class Comparison:
    """How a router computed again compares with the original.

    Attributes
    ----------
    lines
        What differs by more than rounding, in words; empty when nothing does.
    n_tied
        Decisions that fell otherwise between LLMs that are equal within rounding.
    largest
        Largest difference of an expected error.
    """

    lines: tuple[str, ...]
    n_tied: int
    largest: float


def compare_routers(original: Router, rebuilt: Router, prompts: Mapping[str, NDArray[np.float32]]) -> Comparison:
    """Compare expected errors and decisions.

    Parameters
    ----------
    original, rebuilt
        The routers.
    prompts
        Embeddings by the role of the prompts, each ``(n, dim)``.
    """
    if original.keys != rebuilt.keys:
        changed = sorted(set(original.keys) ^ set(rebuilt.keys))
        return Comparison((f"it routes to other LLMs: {', '.join(changed[:5])} in one of the two only",), 0, np.inf)
    lines, n_tied = [], 0
    largest = np.zeros(len(original.keys))
    for role, embeddings in prompts.items():
        n_changed = 0
        for start in range(0, len(embeddings), _AT_ONCE):
            part = embeddings[start : start + _AT_ONCE]
            changed, tied, differences = _compared(original, rebuilt, part)
            n_changed, n_tied = n_changed + changed, n_tied + tied
            largest = np.maximum(largest, differences)
        if n_changed:
            lines.append(f"the LLM differs on {n_changed:,} of {counted(len(embeddings), f'{role} prompt')}")
    if lines or float(largest.max(initial=0.0)) > WITHIN + _ONE_ROUNDING:
        lines += [
            f"errors of {key} differ by up to {difference:.3g}"
            for key, difference in zip(original.keys, largest, strict=True)
            if difference > _LEAST_NAMED
        ]
    return Comparison(tuple(lines), n_tied, float(largest.max(initial=0.0)))


def _compared(
    original: Router, rebuilt: Router, embeddings: NDArray[np.float32]
) -> tuple[int, int, NDArray[np.float64]]:
    """Return how many decisions changed, how many between tied LLMs, and by LLM the largest difference of errors."""
    before, after = original.expected(embeddings), rebuilt.expected(embeddings)
    largest = np.abs(before.errors.astype(np.float64) - after.errors).max(axis=0, initial=0.0)
    columns = {key: column for column, key in enumerate(original.keys)}
    chosen = [[columns[key] for key in one.route(embeddings).llms] for one in (original, rebuilt)]
    rows = np.flatnonzero(np.not_equal(*chosen)) if len(embeddings) else np.empty(0, np.int64)
    first, second = (np.asarray(one, np.int64)[rows] for one in chosen)
    is_tied = np.zeros(len(rows), bool)
    for router, found in ((original, before), (rebuilt, after)):
        objective = found.errors.astype(np.float64) + router.cost_weight * found.costs_usd.astype(np.float64)
        gap = np.abs(objective[rows, first] - objective[rows, second])
        is_tied |= gap <= WITHIN * np.maximum(1.0, np.abs(objective[rows, first]))
    return int((~is_tied).sum()), int(is_tied.sum()), largest
