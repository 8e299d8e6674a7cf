import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import InvalidInput, KMeansMap, NoEligibleLLM, RoutedLLM, Router
from routing.prompt_weights import Block, ClusterMap
from tests.routing.synthetic import EMBEDDER, flat_llm, flat_router, random_llm, random_router, unit_rows

ROUTERS = [random_router(soft=soft, seed=seed) for soft in (False, True) for seed in (0, 1)]
any_router = pytest.mark.parametrize("router", ROUTERS, ids=["hard-0", "hard-1", "soft-0", "soft-1"])


@any_router
def test_the_rule_is_expected_error_plus_weighted_cost(router):
    rows = unit_rows(100, seed=5)
    expected = router.expected(rows)
    for weight in (0.0, 50.0, 1e4):
        chosen = router.route(rows, cost_weight=weight).llm_index
        assert chosen.tolist() == (expected.errors + weight * expected.costs_usd).argmin(axis=1).tolist()


@any_router
def test_a_batch_and_single_decisions_agree_in_every_field(router):
    rows = unit_rows(40, seed=6)
    batch = router.route(rows)
    assert len(batch) == 40
    for position, decision in enumerate(batch):
        assert decision == router.decide(rows[position])
        assert decision.llm == batch.llms[position] == router.keys[batch.llm_index[position]]
        assert decision.expected_score == pytest.approx(float(batch.expected_score[position]), abs=1e-5)
        assert decision.expected_cost_usd == pytest.approx(float(batch.expected_cost_usd[position]), rel=1e-4)
        assert decision.standard_error == pytest.approx(float(batch.standard_error[position]), rel=1e-4)
        assert decision.cluster == batch.cluster[position]
    assert batch[-1] == batch[39]
    assert batch[3:5] == [batch[3], batch[4]]
    with pytest.raises(IndexError):
        batch[40]


@any_router
def test_a_decision_contains_the_choice_and_its_reasons(router):
    row = unit_rows(1, seed=9)
    decision, expected = router.decide(row[0]), router.expected(row)
    column = router.keys.index(decision.llm)
    assert decision.expected_score == pytest.approx(1 - float(expected.errors[0, column]), abs=1e-5)
    assert decision.expected_cost_usd == pytest.approx(float(expected.costs_usd[0, column]), rel=1e-4)
    objective = expected.errors[0] + router.cost_weight * expected.costs_usd[0]
    second = int(np.argsort(objective)[1])
    assert decision.runner_up == router.keys[second]
    assert decision.runner_up_score == pytest.approx(1 - float(expected.errors[0, second]), abs=1e-5)
    assert decision.runner_up_cost_usd == pytest.approx(float(expected.costs_usd[0, second]), rel=1e-4)
    assert (decision.cost_weight, decision.router_digest) == (router.cost_weight, router.digest)
    assert 0 < decision.standard_error < 1


def test_one_llm_has_no_runner_up():
    decision = flat_router([flat_llm("only", [0.5], 1.0)]).decide(np.eye(8)[0])
    assert (decision.llm, decision.runner_up, decision.runner_up_score, decision.runner_up_cost_usd) == (
        "only",
        None,
        None,
        None,
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_ties_go_to_the_cheaper_llm_then_to_the_first_key(soft, order):
    errors = [0.25, 0.5]
    llms = [flat_llm("c", errors, 1.0), flat_llm("b", errors, 1.0), flat_llm("a", errors, 2.0)]
    router = flat_router([llms[i] for i in order], soft=soft)
    rows = unit_rows(200)
    assert set(router.route(rows).llms) == {"b"}
    assert (router.decide(rows[0]).llm, router.decide(rows[0]).runner_up) == ("b", "c")


def test_a_tie_between_error_and_cost_goes_to_the_cheaper():
    # 0.5 + 0.1 * 1 and 0.3 + 0.1 * 3 are equal on paper and differ in the last bit of float64.
    router = flat_router([flat_llm("dear", [0.3], 3.0), flat_llm("poor", [0.5], 1.0)], cost_weight=0.1)
    assert router.decide(np.eye(8)[0]).llm == "poor"
    assert router.route(np.eye(8)[:1]).llms == ("poor",)


@any_router
def test_cost_weight_zero_chooses_the_best_and_a_huge_one_the_cheapest(router):
    rows = unit_rows(50)
    expected = router.expected(rows)
    each = np.arange(50)
    best = router.route(rows, cost_weight=0).llm_index
    np.testing.assert_allclose(expected.errors[each, best], expected.errors.min(axis=1), atol=1e-6)
    for huge in (1e12, 1e300):
        cheapest = router.route(rows, cost_weight=huge).llm_index
        np.testing.assert_allclose(expected.costs_usd[each, cheapest], expected.costs_usd.min(axis=1), rtol=1e-6)


@any_router
@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf, "much", None])
def test_an_invalid_cost_weight_is_refused(router, bad):
    if bad is not None:
        with pytest.raises(InvalidInput, match="cost_weight must be a finite number of at least 0"):
            router.route(unit_rows(1), cost_weight=bad)
    with pytest.raises(InvalidInput, match="cost_weight must be a finite number of at least 0"):
        dataclasses.replace(router, cost_weight=bad)


