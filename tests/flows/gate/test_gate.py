"""The gate: what it refuses, what it says, and that the same evidence gives the same verdict."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from flows.config.settings import GateSettings, Settings
from flows.gate.alpha_spending import Spending, level_of, spend
from flows.gate.gate import GateRules, NewcomerGap, gate_as_json, judge
from flows.gate.measure import GateOutcomes, measure
from registry.errors import PromotionRefused
from registry.promotions import gate_result
from routing.cluster_maps import KMeansMap
from routing.embedders import load_embedder
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router

RULES = GateRules(
    epsilon=0.02, max_cost_increase=0.25, max_share=1.0, min_coverage=0.95, resamples=200, seed=0, policy_digest="p"
)
FIRST = Spending(1, 0.025)
EMBEDDER = load_embedder("hashing-256")


def router(errors: Mapping[str, float], *, prices: Mapping[str, float] | None = None, dim: int = 256) -> Router:
    """Make a router that sends every prompt to the LLM with the smallest error."""
    embedder = load_embedder(f"hashing-{dim}")
    cluster_map = KMeansMap(n_clusters=1, random_state=0).fit(embedder.embed(["one", "two"])).fitted_
    llms = []
    for key, error in errors.items():
        vector = FeatureVector(
            errors=[error],
            standard_errors=[0.01],
            counts=[50],
            input_tokens=[100.0],
            output_tokens=[100.0],
            n_prompts=50,
            n_scored=50,
        )
        price = (prices or {}).get(key, 1.0)
        llms.append(RoutedLLM(key, price, price, vector))
    weights = np.ones((2, 1), dtype=np.float32)
    return Router(cluster_map, llms, embedder=embedder.id, cost_weight=0.0, calibration_weights=weights)


def outcomes(
    right: Mapping[str, float], *, n: int = 400, n_dropped: int = 0, cost_usd: Mapping[str, float] | None = None
) -> GateOutcomes:
    """Return recorded outcomes in which each LLM is right on a share of the prompts, each on different ones."""
    keys = tuple(sorted(right))
    rng = np.random.default_rng(0)
    scores = np.stack([(rng.permutation(n) < right[key] * n).astype(float) for key in keys], axis=1)
    costs = np.tile([(cost_usd or {}).get(key, 0.01) for key in keys], (n, 1))
    return GateOutcomes(keys, EMBEDDER.embed([f"prompt {i}" for i in range(n)]), scores, costs, n_dropped)


OLD, NEW = router({"a": 0.1, "b": 0.5}), router({"a": 0.5, "b": 0.1})
EQUAL = {"a": 0.7, "b": 0.7}


def run(seen: GateOutcomes, challenger: Router = NEW, champion: Router | None = OLD, **changes):
    rules = replace(RULES, **{name: changes.pop(name) for name in list(changes) if hasattr(RULES, name)})
    return judge(challenger, champion, seen, rules, **({"spending": FIRST} | changes))


def failed(found) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


def said(found, name: str) -> str:
    return next(check.value for check in found.checks if check.name.startswith(name))


def test_a_first_router_must_only_be_sound():
    found = run(outcomes(EQUAL), champion=None)
    assert found.passed
    assert (found.champion, found.difference, found.lower_bound, found.spending) == (None, None, None, None)


def test_a_better_challenger_passes_and_a_worse_one_does_not():
    better, worse = run(outcomes({"a": 0.5, "b": 0.7})), run(outcomes({"a": 0.7, "b": 0.5}))
    assert better.passed
    assert better.difference.mean == pytest.approx(0.2)
    assert better.route_change == 1
    assert failed(worse) == ["score at the champion's cost, against the champion"]
    assert worse.lower_bound < worse.difference.mean == pytest.approx(-0.2)


def test_a_router_against_itself_passes_on_many_prompts_and_not_on_few():
    assert run(outcomes(EQUAL), OLD).passed
    few = run(outcomes(EQUAL, n=20), OLD)
    assert (few.route_change, few.difference.mean) == (0, 0)
    assert failed(few) == ["score at the champion's cost, against the champion"]


def test_a_router_against_itself_is_never_rejected_whatever_its_answers_cost():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        keys = [f"llm-{i}" for i in range(rng.integers(2, 6))]
        costs = {key: float(rng.lognormal()) for key in keys}
        same = router(
            {key: float(rng.choice([0.2, 0.4, 0.4, 0.6])) for key in keys},
            prices={key: float(rng.choice([0.0, 1.0, 3.0, rng.lognormal()])) for key in keys},
        )
        same = replace(same, cost_weight=float(rng.choice([0, 1, 10, 100])))
        seen = outcomes({key: float(rng.uniform(0.1, 0.9)) for key in keys}, n=int(rng.integers(5, 80)), cost_usd=costs)
        seen = replace(seen, costs_usd=seen.costs_usd * rng.lognormal(size=seen.costs_usd.shape))
        found = run(seen, same, same, spending=Spending(9, level_of(0.05, 9)))
        assert found.difference.mean == pytest.approx(0, abs=1e-12)
        assert found.verdict in ("promote", "undecided")


def test_scores_are_compared_at_the_champions_cost_and_not_at_the_challengers_own():
    """`b` is right twice as often and costs four times as much: at the champion's cost it may be asked 1 in 3."""
    prices, costs = {"a": 1.0, "b": 4.0, "c": 0.0}, {"a": 0.01, "b": 0.03, "c": 0.0}
    seen = outcomes({"a": 0.4, "b": 0.8, "c": 0.0}, n=900, cost_usd=costs)
    challenger = router({"b": 0.2, "c": 1.0}, prices=prices)
    found = run(seen, challenger, router({"a": 0.6, "c": 1.0}, prices=prices), max_cost_increase=10.0)
    assert found.challenger.score == pytest.approx(0.8, abs=0.01)
    assert found.difference.mean == pytest.approx(0.8 / 3 - 0.4, abs=0.01)
    assert not found.passed


