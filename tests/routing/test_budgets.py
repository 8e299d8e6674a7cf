import dataclasses

import numpy as np
import pytest

from routing import ClusterMap, FeatureVector, InvalidInput, RoutedLLM, Router
from tests.routing.synthetic import EMBEDDER, flat_llm, flat_router, random_router, unit_rows


def mean_cost(router, weight: float) -> float:
    """Mean expected USD of the router's choices on its calibration prompts."""
    tables = router._tables
    errors, costs = router.calibration_weights @ tables.errors, router.calibration_weights @ tables.costs_usd
    choice = (errors + weight * costs).argmin(axis=1)
    return float(np.take_along_axis(costs, choice[:, None], 1).mean())


def test_the_budget_solved_by_hand():
    # Two prompts. For 3 USD more, dear is 0.5 better on the first and 0.25 on the second: they switch at 1/6 and 1/12.
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


def test_a_free_pool_needs_no_cost_weight_and_its_ties_go_by_key():
    router = flat_router([flat_llm(key, [error, 0.5], 0.0) for key, error in (("b", 0.2), ("a", 0.2), ("c", 0.1))])
    router = dataclasses.replace(router, calibration_weights=np.eye(2))
    assert router.cost_weight_for(max_cost_usd_per_1k=0) == 0.0
    assert router.cost_weight_for(min_score=1.0) >= 0.0
    chosen = router.route(np.eye(8)[:2]).llm_index
    assert [router.keys[place] for place in chosen] == ["c", "a"]


@pytest.mark.parametrize("soft", [False, True])
def test_the_budget_is_kept_and_not_wasted(soft):
    router = random_router(soft=soft)
    most_expensive, cheapest = mean_cost(router, 0.0), mean_cost(router, 1e12)
    for budget in np.linspace(cheapest, most_expensive, 7):
        weight = router.cost_weight_for(max_cost_usd_per_1k=float(budget) * 1000)
        assert mean_cost(router, weight) <= budget * (1 + 1e-6)
        if weight > 0:
            assert mean_cost(router, weight * 0.99) > budget * (1 - 1e-6)


def test_a_budget_below_the_cheapest_llm_is_refused_with_the_least_budget():
    router = flat_router([flat_llm("a", [0.5], 2.0)])
    with pytest.raises(InvalidInput, match="the cheapest LLMs cost 2") as caught:
        router.cost_weight_for(max_cost_usd_per_1k=1999)
    assert "at least 2e+03 USD per 1,000 prompts" in caught.value.hint


def test_candidates_bound_what_a_budget_can_choose_from():
    router = flat_router([flat_llm("a", [0.5], 2.0), flat_llm("b", [0.6], 1.0)])
    assert router.cost_weight_for(max_cost_usd_per_1k=1000) > 0
    with pytest.raises(InvalidInput, match="the cheapest LLMs cost 2"):
        router.cost_weight_for(max_cost_usd_per_1k=1000, candidates=["a"])


@pytest.mark.parametrize("limits", [{}, {"max_cost_usd_per_1k": 1.0, "min_score": 0.5}])
def test_exactly_one_limit_is_required(limits):
    with pytest.raises(InvalidInput, match="either"):
        random_router().cost_weight_for(**limits)


@pytest.mark.parametrize("limits", [{"max_cost_usd_per_1k": np.nan}, {"max_cost_usd_per_1k": -1}, {"min_score": 1.1}])
def test_invalid_limits_are_refused(limits):
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


RATIOS = {"cheap": 1.0, "mid": 1.3, "dear": 0.8}
PRICES = {"cheap": (0.5, 1.0), "mid": (2.0, 4.0), "dear": (10.0, 30.0)}
ERRORS = {"cheap": [0.7, 0.5, 0.4, 0.6], "mid": [0.4, 0.3, 0.35, 0.35], "dear": [0.1, 0.2, 0.3, 0.1]}
OUTPUT_TOKENS = 50.0


