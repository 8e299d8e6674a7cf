"""No statistic is bent by which prompts LLMs are asked, nor by profiles that end early: simulated on recorded answers.

What is simulated is worse than any real choice: the prompts beyond the drawn part are those on which the known LLMs
disagree most, and a profile ends at once when its first answers are better than expected. Each test also shows that a
plain mean over all that was asked would be bent, or it could not fail.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flows.bench.folder import read_folder
from flows.profiling.contamination import LEAST_GAP, SIGNIFICANCE, contamination_p_value
from flows.reports.numbers import share_interval
from routing.resampling import mean_lower_bound

RECORDED = Path(__file__).parents[3] / "flows" / "sandbox" / "recorded"
N_REPRESENTATIVE, N_HIDDEN, N_GATE = 450, 90, 200
N_ASKED, N_RANDOM = 100, 50
EPSILON, LEVEL = 0.02, 0.05


@dataclass(frozen=True)
class Draw:
    """One LLM as if it were new: its scores by role, and which representative prompts it was asked."""

    scores: NDArray[np.float64]
    truth: float
    representative: NDArray[np.int64]
    hidden: NDArray[np.int64]
    gate: NDArray[np.int64]
    drawn: NDArray[np.int64]
    asked: NDArray[np.int64]
    champion: NDArray[np.float64]


@pytest.fixture(scope="module")
def draws() -> list[Draw]:
    recorded = read_folder(RECORDED)
    scores, rng = recorded.scores, np.random.default_rng(0)
    n, m = scores.shape
    found = []
    for number in range(100 * m):
        new, places = number % m, rng.permutation(n)
        known = np.delete(scores, new, axis=1)
        ends = np.cumsum([N_REPRESENTATIVE, N_HIDDEN, N_GATE])
        representative, hidden, gate = np.split(places[: ends[-1]], ends[:-1])
        drawn, rest = representative[:N_RANDOM], representative[N_RANDOM:]
        p = known[rest].mean(axis=1)
        chosen = rest[np.argsort(-p * (1 - p), kind="stable")][: N_ASKED - N_RANDOM]
        is_decided = scores[drawn, new].mean() > known[drawn].mean() + 0.1
        asked = drawn if is_decided else np.concatenate([drawn, chosen])
        rival = int(np.argmin(np.abs(known.mean(axis=0) - scores[:, new].mean())))
        found.append(
            Draw(scores[:, new], scores[:, new].mean(), representative, hidden, gate, drawn, asked, known[:, rival])
        )
    return found


def quarantined(draws: list[Draw], place: str) -> float:
    """Return the share of honest LLMs that the test for contamination quarantines, by the answers at some prompts."""
    wrongly = 0
    for one in draws:
        known, hidden = one.scores[getattr(one, place)], one.scores[one.hidden]
        if known.mean() - hidden.mean() >= LEAST_GAP:
            wrongly += contamination_p_value(known, hidden) <= SIGNIFICANCE
    return wrongly / len(draws)


def test_false_quarantines_stay_as_rare_as_they_are(draws: list[Draw]) -> None:
    assert quarantined(draws, "drawn") <= max(2 * SIGNIFICANCE, quarantined(draws, "representative"))


def bias(draws: list[Draw], place: str) -> float:
    """Return how far means are off on average, either way."""
    by_llm: dict[float, list[float]] = {}
    for one in draws:
        by_llm.setdefault(one.truth, []).append(one.scores[getattr(one, place)].mean() - one.truth)
    return float(np.mean([abs(np.mean(found)) for found in by_llm.values()]))


def covered(draws: list[Draw], place: str) -> float:
    """Return how often the 95 % interval of a score holds the truth, over the prompts a score is the mean of."""
    inside = 0
    for one in draws:
        rows = np.concatenate([getattr(one, place), one.hidden, one.gate])
        low, high = share_interval(float(one.scores[rows].mean()), len(rows))
        inside += low <= one.truth <= high
    return inside / len(draws)


def test_scores_are_not_bent_and_their_intervals_hold_what_they_say(draws: list[Draw]) -> None:
    assert bias(draws, "drawn") < 0.01 < 0.02 < bias(draws, "asked"), "a plain mean over what was asked is bent"
    # With all representative prompts half of the recording is in the mean, and its truth is all but known.
    assert 0.945 <= covered(draws, "drawn") <= covered(draws, "representative")


def promoted(draws: list[Draw], place: str) -> float:
    """Return how often a challenger that is worse by just `EPSILON` seems to be good enough on the prompts that judge.

    Both route everything to one LLM; the difference of the two is shifted to the edge of what may be promoted.
    """
    passed = 0
    for one in draws[:400]:
        apart = one.scores - one.champion
        rows = np.concatenate([getattr(one, place), one.gate])
        shifted = apart[rows] - apart.mean() - EPSILON
        passed += mean_lower_bound(shifted, level=LEVEL, seed=0, n_resamples=400) >= -EPSILON
    return passed / 400


def test_false_promotions_stay_as_rare_as_they_are(draws: list[Draw]) -> None:
    assert promoted(draws, "drawn") <= LEVEL + 0.01
    assert promoted(draws, "drawn") <= promoted(draws, "representative") + 0.03
