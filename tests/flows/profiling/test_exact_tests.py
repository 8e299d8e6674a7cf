"""The exact test behind contamination, on cases that are solved by hand."""

import numpy as np
import pytest

from flows.profiling.contamination import contamination_p_value


def scores(right: int, wrong: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * wrong)


@pytest.mark.parametrize(
    ("known", "hidden", "p_value"),
    [
        # Fisher's lady tasting tea: 1 and 1 + 16 of 70 ways.
        ((4, 0), (0, 4), 1 / 70),
        ((3, 1), (1, 3), 17 / 70),
        ((0, 4), (4, 0), 1.0),
        ((5, 0), (3, 0), 1.0),
        ((0, 0), (3, 2), 1.0),
    ],
)
def test_the_chance_of_a_gap_is_fishers_exact_test(known, hidden, p_value):
    assert contamination_p_value(scores(*known), scores(*hidden)) == pytest.approx(p_value, rel=1e-12)


def test_failures_count_for_neither_side():
    known, hidden = np.array([1.0, np.nan, 1.0, 1.0, 1.0]), np.array([0.0, 0.4, np.nan, 0.0, 0.2])
    assert contamination_p_value(known, hidden) == pytest.approx(1 / 70, rel=1e-12)