@any_router
def test_only_candidates_are_chosen_or_second(router):
    allowed = set(router.keys[1:3])
    for decision in router.route(unit_rows(50), candidates=allowed):
        assert {decision.llm, decision.runner_up} == allowed


@any_router
def test_no_candidate_is_never_the_first_llm(router):
    with pytest.raises(NoEligibleLLM):
        router.route(unit_rows(3), candidates=[])
    with pytest.raises(NoEligibleLLM):
        router.decide(unit_rows(1)[0], candidates=set())


@any_router
def test_unknown_candidates_are_named(router):
    with pytest.raises(InvalidInput, match="does not know: nobody, nothing") as caught:
        router.decide(unit_rows(1)[0], candidates=["nothing", "nobody", router.keys[0]])
    assert router.keys[0] in caught.value.hint
    with pytest.raises(InvalidInput) as caught:
        router.decide(unit_rows(1)[0], candidates=[f"none-{number}" for number in range(10_000)])
    assert caught.value.message.count("none-") + sum(key in caught.value.hint for key in router.keys) <= 10


def test_a_text_is_not_a_collection_of_candidates():
    with pytest.raises(InvalidInput, match="collection of keys"):
        ROUTERS[0].route(unit_rows(1), candidates=ROUTERS[0].keys[0])


def test_a_router_without_llms_is_refused():
    with pytest.raises(NoEligibleLLM):
        flat_router([flat_llm("a", [0.5], 1.0)]).__class__(
            ROUTERS[0].cluster_map, [], embedder=EMBEDDER, cost_weight=0, calibration_weights=np.zeros((0, 4))
        )


def test_a_duplicate_llm_is_refused_by_name():
    with pytest.raises(InvalidInput, match="cannot have the same LLM twice: a"):
        flat_router([flat_llm("a", [0.5], 1.0), flat_llm("a", [0.4], 1.0)])


def test_a_vector_of_another_map_is_refused():
    with pytest.raises(InvalidInput, match=r"feature vector of b has 2 clusters.*the cluster map 1"):
        flat_router([flat_llm("a", [0.5], 1.0), flat_llm("b", [0.5, 0.5], 1.0)])


def test_an_embedder_of_another_dimension_is_refused():
    with pytest.raises(InvalidInput, match="reads 8 dimensions"):
        dataclasses.replace(ROUTERS[0], embedder=dataclasses.replace(EMBEDDER, dim=9))


def test_a_fitted_kmeans_map_is_frozen_into_the_router():
    estimator = KMeansMap(n_clusters=3).fit(unit_rows(30))
    llm = random_llm("a", estimator.fitted_, 0)
    router = Router(estimator, [llm], embedder=EMBEDDER, cost_weight=0, calibration_weights=np.zeros((0, 3)))
    digest = router.digest
    estimator.fit(unit_rows(30, seed=4))
    assert router.cluster_map.digest != estimator.digest
    assert dataclasses.replace(router).digest == digest