def test_a_challenger_that_cannot_be_as_cheap_says_so_and_a_more_expensive_one_is_refused():
    seen = outcomes({"a": 0.5, "b": 0.7}, cost_usd={"a": 0.01, "b": 0.02})
    found = run(seen, router({"b": 0.1}), router({"a": 0.1}))
    assert "cannot be as cheap" in said(found, "score at")
    assert said(found, "cost per prompt") == "+100.0%"
    assert "cost per prompt at its own operating point, against the champion" in failed(found)


def test_one_llm_may_not_take_over_unless_it_had_the_share_before():
    seen = outcomes({"a": 0.5, "b": 0.7})
    found = run(seen, max_share=0.8)
    assert failed(found) == ["largest share of the gate prompts"]
    assert said(found, "largest share") == "100.0% (b)"
    assert run(seen, NEW, NEW, max_share=0.8).passed
    assert run(seen, max_share=1.0).passed


def test_too_few_prompts_with_every_score_are_refused():
    found = run(outcomes({"a": 0.5, "b": 0.7}, n=94, n_dropped=6))
    assert failed(found) == ["gate prompts with a score from every LLM"]
    assert said(found, "gate prompts with") == "94 of 100"


def test_llms_that_may_not_be_routed_to_are_refused_by_name():
    found = run(outcomes({"a": 0.5, "b": 0.7}), unavailable=("b",))
    assert failed(found) == ["LLMs that may be routed to"]
    assert said(found, "LLMs that may") == "not b"


def test_a_single_llm_is_no_router():
    assert failed(run(outcomes({"b": 0.7}), router({"b": 0.1}), champion=None)) == ["LLMs to choose from"]


@pytest.mark.parametrize(
    ("gap", "passes"),
    [
        (NewcomerGap("b", 0.3, 1e-5, False), False),
        (NewcomerGap("b", 0.3, 1e-5, True), True),
        (NewcomerGap("b", 0.05, 1e-5, False), True),
        (NewcomerGap("b", 0.3, 0.1, False), True),
        (NewcomerGap("b", None, 1.0, False), True),
    ],
    ids=["knows the prompts", "accepted by a person", "small gap", "chance", "no hidden prompt"],
)
def test_a_new_llm_that_seems_to_know_the_prompts_is_refused(gap, passes):
    found = run(outcomes({"a": 0.5, "b": 0.7}), newcomers=(NewcomerGap("c", 0.2, 0.2, False), gap))
    assert found.passed == passes
    assert passes or said(found, "representative score").endswith("widest b: +0.300 (p = 1e-05)")


