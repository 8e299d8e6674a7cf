"""Faults of what a router is made from: other prompts, another embedder, invalid numbers, extreme LLMs."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.config.settings import Settings
from flows.errors import PrerequisiteError
from flows.fitting.refit import embed_prompts, refit
from flows.night.context import Night
from flows.workspace import Workspace
from routing import FeatureVector, KMeansMap, RoutedLLM, Router, plain_feature_vector
from routing.embedders import HashingEmbedder, load_embedder_for
from routing.errors import ArtifactIncompatible, InvalidInput, InvalidProfile
from tests.registry.samples import TODAY, fetch, listing, outcome, record_fetch, start_night
from tests.routing.synthetic import flat_llm, flat_router, random_router, unit_rows

WORDS = ("insulin", "integral", "treaty", "planet", "verb", "tax", "enzyme", "sonnet", "voltage", "river")
LLMS = ("cheap", "costly")
ROUTER = random_router()


def written(n: int = 60) -> list[dict[str, str]]:
    return [
        {"prompt_id": f"p{i}", "text": f"{WORDS[i % 10]} {i // 10}?", "reference": "ABCD"[i % 4], "grader": "choice"}
        for i in range(n)
    ]


@pytest.fixture
def night_over(tmp_path: Path, migrated: Path) -> Iterator[Callable[..., Night]]:
    """Start a night over some prompts on the registry of this test; the night before it returns its lease."""
    (tmp_path / "registry.db").write_bytes(migrated.read_bytes())
    nights: list[Night] = []

    def start(rows: list[dict[str, str]]) -> Night:
        (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        catalog = {"name": "open", "kind": "toml", "location": "unread", "endpoint": "router"}
        settings = Settings(
            home=tmp_path,
            embedder={"name": "hashing-256"},
            prompts={"file": tmp_path / "prompts.jsonl"},
            routing={"n_clusters": 2, "method": "kmeans"},
            catalog=[catalog],
            endpoint=[{"name": "router", "base_url": "http://127.0.0.1:9/v1"}],
        )
        if nights:
            nights[-1].registry.runs.finish(nights[-1].run, "completed", "fine", "{}", nights[-1].clock())
        night = Night(Workspace(settings), TODAY)
        night.run = start_night(night.registry, f"night:{len(nights)}", now=night.clock(), lease_s=600.0)
        listings = [listing("cheap", "0.1"), listing("costly", "5")]
        record_fetch(night.registry, night.run, fetch(listings, f"fetch-{len(nights)}"), TODAY)
        nights.append(night)
        return night

    yield start
    for night in nights:
        night.workspace.__exit__(None, None, None)


def answered(night: Night, llm_id: str, score: Callable[[int], float], n: int | None = None) -> None:
    """Record answers of one LLM to the profile's prompts, or to the first n of them."""
    rows = [
        outcome(
            f"router:{llm_id}",
            prompt,
            score=score(place),
            grader=night.grader_versions[prompt.grader],
            sampling=night.sampling["router"],
        )
        for place, prompt in enumerate(night.profiled_prompts[:n])
    ]
    night.registry.outcomes.record(night.run, rows)


def missing(night: Night, llm_id: str) -> list[str]:
    asked = night.registry.outcomes.missing(
        f"router:{llm_id}", night.profiled_prompts, night.grader_versions, night.sampling["router"]
    )
    return [prompt.text for prompt in asked]


def changed_role(night: Night, rows: list[dict[str, str]], role: str) -> tuple[list[dict[str, str]], str]:
    """Change one character of one prompt of a role, so that it keeps its place in the order by digest and its role."""
    old = night.prompt_set.with_role(role)[0]
    others = [prompt.digest for prompt in night.prompt_set.prompts if prompt != old]
    place = sum(digest < old.digest for digest in others)
    for number in range(0x4E00, 0x9FFF):
        new = replace(old, text=old.text[:-1] + chr(number))
        if sum(digest < new.digest for digest in others) == place:
            return [row | {"text": new.text} if row["text"] == old.text else row for row in rows], new.text
    raise AssertionError("no such character")


