"""Whether an LLM answers differently than before: exact tests on paired scores, over windows of nights.

The answers of the last 1, 2, 3, 4, 5, 10 and 20 nights are compared with the stored ones, each prompt once, by its
latest answer. Every window is tested twice:

- *direction*: if nothing changed, the stored and the new score of a prompt are two draws of the same distribution, so
  that of the scores that differ each is as likely to be higher as lower, whatever the LLM's noise. The sign test is put
  to all prompts together, and to every cluster and category by itself, because movements that cancel in the whole are
  seen in its parts. Of all these p-values the smallest counts, and its significance is how likely so small a one is
  anywhere: exact for disjoint groups, whose signs are independent (Westfall and Wolfinger 1997, "Multiple tests with
  discrete distributions", The American Statistician 51), and summed over overlapping families of groups. Groups with
  too few changes to reach it cost nothing.
- *number*: whether more verdicts changed (scores that crossed a half) than the LLM's own noise explains. The noise is
  learnt from repeats, that is from consecutive answers to the same prompt on the same side of the window's start. Most
  LLMs are as noisy as is usual, a few are much noisier: the number of changes is a mixture of beta-binomials, whose
  weights follow from the repeats. Many changes alone therefore prove nothing as long as repeats are missing: they make
  an LLM *suspected*, and the next nights ask it the same prompts again (`flows.profiling.canary_history`).

Half of a window's share of the significance goes to either test, and the shares of all windows sum to 1, so that by
Boole's inequality an LLM that did not change is reported with a probability of at most `SIGNIFICANCE` a night: exactly
for the direction, on average over LLMs whose noise is spread as `NOISE_PRIORS` say for the number.

All functions accept leading axes, so that many draws can be tested at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

WINDOWS: Final = {1: 0.1, 2: 0.1, 3: 0.15, 4: 0.2, 5: 0.25, 10: 0.1, 20: 0.1}
"""Nights of each window, and its share of the significance. Longer windows are for changes of a few points."""
LONGEST_WINDOW: Final = max(WINDOWS)
NOISE_PRIORS: Final = ((0.9, 5.0, 40.0), (0.1, 2.0, 4.0))
"""Share of the LLMs, and changed and unchanged verdicts that their noise is shrunk to: usual LLMs, then noisy ones.

