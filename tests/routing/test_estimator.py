from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from routing import (
    EmbedderId,
    InvalidInput,
    InvalidProfile,
    PosteriorEstimator,
    RoutedLLM,
    Router,
    load_router,
    plain_feature_vector,
    save_router,
)
from routing.day_zero import KnownFacts, LevelPrior, LLMFacts
from routing.posterior.choice import CURRENT, WITHOUT_DIFFICULTY
from routing.posterior.feature_space import profile_maps, resolution_maps
from routing.prompt_weights import ClusterMap
from tests.properties import examples

DIM = 8


def synthetic_errors(n: int, n_llms: int, seed: int = 0):
    """Prompts around four axes; every LLM has a level and knows some of the axes better than others."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 4, n)
    rows = np.eye(DIM)[topics] + rng.normal(0, 0.15, (n, DIM))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    skill = np.random.default_rng(99)
    error_rates = np.clip(skill.uniform(0.2, 0.6, n_llms) + skill.normal(0, 0.25, (4, n_llms)), 0.02, 0.98)
    errors = (rng.random((n, n_llms)) < error_rates[topics]).astype(float)
    return rows, topics, errors, error_rates


ROWS, TOPICS, ERRORS, RATES = synthetic_errors(600, 9)
FEW_ROWS, FEW_TOPICS, FEW_ERRORS, _ = synthetic_errors(60, 9, seed=1)


def fitted(n_training: int = 6) -> PosteriorEstimator:
    return PosteriorEstimator().fit(ROWS, ERRORS[:, :n_training], few=(FEW_ROWS, FEW_ERRORS[:, :n_training]))


@pytest.fixture(scope="module")
def estimator():
    return fitted()


def vector_of(estimator, column: int, count: int = 60):
    tokens = np.full(count, 100.0)
    return estimator.vector(FEW_ROWS[:count], 1 - FEW_ERRORS[:count, column], tokens, tokens * 2, n_prompts=60)


def expected_errors(estimator, vector, rows):
    return estimator.cluster_map_.weights(rows) @ np.concatenate([vector.errors, vector.coefficients])


def test_new_llms_are_estimated_better_than_by_plain_means(estimator):
    plain_map = resolution_maps(ROWS, seed=0)[1]
    ours, plain = [], []
    for column in (6, 7, 8):
        wanted = RATES[TOPICS, column]
        ours.append(np.square(expected_errors(estimator, vector_of(estimator, column), ROWS) - wanted).mean())
        psi = plain_feature_vector(
            plain_map.assign(FEW_ROWS),
            1 - FEW_ERRORS[:, column],
            np.ones(60),
            np.ones(60),
            n_clusters=plain_map.n_clusters,
            n_prompts=60,
        )
        plain.append(np.square(psi.errors[plain_map.assign(ROWS)] - wanted).mean())
    assert np.mean(ours) < 0.8 * np.mean(plain)


def test_the_choice_is_among_the_best_that_were_tried(estimator):
    choice = estimator.choice_
    assert len(choice.shrinkages) == CURRENT.n_averaged
    of_contrast = sorted(loss for (contrast, _), loss in choice.losses.items() if contrast == choice.contrast)
    assert [choice.losses[choice.contrast, s] for s in choice.shrinkages] == of_contrast[: CURRENT.n_averaged]


def test_a_vector_and_a_batch_agree(estimator):
    psi = estimator.coefficients(FEW_ROWS, FEW_ERRORS[:, 6:])
    vector = vector_of(estimator, 7)
    np.testing.assert_allclose(np.concatenate([vector.errors, vector.coefficients]), psi[:, 1], atol=1e-6)


@pytest.mark.parametrize("n_missing", [0, 4, 30])
def test_prompts_prepared_for_many_llms_result_in_the_vector_of_an_llms_own_prompts(estimator, n_missing):
    prompts = estimator.prepared(FEW_ROWS)
    for column in (6, 7):
        scored = np.arange(60) >= n_missing
        scores, tokens = 1 - FEW_ERRORS[scored, column], np.linspace(50, 200, 60)[scored]
        shared = prompts.vector(scored, scores, tokens, 2 * tokens, n_prompts=60)
        alone = estimator.vector(FEW_ROWS[scored], scores, tokens, 2 * tokens, n_prompts=60)
        for name in ("errors", "standard_errors", "coefficients", "counts", "output_tokens"):
            np.testing.assert_allclose(getattr(shared, name), getattr(alone, name), atol=2e-4, rtol=1e-3)


def test_shown_errors_are_the_expected_errors_of_the_cluster(estimator):
    vector = vector_of(estimator, 6)
    n_clusters = estimator.cluster_map_.n_clusters
    weights = estimator.cluster_map_.weights(ROWS)[:, :n_clusters]
    wanted = weights.T @ expected_errors(estimator, vector, ROWS) / weights.sum(axis=0)
    np.testing.assert_allclose(vector.errors, np.clip(wanted, 0, 1), atol=1e-5)
    assert vector.counts.sum() == 60


def test_standard_errors_shrink_with_answers_and_cover_the_truth(estimator):
    few, many = vector_of(estimator, 6, count=15), vector_of(estimator, 6)
    assert (few.standard_errors > many.standard_errors).all()
    rows, topics, _, rates = synthetic_errors(400, 9, seed=5)
    weights = estimator.cluster_map_.weights(rows)[:, : estimator.cluster_map_.n_clusters]
    apart = []
    for column in (6, 7, 8):
        vector = vector_of(estimator, column)
        truth = weights.T @ rates[topics, column] / weights.sum(axis=0)
        apart.append((vector.errors - truth) / vector.standard_errors)
    assert np.mean(np.abs(apart) < 2) > 0.8


def test_tokens_are_shrunk_means(estimator):
    vector = vector_of(estimator, 6)
    np.testing.assert_allclose(vector.input_tokens, 100)
    np.testing.assert_allclose(vector.output_tokens, 200)


@pytest.mark.parametrize("n_training", [0, 1, 2, 3, 5])
def test_few_training_llms_are_enough_to_order_three_new_ones(n_training):
    estimator = fitted(n_training)
    psi = estimator.coefficients(FEW_ROWS, FEW_ERRORS[:, 6:])
    found = estimator.cluster_map_.weights(ROWS) @ psi
    assert np.isfinite(found).all()
    # Not worse than knowing every LLM's mean alone.
    wanted = RATES[TOPICS][:, 6:]
    blind = FEW_ERRORS[:, 6:].mean(axis=0)
    assert np.square(found - wanted).mean() < np.square(blind - wanted).mean()


def test_without_answers_that_differ_an_llm_is_its_mean():
    estimator = PosteriorEstimator().fit(ROWS, np.zeros((600, 0)))
    for score in (0.0, 1.0):
        vector = estimator.vector(FEW_ROWS, np.full(60, score), np.ones(60), np.ones(60), n_prompts=60)
        np.testing.assert_allclose(vector.errors, 1 - score, atol=0.06)
        assert (vector.standard_errors > 0).all()


def test_missing_labels_are_not_wrong_answers(estimator):
    errors = FEW_ERRORS[:, 6:7].copy()
    errors[40:] = np.nan
    np.testing.assert_allclose(
        estimator.coefficients(FEW_ROWS, errors),
        estimator.coefficients(FEW_ROWS[:40], FEW_ERRORS[:40, 6:7]),
        # float32 products of another shape: another processor rounds them in another way.
        atol=1e-5,
    )
    holes = ERRORS[:, :6].copy()
    holes[::7, 2] = np.nan
    assert np.isfinite(PosteriorEstimator().fit(ROWS, holes).coefficients(FEW_ROWS, errors)).all()


def test_judged_prompts_are_not_shown_to_pseudo_new_llms():
    # The representative prompts are map prompts themselves: with their labels seen, weak shrinkage would look best.
    honest = PosteriorEstimator().fit(ROWS, ERRORS[:, :6], form=WITHOUT_DIFFICULTY)
    same = PosteriorEstimator().fit(ROWS, ERRORS[:, :6], few=(ROWS, ERRORS[:, :6]), form=WITHOUT_DIFFICULTY)
    assert honest.choice_.losses == pytest.approx(same.choice_.losses)


def test_the_same_input_gives_the_same_map_and_vectors(estimator):
    again = fitted()
    assert again.cluster_map_.digest == estimator.cluster_map_.digest
    assert again.coefficients(FEW_ROWS, FEW_ERRORS).tobytes() == estimator.coefficients(FEW_ROWS, FEW_ERRORS).tobytes()


def test_a_router_of_posterior_vectors_decides_in_one_product_and_survives_storage(estimator, tmp_path):
    llms = [RoutedLLM(f"e:{column}", 1.0, 1.0 + column, vector_of(estimator, column)) for column in (6, 7, 8)]
    router = Router(
        estimator.cluster_map_,
        llms,
        embedder=EmbedderId("fake", "1", DIM),
        cost_weight=10.0,
        calibration_weights=estimator.cluster_map_.weights(FEW_ROWS),
    )
    psi = estimator.coefficients(FEW_ROWS, FEW_ERRORS[:, 6:])
    wanted = np.clip(estimator.cluster_map_.weights(ROWS) @ psi, 0, 1)
    np.testing.assert_allclose(router.expected(ROWS).errors, wanted, atol=1e-5)
    save_router(router, tmp_path / "router")
    back = load_router(tmp_path / "router")
    assert back.digest == router.digest
    assert back.route(ROWS).llms == router.route(ROWS).llms
    one = router.decide(ROWS[0])
    assert (one.llm, one.cluster) == (router.route(ROWS[:1]).llms[0], int(router.cluster_map.assign(ROWS[:1])[0]))
    assert one.standard_error > 0


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_a_handful_of_prompts_is_enough(n):
    estimator = PosteriorEstimator().fit(ROWS[:n], ERRORS[:n, :3])
    vector = estimator.vector(FEW_ROWS[:1], [1.0], [10], [10], n_prompts=1)
    assert (vector.errors >= 0).all() and (vector.errors <= 1).all()
    assert len(vector.errors) == estimator.cluster_map_.n_clusters


def test_duplicated_prompts_are_no_obstacle():
    rows = np.repeat(ROWS[:3], 40, axis=0)
    estimator = PosteriorEstimator().fit(rows, np.tile(ERRORS[:3, :4], (40, 1)))
    assert np.isfinite(estimator.coefficients(FEW_ROWS, FEW_ERRORS)).all()


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_training_llms_that_are_all_wrong_or_all_right_are_no_obstacle(score):
    estimator = PosteriorEstimator().fit(ROWS, np.full((600, 4), 1 - score))
    vector = vector_of(estimator, 6)
    assert abs(float(vector.errors.mean()) - FEW_ERRORS[:, 6].mean()) < 0.15


def test_profiles_follow_what_is_hard_and_not_where_prompts_lie():
    # Prompts spread over all directions; LLMs fail along the first axis alone.
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    errors = (rng.random((2000, 5)) < 0.5 + 0.5 * rows[:, :1]).astype(float)
    (coarse, *_) = profile_maps(rows, errors, seed=0)
    slopes = np.abs(coarse.matrix - coarse.matrix.mean(axis=0)).sum(axis=0)
    assert slopes[0] > 5 * slopes[1:].max()


def test_resolutions_need_ten_prompts_per_cluster():
    assert [m.n_clusters for m in resolution_maps(ROWS, seed=0)] == [5, 10, 25, 50]
    assert [m.n_clusters for m in resolution_maps(ROWS[:30], seed=0)] == [2]
    assert [m.n_clusters for m in resolution_maps(np.repeat(ROWS[:1], 9, axis=0), seed=0)] == [1]


@pytest.mark.parametrize(
    ("rows", "errors", "message"),
    [
        (ROWS, ERRORS[:-1], "must have shape"),
        (ROWS, ERRORS + 1, r"in \[0, 1\]"),
        (ROWS, np.full((600, 2), np.inf), r"in \[0, 1\]"),
        (np.full((4, DIM), np.nan), ERRORS[:4], "finite and non-zero"),
        (np.zeros((0, DIM)), np.zeros((0, 3)), "at least one map prompt"),
    ],
)
def test_invalid_training_data_is_refused(rows, errors, message):
    with pytest.raises(InvalidInput, match=message):
        PosteriorEstimator().fit(rows, errors)


def test_labels_of_other_llms_on_the_representative_prompts_are_refused():
    with pytest.raises(InvalidInput, match="9 LLMs on the representative prompts, not 6"):
        PosteriorEstimator().fit(ROWS, ERRORS[:, :6], few=(FEW_ROWS, FEW_ERRORS))


@pytest.mark.parametrize(
    ("scores", "tokens", "message"),
    [
        ([], [], "without any scored prompt"),
        ([np.nan], [1.0], "scores must be finite"),
        ([1.5], [1.0], "scores must be finite"),
        ([1.0], [-1.0], "input tokens must be finite"),
        ([1.0, 1.0], [1.0], "must have shape"),
    ],
)
def test_an_invalid_profile_is_refused(scores, tokens, message, estimator):
    rows = FEW_ROWS[: min(len(scores), 1)]
    with pytest.raises(InvalidProfile, match=message):
        estimator.vector(rows, scores, tokens, tokens, n_prompts=5)


@given(hnp.arrays(np.float64, (12,), elements=st.floats(allow_nan=True, allow_infinity=True)))
@examples(60)
def test_no_invalid_number_is_accepted(scores):
    estimator = _small()
    if np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all():
        assert np.isfinite(estimator.vector(FEW_ROWS[:12], scores, scores, scores, n_prompts=12).errors).all()
    else:
        with pytest.raises(InvalidProfile):
            estimator.vector(FEW_ROWS[:12], scores, np.ones(12), np.ones(12), n_prompts=12)


_SMALL: list[PosteriorEstimator] = []


def _small() -> PosteriorEstimator:
    if not _SMALL:
        _SMALL.append(PosteriorEstimator().fit(ROWS[:60], ERRORS[:60, :3]))
    return _SMALL[0]


def test_soft_features_are_not_clusters(estimator):
    fitted_map = estimator.cluster_map_
    weights = fitted_map.weights(ROWS[:5])
    np.testing.assert_allclose(weights[:, : fitted_map.n_clusters].sum(axis=1), 1, atol=1e-5)
    assert fitted_map.n_linear > fitted_map.n_clusters
    np.testing.assert_allclose(fitted_map.exact_weights(ROWS[:5]), weights, atol=1e-5)
    np.testing.assert_allclose(fitted_map.exact_weights_of(ROWS[3]), weights[3], atol=1e-5)
    assert ClusterMap.from_arrays(fitted_map.kind, fitted_map.arrays()).digest == fitted_map.digest


def hard_and_easy(seed: int, n_llms: int):
    """Errors of LLMs that differ in level alone, on prompts whose difficulty the embedding does not show."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 0.3, (660, 1))
    level = rng.uniform(0.2, 0.8, (1, n_llms))
    errors = (rng.random((660, n_llms)) < np.clip(level + difficulty, 0.01, 0.99)).astype(float)
    return errors[:600], errors[600:]