@pytest.mark.parametrize("role", ["representative", "gate", "hidden"])
def test_f64_one_changed_character_asks_every_llm_that_prompt_again_and_no_other(night_over, role):
    first = night_over(written())
    for llm_id in LLMS:
        answered(first, llm_id, lambda place: place % 2)
    rows, text = changed_role(first, written(), role)
    second = night_over(rows)
    assert second.prompt_set.digest != first.prompt_set.digest
    assert [missing(second, llm_id) for llm_id in LLMS] == [[text], [text]]


def test_f64_a_vector_of_other_prompts_is_never_mixed_in_even_on_the_same_map(night_over):
    first = night_over(written())
    for llm_id in LLMS:
        answered(first, llm_id, lambda place: 1.0)
    embed_prompts.fn(first)
    before = refit.fn(first)
    rows, _ = changed_role(first, written(), "representative")
    second = night_over(rows)
    answered(second, "cheap", lambda place: 1.0)
    embed_prompts.fn(second)
    after = refit.fn(second)
    assert after.cluster_map_digest == before.cluster_map_digest, "only a representative prompt changed, no map prompt"
    assert before.router.keys == ("router:cheap", "router:costly")
    assert after.router.keys == ("router:cheap",), "costly has not answered the changed prompt"
    assert [key for key, _ in after.left_out] == ["router:costly"]
    assert after.router.provenance["prompt_set"] == second.prompt_set.digest


class SecondRevision:
    """The same embedder, trained again."""

    def __init__(self) -> None:
        self._first = HashingEmbedder()
        self.id = replace(self._first.id, revision="second")

    def embed(self, texts):
        return np.roll(self._first.embed(texts), 1, axis=1)


def test_f65_another_revision_of_the_embedder_embeds_everything_again_and_fits_a_map_of_its_own(night_over):
    night = night_over(written())
    for llm_id in LLMS:
        answered(night, llm_id, lambda place: place % 2)
    n_embedded = embed_prompts.fn(night)
    before = refit.fn(night)
    assert embed_prompts.fn(night) == 0
    assert not refit.fn(night).map_was_fitted
    night.workspace.__dict__["embedder"] = SecondRevision()
    assert embed_prompts.fn(night) == n_embedded
    after = refit.fn(night)
    assert after.map_was_fitted
    assert after.router.embedder.key != before.router.embedder.key
    assert after.cluster_map_digest != before.cluster_map_digest


@pytest.mark.parametrize("change", [{"name": "other"}, {"revision": "0"}, {"normalised": False}])
def test_f65_a_router_of_another_embedder_is_refused_where_it_would_be_used(change):
    wanted = replace(HashingEmbedder().id, **change)
    with pytest.raises(ArtifactIncompatible) as caught:
        load_embedder_for(wanted)
    assert str(wanted.name) in caught.value.message


def test_f65_embeddings_of_another_length_never_reach_a_decision():
    with pytest.raises(InvalidInput, match=r"shape \(any, 8\)"):
        random_router().route(unit_rows(3, dim=9))


@given(place=st.tuples(st.integers(0, 4), st.integers(0, 7)), bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e39]))
def test_f67_one_bad_number_in_an_embedding_stops_fit_and_route(place, bad):
    rows = unit_rows(5).astype(np.float64)
    rows[place] = bad
    with pytest.raises(InvalidInput, match=r"NaN|infinity"):
        KMeansMap(n_clusters=2).fit(rows)
    for use in (ROUTER.route, ROUTER.expected):
        with pytest.raises(InvalidInput, match=f"row {place[0]}"):
            use(rows)


def test_f67_a_zero_row_is_refused_and_the_width_of_a_float_changes_nothing():
    rows = unit_rows(200)
    rows_of_zero = rows.copy()
    rows_of_zero[3] = 0
    with pytest.raises(InvalidInput, match="row 3 is a zero row"):
        random_router().route(rows_of_zero)
    wide = rows.astype(np.float64)
    on_narrow, on_wide = (KMeansMap(n_clusters=4).fit(one).fitted_ for one in (rows, wide))
    assert on_narrow.digest == on_wide.digest
    assert (on_wide.assign(rows) == on_narrow.assign(wide)).all()


