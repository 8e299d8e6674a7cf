"""What LLMs of later nights, who answered a few representative prompts alone, add to a prior (empirical Bayes).

The LLMs that answered the map prompts give the prior as ever. The coefficients of a later LLM are what that prior and
its few answers make likely, and the prior is then learned again from all: one step of the expectation-maximisation
algorithm (Dempster, Laird and Rubin 1977). Fitted by themselves, few answers would say that an LLM is equally good
everywhere, and the prior would forget where LLMs differ.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .checks import checked_embeddings
from .cluster_maps import one_thread
from .errors import InvalidInput
from .estimator import PosteriorEstimator
from .posterior.inference import Moments, Prior, Shrinkage, gram_of, grouped_moments, posterior, prior_of, surfaces
from .prompt_weights import F32, F64


def taught_by_later(
    fitted: PosteriorEstimator,
    known: tuple[npt.ArrayLike, npt.ArrayLike],
    later: tuple[npt.ArrayLike, npt.ArrayLike],
    places: npt.ArrayLike | None = None,
) -> PosteriorEstimator:
    """Return an estimator whose prior has learned from later LLMs, too; map and choice of settings stay.

    Parameters
    ----------
    fitted
        The estimator, fitted on the known LLMs.
    known
        Embeddings (n, dim) of the map prompts and errors (n, m) of the known LLMs there, as it was fitted on.
    later
        Embeddings (N, dim) of representative prompts and errors (N, h) of the later LLMs there, in [0, 1]; NaN where
        there is no label. An LLM without any label is left out.
    places : array-like of shape (N,), optional
        Place of each of these prompts among the representative prompts of the fit.

    Raises
    ------
    InvalidInput
        When shapes differ or a number must not be used.
    """
    rows, few_rows = (checked_embeddings(part[0], fitted.cluster_map_.dim) for part in (known, later))
    errors, few_errors = (np.asarray(part[1], dtype=np.float64) for part in (known, later))
    if len(errors) != len(rows) or len(few_errors) != len(few_rows):
        raise InvalidInput("prompts and errors of known or later LLMs are not equally many")
    few_errors = few_errors[:, np.isfinite(few_errors).any(axis=0)]
    if not few_errors.shape[1]:
        return fitted
    taught, before = copy.copy(fitted), fitted._fitted
    at = before.checked_places(places, len(few_rows))
    with one_thread():
        design, few = before.space.design(rows), before.design(few_rows, at)
        gram = gram_of(design)
        priors = {
            scale: _taught(fitted, scale, prior, gram, (design, errors), (few, few_errors))
            for scale, prior in before.lessons.priors.items()
        }
    taught._fitted = replace(before, lessons=replace(before.lessons, priors=priors))
    taught.n_training_llms_ = errors.shape[1] + few_errors.shape[1]
    return taught


def _taught(
    fitted: PosteriorEstimator,
    scale: float,
    prior: Prior,
    gram: F64,
    known: tuple[F32, F64],
    later: tuple[F32, F64],
) -> Prior:
    """Learn one prior from the coefficients of all LLMs: fitted for the known ones, expected for the later ones."""
    shrinkages = [one for one in fitted.choice_.shrinkages if one.profile_scale == scale]
    n_columns, n_known, n_later = known[0].shape[1], known[1].shape[1], later[1].shape[1]
    coefficients = np.empty((n_columns, n_known + n_later))
    scales = prior.scales[:n_columns]
    for moments, columns in grouped_moments(*known, gram):
        coefficients[:, columns] = surfaces(moments, scales)
    for moments, columns in grouped_moments(*later):
        found = _expected(prior, moments, shrinkages)[:n_columns]
        coefficients[:, [n_known + column for column in columns]] = found
    # Directions and difficulties stay: few answers say little about where an LLM stands along them.
    mean = prior.mean.copy()
    mean[:n_columns] = prior_of(coefficients, gram, scales).mean
    return replace(prior, mean=mean)


def _expected(prior: Prior, moments: Moments, shrinkages: Sequence[Shrinkage]) -> F64:
    return np.mean([one.coefficients for one in posterior(prior, moments, shrinkages)], axis=0)