def test_a_level_from_the_hardest_prompts_is_right_where_it_is_known_how_hard_they_are():
    missed = {"known": [], "unknown": []}
    for seed in range(3):
        errors, few = hard_and_easy(seed, 20)
        estimator = PosteriorEstimator().fit(ROWS, errors[:, :15], few=(FEW_ROWS, few[:, :15]))
        hardest = np.argsort(-few[:, :15].mean(axis=1))[:30]
        for name, places in (("known", hardest), ("unknown", None)):
            psi = estimator.coefficients(FEW_ROWS[hardest], few[hardest, 15:], places=places)
            levels = (estimator.cluster_map_.weights(ROWS) @ psi).mean(axis=0)
            missed[name] += (levels - errors[:, 15:].mean(axis=0)).tolist()
    rms = {name: float(np.sqrt(np.mean(np.square(found)))) for name, found in missed.items()}
    assert rms["known"] < 0.6 * rms["unknown"], rms


def test_an_interval_is_as_wide_as_its_errors_are_large():
    z = []
    for seed in range(4):
        errors, few = hard_and_easy(seed + 10, 20)
        estimator = PosteriorEstimator().fit(ROWS, errors[:, :12], few=(FEW_ROWS, few[:, :12]))
        for column in range(12, 20):
            vector = estimator.vector(
                FEW_ROWS, 1 - few[:, column], np.ones(60), np.ones(60), n_prompts=60, places=np.arange(60)
            )
            z.append((vector.overall - errors[:, column].mean()) / vector.overall_standard_error)
    assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.6