def test_f68_more_clusters_than_distinct_prompts_are_refused_by_name():
    rows = np.repeat(unit_rows(3), 10, axis=0)
    with pytest.raises(InvalidInput, match=r"4.*3 distinct|3 distinct.*4"):
        KMeansMap(n_clusters=4).fit(rows)
    fitted = KMeansMap(n_clusters=3).fit(rows).fitted_
    assert (fitted.n_clusters, sorted(np.bincount(fitted.assign(rows)))) == (3, [10, 10, 10])


def test_f68_a_night_over_equal_prompts_says_which_setting_to_change(night_over, monkeypatch):
    night = night_over(written())
    embed_prompts.fn(night)
    same = np.repeat(unit_rows(1, dim=256), len(night.prompt_set.with_role("map")), axis=0)
    monkeypatch.setattr(Night, "embeddings_of", lambda night, prompts: same[: len(prompts)])
    with pytest.raises(PrerequisiteError, match="distinct") as caught:
        refit.fn(night)
    assert "n_clusters" in caught.value.hint


VECTOR = ROUTER.llms[0].vector
ARRAYS = ("errors", "standard_errors", "counts", "input_tokens", "output_tokens")
NOT_FINITE = st.sampled_from([np.nan, np.inf, -np.inf])


@given(name=st.sampled_from(ARRAYS), place=st.integers(0, 3), bad=NOT_FINITE)
def test_f70_no_vector_with_a_number_that_is_not_finite_can_be_made(name, place, bad):
    fields = {field: np.array(getattr(VECTOR, field), dtype=np.float64) for field in ARRAYS}
    fields[name][place] = bad
    with pytest.raises(InvalidProfile, match=name):
        FeatureVector(**fields, n_prompts=VECTOR.n_prompts, n_scored=VECTOR.n_scored)


@given(what=st.sampled_from(["scores", "input_tokens", "output_tokens"]), place=st.integers(0, 5), bad=NOT_FINITE)
def test_f70_no_vector_is_made_of_answers_that_are_not_finite(what, place, bad):
    answers = {"scores": [1.0] * 6, "input_tokens": [9.0] * 6, "output_tokens": [9.0] * 6}
    answers[what][place] = bad
    with pytest.raises(InvalidProfile, match=what):
        plain_feature_vector([0, 1, 0, 1, 0, 1], **answers, n_clusters=2, n_prompts=6)


@given(which=st.sampled_from(["input_usd_per_mtok", "output_usd_per_mtok"]), bad=NOT_FINITE)
def test_f70_no_router_prices_an_llm_with_a_number_that_is_not_finite(which, bad):
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0} | {which: bad}
    with pytest.raises(InvalidInput):
        RoutedLLM("endpoint:odd", **prices, vector=VECTOR)


@given(name=st.sampled_from(["cost_weight", "calibration_weights"]), bad=NOT_FINITE)
def test_f70_no_router_holds_a_setting_that_is_not_finite(name, bad):
    whole = random_router()
    parts = {"cost_weight": 1.0, "calibration_weights": np.array(whole.calibration_weights)}
    parts[name] = bad if name == "cost_weight" else np.where(np.eye(30, 4) == 1, bad, parts[name])
    with pytest.raises(InvalidInput, match=name):
        Router(whole.cluster_map, whole.llms, embedder=whole.embedder, **parts)


def test_f71_an_llm_that_is_always_wrong_has_a_profile_and_gets_prompts_for_its_price_alone(night_over):
    night = night_over(written())
    answered(night, "cheap", lambda place: 1.0)
    answered(night, "costly", lambda place: 0.0)
    embed_prompts.fn(night)
    router = refit.fn(night).router
    wrong = {llm.key: llm.vector for llm in router.llms}["router:costly"]
    assert wrong.errors.tolist() == [1.0, 1.0]
    assert (wrong.standard_errors > 0).all()
    embeddings = night.workspace.embedder.embed([prompt.text for prompt in night.prompt_set.prompts])
    for cost_weight in (0.0, 1.0, 1e9):
        assert set(router.route(embeddings, cost_weight=cost_weight).llms) == {"router:cheap"}
    bargain = flat_router([flat_llm("always-wrong", [1.0, 1.0], 0.001), flat_llm("right", [0.0, 0.0], 1.0)])
    assert set(bargain.route(np.eye(8)[:2], cost_weight=0.5).llms) == {"right"}
    assert set(bargain.route(np.eye(8)[:2], cost_weight=2.0).llms) == {"always-wrong"}
