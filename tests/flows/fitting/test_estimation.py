"""What is expected of an LLM before its answers: from facts of the registry, once per map."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from flows.fitting.estimation import Estimation
from flows.fitting.labels import Labels
from flows.night.asked_prompts import places_among
from flows.night.llm_facts import facts_of, levels_of
from registry.outcomes import OutcomeTable
from registry.store import Registry
from routing.day_zero import KnownFacts, LevelPrior, LLMFacts
from routing.estimator import PosteriorEstimator
from routing.prompt_weights import ClusterMap
from routing.stored_estimator import PlainEstimator
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


def test_a_plain_mean_takes_none_of_the_chosen_prompts_and_the_posterior_reads_all(estimator) -> None:
    rng, keys = np.random.default_rng(1), ("e:late", "e:known")
    rows = rng.normal(size=(40, 4)).astype(np.float32)
    scores, ones = (rng.uniform(size=(40, 2)) < 0.5).astype(float), np.ones((40, 2))
    prompts = tuple(f"{number}" for number in range(40))

    def labels(rows, scores) -> Labels:
        counts = ones[: len(rows)]
        table = OutcomeTable(keys, prompts[: len(rows)], scores, counts, counts, counts, np.zeros(2, dtype=np.int64))
        return Labels(rows, counts[:, 0].astype(np.float32), table)

    enters = np.stack([np.arange(40) < 15, np.ones(40, dtype=bool)], axis=1)
    answers = labels(rows, scores), labels(rows[:0], scores[:0])
    plain = Estimation(PlainEstimator(ClusterMap.nearest(np.eye(4)[:1])), "", False, *answers, enters=enters)
    late, known = plain.vector(0), plain.vector(1)
    assert (late.n_scored, late.n_prompts, known.n_scored) == (15, 15, 40)
    assert late.errors[0] == pytest.approx(1 - scores[:15, 0].mean(), abs=1e-6)
    assert known.errors[0] == pytest.approx(1 - scores[:, 1].mean(), abs=1e-6)
    assert replace(plain, estimator=estimator).vector(0).n_scored == 40


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
