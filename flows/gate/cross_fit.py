"""Cross-fit: representative prompts judge too, each by vectors that were made without its answers.

A router's vectors are estimated from answers to representative prompts, so the published router cannot be judged there.
The procedure that made it can: the prompts are divided into folds by their texts; for each fold the vectors of
challenger and champion are estimated again from the answers outside it, with the same map, prior and settings, and both
choose on the fold (cross-fitting, Chernozhukov et al. 2018, section 3). The paired differences join those of the gate
prompts, on which the published router itself is judged.

What does not leak. Map and prior are fitted on map prompts, which are never representative ones; a prompt that was a
map prompt when either was fitted is not judged here. The answers of the training LLMs to representative prompts only
choose a few numbers that all LLMs share (how sharp clusters are, how strongly vectors are shrunk), and that choice is
judged on map prompts. A map that is learned from labels of representative prompts would leak, and is not published.

What is not judged. An LLM may know the representative prompts: only LLMs that pass the test for contamination are
judged on them. Answers may be missing too. Where both routers choose the same LLM the difference is zero whatever its
answer is, so these prompts always count. Elsewhere a prompt is left out when a chosen LLM may not be judged or has no
answer there. Leaving prompts out depends on choices and never on scores, and treats both routers the same way; but
without more it would pull the difference towards zero, and a challenger whose new LLM is bad would gain by not being
judged. So the prompts that are judged stand for those that are not (post-stratification, Holt and Smith 1979): those
with two different, tested LLMs for all such prompts, and the gate prompts with an untested LLM for the representative
ones with one. Where weights that uneven say less than the gate prompts alone, the gate prompts decide alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.fitting.estimation import Estimation
from flows.gate.measure import GateOutcomes, RouterMeasure
from flows.text import counted
from routing.deferral import BootstrapDifference, paired_bootstrap
from routing.equal_cost import EqualCost, scores_at_equal_cost
from routing.features import FeatureVector
from routing.resampling import mean_lower_bound
from routing.router import Router

N_FOLDS = 10
"""Vectors of a fold are made from nine tenths of the answers, and ten refits of 16 LLMs take well under a second."""

OFF = "[gate] cross_fit is false"
"""Why representative prompts do not judge when they are not asked."""

_SAME_VECTOR = 1e-4
"""Vectors made again from stored answers differ by rounding only; one answer more or less changes them by more."""


def folds_of(texts: Sequence[str]) -> NDArray[np.int64]:
    """Return the fold of every prompt, by its text alone: prompts of equal text are never in two folds."""
    return np.array(
        [int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % N_FOLDS for text in texts], dtype=np.int64
    )


@dataclass(frozen=True, eq=False)
class Remaking:
    """What makes the vectors of a router again.

    Attributes
    ----------
    router
        The router, with the LLMs that take part.
    estimation
        Its estimator and the answers its vectors were made from; the columns are the LLMs of `router`, in its order.
    folds
        ``(n,)``: the fold of each representative prompt of `estimation`.
    """

    router: Router
    estimation: Estimation
    folds: NDArray[np.int64]

    def without(self, fold: int) -> Router:
        """Return the router with vectors that never saw the answers to the prompts of a fold.

        Raises
        ------
        InvalidProfile
            An LLM has no answer outside the fold.
        """
        seen = self.folds != fold
        vectors = [self.estimation.vector(column, seen=seen) for column in range(len(self.router.llms))]
        pairs = zip(self.router.llms, vectors, strict=True)
        return replace(self.router, llms=tuple(replace(llm, vector=vector) for llm, vector in pairs))

    @cached_property
    def not_remade(self) -> tuple[str, ...]:
        """The LLMs whose published vector is not what these answers give, such as one carried over from before."""
        return tuple(
            llm.key
            for column, llm in enumerate(self.router.llms)
            if not _is_same(llm.vector, self.estimation.vector(column))
        )


@dataclass(frozen=True, eq=False)
class CrossFit:
    """What two procedures score on representative prompts.

    Attributes
    ----------
    differences
        ``(n,)`` score of the challenger's procedure at the champion's cost minus the champion's; NaN where not judged.
    is_same
        ``(n,)``: both choose the same LLM.
    is_untested
        ``(n,)``: they choose different ones, and one of them may not be judged on representative prompts.
    not_judged
        By LLM key, why it is not judged on representative prompts.
    """

    differences: NDArray[np.float64]
    is_same: NDArray[np.bool_]
    is_untested: NDArray[np.bool_]
    not_judged: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Judged:
    """The paired differences that a verdict rests on.

    Attributes
    ----------
    gate
        Of the published routers on gate prompts, with 95 % interval.
    representative
        Of the procedures on representative prompts, likewise; None where only gate prompts judge.
    differences
        ``(n,)`` differences of all prompts that judge, weighted so that their mean is the difference.
    largest
        Largest weight, at least 1.
    n_left_out
        Representative prompts that are not judged.
    not_judged
        By LLM key, why it is not judged on representative prompts.
    unused
        Why representative prompts do not judge; empty when they do.
    """

    gate: BootstrapDifference
    representative: BootstrapDifference | None
    differences: NDArray[np.float64]
    largest: float
    n_left_out: int
    not_judged: Mapping[str, str]
    unused: str

    def interval(self, *, seed: int, n_resamples: int) -> BootstrapDifference:
        """Return the pooled difference with its 95 % interval."""
        return paired_bootstrap(self.differences, np.zeros(len(self.differences)), seed=seed, n_resamples=n_resamples)

    def lower_bound(self, level: float, *, seed: int, n_resamples: int) -> float:
        """Return the lower bound of the pooled difference; the truth lies below it with probability `level`."""
        return mean_lower_bound(self.differences, level=level, seed=seed, n_resamples=n_resamples, largest=self.largest)

    def upper_bound(self, level: float, *, seed: int, n_resamples: int) -> float:
        """Return the upper bound of the pooled difference; the truth lies above it with probability `level`."""
        return -mean_lower_bound(
            -self.differences, level=level, seed=seed, n_resamples=n_resamples, largest=self.largest
        )

    @property
    def judging(self) -> str:
        """What the prompts that judge are called, in the singular."""
        return "gate prompt" if self.representative is None else "gate or representative prompt"

    @property
    def sentence(self) -> str:
        """Who is judged where, as a clause that follows the pooled difference; empty where only gate prompts judge."""
        there = self.representative
        if there is None:
            return ""
        return (
            f"; the procedure is judged on {counted(there.n, 'representative prompt')} ({_with_interval(there)}), the "
            f"published router on {counted(self.gate.n, 'gate prompt')} ({_with_interval(self.gate)})"
        )

    def as_data(self, *, seed: int, n_resamples: int) -> dict[str, Any]:
        """Return what is stored with a promotion."""
        return {
            "gate": asdict(self.gate),
            "representative": None if self.representative is None else asdict(self.representative),
            "pooled": asdict(self.interval(seed=seed, n_resamples=n_resamples)),
            "representative_left_out": self.n_left_out,
            "not_judged": [{"llm": key, "reason": reason} for key, reason in sorted(self.not_judged.items())],
            "unused": self.unused,
        }


def cross_fit(
    challenger: Remaking,
    champion: Remaking,
    outcomes: GateOutcomes,
    folds: NDArray[np.int64],
    barred: Mapping[str, str],
) -> CrossFit:
    """Let both procedures choose on representative prompts, at the champion's mean cost there.

    Parameters
    ----------
    challenger, champion
        What makes their vectors again.
    outcomes
        The recorded outcomes of the LLMs of both on the representative prompts; NaN where an answer is missing. An
        unknown cost counts as what the router expects.
    folds
        ``(n,)``: the fold of each of these prompts.
    barred
        By LLM key, why it may not be judged on representative prompts.

    Raises
    ------
    InvalidProfile
        An LLM has no answer outside a fold.
    """
    rows = np.arange(len(folds))
    after, before = _choices(challenger, outcomes, folds), _choices(champion, outcomes, folds)
    equal = scores_at_equal_cost(
        after.errors,
        after.costs_usd,
        np.nan_to_num(after.scores, nan=0.0),
        after.spent_usd,
        target_usd=float(before.spent_usd[rows, before.chosen].mean()),
    )
    of_champion = np.array(before.keys)[before.chosen]
    of_challenger = np.array(after.keys)[equal.choices]
    is_same = (of_challenger == of_champion).all(axis=0)
    theirs = before.scores[rows, before.chosen]
    is_answered = np.isfinite(after.scores[rows, equal.choices]).all(axis=0) & np.isfinite(theirs)
    is_untested = ~is_same & _uses(of_challenger, of_champion, barred)
    differences = np.where(is_answered & ~is_untested, equal.scores - theirs, np.nan)
    return CrossFit(np.where(is_same, 0.0, differences), is_same, is_untested, barred)


def judged(
    equal: EqualCost,
    before: RouterMeasure,
    keys: Sequence[str],
    found: CrossFit | str,
    *,
    seed: int,
    n_resamples: int,
) -> Judged:
    """Join the differences on gate prompts and on representative prompts.

    Parameters
    ----------
    equal, before
        The published challenger at the champion's cost, and the champion, on gate prompts.
    keys
        LLMs of the challenger, as `equal` numbers them.
    found
        Of the representative prompts, or why they do not judge.
    seed, n_resamples
        Of the intervals.
    """
    of_gate = equal.scores - before.scores
    given = {"seed": seed, "n_resamples": n_resamples}
    gate = paired_bootstrap(equal.scores, before.scores, **given)
    if isinstance(found, str):
        return Judged(gate, None, of_gate, 1.0, 0, {}, found)
    of_challenger, of_champion = np.array(keys)[equal.choices], np.array(before.chosen)
    is_same = (of_challenger == of_champion).all(axis=0)
    is_untested = ~is_same & _uses(of_challenger, of_champion, found.not_judged)
    is_judged = np.concatenate([np.ones(len(of_gate), dtype=bool), np.isfinite(found.differences)])
    strata = np.concatenate([_strata(is_same, is_untested), _strata(found.is_same, found.is_untested)])
    weights = _weights(strata, is_judged)
    n_left_out = int((~is_judged).sum())
    kept = found.differences[is_judged[len(of_gate) :]]
    if weights is None or not len(kept) or weights.sum() ** 2 <= len(of_gate) * np.square(weights).sum():
        reason = "too few of them can be judged to add to the gate prompts"
        return Judged(gate, None, of_gate, 1.0, len(found.differences), found.not_judged, reason)
    return Judged(
        gate,
        paired_bootstrap(kept, np.zeros(len(kept)), **given),
        np.concatenate([of_gate, kept]) * weights,
        max(1.0, float(weights.max())),
        n_left_out,
        found.not_judged,
        "",
    )


@dataclass(frozen=True, eq=False)
class _Choices:
    """What a procedure expects of its LLMs and chooses, and what was recorded, on the same prompts."""

    keys: tuple[str, ...]
    errors: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    chosen: NDArray[np.int64]
    scores: NDArray[np.float64]
    spent_usd: NDArray[np.float64]


def _choices(remaking: Remaking, outcomes: GateOutcomes, folds: NDArray[np.int64]) -> _Choices:
    keys, embeddings = remaking.router.keys, outcomes.embeddings_for(remaking.router)
    errors, costs_usd = np.empty((2, len(folds), len(keys)))
    chosen = np.empty(len(folds), dtype=np.int64)
    for fold in np.unique(folds).tolist():
        rows = np.flatnonzero(folds == fold)
        router = remaking.without(fold)
        tokens = None if outcomes.input_tokens is None else outcomes.input_tokens[rows]
        expected = router.expected(embeddings[rows], input_tokens=tokens)
        errors[rows], costs_usd[rows] = expected.errors, expected.costs_usd
        chosen[rows] = router.route(embeddings[rows], input_tokens=tokens).llm_index
    columns = outcomes.columns(keys)
    paid = outcomes.costs_usd[:, columns]
    spent_usd = np.where(np.isfinite(paid), paid, costs_usd)
    return _Choices(keys, errors, costs_usd, chosen, outcomes.scores[:, columns], spent_usd)


def _uses(of_challenger: NDArray[Any], of_champion: NDArray[Any], keys: Mapping[str, str]) -> NDArray[np.bool_]:
    """Whether a prompt goes to one of some LLMs under either router, ``(n,)``."""
    wanted = list(keys)
    return np.isin(of_challenger, wanted).any(axis=0) | np.isin(of_champion, wanted)


def _strata(is_same: NDArray[np.bool_], is_untested: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(is_same, 0, np.where(is_untested, 2, 1))


def _weights(strata: NDArray[np.int64], is_judged: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return what each judged prompt stands for, with mean 1; None when prompts of a stratum have none to stand for."""
    every, those = np.bincount(strata, minlength=3), np.bincount(strata[is_judged], minlength=3)
    if ((every > 0) & (those == 0)).any():
        return None
    share = np.divide(every, those, out=np.ones(3), where=those > 0)[strata[is_judged]]
    return share / share.mean()


def _with_interval(found: BootstrapDifference) -> str:
    return f"{found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"


def _is_same(published: FeatureVector, remade: FeatureVector) -> bool:
    names = ("errors", "coefficients", "input_tokens", "output_tokens")
    pairs = [(np.asarray(getattr(published, name)), np.asarray(getattr(remade, name))) for name in names]
    return all(
        one.shape == other.shape and np.allclose(one, other, rtol=_SAME_VECTOR, atol=_SAME_VECTOR)
        for one, other in pairs
    )
