import dataclasses

import numpy as np
import pytest

from routing import InvalidInput

from .worlds import flat_llm, flat_router, random_router, unit_rows


def mean_cost(router, weight: float) -> float:
    """Mean expected USD of the router's choices on its calibration prompts."""
    tables = router._tables
    errors, costs = router.calibration_weights @ tables.errors, router.calibration_weights @ tables.costs_usd
    choice = (errors + weight * costs).argmin(axis=1)
    return float(np.take_along_axis(costs, choice[:, None], 1).mean())


def test_the_solved_budget():
    # Two prompts. On the first, dear is 0.5 better for 3 USD more, on the second 0.25: they leave it at 1/6 and 1/12.
    router = flat_router([flat_llm("cheap", [0.5, 0.25], 1.0), flat_llm("dear", [0.0, 0.0], 4.0)])
    router = dataclasses.replace(router, calibration_weights=np.eye(2))
    assert router.cost_weight_for(max_cost_usd_per_1k=4000) == 0.0
    assert 1 / 12 < router.cost_weight_for(max_cost_usd_per_1k=2500) < 1 / 12 * 1.01
    assert 1 / 12 < router.cost_weight_for(max_cost_usd_per_1k=3999) < 1 / 12 * 1.01
    assert 1 / 6 < router.cost_weight_for(max_cost_usd_per_1k=1000) < 1 / 6 * 1.01
    # The best LLM's expected score is 1; without it on the second prompt 0.875, without it at all 0.625.
    assert router.cost_weight_for(min_score=1.0) == 0.0
    assert 1 / 12 < router.cost_weight_for(min_score=0.875) < 1 / 12 * 1.01
    assert 1 / 6 < router.cost_weight_for(min_score=0.5) < 1 / 6 * 1.01


@pytest.mark.parametrize("soft", [False, True])
def test_the_budget_is_kept_and_not_wasted(soft):
    router = random_router(soft=soft)
    dearest, cheapest = mean_cost(router, 0.0), mean_cost(router, 1e12)
    for budget in np.linspace(cheapest, dearest, 7):
        weight = router.cost_weight_for(max_cost_usd_per_1k=float(budget) * 1000)
        assert mean_cost(router, weight) <= budget * (1 + 1e-6)
        if weight > 0:
            assert mean_cost(router, weight * 0.99) > budget * (1 - 1e-6)


def test_a_budget_below_the_cheapest_llm_names_what_it_takes():
    router = flat_router([flat_llm("a", [0.5], 2.0)])
    with pytest.raises(InvalidInput, match="the cheapest LLMs cost 2") as caught:
        router.cost_weight_for(max_cost_usd_per_1k=1999)
    assert "at least 2e+03 USD per 1 000 prompts" in caught.value.hint


def test_candidates_bound_what_a_budget_can_choose_from():
    router = flat_router([flat_llm("a", [0.5], 2.0), flat_llm("b", [0.6], 1.0)])
    assert router.cost_weight_for(max_cost_usd_per_1k=1000) > 0
    with pytest.raises(InvalidInput, match="the cheapest LLMs cost 2"):
        router.cost_weight_for(max_cost_usd_per_1k=1000, candidates=["a"])


@pytest.mark.parametrize("limits", [{}, {"max_cost_usd_per_1k": 1.0, "min_score": 0.5}])
def test_exactly_one_limit_is_asked_for(limits):
    with pytest.raises(InvalidInput, match="either"):
        random_router().cost_weight_for(**limits)


@pytest.mark.parametrize("limits", [{"max_cost_usd_per_1k": np.nan}, {"max_cost_usd_per_1k": -1}, {"min_score": 1.1}])
def test_limits_that_cannot_be_are_refused(limits):
    with pytest.raises(InvalidInput, match="must be a finite number"):
        random_router().cost_weight_for(**limits)


def test_a_router_without_calibration_prompts_says_so():
    router = dataclasses.replace(random_router(), calibration_weights=np.zeros((0, 4)))
    with pytest.raises(InvalidInput, match="no calibration prompts"):
        router.cost_weight_for(min_score=0.9)


def test_free_llms_need_no_weight():
    router = flat_router([flat_llm("a", [0.5], 0.0), flat_llm("b", [0.4], 0.0)])
    assert router.cost_weight_for(max_cost_usd_per_1k=0.0) == 0.0
    assert router.decide(unit_rows(1)[0]).llm == "b"
