"""The gate measures the decisions that consumers get: a prompt's own length counts."""

import numpy as np
import pytest

from flows.gate.measure import GateOutcomes, measure
from tests.routing.synthetic import flat_llm, flat_router


def test_a_long_prompt_is_measured_where_consumers_send_it() -> None:
    # In profiling, prompts had a million tokens: cheap costs 1 USD and costly 4. At 0.1 errors per USD, costly is 0.5
    # better for 3 USD more, so it gets a prompt of a million tokens, and cheap one of two million.
    router = flat_router([flat_llm("cheap", [0.5], 1.0), flat_llm("costly", [0.0], 4.0)], cost_weight=0.1)
    given = {
        "keys": ("cheap", "costly"),
        "embeddings": np.eye(8, dtype=np.float32)[[0, 0]],
        "scores": np.array([[0.0, 1.0], [1.0, 1.0]]),
        "costs_usd": np.array([[1.0, 4.0], [2.0, 8.0]]),
        "n_dropped": 0,
    }
    blind = measure(router, GateOutcomes(**given))
    assert (blind.chosen, blind.cost_usd) == (("costly", "costly"), 6.0)
    found = measure(router, GateOutcomes(**given, input_tokens=np.array([1e6, 2e6], dtype=np.float32)))
    assert (found.chosen, found.cost_usd, found.score) == (("costly", "cheap"), 3.0, 1.0)
    # Its curve moves from costly to cheap prompt by prompt; that of the other measure in one step.
    assert (len(found.curve.costs), len(blind.curve.costs)) == (3, 2)
    assert found.curve.costs_usd.tolist() == pytest.approx([6.0, 3.0, 1.5])