def test_places_that_do_not_exist_are_refused():
    errors, few = hard_and_easy(0, 6)
    estimator = PosteriorEstimator().fit(ROWS, errors, few=(FEW_ROWS, few), asked=np.arange(30))
    for places in (np.arange(1, 61), np.full(60, -2), np.arange(3)):
        with pytest.raises(InvalidInput, match="places must be"):
            estimator.coefficients(FEW_ROWS, few, places=places)
    for asked in ([0, 0], [60], []):
        with pytest.raises(InvalidInput, match="asked must be"):
            PosteriorEstimator().fit(ROWS, errors, few=(FEW_ROWS, few), asked=asked)


FACTS = KnownFacts.of(
    [LLMFacts(f"e:{number}", float(2**number), date(2024, 1, 1 + number)) for number in range(6)],
)


@pytest.fixture(scope="module")
def with_facts():
    return PosteriorEstimator().fit(ROWS, ERRORS[:, :6], few=(FEW_ROWS, FEW_ERRORS[:, :6]), facts=FACTS)


def vector_from(estimator, level, column: int = 7, count: int = 60):
    tokens = np.full(count, 100.0)
    answers = FEW_ROWS[:count], 1 - FEW_ERRORS[:count, column]
    return estimator.vector(*answers, tokens, tokens, n_prompts=60, level=level)


