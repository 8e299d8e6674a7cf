import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from routing import InvalidInput, KMeansMap
from tests.routing.synthetic import unit_rows


def skipped_checks(estimator) -> dict[str, str]:
    return {"check_estimators_dtypes": "its integer rows hold zero rows, and a zero embedding is refused"}


@parametrize_with_checks([KMeansMap()], expected_failed_checks=skipped_checks)
def test_keeps_scikit_learns_estimator_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def three_groups() -> np.ndarray:
    groups = np.repeat(np.eye(8)[:3], 20, axis=0) + 0.05 * unit_rows(60, seed=1)
    return (groups / np.linalg.norm(groups, axis=1, keepdims=True)).astype(np.float32)


def test_finds_existing_groups(three_groups):
    labels = KMeansMap(n_clusters=3).fit(three_groups).labels_.reshape(3, 20)
    assert (labels == labels[:, :1]).all()
    assert len(set(labels[:, 0].tolist())) == 3


def test_fit_on_float64_and_predict_on_float32_agree(three_groups):
    fitted = KMeansMap(n_clusters=3).fit(three_groups.astype(np.float64))
    assert fitted.cluster_centers_.dtype == np.float32
    assert fitted.predict(three_groups).tolist() == fitted.labels_.tolist()


def test_weights_are_one_hot(three_groups):
    fitted = KMeansMap(n_clusters=3).fit(three_groups)
    weights = fitted.weights(three_groups)
    assert weights.dtype == np.float32
    assert weights.argmax(axis=1).tolist() == fitted.assign(three_groups).tolist()
    assert np.unique(weights).tolist() == [0.0, 1.0]


def test_the_same_prompts_and_seed_give_the_same_digest(three_groups):
    assert KMeansMap(n_clusters=3).fit(three_groups).digest == KMeansMap(n_clusters=3).fit(three_groups).digest


def test_more_clusters_than_distinct_prompts_are_refused_with_the_number(three_groups):
    repeated = np.repeat(three_groups[[0, 20, 40]], 10, axis=0)
    with pytest.raises(InvalidInput, match=r"4 clusters need as many distinct prompts.*3 distinct") as caught:
        KMeansMap(n_clusters=4).fit(repeated)
    assert "at most 3" in caught.value.hint


def test_with_as_many_clusters_as_distinct_prompts_every_prompt_has_its_own(three_groups):
    repeated = np.repeat(three_groups[[0, 20, 40]], 10, axis=0)
    fitted = KMeansMap(n_clusters=3).fit(repeated)
    assert fitted.inertia_ == pytest.approx(0, abs=1e-6)
    assert len(fitted.cluster_centers_) == 3


def test_one_prompt_is_one_cluster():
    assert KMeansMap(n_clusters=1).fit(unit_rows(1)).predict(unit_rows(5)).tolist() == [0] * 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(bad):
    rows = unit_rows(20)
    rows[3, 2] = bad
    with pytest.raises(InvalidInput, match="cannot be clustered"):
        KMeansMap(n_clusters=2).fit(rows)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "3"])
def test_an_invalid_number_of_clusters_is_refused(bad):
    with pytest.raises(InvalidInput, match="n_clusters must be an integer"):
        KMeansMap(n_clusters=bad).fit(unit_rows(20))