def prompts_of_any_length(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts of four clusters; lengths differ a hundredfold, and the fourth cluster's are long."""
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 4, n)
    rows = (np.eye(8)[clusters] + rng.normal(0, 0.05, (n, 8))).astype(np.float32)
    return rows, np.exp(rng.normal(4.5, 1.0, n) + 1.5 * (clusters == 3))


def router_for(n_calibration: int, *, by_tokens: bool) -> Router:
    fitted = ClusterMap.nearest(np.eye(8)[:4])
    rows, tokens = prompts_of_any_length(n_calibration, seed=1)
    clusters = fitted.assign(rows)
    llms = []
    for key, errors in (
        ("cheap", [0.7, 0.5, 0.4, 0.6]),
        ("mid", [0.4, 0.3, 0.35, 0.35]),
        ("dear", [0.1, 0.2, 0.3, 0.1]),
    ):
        means = [RATIOS[key] * tokens[clusters == k].mean() for k in range(4)]
        vector = FeatureVector(
            errors, [0.02] * 4, [9] * 4, means, [OUTPUT_TOKENS] * 4, 36, 36, input_token_ratio=RATIOS[key]
        )
        llms.append(RoutedLLM(key, *PRICES[key], vector))
    return Router(
        fitted,
        llms,
        embedder=EMBEDDER,
        cost_weight=0.0,
        calibration_weights=fitted.exact_weights(rows),
        calibration_tokens=tokens if by_tokens else [],
    )


def spent_usd_per_1k(router: Router, weight: float) -> float:
    """What other prompts really cost at this cost weight, each by its own length and each LLM's tokenizer."""
    rows, tokens = prompts_of_any_length(4000, seed=2)
    chosen = router.route(rows, input_tokens=tokens, cost_weight=weight).llms
    costs = [
        (RATIOS[key] * length * PRICES[key][0] + OUTPUT_TOKENS * PRICES[key][1]) / 1e6
        for key, length in zip(chosen, tokens, strict=True)
    ]
    return 1000 * float(np.mean(costs))


@pytest.mark.parametrize("budget", [0.25, 0.5, 1.0, 1.5, 2.0])
def test_other_prompts_cost_within_a_tenth_of_the_budget(budget):
    router = router_for(1000, by_tokens=True)
    spent = spent_usd_per_1k(router, router.cost_weight_for(max_cost_usd_per_1k=budget))
    assert spent == pytest.approx(budget, rel=0.1)


def test_without_the_lengths_of_its_prompts_a_budget_is_missed_by_routing_with_lengths():
    router = router_for(1000, by_tokens=False)
    assert not router.solves_by_tokens
    missed = [
        abs(spent_usd_per_1k(router, router.cost_weight_for(max_cost_usd_per_1k=budget)) / budget - 1)
        for budget in (0.25, 0.5, 1.0, 1.5, 2.0)
    ]
    assert max(missed) > 0.2


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 1.0])
def test_the_share_of_the_best_score_is_kept_on_prompts_of_any_length(share):
    router = router_for(1000, by_tokens=True)
    weight = router.cost_weight_for(min_score=share)
    rows, tokens = prompts_of_any_length(4000, seed=2)
    kept = float(router.route(rows, input_tokens=tokens, cost_weight=weight).expected_score.mean())
    best = float(1 - router.expected(rows).errors.mean(axis=0).min())
    assert kept >= share * best - 0.01


@pytest.mark.parametrize(
    ("tokens", "cause"),
    [([1.0], "got 1 for 30"), ([-1.0] * 30, "finite"), ([np.nan] * 30, "finite"), ("many", "array")],
)
def test_invalid_calibration_tokens_are_refused(tokens, cause):
    with pytest.raises(InvalidInput, match=f"calibration_tokens.*{cause}"):
        dataclasses.replace(random_router(), calibration_tokens=tokens)
