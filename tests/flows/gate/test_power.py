"""What the gate can see: the formula says what the gate's own bound does with so many prompts."""

import numpy as np
import pytest

from flows.gate.power import DIFFERING_SHARE, POWER, prompts_needed, visible_difference
from routing.resampling import paired_lower_bound

LEVEL = 0.025


def test_the_bound_of_the_gate_sees_the_difference_as_often_as_it_says() -> None:
    n, runs, rng = 400, 300, np.random.default_rng(0)
    epsilon = visible_difference(n, LEVEL)
    seen = 0
    for run in range(runs):
        # Two routers that are equally good and differ on a share of the prompts.
        difference = rng.choice([1, 0, -1], size=n, p=[DIFFERING_SHARE / 2, 1 - DIFFERING_SHARE, DIFFERING_SHARE / 2])
        first, second = np.maximum(difference, 0), np.maximum(-difference, 0)
        seen += paired_lower_bound(first, second, level=LEVEL, seed=run, n_resamples=400) >= -epsilon
    assert seen / runs == pytest.approx(POWER, abs=0.07)


@pytest.mark.parametrize("epsilon", [0.005, 0.02, 0.1, 0.5])
def test_the_number_needed_is_the_smallest_that_is_enough(epsilon: float) -> None:
    needed = prompts_needed(epsilon, LEVEL)
    assert needed is not None
    assert visible_difference(needed, LEVEL) <= epsilon < visible_difference(needed - 1, LEVEL)


def test_one_prompt_sees_nothing_and_no_number_shows_a_difference_of_zero() -> None:
    assert visible_difference(0, LEVEL) == visible_difference(1, LEVEL) == 1.0
    assert prompts_needed(0.0, LEVEL) is None
