"""Cross-fit: representative prompts judge too, each by vectors that were made without its answers.

A router's vectors are estimated from answers to representative prompts, so the published router cannot be judged there.
The procedure that made it can. The prompts are divided into folds by their texts; for each fold the vectors of
challenger and champion are estimated again, with the same map, prior and settings, from the answers to the folds
*before* it, and both choose on the fold. The first folds only teach. Folds that teach each other, as in ordinary
cross-validation, would make the differences of all folds depend on each other in a way that no sample shows (Bengio and
Grandvalet 2004): in ``make bench-gate`` their variance is twice what it seems. In this order each difference has the
mean of its procedure whatever happened before, so the variance is what it seems (Dawid 1984, prequential analysis).

The published router is what is promoted, and the procedure with fewer answers is not quite as good. So the same vectors
also choose on the gate prompts: what they say there, beside what they say on representative prompts, tells how far the
gate prompts were lucky, and that is what is corrected (a control variate, as in prediction-powered inference,
Angelopoulos et al. 2023). The difference stays that of the published routers, without bias, and where folds and
published routers choose alike it is simply the mean over both kinds of prompts.

What does not leak. Map and prior are fitted on map prompts, which are never representative ones; a prompt that was a
map prompt when either was fitted is not judged here. LLMs of later nights teach a prior that is fitted anew by their
answers to the folds that only teach. The answers of the training LLMs to representative prompts only
choose a few numbers that all LLMs share (how sharp clusters are, how strongly vectors are shrunk), and that choice is
judged on map prompts. A map that is learned from labels of representative prompts would leak: learned maps are
published, too, but are learned from map prompts alone.

What is not judged. Representative prompts that an LLM was asked because they tell much about LLMs, or because of its
answers so far, speak for no other prompts: only those are judged that were drawn uniformly for all LLMs of both
routers. All answers teach. An LLM may know the representative prompts: only LLMs that pass the test for contamination
are judged on them. Where the two choices of a fold differ and one is not judged, the prompt counts as no difference,
on representative prompts and when the same vectors choose on gate prompts: there the published router alone decides,
and nothing is pulled towards zero. Where both choose the same LLM there is no difference, whatever its answer is.
Where an answer is missing, the prompts with two different LLMs that have both answers stand for it: whether a prompt
is left out never depends on a score, and is the same for both routers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.fitting.estimation import Estimation
from flows.fitting.folds import N_FOLDS, N_TEACHING
from flows.gate.measure import GateOutcomes, RouterMeasure
from flows.text import counted
from routing.deferral import BootstrapDifference, paired_bootstrap
from routing.equal_cost import EqualCost, scores_at_equal_cost
from routing.features import FeatureVector
from routing.resampling import mean_lower_bound
from routing.router import Router

OFF = "[gate] cross_fit is false"
"""Why representative prompts do not judge when they are not asked."""

_SAME_VECTOR = 1e-4
"""Vectors made again from stored answers differ by rounding only; one answer more or less changes them by more."""


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

    def before(self, fold: int) -> Router:
        """Return the router with vectors that only saw the answers to the prompts of earlier folds.

        Raises
        ------
        InvalidProfile
            An LLM has no answer there.
        """
        vectors = [self.estimation.vector(column, seen=self.folds < fold) for column in range(len(self.router.llms))]
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
    """What the procedures score by vectors that did not see the prompts.

    Attributes
    ----------
    representative
        ``(r,)`` score of the challenger at the champion's cost minus the champion's, on the representative prompts that
        are judged.
    gate
        ``(n,)`` the same by the same vectors on gate prompts, on average over the folds.
    n_left_out
        Representative prompts that only teach, or are not judged.
    not_judged
        By LLM key, why it is not judged on representative prompts.
    """

    representative: NDArray[np.float64]
    gate: NDArray[np.float64]
    n_left_out: int
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
        ``(n,)`` one per prompt that judges; their mean is the difference of the published routers.
    largest
        What one gate prompt won outright counts in them.
    n_left_out
        Representative prompts that only teach, or are not judged.
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
        if self.representative is None:
            return self.gate
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
    representative: GateOutcomes,
    folds: NDArray[np.int64],
    gate: GateOutcomes,
    barred: Mapping[str, str],
) -> CrossFit | str:
    """Let both procedures choose on representative and on gate prompts, at the champion's mean cost there.

    Parameters
    ----------
    challenger, champion
        What makes their vectors again.
    representative
        The recorded outcomes of the LLMs of both on the representative prompts; NaN where an answer is missing. An
        unknown cost counts as what the router expects.
    folds
        ``(n,)``: the fold of each of these prompts.
    gate
        Those on gate prompts.
    barred
        By LLM key, why it may not be judged on representative prompts.

    Returns
    -------
    CrossFit or str
        Or why these prompts cannot judge.

    Raises
    ------
    InvalidProfile
        An LLM has no answer in the folds before one that is judged.
    """
    judged_folds = [fold for fold in range(N_TEACHING, N_FOLDS) if (folds == fold).any()]
    ours, theirs = _Choices(challenger), _Choices(champion)
    everywhere = np.arange(len(gate.embeddings))
    for fold in judged_folds:
        for one in (ours, theirs):
            one.add(fold, [(representative, np.flatnonzero(folds == fold)), (gate, everywhere)])
    if not judged_folds:
        return "too few of them to judge"
    there, here = (
        _compared(ours.of(place), theirs.of(place), challenger.router.cost_weight, barred) for place in (0, 1)
    )
    is_open = ~there.is_same & ~there.is_untested
    is_kept = ~is_open | np.isfinite(there.differences)
    n_open, n_kept = int(is_open.sum()), int(is_kept.sum())
    n_answered = n_open - (len(is_kept) - n_kept)
    if n_open and not n_answered:
        return "no LLM that they choose has an answer to them"
    # Those with both answers stand for those without, and the rows that are left for all.
    weight = n_open / max(n_answered, 1) * n_kept / len(is_kept)
    sizes = np.array([(folds == fold).sum() for fold in judged_folds])
    return CrossFit(
        np.where(is_open, there.differences * weight, 0.0)[is_kept],
        np.average(here.differences.reshape(len(judged_folds), -1), axis=0, weights=sizes),
        len(folds) - n_kept,
        barred,
    )


def judged(
    equal: EqualCost,
    before: RouterMeasure,
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
    found
        Of the representative prompts, or why they do not judge.
    seed, n_resamples
        Of the intervals.
    """
    given = {"seed": seed, "n_resamples": n_resamples}
    of_gate, gate = equal.scores - before.scores, paired_bootstrap(equal.scores, before.scores, **given)
    if isinstance(found, str):
        return Judged(gate, None, of_gate, 1.0, 0, {}, found)
    there = paired_bootstrap(found.representative, np.zeros(len(found.representative)), **given)
    both = joined(of_gate, found.gate, found.representative)
    return Judged(gate, there, both.differences, float(both.largest), found.n_left_out, found.not_judged, "")


