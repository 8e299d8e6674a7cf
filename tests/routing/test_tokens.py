"""The expected cost of a decision follows the length of the prompt itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import FeatureVector, InvalidInput, RoutedLLM, estimated_input_tokens
from tests.routing.synthetic import flat_llm, flat_router, random_router, unit_rows

ROUTERS = [random_router(soft=soft, seed=seed) for soft in (False, True) for seed in (0, 1)]
any_router = pytest.mark.parametrize("router", ROUTERS, ids=["hard-0", "hard-1", "soft-0", "soft-1"])
FIELDS = ("expected_score", "expected_cost_usd", "standard_error")


def llm(key: str, errors: list[float], output_tokens: list[float], usd_in: float, usd_out: float) -> RoutedLLM:
    n = len(errors)
    vector = FeatureVector(errors, [0.1] * n, [10] * n, [100.0] * n, output_tokens, 10 * n, 10 * n)
    return RoutedLLM(key, usd_in, usd_out, vector)


def tokens_for(n: int, seed: int = 3) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).uniform(0, 12, n))


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0.0), ("abcd", 1.0), ("abcdef", 1.5), ("ё", 0.5), ("漢字", 1.5), ("\ud800", 0.75)]
)
def test_four_bytes_are_one_token(text, tokens):
    estimate = estimated_input_tokens([text, "12345678"])
    assert estimate.tolist() == [tokens, 2.0]
    assert estimate.dtype == np.float32


def test_no_texts_have_no_tokens():
    assert estimated_input_tokens([]).shape == (0,)


@pytest.mark.parametrize("soft", [False, True])
def test_the_expected_cost_equals_the_one_computed_by_hand(soft):
    # Small: 1 USD per million in, 2 out, 500 output tokens; large: 5 in, 20 out, 300 output tokens.
    small, large = llm("small", [0.5], [500.0], 1.0, 2.0), llm("large", [0.25], [300.0], 5.0, 20.0)
    router = flat_router([small, large], cost_weight=25.0, soft=soft)
    row, lengths = np.eye(8)[:1], [1000.0, 1250.0, 1251.0, 2000.0]
    rows = np.repeat(row, 4, axis=0)
    expected = router.expected(rows, input_tokens=lengths)
    # Columns are in the order of the keys: large, small.
    by_hand = [[0.011, 0.002], [0.01225, 0.00225], [0.012255, 0.002251], [0.016, 0.003]]
    np.testing.assert_allclose(expected.costs_usd, by_hand, rtol=1e-6)
    np.testing.assert_array_equal(expected.errors, router.expected(rows).errors)
    # Large is 0.25 better, which 0.01 USD outweigh: 1,250 tokens tie, and ties go to the cheaper.
    decisions = router.route(rows, input_tokens=lengths)
    assert decisions.llms == ("large", "small", "small", "small")
    assert decisions[0].expected_cost_usd == pytest.approx(0.011)
    assert (decisions[0].runner_up, decisions[0].runner_up_cost_usd) == ("small", pytest.approx(0.002))


@any_router
def test_a_batch_and_single_decisions_agree_in_every_field(router):
    rows, tokens = unit_rows(60, seed=6), tokens_for(60)
    batch = router.route(rows, input_tokens=tokens)
    for position, decision in enumerate(batch):
        assert decision == router.decide(rows[position], input_tokens=tokens[position])
        assert decision.llm == batch.llms[position]
        assert decision.cluster == batch.cluster[position] == router.decide(rows[position]).cluster
        for field in FIELDS:
            assert getattr(decision, field) == pytest.approx(float(getattr(batch, field)[position]), rel=1e-4, abs=1e-5)
    assert batch[3:5] == [batch[3], batch[4]]
    assert len(set(batch.llms)) > 1


@any_router
def test_the_rule_is_expected_error_plus_weighted_cost(router, monkeypatch):
    monkeypatch.setattr("routing.router._CHUNK", 7)
    rows, tokens = unit_rows(100, seed=5), tokens_for(100)
    expected = router.expected(rows, input_tokens=tokens)
    for weight in (0.0, 50.0, 1e4):
        chosen = router.route(rows, input_tokens=tokens, cost_weight=weight).llm_index
        assert chosen.tolist() == (expected.errors + weight * expected.costs_usd).argmin(axis=1).tolist()


@any_router
def test_candidates_and_cost_weight_apply_with_and_without_tokens_in_turn(router):
    row, allowed = unit_rows(1, seed=2)[0], set(router.keys[1:3])
    plain = router.decide(row, candidates=allowed, cost_weight=7.0)
    long = router.decide(row, candidates=allowed, cost_weight=7.0, input_tokens=1e5)
    assert {long.llm, long.runner_up} == {plain.llm, plain.runner_up} == allowed
    assert min(long.expected_cost_usd, long.runner_up_cost_usd) > max(plain.expected_cost_usd, plain.runner_up_cost_usd)
    assert router.decide(row, candidates=allowed, cost_weight=7.0) == plain
    assert router.decide(row, input_tokens=1e5, cost_weight=0).llm == router.decide(row, cost_weight=0).llm


@pytest.mark.parametrize("soft", [False, True])
def test_prompts_as_long_as_the_profiles_are_decided_as_without_their_tokens(soft):
    errors = np.random.default_rng(1).uniform(0, 1, (4, 3)).tolist()
    llms = [llm(f"llm-{j}", errors[j], [100.0 * j, 50.0, 10.0 * j], 1.0 + j, 4.0 + j) for j in range(4)]
    router = flat_router(llms, cost_weight=300.0, soft=soft)
    rows = unit_rows(80)
    without, with_tokens = router.route(rows), router.route(rows, input_tokens=np.full(80, 100.0))
    assert with_tokens.llms == without.llms
    for field in FIELDS:
        np.testing.assert_allclose(getattr(with_tokens, field), getattr(without, field), rtol=1e-5, atol=1e-9)


@given(
    prices=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 160)), min_size=2, max_size=6),
    lengths=st.lists(st.integers(0, 4000), min_size=2, max_size=8, unique=True),
    cost_weight=st.sampled_from([0.0, 1.0, 30.0, 1000.0, 1e6]),
    soft=st.booleans(),
    data=st.data(),
)
def test_a_longer_prompt_never_goes_to_an_llm_with_a_higher_input_price(prices, lengths, cost_weight, soft, data):
    drawn = st.lists(st.integers(0, 20), min_size=2, max_size=2)
    llms = [
        llm(f"{n}", [e / 20 for e in data.draw(drawn)], [25.0 * t for t in data.draw(drawn)], usd_in / 4, usd_out / 4)
        for n, (usd_in, usd_out) in enumerate(prices)
    ]
    router = flat_router(llms, cost_weight=cost_weight, soft=soft)
    row = unit_rows(1, seed=data.draw(st.integers(0, 99)))
    chosen = router.route(np.repeat(row, len(lengths), axis=0), input_tokens=sorted(lengths)).llm_index
    input_prices = [router.llms[index].input_usd_per_mtok for index in chosen]
    assert input_prices == sorted(input_prices, reverse=True)


@pytest.mark.parametrize("soft", [False, True])
def test_ties_go_to_the_cheaper_llm_then_to_the_first_key(soft):
    errors = [0.25, 0.5]
    router = flat_router(
        [flat_llm("c", errors, 1.0), flat_llm("b", errors, 1.0), flat_llm("a", errors, 2.0)], soft=soft
    )
    rows, tokens = unit_rows(200), tokens_for(200)
    assert set(router.route(rows, input_tokens=tokens).llms) == {"b"}
    assert set(router.route(rows, input_tokens=np.zeros(200)).llms) == {"a"}, "nothing costs anything"
    decision = router.decide(rows[0], input_tokens=tokens[0])
    assert (decision.llm, decision.runner_up) == ("b", "c")


@any_router
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, 1e13, "many"])
def test_invalid_tokens_are_refused_by_name(router, bad):
    rows, tokens = unit_rows(3), [1.0, bad, 1.0]
    for ask in (
        lambda: router.route(rows, input_tokens=tokens),
        lambda: router.expected(rows, input_tokens=tokens),
        lambda: router.decide(rows[1], input_tokens=bad),
    ):
        with pytest.raises(InvalidInput, match="input_tokens must be"):
            ask()


@any_router
@pytest.mark.parametrize("tokens", [5.0, [1.0, 2.0], [[1.0], [2.0], [3.0]]])
def test_every_prompt_has_its_tokens(router, tokens):
    with pytest.raises(InvalidInput, match=r"input_tokens must have shape \(3\)"):
        router.route(unit_rows(3), input_tokens=tokens)


@any_router
def test_no_prompts_give_no_decisions(router):
    nothing = router.route(np.zeros((0, 8), dtype=np.float32), input_tokens=[])
    assert (len(nothing), list(nothing), nothing.llms, nothing.expected_cost_usd.tolist()) == (0, [], (), [])
