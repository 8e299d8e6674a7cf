"""Psi: what a router knows about one LLM, estimated from its answers to the representative prompts alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .checks import finite_array, finite_number
from .credibility import credible_ratio
from .day_zero import LevelPrior
from .errors import InvalidInput, InvalidProfile

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FeatureVector:
    """Expected error of one LLM in every cluster, with its uncertainty and the expected tokens.

    Construction fails unless every number is finite, errors are in [0, 1], and all but the coefficients are at least 0.

    Attributes
    ----------
    errors : (K,) float32
        Expected error, one minus the expected score, in [0, 1].
    standard_errors : (K,) float32
        Standard error of `errors`.
    counts : (K,) int64
        Scored prompts per cluster.
    input_tokens, output_tokens : (K,) float32
        Expected tokens of one prompt and of its answer.
    n_prompts, n_scored
        Prompts the LLM was asked, and those with a score; the others failed, which is not a wrong answer.
    coefficients : (r,) float32
        Weights of the map's linear features, empty when it has none.
    input_token_ratio
        Input tokens that the LLM counts per token of `estimated_input_tokens`, finite and not negative; tokenizers
        differ.
    prior_share
        How much of the LLM's level is prior, in [0, 1]: its variance after the answers over its variance before them,
        which is the weight of the prior in the level. 1 without an answer; None where it was not computed.
    level
        What was expected of the LLM's level before its answers; None when nothing was.
    overall, overall_standard_error
        Its level, the expected overall error in [0, 1], and the standard error of it; None where they were not
        computed. Routers are stored without these four.
    """

    errors: F32
    standard_errors: F32
    counts: I64
    input_tokens: F32
    output_tokens: F32
    n_prompts: int
    n_scored: int
    coefficients: F32 = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    input_token_ratio: float = 1.0
    prior_share: float | None = None
    level: LevelPrior | None = None
    overall: float | None = None
    overall_standard_error: float | None = None

    def __post_init__(self) -> None:
        length = len(np.atleast_1d(self.errors))
        largest = float(np.finfo(np.float32).max)
        limits = {
            "errors": (length, 0.0, 1.0),
            "standard_errors": (length, 0.0, largest),
            "counts": (length, 0.0, 2.0**53),
            "input_tokens": (length, 0.0, largest),
            "output_tokens": (length, 0.0, largest),
            "coefficients": (None, -largest, largest),
        }
        for name, (size, minimum, maximum) in limits.items():
            try:
                checked = finite_array(
                    getattr(self, name),
                    f"{name} of a feature vector",
                    shape=(size,),
                    minimum=minimum,
                    maximum=maximum,
                )
            except InvalidInput as error:
                raise InvalidProfile(error.message) from None
            array = checked.astype(np.int64 if name == "counts" else np.float32)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        try:
            ratio = finite_number(self.input_token_ratio, "input_token_ratio", minimum=0, maximum=1e6)
            if self.prior_share is not None:
                share = finite_number(self.prior_share, "prior_share", minimum=0, maximum=1)
                object.__setattr__(self, "prior_share", share)
            for name, largest in (("overall", 1.0), ("overall_standard_error", 1e6)):
                value = getattr(self, name)
                if value is not None:
                    object.__setattr__(self, name, finite_number(value, name, minimum=0, maximum=largest))
        except InvalidInput as error:
            raise InvalidProfile(error.message) from None
        object.__setattr__(self, "input_token_ratio", ratio)
        if not 0 <= self.n_scored <= self.n_prompts:
            raise InvalidProfile(f"n_scored must be between 0 and n_prompts, got {self.n_scored} of {self.n_prompts}")

    @property
    def coverage(self) -> float:
        """Share of the asked prompts that have a score, in [0, 1]."""
        return self.n_scored / self.n_prompts if self.n_prompts else 0.0


def plain_feature_vector(
    assignments: npt.ArrayLike,
    scores: npt.ArrayLike,
    input_tokens: npt.ArrayLike,
    output_tokens: npt.ArrayLike,
    *,
    n_clusters: int,
    n_prompts: int,
    estimated_tokens: npt.ArrayLike | None = None,
) -> FeatureVector:
    """Average one LLM's errors and tokens per cluster: the paper's Psi (UniRoute eq. 8).

    A cluster without a scored prompt gets the LLM's overall means; the paper leaves this case open. The
    standard error of a cluster with n prompts is `sqrt(p * (1 - p) / (n + 1))` with p the mean of its errors and one
    pseudo-error at the LLM's overall mean, so that two right answers do not look certain.

    Parameters
    ----------
    assignments : array-like of shape (n,)
        Cluster of every scored prompt, in [0, n_clusters).
    scores : array-like of shape (n,)
        Scores in [0, 1] of scored prompts only; a failure has no score.
    input_tokens, output_tokens : array-like of shape (n,)
        Tokens of the prompt and of the answer.
    n_clusters
        Length of the vector.
    n_prompts
        Prompts the LLM was asked, at least n.
    estimated_tokens : array-like of shape (n,), optional
        Input tokens of the prompts as `estimated_input_tokens` returns them; without them the ratio is one.

    Returns
    -------
    FeatureVector

    Raises
    ------
    InvalidProfile
        When there is no scored prompt, the lengths differ, or a number is not finite or out of range.

    Examples
    --------
    >>> from routing import plain_feature_vector
    >>> tokens = [100, 100, 100]
    >>> plain_feature_vector([0, 0, 1], [1.0, 0.0, 1.0], tokens, tokens, n_clusters=2, n_prompts=3).errors.tolist()
    [0.5, 0.0]
    """
    try:
        right = finite_array(scores, "scores", shape=(None,), minimum=0, maximum=1)
        n = len(right)
        clusters = finite_array(assignments, "assignments", shape=(n,), minimum=0, maximum=n_clusters - 1)
        tokens_in = finite_array(input_tokens, "input_tokens", shape=(n,), minimum=0)
        tokens_out = finite_array(output_tokens, "output_tokens", shape=(n,), minimum=0)
    except InvalidInput as error:
        raise InvalidProfile(error.message) from None
    if n == 0:
        raise InvalidProfile("an LLM without any scored prompt has no feature vector")
    cluster = clusters.astype(np.int64)
    counts = np.bincount(cluster, minlength=n_clusters)
    wrong = 1.0 - right
    return FeatureVector(
        errors=_means(wrong, cluster, counts),
        standard_errors=_standard_errors(wrong, cluster, counts),
        counts=counts,
        input_tokens=_means(tokens_in, cluster, counts),
        output_tokens=_means(tokens_out, cluster, counts),
        n_prompts=n_prompts,
        n_scored=n,
        input_token_ratio=input_token_ratio(tokens_in, estimated_tokens),
    )


def _standard_errors(
    wrong: npt.NDArray[np.float64], cluster: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    sums = np.bincount(cluster, weights=wrong, minlength=len(counts))
    # Jeffreys' half right and half wrong answer keep an all-right LLM from a standard error of zero.
    overall = (wrong.sum() + 0.5) / (len(wrong) + 1)
    smoothed = (sums + overall) / (counts + 1)
    return np.sqrt(smoothed * (1 - smoothed) / (counts + 1))


def input_token_ratio(input_tokens: npt.NDArray[np.float64], estimated_tokens: npt.ArrayLike | None) -> float:
    """Return the ratio of an LLM's own counts of input tokens to their estimates; one without estimates.

    Parameters
    ----------
    input_tokens : (n,) float64
        Tokens that the LLM counted for the prompts it scored on.
    estimated_tokens : array-like of shape (n,)
        Result of `estimated_input_tokens` for them, or None.

    Raises
    ------
    InvalidProfile
        When the lengths differ, or an estimate is not finite or negative.
    """
    if estimated_tokens is None or not len(input_tokens):
        return 1.0
    try:
        estimates = finite_array(estimated_tokens, "estimated_tokens", shape=(len(input_tokens),), minimum=0)
    except InvalidInput as error:
        raise InvalidProfile(error.message) from None
    return credible_ratio(input_tokens, estimates)


def _means(values: npt.NDArray[np.float64], cluster: I64, counts: I64) -> F32:
    sums = np.bincount(cluster, weights=values, minlength=len(counts))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), values.mean())
    return means.astype(np.float32)