def test_before_any_answer_the_level_is_what_is_expected_of_it(with_facts):
    for level in (LevelPrior(0.3, 0.004), LevelPrior(0.55, 0.01)):
        vector = with_facts.prior_vector(level)
        assert expected_errors(with_facts, vector, ROWS).mean() == pytest.approx(level.mean, abs=0.01)
        assert (vector.n_scored, vector.prior_share, vector.level) == (0, 1.0, level)
        deviation = np.sqrt(level.mean * (1 - level.mean) / 0.2 * level.variance)
        assert vector.standard_errors.mean() > 0.9 * deviation


def test_an_expected_level_fades_with_answers_and_says_how_much_of_it_is_left(with_facts):
    low, high = LevelPrior(0.2, 0.003), LevelPrior(0.6, 0.003)
    apart, shares = [], []
    for count in (5, 20, 60):
        vectors = [vector_from(with_facts, level, count=count) for level in (low, high)]
        apart.append(np.ptp([expected_errors(with_facts, one, ROWS).mean() for one in vectors]))
        shares.append(vectors[0].prior_share)
    assert 0.4 > apart[0] > apart[1] > apart[2]
    assert 1 > shares[0] > shares[1] > shares[2] > 0
    # The share is the weight of the prior: two expectations differ by it in the result.
    np.testing.assert_allclose(apart, np.array(shares) * 0.4, rtol=0.15)


