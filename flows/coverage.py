"""Whether an LLM has answered enough to be routed to: of all its prompts, and of every cluster of prompts.

An LLM whose answers are missing where it is worst would look better than it is, even if few are missing overall.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_CLUSTER_SHARE: Final = 0.8
LEAST_CLUSTER_ANSWERS: Final = 3


def shortfall(
    has_score: NDArray[np.bool_], clusters: NDArray[np.int64], *, profile_share: float, min_coverage: float
) -> str:
    """Say what an LLM lacks to be routed to.

    Parameters
    ----------
    has_score, clusters
        ``(n,)``: of each representative prompt, whether the LLM has a score for it, and its cluster. A cluster with
        fewer than `LEAST_CLUSTER_ANSWERS` of them says nothing about anybody and is left out.
    profile_share
        Share of all its prompts, gate and hidden ones too, that have a score.
    min_coverage
        The setting ``[routing] min_coverage``. In each cluster `LEAST_CLUSTER_SHARE` is enough, and no more is wanted
        than this.

    Returns
    -------
    str
        One clause; empty when nothing is lacking.
    """
    share = min(float(has_score.mean()), profile_share)
    if share < min_coverage:
        return f"only {share:.0%} of its prompts have a score"
    sizes = np.bincount(clusters)
    scored = np.bincount(clusters, weights=has_score, minlength=len(sizes))
    least = np.maximum(sizes * min(LEAST_CLUSTER_SHARE, min_coverage), LEAST_CLUSTER_ANSWERS)
    lacking = np.flatnonzero((sizes >= LEAST_CLUSTER_ANSWERS) & (scored < least - 1e-9))
    if not lacking.size:
        return ""
    worst = lacking[np.argmin(scored[lacking] / sizes[lacking])]
    return f"only {int(scored[worst])} of the {sizes[worst]} prompts of cluster {worst} have a score"
