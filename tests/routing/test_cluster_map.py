import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import ClusterMap, InvalidInput
from routing.prompt_weights import Block
from tests.routing.synthetic import unit_rows


def joined(*parts: tuple[ClusterMap, Block]) -> ClusterMap:
    """Join the columns of several maps, each as the block beside it."""
    matrix = np.vstack([fitted.matrix for fitted, _ in parts])
    bias = np.concatenate([fitted.bias for fitted, _ in parts])
    return ClusterMap("joined", matrix, bias, tuple(block for _, block in parts))


MAPS = {
    "nearest": ClusterMap.nearest(unit_rows(5)),
    "soft": ClusterMap.soft(unit_rows(5), 6.0),
    "two resolutions": joined(
        (ClusterMap.soft(unit_rows(3), 6.0), Block("softmax", 3, 0.25)),
        (ClusterMap.nearest(unit_rows(5)), Block("nearest", 5, 0.75)),
    ),
    "two resolutions and soft features": joined(
        (ClusterMap.soft(unit_rows(3), 6.0), Block("softmax", 3, 0.5)),
        (ClusterMap.soft(unit_rows(4), 6.0), Block("softmax", 4, 0.5)),
        (ClusterMap.soft(unit_rows(2), 6.0), Block("soft_feature", 2)),
    ),
}
LINEAR = ClusterMap(
    "posterior",
    np.vstack([unit_rows(3), unit_rows(2, seed=1)]),
    np.arange(5.0),
    (Block("softmax", 3), Block("linear", 2)),
)


@pytest.fixture(params=[*MAPS.values(), LINEAR], ids=[*MAPS, "linear"])
def fitted(request) -> ClusterMap:
    return request.param


def test_cluster_weights_are_float32_and_sum_to_one(fitted):
    weights = fitted.weights(unit_rows(50, seed=3))
    assert weights.dtype == np.float32
    assert weights.shape == (50, fitted.n_clusters + fitted.n_linear)
    assert (weights[:, : fitted.n_clusters] >= 0).all()
    np.testing.assert_allclose(weights[:, : fitted.n_clusters].sum(axis=1), 1, atol=1e-6)


def test_float32_and_float64_and_single_prompts_agree(fitted):
    rows = unit_rows(50, seed=3)
    exact = fitted.exact_weights(rows)
    np.testing.assert_allclose(fitted.weights(rows), exact, atol=1e-5)
    np.testing.assert_allclose([fitted.exact_weights_of(row) for row in rows], exact, atol=1e-12)
    assert [fitted.exact_assign_of(row) for row in rows] == fitted.assign(rows).tolist()


def test_a_map_survives_its_arrays(fitted):
    again = ClusterMap.from_arrays(fitted.kind, fitted.arrays())
    rows = unit_rows(10)
    assert again.digest == fitted.digest
    np.testing.assert_array_equal(again.weights(rows), fitted.weights(rows))


def test_nearest_is_the_nearest_in_euclidean_distance():
    rows, centres = unit_rows(200, seed=1), 0.7 * unit_rows(6, seed=2)
    distances = ((rows[:, None] - centres[None]) ** 2).sum(axis=2)
    assert ClusterMap.nearest(centres).assign(rows).tolist() == distances.argmin(axis=1).tolist()


def test_soft_weights_are_exponentials_of_squared_distances():
    rows, centres = unit_rows(20, seed=1), 0.7 * unit_rows(6, seed=2)
    closeness = np.exp(-3.0 * ((rows[:, None] - centres[None]) ** 2).sum(axis=2))
    np.testing.assert_allclose(
        ClusterMap.soft(centres, 3.0).weights(rows), closeness / closeness.sum(axis=1, keepdims=True), atol=1e-5
    )


def test_linear_features_are_plain_scores():
    rows = unit_rows(7, seed=4)
    np.testing.assert_allclose(
        LINEAR.weights(rows)[:, 3:], rows @ unit_rows(2, seed=1).T + np.array([3.0, 4.0]), atol=1e-6
    )
    assert (LINEAR.n_clusters, LINEAR.n_linear) == (3, 2)


