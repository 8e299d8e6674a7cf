"""What a router is worth against always using one LLM, and the sentence when routing adds nothing."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from flows.gate.gate import gate_as_json
from flows.gate.measure import GateOutcomes, measure
from flows.gate.worth import NEAR_BEST, Worth, worth_of
from flows.reports.worth import worth_lines
from routing.cluster_maps import KMeansMap
from routing.embedders import load_embedder
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router
from tests.flows.gate.test_gate import EQUAL, outcomes, run

EMBEDDER = load_embedder("hashing-256")
TOPICS = ("rivers lakes seas water", "numbers sums primes digits")
N = 200


def two_topics(
    right: Mapping[str, tuple[float, float]], usd: Mapping[str, float], *, cost_weight: float = 0.0
) -> tuple[Router, GateOutcomes]:
    """Return a router over prompts of two topics that knows how good each LLM is in each, and what they answered."""
    texts = [f"{TOPICS[number % 2]} {number}" for number in range(N)]
    embeddings = EMBEDDER.embed(texts)
    cluster_map = KMeansMap(n_clusters=2, random_state=0).fit(embeddings).fitted_
    weights = cluster_map.weights(embeddings)
    cluster_of_topic = [int(weights[topic].argmax()) for topic in (0, 1)]
    keys = tuple(sorted(right))
    llms = []
    for key in keys:
        errors = [0.0, 0.0]
        for topic, share in enumerate(right[key]):
            errors[cluster_of_topic[topic]] = 1 - share
        vector = FeatureVector(
            errors=errors,
            standard_errors=[0.01, 0.01],
            counts=[50, 50],
            input_tokens=[10.0, 10.0],
            output_tokens=[10.0, 10.0],
            n_prompts=100,
            n_scored=100,
        )
        # The price that makes 20 tokens cost so much.
        price = usd[key] / 20 * 1e6
        llms.append(RoutedLLM(key, price, price, vector))
    router = Router(cluster_map, llms, embedder=EMBEDDER.id, cost_weight=cost_weight, calibration_weights=weights)
    rng = np.random.default_rng(1)
    scores = np.zeros((N, len(keys)))
    for column, key in enumerate(keys):
        for topic in (0, 1):
            n_right = round(right[key][topic] * N / 2)
            scores[topic::2, column] = rng.permutation(N // 2) < n_right
    costs = np.tile([usd[key] for key in keys], (N, 1))
    return router, GateOutcomes(keys, embeddings, scores, costs, 0, input_tokens=np.full(N, 10, dtype=np.float32))


def worth(router: Router, found: GateOutcomes) -> Worth:
    return worth_of(router, measure(router, found), found, resamples=200, seed=0)


SPECIALISTS = {"e:rivers": (0.9, 0.3), "e:numbers": (0.3, 0.9)}
DEAR = {"e:large": (0.92, 0.92)}
USD = {"e:rivers": 0.001, "e:numbers": 0.001, "e:large": 0.01}


def test_the_figures_are_those_of_the_recorded_answers() -> None:
    router, found = two_topics(SPECIALISTS | DEAR, USD, cost_weight=100.0)
    seen = worth(router, found)
    assert (seen.best.llm_key, seen.near_best.llm_key, seen.n) == ("e:large", "e:large", N)
    assert seen.best.score == pytest.approx(0.92)
    assert seen.score == pytest.approx(0.9)
    assert seen.best.difference.mean == pytest.approx(-0.02)
    assert seen.best.difference.low < -0.02 < seen.best.difference.high
    assert seen.cost_change(seen.best) == pytest.approx(-0.9)
    headline, *_ = worth_lines(seen)
    assert headline.startswith(
        "Against always using the best single LLM (large, also the cheapest within one point of it): "
        "cost −90.0\N{NO-BREAK SPACE}%, score −2.0 points ("
    )
    assert f"{N} prompts; 1.0000 instead of 10.0000 USD per 1,000 prompts" in headline
    assert headline.endswith("1,000.00 instead of 10,000.00 per million.")


def test_a_router_of_specialists_earns_something_and_no_sentence_denies_it() -> None:
    router, found = two_topics(SPECIALISTS, USD)
    seen = worth(router, found)
    assert seen.redundant_key is None
    assert seen.affordable is not None and seen.affordable.difference.low > 0.2
    assert seen.busiest_share == 0.5
    assert not any("adds nothing" in line for line in worth_lines(seen))


def test_the_cheapest_llm_within_one_point_of_the_best_is_compared_too() -> None:
    near, far = 0.92 - NEAR_BEST, 0.90
    router, found = two_topics(
        {"e:a": (0.92, 0.92), "e:b": (near, near), "e:c": (far, far)}, {"e:a": 3e-3, "e:b": 2e-3, "e:c": 1e-3}
    )
    seen = worth(router, found)
    assert (seen.best.llm_key, seen.near_best.llm_key) == ("e:a", "e:b")
    _first, second, *_ = worth_lines(seen)
    assert second.startswith("Against the cheapest LLM within one point of the best (b): cost +50.0")


def test_of_llms_as_good_the_cheapest_is_the_best() -> None:
    router, found = two_topics({"e:a": (0.9, 0.9), "e:b": (0.9, 0.9)}, {"e:a": 2e-3, "e:b": 1e-3})
    found = replace(found, scores=np.repeat(found.scores[:, :1], 2, axis=1))
    assert worth(router, found).best.llm_key == "e:b"


def test_a_router_that_sends_almost_all_to_one_llm_is_said_to_add_nothing_over_it() -> None:
    router, found = two_topics({"e:a": (0.9, 0.9), "e:b": (0.2, 0.2)}, {"e:a": 1e-3, "e:b": 1e-3})
    seen = worth(router, found)
    assert (seen.busiest_share, seen.redundant_key) == (1.0, "e:a")
    assert worth_lines(seen)[-1].startswith("Routing adds nothing over a: it gets 100.0")


def test_a_router_that_is_not_better_than_what_the_same_money_buys_is_said_to_add_nothing_that_can_be_shown() -> None:
    """The LLMs are equally good everywhere: splitting the prompts between them is worth nothing."""
    router, found = two_topics({"e:a": (0.61, 0.59), "e:b": (0.59, 0.61)}, {"e:a": 1e-3, "e:b": 1e-3})
    seen = worth(router, found)
    assert seen.busiest_share == 0.5
    assert seen.affordable is not None and seen.redundant_key == seen.affordable.llm_key
    *_, sentence = worth_lines(seen)
    assert f"adds nothing that {N} prompts can show over always using {seen.redundant_key[-1]}, which costs" in sentence


def test_what_costs_less_than_the_best_and_scores_more_than_the_same_money_buys_is_worth_something() -> None:
    """On one topic both answer alike, so the router saves money there without any doubt about the score."""
    router, found = two_topics({"e:a": (0.9, 0.9), "e:b": (0.9, 0.2)}, {"e:a": 1e-2, "e:b": 1e-3}, cost_weight=1.0)
    same = found.scores.copy()
    same[::2, 1] = same[::2, 0]
    seen = worth(router, replace(found, scores=same))
    assert seen.best.difference.mean == seen.best.difference.low == 0
    assert seen.cost_change(seen.best) == pytest.approx(-0.45)
    assert seen.redundant_key is None


def test_free_llms_have_no_change_of_cost() -> None:
    router, found = two_topics(SPECIALISTS, dict.fromkeys(SPECIALISTS, 0.0))
    seen = worth(router, found)
    assert seen.cost_change(seen.best) is None
    assert "cost unchanged" in worth_lines(seen)[0]


def test_the_gate_measures_it_also_against_the_champion_and_it_survives_being_stored() -> None:
    alone, compared = run(outcomes(EQUAL), champion=None), run(outcomes({"a": 0.5, "b": 0.8}))
    assert alone.worth.champion is None
    assert compared.worth.champion is not None
    assert compared.worth.champion.score == compared.champion.score
    stored = gate_as_json(compared)["worth"]
    assert Worth.of_data(stored) == compared.worth
    assert any(line.startswith("Against the champion: ") for line in worth_lines(compared.worth))
    assert worth_lines(Worth.of_data(None)) == ()


def test_names_of_llms_are_sanitised() -> None:
    router, found = two_topics({"e:a\x1b[31m\nb": (0.9, 0.9), "e:b": (0.2, 0.2)}, {"e:a\x1b[31m\nb": 1e-3, "e:b": 1e-3})
    assert not any("\x1b" in line or "\n" in line for line in worth_lines(worth(router, found)))


def test_a_champion_that_equals_the_best_single_llm_is_not_printed_in_full_twice() -> None:
    router, found = two_topics(SPECIALISTS, dict.fromkeys(SPECIALISTS, 1e-3))
    seen = worth(router, found)
    lines = worth_lines(replace(seen, champion=seen.best), "the champion before it")
    assert "Against the champion before it: the same, to the digits shown." in lines
