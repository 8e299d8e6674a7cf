import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from flows.bench.methods.nearest_neighbours import NearestNeighbours
from routing import InvalidInput
from tests.routing.synthetic import unit_rows


@parametrize_with_checks([NearestNeighbours()])
def test_keeps_scikit_learns_estimator_contract(estimator, check):
    check(estimator)


def test_the_mean_error_of_the_nearest_prompts_by_hand():
    prompts = np.eye(8)[:3]
    errors = [[0.0, 1.0], [1.0, 1.0], [0.5, 0.0]]
    asked = np.array([[0.9, 0.1, 0, 0, 0, 0, 0, 0], [0, 0.2, 0.9, 0, 0, 0, 0, 0]])
    found = NearestNeighbours().fit(prompts, errors).predict_each(asked, [1, 2, 3, 50])
    np.testing.assert_allclose(found[1], [[0, 1], [0.5, 0]])
    np.testing.assert_allclose(found[2], [[0.5, 1], [0.75, 0.5]])
    np.testing.assert_allclose(found[3], [[0.5, 2 / 3]] * 2)
    np.testing.assert_allclose(found[50], found[3])


@pytest.mark.parametrize("k", [1, 7, 40])
def test_agrees_with_scikit_learn_over_several_blocks(k):
    prompts, asked = unit_rows(300, seed=1), unit_rows(2500, seed=2)
    errors = np.random.default_rng(0).random((300, 3))
    theirs = KNeighborsRegressor(k, algorithm="brute").fit(prompts, errors).predict(asked)
    np.testing.assert_allclose(NearestNeighbours(k).fit(prompts, errors).predict(asked), theirs, atol=1e-5)


def test_among_equally_near_prompts_the_first_counts():
    # Prompts on an axis: no product with them rounds, so that the distances are equal on any processor.
    prompts, errors = np.tile(np.eye(8)[:1], (5, 1)), np.arange(5.0)[:, None]
    assert NearestNeighbours(2).fit(prompts, errors).predict(unit_rows(3, seed=1)).tolist() == [[0.5]] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(InvalidInput, match="cannot be learned"):
        NearestNeighbours().fit(unit_rows(3), [[0.0], [bad], [1.0]])
    fitted = NearestNeighbours().fit(unit_rows(3), [[0.0], [0.5], [1.0]])
    with pytest.raises(InvalidInput, match="cannot be found"):
        fitted.predict(np.full((1, 8), bad))


@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_an_invalid_number_of_neighbours_is_refused(bad):
    with pytest.raises(InvalidInput, match="n_neighbors"):
        NearestNeighbours(bad).fit(unit_rows(3), [[0.0]] * 3)