def test_blocks_side_by_side_predict_the_weighted_mean():
    parts = [ClusterMap.soft(unit_rows(3), 6.0), ClusterMap.nearest(unit_rows(5))]
    rows, psi = unit_rows(9, seed=8), np.linspace(0, 1, 8)
    alone = 0.25 * parts[0].weights(rows) @ psi[:3] + 0.75 * parts[1].weights(rows) @ psi[3:]
    np.testing.assert_allclose(MAPS["two resolutions"].weights(rows) @ psi, alone, atol=1e-6)


def test_a_prompt_between_two_centres_goes_to_the_lower_number():
    fitted = ClusterMap.nearest(np.eye(8)[:3])
    middle = (np.eye(8)[1] + np.eye(8)[2]) / np.sqrt(2)
    assert fitted.assign(middle[None]).tolist() == [1]
    assert fitted.assign(np.tile(middle, (100, 1))).tolist() == [1] * 100


def test_equal_centres_share_their_prompts_with_the_first():
    fitted = ClusterMap.nearest(np.tile(unit_rows(1), (4, 1)))
    assert set(fitted.assign(unit_rows(100)).tolist()) == {0}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_any_float_width_gives_the_same_clusters(dtype, fitted):
    rows = unit_rows(40, seed=5).astype(np.float16)
    assert fitted.assign(rows.astype(dtype)).tolist() == fitted.assign(rows).tolist()


@given(
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e300]),
    row=st.integers(0, 9),
    column=st.integers(0, 7),
    data=st.data(),
)
def test_an_embedding_that_is_not_finite_is_refused_with_its_row(bad, row, column, data):
    fitted = data.draw(st.sampled_from([*MAPS.values(), LINEAR]))
    rows = unit_rows(10).astype(np.float64)
    rows[row, column] = bad
    for method in (fitted.weights, fitted.exact_weights, fitted.assign):
        with pytest.raises(InvalidInput, match=f"row {row} holds NaN"):
            method(rows)
    for method in (fitted.exact_weights_of, fitted.exact_assign_of):
        with pytest.raises(InvalidInput, match="holds NaN"):
            method(rows[row])


def test_a_zero_embedding_is_refused(fitted):
    rows = unit_rows(3)
    rows[1] = 0
    with pytest.raises(InvalidInput, match="row 1 is a zero row"):
        fitted.weights(rows)
    with pytest.raises(InvalidInput, match="zero row"):
        fitted.exact_weights_of(rows[1])


@pytest.mark.parametrize("shape", [(8,), (2, 7), (2, 9), (1, 2, 8)])
def test_embeddings_of_another_shape_are_refused(shape, fitted):
    with pytest.raises(InvalidInput, match="embeddings must have shape"):
        fitted.assign(np.ones(shape))


def test_no_prompts_give_no_weights(fitted):
    assert fitted.weights(np.zeros((0, 8))).shape == (0, fitted.n_clusters + fitted.n_linear)
    assert fitted.assign(np.zeros((0, 8))).tolist() == []


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((Block("linear", 5),), "needs a nearest or softmax block first"),
        ((Block("linear", 2), Block("softmax", 3)), "linear blocks last"),
        ((Block("softmax", 4),), "do not cover its 5 columns"),
        ((Block("softmax", 2, 0.5), Block("softmax", 3, 0.4)), "sum to one"),
        ((Block("sigmoid", 5),), "unknown activation"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks, message):
    with pytest.raises(InvalidInput, match=message):
        ClusterMap("odd", unit_rows(5), np.zeros(5), blocks)


@pytest.mark.parametrize("lacking", ["matrix", "bias", "block_activations", "block_sizes", "block_shares"])
def test_stored_maps_that_lack_an_array_are_refused(lacking, fitted):
    stored = fitted.arrays()
    del stored[lacking]
    with pytest.raises(InvalidInput, match=f"lacks its arrays {lacking}"):
        ClusterMap.from_arrays("kmeans", stored)


def test_a_stored_map_with_a_later_activation_is_refused(fitted):
    stored = fitted.arrays()
    stored["block_activations"] = stored["block_activations"] + 90
    with pytest.raises(InvalidInput, match="activation this version does not know"):
        ClusterMap.from_arrays("kmeans", stored)


def test_changing_one_number_changes_the_digest():
    centres = unit_rows(4)
    moved = centres.copy()
    moved[2, 3] = np.nextafter(moved[2, 3], np.float32(1))
    assert ClusterMap.nearest(centres).digest != ClusterMap.nearest(moved).digest
    assert ClusterMap.nearest(centres).digest != ClusterMap.nearest(centres, kind="other").digest
