from dataclasses import replace

import numpy as np
import pytest

from registry.cluster_maps import FitSettings, vector_digest
from registry.errors import NotFound, RegistryError, RunAlreadyActive
from registry.routers import Aliases
from routing.day_zero import LevelPrior
from routing.errors import InvalidInput
from tests.registry.samples import (
    NOW,
    cluster_map,
    digest_of,
    freeze,
    know_llms,
    router,
    save_routers,
    start_night,
    vector,
)

WANTED = FitSettings("hashing@1/8", "kmeans/1", 0)


@pytest.fixture
def mapped(registry, night):
    """Prompt set and LLM keys of a registry that holds a cluster map."""
    keys = know_llms(registry, night, "a", "b")
    prompt_set = freeze(registry)
    registry.routers.save_cluster_map(cluster_map(prompt_set))
    return prompt_set, keys


def test_a_cluster_map_comes_back_bit_for_bit(registry, night):
    prompt_set = freeze(registry)
    arrays = {
        "centers": np.random.default_rng(0).random((3, 8), dtype=np.float32),
        "order": np.array([2, 0, 1], dtype=np.int64),
    }
    record = cluster_map(prompt_set, n_clusters=3, arrays=arrays, run_id=night.id)
    registry.routers.save_cluster_map(record)
    registry.routers.save_cluster_map(record)
    found = registry.routers.cluster_map(record.digest)
    assert vars(replace(found, arrays={})) == vars(replace(record, arrays={}))
    assert set(found.arrays) == set(arrays)
    assert all(np.array_equal(found.arrays[name], arrays[name]) for name in arrays)
    assert all(found.arrays[name].dtype == arrays[name].dtype for name in arrays)


def test_f64_the_latest_map_is_that_of_the_same_prompts_and_embedder(registry):
    one = freeze(registry, 10)
    other = freeze(registry, 11)
    assert registry.routers.fitted_map(WANTED, one.digest) is None
    registry.routers.save_cluster_map(cluster_map(one, 1))
    registry.routers.save_cluster_map(cluster_map(one, 2))
    registry.routers.save_cluster_map(cluster_map(other, 3))
    registry.routers.save_cluster_map(cluster_map(one, 4, embedder_key="other@1/8"))
    assert registry.routers.fitted_map(WANTED, one.digest).record.digest == digest_of(2)
    assert registry.routers.fitted_map(WANTED, other.digest).record.digest == digest_of(3)


def test_a_cluster_map_with_non_finite_values_is_refused(registry):
    prompt_set = freeze(registry)
    with pytest.raises(InvalidInput, match="NaN or infinite"):
        registry.routers.save_cluster_map(cluster_map(prompt_set, arrays={"centers": np.array([np.nan])}))
    with pytest.raises(NotFound):
        registry.routers.cluster_map(digest_of(1))


def test_feature_vectors_come_back_and_only_changes_are_stored(registry, night, mapped):
    prompt_set, (a, b) = mapped
    save = registry.routers.save_vectors
    assert save(digest_of(1), {a: vector(0.25), b: vector(0.5)}, prompt_set.digest, night) == 2
    assert save(digest_of(1), {a: vector(0.25), b: vector(0.75)}, prompt_set.digest, night) == 1
    first, second = registry.routers.vectors(digest_of(1))
    assert (first.llm_key, second.llm_key) == (a, b)
    assert (first.prompt_set_digest, first.run_id, first.n_prompts, first.n_scored) == (
        prompt_set.digest,
        night.id,
        12,
        10,
    )
    assert second.errors.tolist() == [0.75, 0.25]
    assert (first.input_token_ratio, second.input_token_ratio) == (1.25, 1.75)
    for name in ("errors", "standard_errors", "counts", "input_tokens", "output_tokens", "coefficients"):
        assert np.array_equal(getattr(first, name), getattr(vector(0.25), name))
        assert getattr(first, name).dtype == getattr(vector(), name).dtype


def test_what_was_expected_of_a_level_stays_that_of_the_first_vector(registry, night, mapped):
    prompt_set, (a, b) = mapped
    save = registry.routers.save_vectors
    first, later = LevelPrior(0.1 + 0.2, 1 / 300), LevelPrior(0.5, 0.01)
    start = replace(vector(0.25), level=first, prior_share=0.75)
    assert save(digest_of(1), {a: start, b: vector(0.5)}, prompt_set.digest, night) == 2
    assert save(digest_of(1), {a: replace(vector(0.5), level=later, prior_share=0.5)}, prompt_set.digest, night) == 1
    assert registry.routers.levels(digest_of(1)) == {a: first, b: None}
    assert registry.routers.levels(digest_of(2)) == {}
    latest, without = registry.routers.vectors(digest_of(1))
    assert (latest.level, latest.prior_share) == (later, 0.5)
    assert (without.level, without.prior_share) == (None, None)
    # Routers carry vectors without it, so it is no part of a vector's identity.
    assert vector_digest(start, prompt_set.digest) == vector_digest(vector(0.25), prompt_set.digest)


