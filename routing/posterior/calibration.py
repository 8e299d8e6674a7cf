"""Whether standard errors are as large as the errors they stand for, found out on LLMs that are held out as if new.

A posterior knows what its own prior leaves open, not how wrong that prior is: known LLMs are few, and a new one may be
unlike them. The squared errors of pseudo-new LLMs over their predicted variances say by how much variances must be
stretched; few LLMs say it imprecisely, so the factor is drawn towards one as by a few LLMs that were predicted right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..prompt_weights import F32, F64
from .inference import Posterior

# LLMs with errors as predicted that the factors start from.
_PSEUDO_LLMS = 4.0


@dataclass(frozen=True)
class Calibration:
    """Factors of posterior variances.

    Attributes
    ----------
    level, clusters
        For the variance of an LLM's overall error, and for those of its errors by cluster; positive.
    """

    level: float = 1.0
    clusters: float = 1.0


NOT_CALIBRATED = Calibration()


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pseudo-new LLMs that were judged on the same prompts.

    Attributes
    ----------
    level, clusters : (h,) and (K, h) float64
        Squared errors over predicted variances, less what the judged prompts' own noise explains.
    """

    level: F64
    clusters: F64

    @classmethod
    def of(cls, found: Iterable[Posterior], design: F32, clusters: F32, errors: F64) -> HeldOut:
        """Compare posteriors with what the LLMs then did.

        Parameters
        ----------
        found
            Posteriors of h LLMs under the settings that are averaged.
        design : (n, D) float32
            Columns of the feature space for the judged prompts.
        clusters : (n, K) float32
            Their weights of the shown clusters.
        errors : (n, h) float64
            Errors of the LLMs on them.
        """
        posteriors = list(found)
        n_columns = design.shape[1]
        coefficients = np.mean([one.coefficients[:n_columns] for one in posteriors], axis=0)
        weights = np.hstack([np.ones((len(design), 1)), clusters]).astype(np.float64)
        weights /= np.maximum(weights.sum(axis=0), 1e-12)
        rows = weights.T @ design
        seen = weights.T @ errors
        spread = np.clip(seen[0], 0.02, 0.98) * (1 - np.clip(seen[0], 0.02, 0.98))
        variances = np.mean([one.variances(rows) for one in posteriors], axis=0)[:, None] * spread
        # A judged prompt scatters around its expectation, too.
        own = (weights**2).sum(axis=0)[:, None] * spread
        ratios = (rows @ coefficients - seen) ** 2 / (variances + own)
        return cls(ratios[0], ratios[1:])


def calibrated(parts: Iterable[HeldOut]) -> Calibration:
    """Return the factors that pseudo-new LLMs ask for.

    Parameters
    ----------
    parts
        The LLMs of every fold.
    """
    held_out = list(parts)
    level = np.concatenate([part.level for part in held_out])
    clusters = np.hstack([part.clusters for part in held_out]).mean(axis=0)
    return Calibration(*((float(one.sum()) + _PSEUDO_LLMS) / (len(one) + _PSEUDO_LLMS) for one in (level, clusters)))