def test_a_level_less_certain_than_the_prior_changes_nothing(with_facts):
    plain, vague = vector_from(with_facts, None), vector_from(with_facts, LevelPrior(0.9, 1.0))
    assert np.array_equal(plain.errors, vague.errors) and np.array_equal(plain.coefficients, vague.coefficients)


def test_a_right_expectation_helps_when_answers_are_few(with_facts):
    missed = {"alone": [], "expected": []}
    for column in (6, 7, 8):
        true = RATES[TOPICS, column].mean()
        for start in range(0, 60, 6):
            answers = FEW_ROWS[start : start + 6], 1 - FEW_ERRORS[start : start + 6, column]
            for name, level in (("alone", None), ("expected", LevelPrior(float(true), 0.005))):
                vector = with_facts.vector(*answers, np.ones(6), np.ones(6), n_prompts=6, level=level)
                missed[name].append(expected_errors(with_facts, vector, ROWS).mean() - true)
    assert np.std(missed["expected"]) < 0.6 * np.std(missed["alone"])


def test_facts_change_no_vector_of_an_llm_of_which_nothing_is_expected(estimator, with_facts):
    plain, beside = vector_of(estimator, 7), vector_from(with_facts, None)
    assert np.array_equal(plain.errors, beside.errors) and np.array_equal(plain.coefficients, beside.coefficients)
    assert plain.level is None and plain.prior_share == beside.prior_share


def test_one_batch_and_single_vectors_agree_about_levels(with_facts):
    levels = [LevelPrior(0.3, 0.004), None, LevelPrior(0.5, 0.01)]
    psi = with_facts.coefficients(FEW_ROWS, FEW_ERRORS[:, 6:9], levels=levels)
    for place, level in enumerate(levels):
        vector = vector_from(with_facts, level, 6 + place)
        np.testing.assert_allclose(np.r_[vector.errors, vector.coefficients], psi[:, place], atol=1e-5)


def test_nothing_is_expected_of_llms_that_taught_the_prior_nor_without_facts(estimator, with_facts):
    assert with_facts.level_prior(LLMFacts("e:2", 4.0, date(2024, 1, 3))) is None
    assert estimator.level_prior(LLMFacts("e:9", 4.0, date(2024, 1, 3))) is None
    with pytest.raises(InvalidInput, match="without facts"):
        estimator.prior_vector(LevelPrior(0.5, 0.01))


def test_facts_of_other_llms_are_refused():
    with pytest.raises(InvalidInput, match="facts of 6 LLMs, not 5"):
        PosteriorEstimator().fit(ROWS, ERRORS[:, :5], facts=FACTS)
