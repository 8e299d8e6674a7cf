"""Absolute floors: what no router may fall below, not even the first, whatever it is compared with.

A pool whose answers are all wrong, whose LLMs cannot be told apart, or whose router does no better than a blind guess
is broken: a wrong endpoint, a proxy that says the same to everything, a grader that reads nothing. No setting lowers
these floors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.gate.measure import GateOutcomes, RouterMeasure
from flows.gate.verdict import GateCheck, GateRules
from routing.resampling import paired_lower_bound
from routing.router import Router

GUESS_LEVEL: Final = 0.025
"""Chance that a router which only guesses is taken to do better."""

_FEWEST_ALIKE: Final = 10
"""Gate prompts below which an answer that never changes cannot be told from luck."""

_BROKEN: Final = "no setting: see what the LLMs answer (uniroute llm show LLM), base_url and max_tokens of [[endpoint]]"


def floor_checks(
    router: Router, found: RouterMeasure, outcomes: GateOutcomes, rules: GateRules
) -> tuple[GateCheck, ...]:
    """Return the floors of a challenger.

    Parameters
    ----------
    router
        The challenger; at least one of its LLMs is among the outcomes.
    found
        Its measure on `outcomes`.
    outcomes
        The recorded outcomes on gate prompts; at least one prompt.
    rules
        Seed and number of resamples.
    """
    scores = outcomes.scores[:, outcomes.columns(outcomes.known(router))]
    above_zero = int((scores > 0).any(axis=0).sum())
    some = GateCheck(
        "LLMs that score above 0 on gate prompts",
        f"{above_zero} of {scores.shape[1]}",
        "at least 1",
        above_zero > 0,
        remedy=_BROKEN,
    )
    return (some, _answers_differ(scores, outcomes.letters), *guessing_check(found, outcomes, rules))


def guessing_check(found: RouterMeasure, outcomes: GateOutcomes, rules: GateRules) -> tuple[GateCheck, ...]:
    """Return the check that a router does better than a blind guess; none where no grader knows what a guess scores.

    A prompt whose grader does not know it counts as one that cannot be guessed. What is tested is the lower bound of
    the mean score minus the mean of the guesses, at `GUESS_LEVEL`.
    """
    guess = guesses(outcomes)
    if guess is None:
        return ()
    bound = paired_lower_bound(found.scores, guess, level=GUESS_LEVEL, seed=rules.seed, n_resamples=rules.resamples)
    return (
        GateCheck(
            "score above guessing on gate prompts",
            f"{found.score:.4f}, a guess scores {guess.mean():.4f}; lower bound of the difference {bound:+.4f}",
            "above 0",
            bound > 0,
            remedy=_more_prompts(found.scores - guess),
        ),
    )


def guesses(outcomes: GateOutcomes) -> NDArray[np.float64] | None:
    """Return what a blind guess may expect of each prompt, 0 where that is unknown; None when it is nowhere known."""
    if outcomes.chance is None or not np.isfinite(outcomes.chance).any():
        return None
    return np.nan_to_num(outcomes.chance, nan=0.0)


def _more_prompts(above: NDArray[np.float64]) -> str:
    """Return how many gate prompts would show that a router does better than guessing."""
    mean, n = float(above.mean()), len(above)
    if mean <= 0:
        return f"it does not even score what a guess does, so no number of prompts; {_BROKEN}"
    # One prompt won and one lost outright widen the bound, as in `paired_lower_bound`.
    quantile = NormalDist().inv_cdf(1 - GUESS_LEVEL)
    needed = max(math.ceil((quantile * (above.std() + 1 / math.sqrt(n)) / mean) ** 2), n + 1)
    return f"about {needed:,} gate prompts (there are {n:,}), or LLMs that answer better"


def _answers_differ(scores: NDArray[np.float64], letters: Sequence[str]) -> GateCheck:
    """Check that the LLMs can be told apart, and that not each of them says one and the same thing to every prompt."""
    n, m = scores.shape
    # Of LLMs that are right every time the cheapest can serve; others that never differ are one LLM under many names.
    is_always_right = bool((scores == 1).all())
    name, threshold = "LLMs that answer differently on gate prompts", "not all the same"
    if m > 1 and not is_always_right and bool((scores == scores[:, :1]).all()):
        said = f"all {m} have the same score on each of the {n} prompts, so there is nothing to choose by"
        remedy = f"LLMs that differ, or prompts that tell them apart; {_BROKEN}"
        return GateCheck(name, said, threshold, passed=False, remedy=remedy)
    if len(letters) >= _FEWEST_ALIKE and len(set(letters)) > 1 and all(_says_one(one, letters) for one in scores.T):
        said = f"each of the {m} names the same option on all {n} prompts"
        return GateCheck(name, said, threshold, passed=False, remedy=_BROKEN)
    said = f"each is right on all {n} prompts" if is_always_right else f"they differ, on {n} prompts"
    return GateCheck(name, said, threshold, passed=True)


def _says_one(scores: NDArray[np.float64], letters: Sequence[str]) -> bool:
    """Whether scores are those of an LLM that names one option whatever it is asked."""
    named = np.array(letters)
    return any(np.array_equal(scores == 1, named == letter) for letter in set(letters)) or not scores.any()
