"""Where LLMs without answers are expected to stand beside the champion."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest

from flows.reports.day_zero import LLMPrior, Standing, beside, day_zero_data, day_zero_sentences
from registry.llms import LLM, Price
from routing.day_zero import KnownFacts, LevelPrior, LLMFacts
from routing.embedding import EmbedderId
from routing.estimator import PosteriorEstimator
from routing.router import RoutedLLM, Router

N, DIM = 240, 6


@pytest.fixture(scope="module")
def estimator() -> PosteriorEstimator:
    rng = np.random.default_rng(0)
    rows = np.eye(DIM)[np.arange(N) % 4] + rng.normal(0, 0.15, (N, DIM))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rates = rng.uniform(0.2, 0.6, (4, 6))
    errors = (rng.uniform(size=(N, 6)) < rates[np.arange(N) % 4]).astype(float)
    facts = KnownFacts.of([LLMFacts(f"e:{number}", 1.0 + number) for number in range(6)])
    found = PosteriorEstimator().fit(rows, errors, few=(rows[::8], errors[::8]), facts=facts)
    found.rows, found.errors_seen = rows, errors
    return found


@pytest.fixture(scope="module")
def champion(estimator) -> Router:
    tokens = np.full(N, 200.0)
    llms = [
        RoutedLLM(key, 1.0, 5.0, estimator.vector(estimator.rows, 1 - errors, tokens, tokens, n_prompts=N))
        for key, errors in zip(("e:0", "e:1"), estimator.errors_seen.T, strict=False)
    ]
    weights = estimator.cluster_map_.exact_weights(estimator.rows)
    identity = EmbedderId("axes", "1", DIM)
    return Router(estimator.cluster_map_, llms, embedder=identity, cost_weight=20.0, calibration_weights=weights)


def llm(name: str, usd: float = 1.0) -> LLM:
    price = Price(Decimal(str(usd)), Decimal(str(5 * usd)), date(2024, 9, 1), "c")
    moment = datetime(2024, 9, 1, tzinfo=UTC)
    seen = (date(2024, 9, 1),) * 2
    return LLM(f"e:{name}", "e", name, None, name, "c", moment, None, *seen, None, "available", None, None, price)


def test_the_better_an_llm_is_expected_to_be_the_more_it_may_gain(champion, estimator) -> None:
    levels = {"e:good": LevelPrior(0.1, 0.004), "e:fair": LevelPrior(0.35, 0.004), "e:poor": LevelPrior(0.8, 0.004)}
    found = beside(champion, estimator, [llm("good"), llm("fair"), llm("poor")], levels)
    good, fair, poor = (found[key] for key in levels)
    assert good.gain > fair.gain > poor.gain >= 0
    assert good.share > 0.9 > fair.share > poor.share
    assert poor.share < 0.01 and poor.gain < 1e-3
    assert (good.score, good.low, good.high) == (
        pytest.approx(0.9),
        pytest.approx(0.9 - 1.96 * 0.004**0.5),
        1.0,
    )


def test_what_is_uncertain_may_gain_more_and_what_is_expensive_less(champion, estimator) -> None:
    names = ("sure", "unsure", "expensive")
    variances = (0.001, 0.02, 0.02)
    levels = {f"e:{name}": LevelPrior(0.5, variance) for name, variance in zip(names, variances, strict=True)}
    found = beside(champion, estimator, [llm("sure"), llm("unsure"), llm("expensive", 40.0)], levels)
    assert found["e:unsure"].gain > found["e:sure"].gain
    assert found["e:expensive"].gain < found["e:unsure"].gain
    assert found["e:expensive"].share < found["e:unsure"].share


def test_the_gain_is_the_mean_over_what_the_level_may_be(champion, estimator) -> None:
    level = LevelPrior(0.3, 0.006)
    found = beside(champion, estimator, [llm("new")], {"e:new": level})["e:new"]
    tokens = {name: np.mean([getattr(one.vector, name) for one in champion.llms], axis=0) for name in _TOKENS}
    vector = replace(estimator.prior_vector(level), **tokens)
    both = replace(champion, llms=(*champion.llms, RoutedLLM("e:new", 1.0, 5.0, vector)))
    errors, costs = both.expected_on_calibration()
    total = errors + champion.cost_weight * costs
    ahead = total[:, :2].min(axis=1) - total[:, both.keys.index("e:new")]
    shifts = np.random.default_rng(0).normal(0, level.variance**0.5, (4000, 1))
    assert found.gain == pytest.approx(np.maximum(ahead + shifts, 0).mean(), rel=0.03)
    assert found.share == pytest.approx((ahead + shifts > 0).mean(), abs=0.03)


def test_an_llm_that_reasons_is_taken_to_think_as_long_as_its_kind_and_an_unknown_length_is_never_zero(
    champion, estimator
) -> None:
    level = LevelPrior(0.3, 0.006)

    def gain(llm_id: str, tokens_of_second: float, key: str) -> float:
        first, second = champion.llms
        answers = np.full_like(second.vector.output_tokens, tokens_of_second)
        # It is never chosen, so that only what its tokens say of the new one differs.
        hopeless = {"errors": np.ones_like(answers), "coefficients": np.zeros_like(second.vector.coefficients)}
        second = replace(second, key=key, vector=replace(second.vector, output_tokens=answers, **hopeless))
        found = beside(replace(champion, llms=(first, second)), estimator, [llm(llm_id)], {f"e:{llm_id}": level})
        return found[f"e:{llm_id}"].gain

    unrelated, reasoning = gain("new", 200.0, "e:1"), gain("o3-mini", 200.0, "e:1")
    assert reasoning < unrelated, "none of the known LLMs reasons: eight times their tokens are expected"
    assert gain("o3-mini", 1600.0, "e:qwq-32b") == pytest.approx(reasoning), "one that reasons is known, and its length"
    assert gain("o3-mini", 400.0, "e:o1-preview") > reasoning
    assert gain("new", 1600.0, "e:qwq-32b") == pytest.approx(unrelated), "it says nothing of those that do not reason"
    assert gain("2-large", 1600.0, "e:2") < unrelated, "a relative answers at length"


_TOKENS = ("input_tokens", "output_tokens")


def test_it_is_told_in_words_and_as_data() -> None:
    new = LLMPrior(None, Standing(0.6, 0.45, 0.75, 0.34, 0.0123))
    assert day_zero_data(new)["day_zero"]["share"] == 0.34
    assert "score 0.60 is expected (95 %: 0.45 to 0.75)" in day_zero_sentences(new)["day_0"]
    off = LLMPrior(None, None, "only 2 known LLMs, 6 are needed")
    assert day_zero_sentences(off) == {
        "level": None,
        "prior": None,
        "day_0": "nothing is expected: only 2 known LLMs, 6 are needed",
    }
    known = LLMPrior(0.12, None)
    assert day_zero_sentences(known) == {
        "level": None,
        "prior": "12% of its level is prior, the rest its own answers",
        "day_0": None,
    }