@dataclass(frozen=True, eq=False)
class Joined:
    """Differences on both kinds of prompts as those of one sample.

    Attributes
    ----------
    differences
        ``(..., n + r)`` one per prompt that judges; the mean is that of the published routers.
    largest
        ``(...)`` what one gate prompt won outright counts in them, at least 1.
    """

    differences: NDArray[np.float64]
    largest: NDArray[np.float64]


def joined(of_gate: NDArray[np.float64], control: NDArray[np.float64], representative: NDArray[np.float64]) -> Joined:
    """Join the differences on gate prompts and on representative prompts, of one comparison or of several.

    Representative prompts are trusted as far as makes the variance smallest (Angelopoulos et al. 2023, PPI++, section
    6), at most as much as gate prompts.

    Parameters
    ----------
    of_gate
        ``(..., n)`` of the published routers on gate prompts.
    control, representative
        ``(..., n)`` and ``(..., r)`` of the procedures on the same gate prompts and on representative ones.
    """
    n, r = of_gate.shape[-1], representative.shape[-1]
    noise = control.var(axis=-1) / n + representative.var(axis=-1) / r
    apart = control - control.mean(axis=-1, keepdims=True)
    shared = (of_gate * apart).mean(axis=-1) / n
    most = r / (n + r)
    trust = np.clip(np.divide(shared, noise, out=np.full_like(noise, most), where=noise > 0), 0, most)
    parts = (of_gate - trust[..., None] * control) * ((n + r) / n), representative * (trust[..., None] / most)
    return Joined(np.concatenate(parts, axis=-1), (1 - trust) * (n + r) / n)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What a router expects of its LLMs on some prompts, what it chooses, and what was recorded there."""

    keys: tuple[str, ...]
    errors: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    chosen: NDArray[np.int64]
    scores: NDArray[np.float64]
    spent_usd: NDArray[np.float64]


class _Choices:
    """The choices of a procedure, fold by fold, on several kinds of prompts."""

    def __init__(self, remaking: Remaking) -> None:
        self._remaking = remaking
        self._found: dict[int, list[_Chosen]] = {}

    def add(self, fold: int, prompts: Sequence[tuple[GateOutcomes, NDArray[np.int64]]]) -> None:
        """Let the vectors before a fold choose on some rows of each kind of prompts."""
        router = self._remaking.before(fold)
        for place, (outcomes, rows) in enumerate(prompts):
            embeddings = outcomes.embeddings_for(router)[rows]
            tokens = None if outcomes.input_tokens is None else outcomes.input_tokens[rows]
            expected = router.expected(embeddings, input_tokens=tokens)
            chosen = router.route(embeddings, input_tokens=tokens).llm_index
            cells = np.ix_(rows, outcomes.columns(router.keys))
            paid, costs_usd = outcomes.costs_usd[cells], expected.costs_usd.astype(np.float64)
            spent_usd = np.where(np.isfinite(paid), paid, costs_usd)
            found = _Chosen(router.keys, expected.errors, costs_usd, chosen, outcomes.scores[cells], spent_usd)
            self._found.setdefault(place, []).append(found)

    def of(self, place: int) -> _Chosen:
        """Return the choices on one kind of prompts, fold after fold."""
        parts = self._found[place]
        names = ("errors", "costs_usd", "chosen", "scores", "spent_usd")
        return _Chosen(parts[0].keys, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class _Compared:
    """Differences of two routers, ``(n,)``: NaN without an answer, 0 where they choose alike or are not judged."""

    differences: NDArray[np.float64]
    is_same: NDArray[np.bool_]
    is_untested: NDArray[np.bool_]


def _compared(ours: _Chosen, theirs: _Chosen, own_weight: float, barred: Mapping[str, str]) -> _Compared:
    rows = np.arange(len(theirs.chosen))
    equal = scores_at_equal_cost(
        ours.errors,
        ours.costs_usd,
        np.nan_to_num(ours.scores, nan=0.0),
        ours.spent_usd,
        target_usd=float(theirs.spent_usd[rows, theirs.chosen].mean()),
        own_weight=own_weight,
    )
    of_challenger, of_champion = np.array(ours.keys)[equal.choices], np.array(theirs.keys)[theirs.chosen]
    is_same = (of_challenger == of_champion).all(axis=0)
    is_untested = ~is_same & np.isin(np.vstack([of_challenger, of_champion]), list(barred)).any(axis=0)
    score = theirs.scores[rows, theirs.chosen]
    is_answered = np.isfinite(ours.scores[rows, equal.choices]).all(axis=0)
    differences = np.where(is_answered, equal.scores - score, np.nan)
    return _Compared(np.where(is_same | is_untested, 0.0, differences), is_same, is_untested)


def _with_interval(found: BootstrapDifference) -> str:
    return f"{found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"


def _is_same(published: FeatureVector, remade: FeatureVector) -> bool:
    names = ("errors", "coefficients", "input_tokens", "output_tokens")
    pairs = [(np.asarray(getattr(published, name)), np.asarray(getattr(remade, name))) for name in names]
    return all(
        one.shape == other.shape and np.allclose(one, other, rtol=_SAME_VECTOR, atol=_SAME_VECTOR)
        for one, other in pairs
    )
