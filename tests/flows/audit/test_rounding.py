"""Routers that differ by rounding are equal; what differs by more is named."""

from dataclasses import replace

import numpy as np
import pytest

from flows.audit.rounding import compare_routers
from routing import ClusterMap, EmbedderId, RoutedLLM, Router, plain_feature_vector

AXES = np.eye(2, dtype=np.float32)
PROMPTS = {"gate": np.repeat(AXES, 3000, axis=0), "representative": AXES}


def router(*scores: tuple[float, float], by: float = 0.0) -> Router:
    """Return a router of LLMs of equal price with these scores on two clusters; the last one's errors are larger."""
    llms = []
    for number, on_clusters in enumerate(scores):
        vector = plain_feature_vector([0, 1], on_clusters, [50, 50], [100, 100], n_clusters=2, n_prompts=2)
        if number == len(scores) - 1:
            vector = replace(vector, errors=vector.errors + np.float32(by))
        llms.append(RoutedLLM(f"fake:{number}", 1.0, 1.0, vector))
    options = {"embedder": EmbedderId("axes", "1", 2), "cost_weight": 0.0, "calibration_weights": AXES}
    return Router(ClusterMap.nearest(AXES), tuple(llms), **options)


@pytest.mark.parametrize("by", [0.0, 1e-7, -9e-7])
def test_errors_that_agree_to_a_millionth_are_equal(by: float) -> None:
    found = compare_routers(router((1, 0), (0.2, 0.8)), router((1, 0), (0.2, 0.8), by=by), PROMPTS)
    assert (found.lines, found.n_tied) == ((), 0)
    assert found.largest == pytest.approx(abs(by), abs=1e-7)


def test_decisions_between_tied_llms_may_fall_either_way() -> None:
    found = compare_routers(router((0.5, 0), (0.5, 0.9), by=4e-7), router((0.5, 0), (0.5, 0.9), by=-4e-7), PROMPTS)
    assert found.lines == ()
    assert found.n_tied == 3001, "the prompts of the first cluster in both roles"


def test_what_differs_by_more_is_named() -> None:
    found = compare_routers(router((0.5, 0), (0.5, 0.9), by=0.01), router((0.5, 0), (0.5, 0.9), by=-0.01), PROMPTS)
    assert found.lines == (
        "the LLM differs on 3,000 of 6,000 gate prompts",
        "the LLM differs on 1 of 2 representative prompts",
        "errors of fake:1 differ by up to 0.02",
    )
    found = compare_routers(router((1, 1), (0.2, 0.2)), router((1, 1), (0.2, 0.2), by=-1e-5), PROMPTS)
    assert found.lines == ("errors of fake:1 differ by up to 1e-05",), "no decision changed, and yet it is not the same"
    found = compare_routers(router((1, 1), (0, 0)), router((1, 1)), PROMPTS)
    assert found.lines == ("it routes to other LLMs: fake:1 in one of the two only",)
