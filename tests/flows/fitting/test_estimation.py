"""What is expected of an LLM before its answers: from facts of the registry, once per map."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from flows.night.asked_prompts import places_among
from flows.night.llm_facts import facts_of, levels_of
from registry.store import Registry
from routing.day_zero import KnownFacts, LevelPrior, LLMFacts
from routing.estimator import PosteriorEstimator
from tests.registry.samples import (
    TODAY,
    cluster_map,
    digest_of,
    fetch,
    freeze,
    listing,
    record_fetch,
    start_night,
    vector,
)

LATER = date(2025, 1, 1)


@pytest.fixture
def known(migrated: Path, tmp_path: Path) -> Iterator[Registry]:
    shutil.copy(migrated, tmp_path / "registry.db")
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as opened:
        yield opened


@pytest.fixture(scope="module")
def estimator() -> PosteriorEstimator:
    """Fitted on LLMs that are the better the more expensive they are."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(160, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rates = np.linspace(0.9, 0.1, 10)
    errors = (rng.uniform(size=(160, 10)) < rates).astype(float)
    facts = KnownFacts.of([LLMFacts(f"router:k{number}", float(2**number)) for number in range(10)])
    return PosteriorEstimator().fit(rows, errors, few=(rows[::4], errors[::4]), facts=facts)


def test_difficulties_belong_to_the_prompts_that_were_fitted_on() -> None:
    assert places_among(("a", "b", "c"), ("c", "new", "a")).tolist() == [2, -1, 0]


def test_facts_are_the_first_price_the_release_and_what_the_id_says(known: Registry) -> None:
    released = datetime(2024, 5, 13, 7, tzinfo=UTC)
    seen = [listing("a/new-70b-thinking", "4", released_at=released), listing("free", "0"), listing("odd", None)]
    run = start_night(known)
    record_fetch(known, run, fetch(seen, "one"), TODAY)
    cheaper = [replace(seen[0], input_usd_per_mtok=seen[0].input_usd_per_mtok / 2)]
    record_fetch(known, run, fetch([*cheaper, *seen[1:]], "two"), LATER)
    new, free, odd = facts_of(known, known.llms.all())
    assert new == LLMFacts("router:a/new-70b-thinking", 4.0, date(2024, 5, 13), 70.0, True)
    assert np.isnan(free.row[0]), "a free LLM has no price, not a price of zero"
    assert (odd.output_usd_per_mtok, odd.released_on, odd.parameters_b) == (None, None, None)


def test_a_later_price_or_date_changes_nothing_of_a_vector_that_was_computed(known: Registry, estimator) -> None:
    run = start_night(known)
    record_fetch(known, run, fetch([listing("new", "64")], "one"), TODAY)
    prompt_set = freeze(known)
    known.routers.save_cluster_map(cluster_map(prompt_set))

    def level() -> LevelPrior | None:
        return levels_of(known, digest_of(1), estimator, facts_of(known, known.llms.all()))["router:new"]

    first = level()
    assert first is not None and 0.1 < first.mean < 0.6
    known.routers.save_vectors(digest_of(1), {"router:new": replace(vector(), level=first)}, prompt_set.digest, run)
    released = datetime(2026, 1, 1, tzinfo=UTC)
    record_fetch(known, run, fetch([listing("new", "8", released_at=released)], "two"), LATER)
    assert level() == first
    on_another_map = levels_of(known, digest_of(2), estimator, facts_of(known, known.llms.all()))["router:new"]
    assert on_another_map is not None


def test_a_vector_that_started_from_nothing_stays_so(known: Registry, estimator) -> None:
    run = start_night(known)
    record_fetch(known, run, fetch([listing("new", "64")], "one"), TODAY)
    prompt_set = freeze(known)
    known.routers.save_cluster_map(cluster_map(prompt_set))
    known.routers.save_vectors(digest_of(1), {"router:new": vector()}, prompt_set.digest, run)
    assert levels_of(known, digest_of(1), estimator, facts_of(known, known.llms.all())) == {"router:new": None}
