"""What is still open about decisions when more answers of an LLM are to come."""

import numpy as np
import pytest
from scipy.stats import norm

from routing.early_stop import most_open_decision, open_deviations


def test_only_what_answers_will_settle_is_open() -> None:
    assert open_deviations([0.5, 0.1, 0.2], [0.3, 0.1, 0.4]).tolist() == pytest.approx([0.4, 0.0, 0.0])


def decided(errors: list[float], costs: list[float], deviations: list[float], weight: float = 1.0) -> float:
    others, other_costs = np.array([[0.3, 0.5], [0.3, 0.2]]), np.array([[0.1, 0.0], [0.1, 0.0]])
    return most_open_decision(
        np.array(errors), np.array(costs), np.array(deviations), others, other_costs, cost_weights=[weight]
    )


def test_the_most_open_prompt_counts_and_the_best_other_llm_is_the_rival() -> None:
    # Against 0.4 and 0.2 at cost weight 1.
    expected = max(norm.sf(0.4 / 0.1), norm.sf(0.1 / 0.2))
    assert decided([0.7, 0.2], [0.1, 0.1], [0.1, 0.2]) == pytest.approx(expected)
    assert decided([0.3, 0.1], [0.1, 0.1], [0.1, 0.1]) == pytest.approx(0.5), "a tie is as open as can be"


def test_nothing_is_open_where_nothing_may_move() -> None:
    assert decided([0.4, 0.2], [0.0, 0.0], [0.0, 0.0]) == 0.0


def test_every_cost_weight_counts() -> None:
    tables = np.array([[0.3]]), np.array([[0.2]])
    cheap, dear = (
        most_open_decision(np.array([0.5]), np.array([0.0]), np.array([0.1]), *tables, cost_weights=weights)
        for weights in ([0.0], [0.0, 1.0])
    )
    assert cheap < 0.05 and dear == pytest.approx(0.5)