def test_a_champion_is_measured_without_the_llms_that_were_never_asked():
    champion = router({"gone": 0.01, "a": 0.2, "b": 0.5})
    found = run(outcomes({"a": 0.5, "b": 0.7}), NEW, champion)
    assert found.champion.score == pytest.approx(0.5)
    assert set(found.champion.chosen) == {"a"}
    assert found.passed


def test_routers_with_different_embedders_are_measured_each_with_its_own():
    narrow = router({"a": 0.1, "b": 0.5}, dim=64)
    seen = outcomes({"a": 0.5, "b": 0.7})
    texts = [f"prompt {i}" for i in range(400)]
    other = {narrow.embedder.key: load_embedder("hashing-64").embed(texts)}
    found = run(replace(seen, other_embeddings=other), NEW, narrow)
    assert found.champion.score == measure(OLD, seen).score
    assert found.passed


def test_nothing_to_measure_and_numbers_that_are_none_are_refused_before_anything_is_kept():
    with pytest.raises(PromotionRefused, match="no gate prompt has a score"):
        run(outcomes(EQUAL, n=0, n_dropped=100))
    with pytest.raises(PromotionRefused, match="b was never asked"):
        run(outcomes({"a": 0.5}))
    with np.errstate(all="ignore"):
        endless = router({"a": 0.5, "b": 0.1}, prices={"b": 1e300})
        with pytest.raises(PromotionRefused, match=r"not finite numbers from b") as caught:
            run(outcomes(EQUAL), endless)
    assert caught.value.unchanged == "The champion stays as it is."


def test_the_same_evidence_gives_the_same_json():
    seen = outcomes({"a": 0.6, "b": 0.62})
    first, second = (gate_result(found.passed, gate_as_json(found)) for found in (run(seen), run(seen)))
    assert first == second
    assert first != gate_result(False, gate_as_json(run(seen, seed=1)))


def test_the_verdict_names_its_thresholds_and_the_policy_they_come_from():
    strict, lax = (Settings(gate=GateSettings(policy="review", epsilon=epsilon)) for epsilon in (0.01, 0.05))
    assert GateRules.of(strict) == GateRules.of(Settings(gate=GateSettings(policy="review", epsilon=0.01)))
    assert GateRules.of(strict).policy_digest != GateRules.of(lax).policy_digest
    assert GateRules.of(strict).policy_digest != GateRules.of(Settings(gate=GateSettings(epsilon=0.01))).policy_digest
    found = gate_as_json(run(outcomes({"a": 0.6, "b": 0.7}), epsilon=0.01))
    assert found["rules"]["epsilon"] == 0.01
    assert (found["spending"], found["route_change"]) == ({"ordinal": 1, "level": 0.025}, 1.0)


def test_the_policy_of_default_settings_has_the_digest_that_earlier_releases_stored():
    stored = "15baffc3d6a4bf312eaa3cd1c2eb6461ff9fc40f2f36fe16173b3e3eecb5e306"
    assert GateRules.of(Settings()).policy_digest == stored


def test_f94_the_chance_of_a_wrong_promotion_is_spent_and_never_more():
    levels = np.array([level_of(0.05, k) for k in range(1, 20_001)])
    assert levels[0] == pytest.approx(0.02375)
    assert levels[:200].sum() < 0.05
    assert levels.sum() + 20_000 * levels[-1] < 0.05, "the rest falls with the square: its sum is below that"
    assert (np.diff(levels) <= 0).all()
    assert levels[199] > 9e-6, "no champion becomes unbeatable"


def test_f94_measuring_a_challenger_again_is_no_second_test():
    assert spend(0.05, "x", ()) == Spending(1, level_of(0.05, 1))
    assert spend(0.05, "x", ("w", "x", "y")) == spend(0.05, "x", ("w", "x")) == Spending(2, level_of(0.05, 2))
    assert spend(0.05, "x", ()).next_level == pytest.approx(level_of(0.05, 2))
    assert spend(0.05, "z", ("w", "x", "y")).ordinal == 4


def test_f94_what_passes_alone_fails_as_the_twentieth_try():
    seen = outcomes({"a": 0.60, "b": 0.65})
    assert run(seen).passed
    late = run(seen, spending=spend(0.05, "new", [str(k) for k in range(19)]))
    assert failed(late) == ["score at the champion's cost, against the champion"]
    assert "challenger 20 of this champion" in said(late, "score at")