Usual: 11 % of the verdicts change, for 95 % of the LLMs 4 to 21 %; the nine LLMs of reasoning_gym that answered three
times change 6 to 13 %, and the prior is twice as wide. Noisy: 33 %, for 95 % of them 5 to 72 %.
"""
_VERDICT = 0.5
_SLACK = 1 + 1e-12

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class WindowResult:
    """What the answers of the last nights say.

    Attributes
    ----------
    nights
        Length of the window.
    pairs, worse, better
        ``(...)`` prompts with a score before and one in the window; how many of these are lower, higher now.
    p_value
        ``(...)`` significance within the whole family of tests of a night: windows, both tests and all groups.
    before, now
        ``(..., n)`` the compared scores; NaN where there is no pair.
    usual_p_value
        ``(...)`` significance of the number of changes if the LLM were no noisier than is usual.
    """

    nights: int
    pairs: Array
    worse: Array
    better: Array
    p_value: Array
    before: Array
    now: Array
    usual_p_value: Array


def compare_windows(
    stored: Array, canaries: Array, groupings: Sequence[Array] = (), earlier: Array | None = None
) -> tuple[WindowResult, ...]:
    """Compare the answers of the last nights with the stored ones, window by window.

    Parameters
    ----------
    stored
        ``(..., n)`` stored scores in [0, 1]; NaN where there is none to compare with, then the first canary before the
        window stands in its place.
    canaries
        ``(..., nights, n)`` scores of the nights since, the latest last; NaN where nothing was asked or came of it.
    groupings
        Each ``(..., n)``: number of the group that a prompt belongs to, -1 for none.
    earlier
        ``(..., n)`` latest scores before the stored answers were given; they show noise alone.

    Returns
    -------
    tuple of WindowResult
        One for every window for which there are enough nights; none without a night.
    """
    whole = np.zeros(stored.shape, dtype=np.int64)
    results = []
    for nights, share in WINDOWS.items():
        if nights > canaries.shape[-2]:
            break
        before_window = canaries[..., : canaries.shape[-2] - nights, :]
        now = latest_scores(canaries[..., canaries.shape[-2] - nights :, :])
        before = np.where(np.isfinite(stored), stored, latest_scores(before_window[..., ::-1, :]))
        is_pair = np.isfinite(before) & np.isfinite(now)
        before, now = np.where(is_pair, before, np.nan), np.where(is_pair, now, np.nan)
        families = [_signs_by_group(now - before, groups) for groups in (whole, *groupings)]
        pairs = is_pair.sum(-1)
        repeats = count_repeats(stored, before_window, earlier)
        inside = count_repeats(np.full(stored.shape, np.nan), canaries[..., canaries.shape[-2] - nights :, :])
        counts = _changed(before, now), pairs, repeats[0] + inside[0], repeats[1] + inside[1]
        number, usual = number_p_value(*counts), number_p_value(*counts, priors=NOISE_PRIORS[:1])
        p_value = np.minimum(1.0, 2 * np.minimum(number, direction_p_value(families)) / share)
        (worse, better) = (one[..., 0] for one in families[0])
        usual = np.minimum(1.0, 2 * usual / share)
        results.append(WindowResult(nights, pairs, worse, better, p_value, before, now, usual))
    return tuple(results)


def direction_p_value(families: Sequence[tuple[Array, Array]]) -> Array:
    """Return how likely so one-sided a movement is in any group, if scores are as likely to rise as to fall.

    Parameters
    ----------
    families
        Lower and higher scores, each ``(..., groups)``; groups of one family share no prompt.

    Returns
    -------
    (...) float64
    """
    smallest = np.minimum.reduce([sign_p_value(worse, better).min(-1) for worse, better in families])
    reached = [1 - np.prod(1 - _largest_attainable(worse + better, smallest), axis=-1) for worse, better in families]
    return np.minimum(1.0, np.sum(reached, axis=0))


def sign_p_value(worse: Array, better: Array) -> Array:
    """Return the two-sided p-value of the sign test (McNemar's exact test)."""
    # Imported here and below: every command reads this module, and scipy.special takes a while.
    from scipy.special import bdtr

    return np.minimum(1.0, 2 * bdtr(np.minimum(worse, better), worse + better, 0.5))


def _largest_attainable(changed: Array, limit: Array) -> Array:
    """Return how likely the sign test of so many changes is to be at most `limit`, ``(...,)`` against ``(..., g)``."""
    most = int(changed.max(initial=0))
    fewer, number = np.arange(most // 2 + 1), np.arange(most + 1)[:, None]
    attainable = np.where(2 * fewer <= number, sign_p_value(np.minimum(fewer, number), number - fewer), np.inf)
    found = attainable[changed]
    return np.where(found <= limit[..., None, None] * _SLACK, found, 0.0).max(-1)


def number_p_value(
    changed: Array,
    pairs: Array,
    repeats_changed: Array,
    repeats: Array,
    *,
    priors: Sequence[tuple[float, float, float]] = NOISE_PRIORS,
) -> Array:
    """Return how likely at least so many changed verdicts are, given how many of the repeats changed.

    Parameters
    ----------
    changed, pairs
        ``(...)`` changed verdicts, among so many.
    repeats_changed, repeats
        ``(...)`` the same of repeats between which the LLM is taken to be the same.
    priors
        Kinds of LLMs: the share of each, with the two parameters of the beta distribution of its noise.

    Returns
    -------
    (...) float64
        Upper tail of the mixture of beta-binomial distributions.
    """
    from scipy.special import betaln, logsumexp

    n, count = pairs[..., None], np.arange(int(pairs.max(initial=0)) + 1)
    rest = np.maximum(n - count, 0)
    is_counted = (count >= changed[..., None]) & (count <= n)
    log_ways = -np.log(n + 1) - betaln(rest + 1, count + 1)
    log_weights, tails = [], []
    for share, a, b in priors:
        a_now, b_now = a + repeats_changed, b + repeats - repeats_changed
        log_weights.append(np.log(share) + betaln(a_now, b_now) - betaln(a, b))
        log_chance = betaln(count + a_now[..., None], rest + b_now[..., None]) - betaln(a_now, b_now)[..., None]
        tails.append(np.where(is_counted, np.exp(log_ways + log_chance), 0.0).sum(-1))
    weights = np.exp(log_weights - logsumexp(log_weights, axis=0))
    return np.minimum(1.0, np.sum(weights * tails, axis=0))


def count_repeats(stored: Array, canaries: Array, earlier: Array | None = None) -> tuple[Array, Array]:
    """Count the pairs of consecutive answers to the same prompt, and between how many of them the verdict changed.

    Parameters
    ----------
    stored, canaries, earlier
        As in `compare_windows`, without the nights of the window.

    Returns
    -------
    tuple of (...) int64
        Changed ones, all.
    """
    changed = np.zeros(stored.shape[:-1], dtype=np.int64)
    pairs = np.zeros_like(changed)
    last = np.full(stored.shape, np.nan) if earlier is None else earlier
    for now in (stored, *np.moveaxis(canaries, -2, 0)):
        changed += _changed(last, now)
        pairs += (np.isfinite(last) & np.isfinite(now)).sum(-1)
        last = np.where(np.isfinite(now), now, last)
    return changed, pairs


def latest_scores(nights: Array) -> Array:
    """Return the last finite score of each prompt, ``(..., n)`` of ``(..., nights, n)``; NaN where there is none."""
    found = np.full((*nights.shape[:-2], nights.shape[-1]), np.nan)
    for night in np.moveaxis(nights, -2, 0):
        found = np.where(np.isfinite(night), night, found)
    return found


def _changed(before: Array, now: Array) -> Array:
    is_pair = np.isfinite(before) & np.isfinite(now)
    return (is_pair & ((before >= _VERDICT) != (now >= _VERDICT))).sum(-1)


def _signs_by_group(difference: Array, groups: Array) -> tuple[Array, Array]:
    """Count lower and higher scores by group, each ``(..., groups)``; NaN is neither."""
    numbers = range(int(groups.max(initial=0)) + 1)
    worse = np.stack([((difference < 0) & (groups == number)).sum(-1) for number in numbers], axis=-1)
    better = np.stack([((difference > 0) & (groups == number)).sum(-1) for number in numbers], axis=-1)
    return worse, better
