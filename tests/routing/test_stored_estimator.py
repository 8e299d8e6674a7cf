import numpy as np
import pytest

from routing.cluster_maps import KMeansMap
from routing.day_zero import KnownFacts, LevelPrior, LLMFacts
from routing.errors import ArtifactCorrupt
from routing.estimator import PosteriorEstimator
from routing.features import plain_feature_vector
from routing.learned_map import LearnedMap
from routing.stored_estimator import (
    Estimator,
    LearnedEstimator,
    PlainEstimator,
    arrays_digest,
    estimator_arrays,
    kind_of,
    read_estimator,
)


def synthetic_errors(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unit embeddings around four centres, and errors of five LLMs that differ by centre."""
    rng = np.random.default_rng(seed)
    place = np.arange(240) % 4
    rows = np.eye(6)[place] + rng.normal(0, 0.15, (240, 6))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    chances = rng.uniform(0.1, 0.9, (4, 5))
    return rows, (rng.uniform(size=(240, 5)) < chances[place]).astype(float)


def fitted(kind: str) -> Estimator:
    rows, errors = synthetic_errors()
    if kind == "kmeans":
        return PlainEstimator(KMeansMap(4, random_state=0).fit(rows).fitted_)
    if kind == "learned_map":
        start = KMeansMap(4, random_state=0).fit(rows).fitted_
        return LearnedEstimator(LearnedMap().fit(rows, errors, start=start).fitted_, start, 5, 0)
    return PosteriorEstimator().fit(rows, errors, few=(rows[::8], errors[::8]))


@pytest.mark.parametrize("kind", ["kmeans", "learned_map", "posterior"])
def test_an_estimator_that_is_read_back_computes_the_same_vector_bit_for_bit(kind: str) -> None:
    estimator = fitted(kind)
    arrays = estimator_arrays(estimator)
    again = read_estimator(kind, arrays)
    rows, errors = synthetic_errors(1)
    tokens = np.arange(60.0)
    vectors = [
        found.prepared(rows[:60]).vector(np.ones(60, bool), 1 - errors[:60, 0], tokens, tokens * 2, n_prompts=64)
        for found in (estimator, again)
    ]
    for name in ("errors", "standard_errors", "counts", "input_tokens", "output_tokens", "coefficients"):
        assert np.array_equal(getattr(vectors[0], name), getattr(vectors[1], name)), name
    assert kind_of(again) == kind
    assert again.cluster_map_.digest == estimator.cluster_map_.digest
    assert arrays_digest(kind, estimator_arrays(again)) == arrays_digest(kind, arrays)
    assert all(np.isfinite(values).all() for values in arrays.values())


def test_what_is_expected_of_levels_is_read_back_bit_for_bit() -> None:
    rows, errors = synthetic_errors()
    llms = [LLMFacts(f"e:{number}", 2.0 + number) for number in range(5)]
    estimator = PosteriorEstimator().fit(rows, errors, few=(rows[::8], errors[::8]), facts=KnownFacts.of(llms))
    arrays = estimator_arrays(estimator)
    again = read_estimator("posterior", arrays)
    level, ones = LevelPrior(0.3, 0.005), np.ones(30)
    one, other = (
        found.vector(rows[:30], 1 - errors[:30, 0], ones, ones, n_prompts=30, level=level)
        for found in (estimator, again)
    )
    assert np.array_equal(one.errors, other.errors) and np.array_equal(one.coefficients, other.coefficients)
    assert one.prior_share == other.prior_share
    assert again.prior_vector(level).errors.tolist() == estimator.prior_vector(level).errors.tolist()
    assert arrays_digest("posterior", estimator_arrays(again)) == arrays_digest("posterior", arrays)
    # An estimator of an earlier release has none of it, and reads as it did.
    before = {name: values for name, values in arrays.items() if not name.startswith(("facts", "day_zero", "overall"))}
    old = read_estimator("posterior", before)
    assert old.level_prior(LLMFacts("e:9", 3.0)) is None
    assert old.vector(rows[:30], 1 - errors[:30, 0], ones, ones, n_prompts=30).prior_share is None
    assert estimator_arrays(old).keys() == before.keys()


def test_the_plain_estimator_gives_the_papers_cluster_means() -> None:
    estimator = fitted("kmeans")
    rows, errors = synthetic_errors(1)
    scored, ones = np.arange(240) % 5 > 0, np.ones(192)
    vector = estimator.prepared(rows).vector(scored, 1 - errors[scored, 1], ones, ones, n_prompts=240)
    rows, errors = rows[scored], errors[scored]
    assigned = estimator.cluster_map_.assign(rows)
    expected = plain_feature_vector(assigned, 1 - errors[:, 1], ones, ones, n_clusters=4, n_prompts=240)
    np.testing.assert_allclose(vector.errors, expected.errors, atol=1e-6)
    for cluster in range(4):
        assert vector.errors[cluster] == pytest.approx(errors[assigned == cluster, 1].mean(), abs=1e-6)


def test_a_digest_depends_on_kind_and_content() -> None:
    arrays = estimator_arrays(fitted("posterior"))
    changed = arrays | {"contrast": arrays["contrast"] + 1}
    digests = {arrays_digest("posterior", arrays), arrays_digest("kmeans", arrays), arrays_digest("posterior", changed)}
    assert len(digests) == 3


def test_an_unknown_kind_or_a_missing_array_is_refused_by_name() -> None:
    arrays = estimator_arrays(fitted("posterior"))
    with pytest.raises(ArtifactCorrupt, match="'oracle'"):
        read_estimator("oracle", arrays)
    del arrays["prior_means"]
    with pytest.raises(ArtifactCorrupt, match="prior_means"):
        read_estimator("posterior", arrays)
