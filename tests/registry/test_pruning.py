from datetime import timedelta

import pytest

from registry.errors import RunAlreadyActive
from registry.promotions import gate_result
from registry.pruning import Retention
from registry.store import Registry
from routing.errors import InvalidInput
from tests.postgres import break_in
from tests.registry.samples import (
    GRADERS,
    NOW,
    SAMPLING,
    TODAY,
    fetch,
    freeze,
    listing,
    outcome,
    record_fetch,
    router,
    save_routers,
    start_night,
)

YEAR = NOW + timedelta(days=400)
ALL_OLD = Retention(completions_days=180, listings_days=365)


def count(url, table):
    return break_in(url, f"SELECT count(*) FROM {table}")[0][0]


@pytest.fixture
def aged(registry):
    """A registry a year after a night with two LLMs, three routers, and catalogs that changed a little each day."""
    run = start_night(registry)
    save_routers(registry, run)
    prompt_set = freeze(registry)
    registry.outcomes.record(
        run, [outcome(f"router:{name}", one, completion="long " * 400) for name in "ab" for one in prompt_set.prompts]
    )
    registry.runs.finish(run, "completed", "fine", "{}", NOW)
    for day in range(1, 5):
        at = NOW + timedelta(days=day)
        night = start_night(registry, f"night:{day}", now=at, as_of=at.date())
        listings = [listing(name, "1", raw=f'{{"id": "{name}", "day": {day}}}') for name in "abc"]
        record_fetch(registry, night, fetch(listings, f"day-{day}"), at.date())
        registry.runs.finish(night, "completed", "fine", "{}", at)
    return registry


def test_old_texts_and_listings_are_deleted_and_every_score_stays(aged, url):
    before = {name: count(url, name) for name in ("outcome", "llm_price", "catalog_fetch", "router", "listing", "run")}
    planned = aged.pruning.plan(ALL_OLD, YEAR)
    assert (planned.completions, count(url, "completion")) == (20, 20), "a plan deletes nothing"
    done = aged.pruning.prune(ALL_OLD, YEAR, actor="ann")
    assert (done.completions, done.content_bytes) == (20, planned.content_bytes)
    assert done.content_bytes >= 20 * 2000
    assert count(url, "completion") == 0
    # Day 0 and day 1 are when prices of a, b and c began; day 4 is the latest listing.
    assert done.listings == before["listing"] - count(url, "listing") == 2 + 3 + 3
    assert count(url, "listing_text") == count(url, "(SELECT DISTINCT text_digest FROM listing) AS used")
    for name in ("outcome", "llm_price", "catalog_fetch", "router", "run"):
        assert count(url, name) == before[name]
    (event,) = aged.ledger.events(event="registry:retention:pruned")
    assert '"completions":20' in event.payload_json
    assert aged.ledger.verify().is_intact
    assert aged.damages() == ()
    again = aged.pruning.prune(ALL_OLD, YEAR, actor="ann")
    assert (again.rows, len(aged.ledger.events(event="registry:retention:"))) == (0, 1), "nothing to do leaves no trace"


def test_recent_texts_and_listings_stay(aged, url):
    assert aged.pruning.prune(ALL_OLD, NOW + timedelta(days=10), actor="ann").rows == 0
    assert (count(url, "completion"), count(url, "listing")) == (20, 14)
    assert aged.pruning.prune(Retention(None, None), YEAR, actor="ann").rows == 0


def test_answers_that_a_reviewer_still_has_to_read_stay(aged, url):
    a_router = aged.routers.list()[-1]
    alone = router(aged.runs.get("night:4"), freeze(aged), 900, ("router:a",))
    aged.routers.save(alone)
    asked = aged.promotions.request(alone.digest, None, gate_result(True, {}), actor="night", now=NOW)
    aged.pruning.prune(ALL_OLD, YEAR, actor="ann")
    kept = aged.outcomes.completions("router:a", freeze(aged).prompts, GRADERS, SAMPLING)
    assert (len(kept), count(url, "completion")) == (10, 10), "b is in no undecided router"
    assert a_router.digest in {one.digest for one in aged.routers.list()}
    aged.promotions.reject(asked.id, actor="ann", reason="no", now=YEAR)
    assert aged.pruning.prune(ALL_OLD, YEAR, actor="ann").completions == 10


def test_listings_behind_a_router_that_was_decided_on_stay(aged, url):
    made_by_day_3 = router(aged.runs.get("night:3"), freeze(aged), 901, ("router:a", "router:b"))
    aged.routers.save(made_by_day_3)
    before = aged.pruning.plan(ALL_OLD, YEAR).listings
    aged.promotions.set_challenger(made_by_day_3.digest, actor="night", now=NOW)
    assert aged.pruning.plan(ALL_OLD, YEAR).listings == before - 3


def test_a_night_that_is_running_is_not_disturbed(aged, url):
    start_night(aged, "night:now", now=YEAR, as_of=TODAY)
    with pytest.raises(RunAlreadyActive, match="a night is running on host-a"):
        aged.pruning.prune(ALL_OLD, YEAR, actor="ann")
    assert count(url, "completion") == 20


def test_the_space_is_released(registry, url):
    run = start_night(registry)
    save_routers(registry, run)
    asked = freeze(registry, 200).prompts
    for key in ("router:a", "router:b"):
        registry.outcomes.record(run, [outcome(key, one, completion=f"{key}{one.prompt_id}" * 700) for one in asked])
    registry.runs.finish(run, "completed", "fine", "{}", NOW)
    done = registry.pruning.prune(ALL_OLD, YEAR, actor="ann")
    assert done.completions == 400
    assert done.size_after_bytes < done.size_before_bytes


@pytest.mark.parametrize("days", [0, -1])
def test_a_retention_that_would_delete_today_is_refused(days):
    with pytest.raises(InvalidInput, match="this night has just stored"):
        Retention(days, None)


def test_an_empty_registry_has_nothing_to_delete(url):
    with Registry.open(url) as registry:
        assert registry.pruning.prune(ALL_OLD, YEAR, actor="ann").rows == 0
