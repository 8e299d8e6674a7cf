"""Representative prompts judge too: what may not leak, what is not judged, and what the prompts add together."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from flows.fitting.estimation import Estimation, Labels
from flows.fitting.folds import N_FOLDS, N_TEACHING, folds_of
from flows.gate.cross_fit import CrossFit, Remaking, cross_fit, joined
from flows.gate.measure import GateOutcomes
from registry.outcomes import OutcomeTable
from routing.cluster_maps import KMeansMap
from routing.embedders import load_embedder
from routing.estimator import PosteriorEstimator
from routing.router import RoutedLLM, Router
from routing.stored_estimator import PlainEstimator

EMBEDDER = load_embedder("hashing-64")
KEYS = ("a", "b", "c")
TEXTS = [f"{('sum', 'poem', 'law')[number % 3]} {number} {number % 7}" for number in range(240)]
EMBEDDINGS = EMBEDDER.embed(TEXTS)
FOLDS = folds_of(TEXTS)
GATE_TEXTS = [f"{('sum', 'poem', 'law')[number % 3]} gate {number}" for number in range(150)]


def answers(n: int, seed: int) -> np.ndarray:
    """Return scores in which each LLM is good at one of three kinds of prompts."""
    kind = np.arange(n) % 3
    rates = np.where(kind[:, None] == np.arange(3), 0.9, 0.5)
    return (np.random.default_rng(seed).random((n, 3)) < rates).astype(float)


def outcomes(texts: list[str], scores: np.ndarray) -> GateOutcomes:
    return GateOutcomes(KEYS, EMBEDDER.embed(texts), scores, np.full(scores.shape, 0.01), 0)


GATE = outcomes(GATE_TEXTS, answers(len(GATE_TEXTS), 8))
SCORES = answers(len(TEXTS), 7)


@lru_cache
def estimator_of(kind: str) -> PlainEstimator | PosteriorEstimator:
    if kind == "kmeans":
        return PlainEstimator(KMeansMap(n_clusters=3, random_state=0).fit(EMBEDDINGS).fitted_)
    return PosteriorEstimator().fit(EMBEDDER.embed(GATE_TEXTS), 1 - answers(len(GATE_TEXTS), 1))


def remaking(scores: np.ndarray, keys: tuple[str, ...], kind: str = "posterior") -> Remaking:
    columns = [KEYS.index(key) for key in keys]
    shown, tokens = scores[:, columns], np.full((len(TEXTS), len(keys)), 50.0)
    table = OutcomeTable(keys, tuple(TEXTS), shown, tokens, tokens, tokens / 5000, np.zeros(len(keys), dtype=np.int64))
    none = replace(
        table,
        prompt_digests=(),
        **{name: np.zeros((0, len(keys))) for name in ("scores", "input_tokens", "output_tokens", "cost_usd")},
    )
    estimator = estimator_of(kind)
    labels = Labels(EMBEDDINGS, np.full(len(TEXTS), 9.0, dtype=np.float32), table)
    of_map = Labels(EMBEDDINGS[:0], np.zeros(0, dtype=np.float32), none)
    estimation = Estimation(estimator, "", False, labels, of_map)
    llms = tuple(RoutedLLM(key, 1.0, 1.0, estimation.vector(column)) for column, key in enumerate(keys))
    weights = estimator.cluster_map_.exact_weights(EMBEDDINGS)
    router = Router(estimator.cluster_map_, llms, embedder=EMBEDDER.id, cost_weight=0.0, calibration_weights=weights)
    return Remaking(router, estimation, FOLDS)


def fitted(
    scores: np.ndarray = SCORES, recorded: np.ndarray | None = None, barred=None, kind: str = "posterior"
) -> CrossFit:
    routers = remaking(scores, ("a", "b", "c"), kind), remaking(scores, ("a", "b"), kind)
    found = cross_fit(*routers, outcomes(TEXTS, SCORES if recorded is None else recorded), FOLDS, GATE, barred or {})
    assert isinstance(found, CrossFit)
    return found


def test_prompts_are_divided_by_their_texts_alone() -> None:
    assert folds_of(["x", "y", "x"])[0] == folds_of(["x"])[0] == folds_of(["z", "x"])[1]
    assert set(folds_of([str(number) for number in range(300)]).tolist()) == set(range(N_FOLDS))


@pytest.mark.parametrize("kind", ["posterior", "kmeans"])
def test_the_answers_of_a_fold_change_no_decision_on_it(kind: str) -> None:
    for fold in (N_TEACHING, N_FOLDS - 1):
        rows = fold == FOLDS
        changed = np.where((fold <= FOLDS)[:, None], 1 - SCORES, SCORES)
        before, after = (remaking(scores, KEYS, kind).before(fold) for scores in (SCORES, changed))
        assert before.route(EMBEDDINGS[rows]).llms == after.route(EMBEDDINGS[rows]).llms
        assert before.digest == after.digest
        whole = remaking(changed, KEYS, kind).router
        assert whole.digest != remaking(SCORES, KEYS, kind).router.digest, "the published router did see them"


def test_a_vector_that_these_answers_do_not_give_is_noticed() -> None:
    found = remaking(SCORES, KEYS)
    assert found.not_remade == ()
    other = remaking(np.where(np.arange(len(TEXTS))[:, None] == 5, 1 - SCORES, SCORES), KEYS)
    assert replace(found, router=other.router).not_remade == KEYS


def test_an_llm_that_may_know_the_prompts_is_not_judged_there() -> None:
    known = np.where(np.arange(3) == 2, 1.0, SCORES)
    clean, knowing = fitted(), fitted(recorded=known)
    assert knowing.representative.mean() > clean.representative.mean()
    barred = {"c": "it seems to know the representative prompts"}
    there = [fitted(recorded=recorded, barred=barred) for recorded in (SCORES, known)]
    assert there[0].representative.tolist() == there[1].representative.tolist()
    # The gate prompts alone judge what is not judged there: neither side of the correction counts it.
    assert not there[0].representative.any() and not there[0].gate.any()


def test_missing_answers_are_allowed_and_others_stand_for_them() -> None:
    missing = np.where(np.random.default_rng(0).random(SCORES.shape) < 0.1, np.nan, SCORES)
    whole, part = fitted(), fitted(recorded=missing)
    assert np.isfinite(part.representative).all()
    assert part.n_left_out > whole.n_left_out
    assert part.representative.mean() == pytest.approx(whole.representative.mean(), abs=0.05)
    assert isinstance(
        cross_fit(
            remaking(SCORES, KEYS), remaking(SCORES, KEYS[:2]), outcomes(TEXTS, SCORES * np.nan), FOLDS, GATE, {}
        ),
        str,
    ), "without any answer there is nothing to judge"


def test_together_the_prompts_say_more_and_never_something_else() -> None:
    rng = np.random.default_rng(0)
    truth, n, r = 0.05, 400, 600
    draws = rng.choice([1.0, 0.0, -1.0], size=(300, n + r), p=[0.15 + truth / 2, 0.7, 0.15 - truth / 2])
    alike = joined(draws[:, :n], draws[:, :n], draws[:, n:])
    assert alike.differences.mean(axis=1) == pytest.approx(draws.mean(axis=1), abs=0.005)
    errors = [one.mean(axis=1).std() for one in (draws[:, :n], alike.differences)]
    assert errors[1] / errors[0] == pytest.approx(np.sqrt(n / (n + r)), abs=0.07)
    # A procedure that does worse than the published router says how lucky the prompts were, not how good the router is.
    worse = joined(draws[:, :n], draws[:, :n] - 0.1, draws[:, n:] - 0.1)
    assert worse.differences.mean(axis=1) == pytest.approx(alike.differences.mean(axis=1), abs=1e-9)
    foreign = joined(draws[:, :n], rng.permuted(draws[:, :n], axis=1), draws[:, n:])
    assert foreign.differences.mean(axis=1).std() < errors[0] * 1.1