def test_f70_vectors_that_do_not_fit_or_are_not_finite_are_refused(registry, night, mapped):
    prompt_set, (a, b) = mapped

    class Bad:
        errors = np.array([np.nan, 0.5], dtype=np.float32)
        standard_errors = input_tokens = output_tokens = np.zeros(2, dtype=np.float32)
        coefficients = np.zeros(0, dtype=np.float32)
        counts = np.ones(2, dtype=np.int64)
        n_prompts = n_scored = 2
        input_token_ratio = 1.0

    class Long(Bad):
        errors = np.zeros(3, dtype=np.float32)

    class Endless(Bad):
        errors = np.zeros(2, dtype=np.float32)
        input_token_ratio = np.inf

    for bad, said in (
        (Bad, "NaN or infinite"),
        (Long, "has 2 clusters"),
        (Endless, "input_token_ratio of .* is not finite"),
    ):
        with pytest.raises(InvalidInput, match=said):
            registry.routers.save_vectors(digest_of(1), {a: vector(), b: bad()}, prompt_set.digest, night)
    assert registry.routers.vectors(digest_of(1)) == ()


def test_vectors_of_unknown_llms_or_maps_are_refused(registry, night, mapped):
    prompt_set, (a, _) = mapped
    for map_digest, key in ((digest_of(9), a), (digest_of(1), "router:x")):
        with pytest.raises(NotFound):
            registry.routers.save_vectors(map_digest, {key: vector()}, prompt_set.digest, night)
    start_night(registry, "night:other", holder_is_gone=lambda _: True)
    with pytest.raises(RunAlreadyActive):
        registry.routers.save_vectors(digest_of(1), {a: vector()}, prompt_set.digest, night)


def test_a_router_is_stored_once_and_found_by_every_name(registry, night, mapped):
    prompt_set, keys = mapped
    record = router(night, prompt_set, 0xABCDEF, reversed(keys), metrics={"area": 0.5, "qnc": 0.25})
    saved = registry.routers.save(record)
    assert registry.routers.save(replace(record, publish_key="other")) == saved
    assert saved.llm_keys == tuple(reversed(keys)), "the router's own order is kept"
    assert (dict(saved.metrics), saved.number, saved.aliases) == ({"area": 0.5, "qnc": 0.25}, 1, ())
    registry.routers.set_published(saved.digest, "uniroute", 3, "run-id")
    registry.promotions.set_challenger(saved.digest, actor="night", now=NOW)
    for name in (saved.digest, saved.digest[:60], "v3", "challenger", saved.publish_key):
        assert registry.routers.get(name).digest == saved.digest
    found = registry.routers.get("v3")
    assert (found.mlflow_name, found.mlflow_version, found.mlflow_run_id) == ("uniroute", 3, "run-id")
    assert found.aliases == ("challenger",)


@pytest.mark.parametrize("name", ["champion", "v1", "feed", "", "nonsense", "../../etc", "v", "%"])
def test_an_unknown_name_is_not_found(registry, night, name):
    save_routers(registry, night, 1)
    with pytest.raises(NotFound, match="there is no router"):
        registry.routers.get(name)


def test_where_no_router_is_known_the_hint_is_a_night_and_else_the_list(registry, night):
    for hint in ("uniroute night run", "uniroute router list"):
        with pytest.raises(NotFound, match="there is no router 'champion'") as refused:
            registry.routers.get("champion")
        assert refused.value.hint == hint
        save_routers(registry, night, 1)


def test_an_ambiguous_prefix_is_refused(registry, night):
    save_routers(registry, night, 2)
    with pytest.raises(NotFound, match="more than one router begins with '0000'"):
        registry.routers.get("0000")


def test_routers_are_listed_newest_first(registry, night):
    digests = save_routers(registry, night, 3)
    assert [one.digest for one in registry.routers.list()] == list(reversed(digests))
    assert [one.number for one in registry.routers.list()] == [3, 2, 1]


def test_a_publish_key_belongs_to_one_router(registry, night, mapped):
    prompt_set, keys = mapped
    registry.routers.save(router(night, prompt_set, 100, keys))
    with pytest.raises(RegistryError, match="already belongs to router"):
        registry.routers.save(router(night, prompt_set, 101, keys, publish_key="key-100"))
    assert len(registry.routers.list()) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_are_finite(registry, night, mapped, value):
    prompt_set, keys = mapped
    with pytest.raises(InvalidInput, match="is not finite"):
        registry.routers.save(router(night, prompt_set, 100, keys, metrics={"qnc": value}))
    assert registry.routers.list() == ()


@pytest.mark.parametrize("changes", [{"llm_keys": ("router:x",)}, {"parent_digest": digest_of(7)}, {"run_id": 99}])
def test_a_router_derives_from_what_is_stored(registry, night, mapped, changes):
    prompt_set, keys = mapped
    with pytest.raises(RegistryError):
        registry.routers.save(replace(router(night, prompt_set, 100, keys), **changes))
    assert registry.routers.list() == ()


def test_publishing_is_noted_once(registry, night):
    one, other, _ = save_routers(registry, night)
    noted = registry.routers.set_published(one, "uniroute", 1, "run")
    assert registry.routers.set_published(one, "uniroute", 1, "run") == noted
    with pytest.raises(RegistryError, match="already published as uniroute v1"):
        registry.routers.set_published(one, "uniroute", 2, "run")
    with pytest.raises(RegistryError, match="rule of the registry"):
        registry.routers.set_published(other, "uniroute", 1, "run")
    with pytest.raises(NotFound):
        registry.routers.set_published(digest_of(999), "uniroute", 3, "run")
    assert registry.routers.get(other).mlflow_version is None


def test_without_promotion_no_alias_points_anywhere(registry):
    assert registry.routers.aliases() == Aliases(None, None, None)