def test_linear_features_add_their_coefficients():
    fitted = ClusterMap(
        "posterior", np.vstack([np.eye(8)[:1], np.eye(8)[1:2]]), np.zeros(2), (Block("softmax", 1), Block("linear", 1))
    )
    plain = flat_llm("a", [0.5], 1.0)
    tilted = dataclasses.replace(plain.vector, coefficients=np.array([0.25]))
    router = Router(
        fitted,
        [dataclasses.replace(plain, vector=tilted)],
        embedder=EMBEDDER,
        cost_weight=1.0,
        calibration_weights=np.zeros((0, 2)),
    )
    against, along = -np.eye(8)[1], np.eye(8)[1]
    assert router.decide(along).expected_score == pytest.approx(0.25)
    assert router.decide(against).expected_score == pytest.approx(0.75)
    assert router.decide(along).expected_cost_usd == pytest.approx(1.0)


def test_the_order_of_llms_and_of_provenance_changes_nothing():
    router = ROUTERS[2]
    turned = dataclasses.replace(router, llms=router.llms[::-1], provenance={"b": 1, "a": 2})
    straight = dataclasses.replace(router, provenance={"a": 2, "b": 1})
    assert turned.digest == straight.digest != router.digest
    assert turned.keys == router.keys


@pytest.mark.parametrize(
    "change",
    [
        {"cost_weight": 51.0},
        {"provenance": {"prompt_set": "abd"}},
        {"embedder": dataclasses.replace(EMBEDDER, revision="2")},
        {"llms": ROUTERS[0].llms[1:]},
        {"llms": (dataclasses.replace(ROUTERS[0].llms[0], input_usd_per_mtok=0.5), *ROUTERS[0].llms[1:])},
        {"calibration_weights": ROUTERS[0].calibration_weights[1:]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_is_in_the_digest(change):
    assert dataclasses.replace(ROUTERS[0], **change).digest != ROUTERS[0].digest


@given(
    name=st.sampled_from(["errors", "standard_errors", "input_tokens", "output_tokens"]),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    which=st.integers(0, 3),
)
def test_no_router_contains_a_number_that_is_not_finite(name, bad, which):
    llm = ROUTERS[0].llms[0]
    broken = getattr(llm.vector, name).copy()
    broken[which] = bad
    with pytest.raises(InvalidInput, match=name):
        dataclasses.replace(
            ROUTERS[0], llms=(dataclasses.replace(llm, vector=dataclasses.replace(llm.vector, **{name: broken})),)
        )


@pytest.mark.parametrize("name", ["input_usd_per_mtok", "output_usd_per_mtok"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, None, "free"])
def test_an_invalid_price_is_refused_by_name(name, bad):
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0} | {name: bad}
    with pytest.raises(InvalidInput, match=f"{name} of somebody"):
        RoutedLLM("somebody", vector=ROUTERS[0].llms[0].vector, **prices)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_calibration_weights_that_are_not_finite_are_refused(bad):
    broken = ROUTERS[0].calibration_weights.copy()
    broken[0, 0] = bad
    with pytest.raises(InvalidInput, match="calibration_weights must be finite"):
        dataclasses.replace(ROUTERS[0], calibration_weights=broken)


@pytest.mark.parametrize("bad", [float("nan"), [1], {"a": 1}])
def test_provenance_holds_scalars_only(bad):
    with pytest.raises(InvalidInput, match="provenance"):
        dataclasses.replace(ROUTERS[0], provenance={"x": bad})


@any_router
@given(data=st.data())
def test_one_bad_number_in_one_embedding_stops_the_whole_batch(router, data):
    rows = unit_rows(10)
    rows[data.draw(st.integers(0, 9)), data.draw(st.integers(0, 7))] = data.draw(
        st.sampled_from([np.nan, np.inf, -np.inf])
    )
    with pytest.raises(InvalidInput, match="embeddings must be finite"):
        router.route(rows)


@any_router
def test_no_prompts_give_no_decisions(router):
    nothing = router.route(np.zeros((0, 8), dtype=np.float32))
    assert (len(nothing), list(nothing), nothing.llms) == (0, [], ())


@any_router
def test_an_embedding_of_another_embedder_is_refused(router):
    with pytest.raises(InvalidInput, match="shape"):
        router.decide(np.ones(9, dtype=np.float32))


@any_router
def test_more_kinds_of_requests_than_are_cached_are_still_answered_correctly(router):
    row = unit_rows(1)[0]
    first = [router.decide(row, cost_weight=float(weight)) for weight in range(40)]
    assert [router.decide(row, cost_weight=float(weight)) for weight in range(40)] == first
