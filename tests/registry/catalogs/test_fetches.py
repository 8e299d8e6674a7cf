"""Several catalogs of one night: whose word counts, in whatever order they are read, and what is still unknown."""

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import permutations

import pytest

from registry.listings import EXCLUDED, NOT_INCLUDED
from registry.llms import CatalogFetch, UnreadCatalog
from registry.store import Registry
from tests.registry.conftest import only_on_sqlite
from tests.registry.samples import NOW, TODAY, fetch, listing, record_fetch, start_night

pytestmark = only_on_sqlite

DAYS = [date(2024, 9, day) for day in range(1, 6)]
MISSING = {"refusal": "price missing: no catalog of this endpoint has it", "is_price_refused": True}


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def served(*ids: str, **changes) -> CatalogFetch:
    """What the endpoint itself lists: ids without prices."""
    rows = [listing(one, None, catalog="served", **MISSING) for one in ids]
    return fetch(rows, _digest(*ids), **({"catalog": "served", "precedence": 1} | changes))


def priced(name: str, precedence: int, **prices: str) -> CatalogFetch:
    rows = [listing(llm_id, price, catalog=name) for llm_id, price in prices.items()]
    return fetch(rows, _digest(name, *prices.items()), catalog=name, precedence=precedence)


def unread(name: str, precedence: int = 1, reason: str | None = None) -> UnreadCatalog:
    return UnreadCatalog(name, "router", precedence, lambda _: reason)


def record(registry: Registry, day: int, *fetches: CatalogFetch, without: tuple[UnreadCatalog, ...] = ()):
    """Record the fetches of a night of its own; return what changed, by catalog."""
    run = start_night(registry, f"night:{day}", as_of=DAYS[day], holder_is_gone=lambda _: True)
    diffs = registry.llms.record_fetches(run, fetches, DAYS[day], unread=without)
    registry.runs.finish(run, "completed", "fine", "{}", NOW)
    return {diff.catalog: diff for diff in diffs}


def known(registry: Registry) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Return the price, its catalog and the refusal of every LLM."""
    found = {}
    for one in registry.llms.all():
        price = (str(one.price.input_usd_per_mtok), one.price.catalog) if one.price is not None else (None, None)
        found[one.llm_id] = (*price, one.refusal)
    return found


def listed_by_all() -> list[CatalogFetch]:
    return [
        served("both", "none", "own", "odd"),
        priced("map", 2, both="3", own="3", odd="3", only="2"),
        fetch(
            [
                listing("own", "1", catalog="file"),
                listing("odd", None, catalog="file", refusal="negative input price -1", is_price_refused=True),
            ],
            "file",
            catalog="file",
        ),
    ]


@pytest.mark.parametrize("order", permutations(range(3)), ids=str)
def test_prices_arrive_in_the_same_night_whatever_the_order_of_catalogs(registry: Registry, order: tuple) -> None:
    fetches = listed_by_all()
    record(registry, 0, *(fetches[place] for place in order))
    assert known(registry) == {
        "both": ("3", "map", None),
        "none": (None, None, MISSING["refusal"]),
        "own": ("1", "file", None),
        "odd": (None, None, "negative input price -1"),
        "only": ("2", "map", None),
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_maps_the_more_expensive_price_counts(registry: Registry, reverse: bool) -> None:
    fetches = [priced("map", 2, a="3"), priced("atlas", 2, a="2")]
    record(registry, 0, *(fetches[::-1] if reverse else fetches))
    assert known(registry) == {"a": ("3", "map", None)}


def test_what_one_catalog_does_not_say_of_an_llm_another_says(registry: Registry) -> None:
    day = datetime(2024, 5, 1, tzinfo=UTC)
    named = listing("a", None, catalog="served", released_at=day, context_tokens=None, **MISSING)
    mapped = listing("a", "1", catalog="map", name="A of a maker", context_tokens=5, deprecated_at=day)
    both = [
        fetch([named], "1", catalog="served", precedence=1),
        fetch([mapped], "2", catalog="map", precedence=2),
    ]
    record(registry, 0, *both)
    found = registry.llms.get("router:a")
    assert (found.catalog, found.name, found.released_at) == ("served", "A of a maker", day)
    assert (found.context_tokens, found.deprecated_at) == (5, None), "a map's dates of retirement are often wrong"
    record(registry, 1, both[1])
    assert registry.llms.get("router:a").deprecated_at == day, "where nobody else lists it, the map is believed"


def test_a_refusal_of_the_llm_counts_unless_a_person_lists_it(registry: Registry) -> None:
    refused = [listing(one, None, catalog="served", refusal="no chat LLM") for one in ("a", "b")]
    embedded = fetch(refused, "1", catalog="served", precedence=1)
    record(registry, 0, embedded, priced("map", 2, a="1", b="1"), priced("file", 0, b="1"))
    assert known(registry) == {"a": (None, None, "no chat LLM"), "b": ("1", "file", None)}


@pytest.mark.parametrize(("other", "is_held"), [("10", False), ("999", True), ("0.001", True)])
def test_a_thousandfold_price_of_one_catalog_is_held_when_another_disagrees(
    registry: Registry, other: str, is_held: bool
) -> None:
    diffs = record(registry, 0, priced("open", 1, a="1"), priced("map", 2, a=other))
    assert diffs["open"].held == (("router:a",) if is_held else ())
    found = registry.llms.get("router:a")
    assert found.is_routable is not is_held
    if is_held:
        assert "of the price in map, held for review" in str(found.refusal)
        record(registry, 1, priced("open", 1, a="1"), priced("map", 2, a=other))
        assert not registry.llms.get("router:a").is_routable, "it waits, and is not reported again"
        assert registry.llms.accept_price("router:a", actor="ann", reason="looked it up", now=NOW).is_routable
        record(registry, 2, priced("open", 1, a="1"), priced("map", 2, a=other))
        assert registry.llms.get("router:a").is_routable, "what was accepted is not doubted again"


@pytest.mark.parametrize(("mine", "is_held"), [("3", False), ("60", False), ("1500", True), ("0.006", True)])
def test_a_new_price_far_from_that_of_the_same_name_elsewhere_is_held(
    registry: Registry, mine: str, is_held: bool
) -> None:
    elsewhere = [listing("maker/llm-7.5", "2", endpoint="one"), listing("x/LLM-7-5:free", "1", endpoint="two")]
    record(registry, 0, fetch(elsewhere, "1"))
    diffs = record(registry, 1, fetch(elsewhere, "1"), priced("map", 2, **{"llm-7.5": mine, "other-1": "900"}))
    assert diffs["map"].held == (("router:llm-7.5",) if is_held else ())
    assert registry.llms.get("router:llm-7.5").is_routable is not is_held
    assert registry.llms.get("router:other-1").is_routable, "nothing has its name"


def test_left_out_ids_are_counted_and_never_new(registry: Registry) -> None:
    out = {"router:b": NOT_INCLUDED, "router:c": EXCLUDED}
    diffs = record(registry, 0, fetch([listing("a")], "1", left_out=out))
    assert (diffs["open"].new, diffs["open"].n_left_out) == (("router:a",), 2)
    assert [one.key for one in registry.llms.all()] == ["router:a"]


def test_a_registered_llm_that_is_left_out_is_hidden_and_comes_back_with_its_price(registry: Registry) -> None:
    record(registry, 0, fetch([listing(one) for one in "abcdefghij"], "1"))
    out = {f"router:{one}": NOT_INCLUDED for one in "bcdefghij"}
    diff = record(registry, 1, fetch([listing("a")], "2", left_out=out))["open"]
    assert (diff.withdrawn, diff.repriced, diff.is_suspicious, diff.n_left_out) == ((), (), None, 9)
    hidden = registry.llms.get("router:b")
    assert (hidden.is_left_out, hidden.is_routable, hidden.status) == (True, False, "available")
    diff = record(registry, 2, fetch([listing(one) for one in "abcdefghij"], "3"))["open"]
    assert (diff.new, diff.returned, diff.repriced) == ((), (), ())
    assert registry.llms.get("router:b").is_routable


@pytest.mark.parametrize("reverse", [False, True])
def test_the_catalog_of_the_lowest_precedence_says_which_ids_are_wanted(registry: Registry, reverse: bool) -> None:
    out = {"router:b": NOT_INCLUDED, "router:mine": NOT_INCLUDED}
    fetches = [
        served("a", left_out=out),
        priced("map", 2, a="1", b="1", only="1"),
        priced("file", 0, mine="1"),
    ]
    record(registry, 0, *(fetches[::-1] if reverse else fetches))
    assert sorted(known(registry)) == ["a", "mine", "only"]


def test_what_an_unread_catalog_leaves_out_is_not_offered_by_a_map(registry: Registry) -> None:
    silent = unread("served", reason=NOT_INCLUDED)
    record(registry, 0, priced("map", 2, a="1"), priced("file", 0, mine="1"), without=(silent,))
    assert sorted(known(registry)) == ["mine"]


def test_a_catalog_that_cannot_be_read_keeps_its_prices_and_its_llms(registry: Registry) -> None:
    record(registry, 0, served("a", "b"), priced("map", 2, a="3", b="3"))
    diffs = record(registry, 1, served("a", "b"), without=(unread("map", 2),))
    assert diffs["served"].repriced == ()
    assert known(registry)["a"] == ("3", "map", None)
    diffs = record(registry, 2, priced("map", 2, a="3", b="3"), without=(unread("served"),))
    assert (diffs["map"].new, diffs["map"].withdrawn) == ((), ())
    assert registry.llms.get("router:a").catalog == "served"


def test_an_own_price_stays_while_its_file_cannot_be_read(registry: Registry) -> None:
    record(registry, 0, priced("map", 2, a="3"), priced("file", 0, a="1"))
    record(registry, 1, priced("map", 2, a="3"), without=(unread("file", 0),))
    assert known(registry) == {"a": ("1", "file", None)}
    record(registry, 2, priced("map", 2, a="3"))
    assert known(registry) == {"a": ("3", "map", None)}, "the file is no longer in the settings"


def test_x09_what_an_incomplete_list_lacks_is_not_gone(registry: Registry) -> None:
    record(registry, 0, served("a", "b", "c"), priced("map", 2, a="1", b="1", c="1"))
    diffs = record(registry, 1, served("a", "b", is_complete=False), priced("map", 2, a="1", b="1", c="2"))
    assert (diffs["served"].withdrawn, diffs["served"].is_suspicious) == ((), "incomplete fetch")
    assert registry.llms.get("router:c").is_routable


def test_an_llm_that_an_unread_catalog_listed_last_is_not_withdrawn_by_another(registry: Registry) -> None:
    ids = "abcdefghij"
    everywhere = dict.fromkeys(ids, "1")
    record(registry, 0, priced("open", 1, **everywhere), priced("map", 2, **everywhere))
    fewer = priced("open", 1, **dict.fromkeys(ids[:-1], "1"))
    assert record(registry, 1, fewer, without=(unread("map", 2),))["open"].withdrawn == ()
    diffs = record(registry, 2, fewer, priced("map", 2, **dict.fromkeys(ids[:-1], "1")))
    assert diffs["open"].withdrawn == ("router:j",)


@pytest.mark.parametrize(
    ("status", "summary"), [("completed", '{"is_plan_only": true}'), ("failed", "{}"), ("interrupted", "{}")]
)
def test_a_plan_or_a_failed_night_leaves_the_news_to_the_next_night(
    registry: Registry, status: str, summary: str
) -> None:
    record(registry, 0, fetch([listing("a")], "1"))
    planned = start_night(registry, "night:planned", as_of=DAYS[1])
    assert record_fetch(registry, planned, fetch([listing("a", "2"), listing("b")], "2"), DAYS[1]).new
    registry.runs.finish(planned, status, "planned", summary, NOW)
    diff = record(registry, 2, fetch([listing("a", "2"), listing("b")], "2"))["open"]
    assert diff.new == ("router:b",)
    assert [(one.llm_key, one.after.input_usd_per_mtok) for one in diff.repriced] == [("router:a", Decimal(2))]
    assert record(registry, 3, fetch([listing("a", "2"), listing("b")], "2"))["open"].new == (), "and to that one only"
    shown = [dated.diff.new for dated in registry.llms.diffs_since(TODAY)]
    assert shown == [("router:a",), ("router:b",), ()], "a list of changes shows each of them once"


def test_news_of_a_plan_are_dropped_where_the_settings_leave_the_llm_out_since(registry: Registry) -> None:
    planned = start_night(registry, "night:planned")
    record_fetch(registry, planned, fetch([listing("a"), listing("b")], "1"), TODAY)
    registry.runs.finish(planned, "completed", "planned", '{"is_plan_only": true}', NOW)
    diff = record(registry, 1, fetch([listing("a")], "1", left_out={"router:b": NOT_INCLUDED}))["open"]
    assert (diff.new, diff.n_left_out) == (("router:a",), 1)


def test_a_night_that_is_started_again_reports_what_its_first_attempt_found(registry: Registry) -> None:
    run = start_night(registry, "night:0")
    first = registry.llms.record_fetches(run, [served("a"), priced("map", 2, a="1")], TODAY, unread=())
    again = registry.llms.record_fetches(run, [served("a"), priced("map", 2, a="1")], TODAY, unread=())
    assert again == first
    amended = registry.llms.record_fetches(run, [served("a", "b"), priced("map", 2, a="1")], TODAY, unread=())
    assert amended[0].new == ("router:a", "router:b")
    assert amended[1].repriced == ()


def test_what_its_endpoint_no_longer_lists_is_withdrawn_on_the_second_night_although_a_price_map_names_it(
    registry: Registry,
) -> None:
    prices = priced("map", 2, a="1", b="1", alias="1")
    all_three = priced("file", 0, a="1", alias="1")
    record(registry, 0, served("a", "b"), prices, all_three)
    first = record(registry, 1, served("b"), prices, all_three)["served"]
    assert (first.withdrawn, first.unlisted) == ((), ("router:a",))
    assert registry.llms.get("router:a").is_routable
    again = start_night(registry, "night:again", as_of=DAYS[1], holder_is_gone=lambda _: True)
    diffs = registry.llms.record_fetches(again, [served("b"), prices, all_three], DAYS[1], unread=())
    assert diffs[0].withdrawn == (), "the same day proves nothing"
    registry.runs.finish(again, "completed", "fine", "{}", NOW)
    second = record(registry, 2, served("b"), prices, all_three)["served"]
    assert (second.withdrawn, second.unlisted) == (("router:a",), ())
    assert registry.llms.get("router:a").refusal_to_serve(DAYS[2]) == "withdrawn: no longer listed"
    assert record(registry, 3, served("b"), prices, all_three)["served"].withdrawn == ()
    assert registry.llms.get("router:a").status == "withdrawn", "the map names it for years"
    assert registry.llms.get("router:alias").is_routable, "its endpoint never listed it"
    assert record(registry, 4, served("a", "b"), prices, all_three)["file"].returned == ("router:a",)
    assert registry.llms.get("router:a").is_routable


@pytest.mark.parametrize(
    "lists",
    [
        (served("b"), served("a", "b"), served("b")),
        (served("b"), served("b", is_complete=False)),
        (served("b", is_complete=False), served("b")),
        (served(), served()),
    ],
    ids=["listed-between", "incomplete", "incomplete-first", "empty"],
)
def test_one_night_an_incomplete_or_an_empty_list_withdraws_nothing(registry: Registry, lists: tuple) -> None:
    prices = priced("map", 2, a="1", b="1")
    record(registry, 0, served("a", "b"), prices)
    for day, own in enumerate(lists, 1):
        record(registry, day, own, prices)
    assert registry.llms.get("router:a").status == "available"


def test_an_endpoint_whose_list_cannot_be_read_withdraws_nothing_and_a_decision_stands(registry: Registry) -> None:
    prices = priced("map", 2, a="1", b="1")
    record(registry, 0, served("a", "b"), prices)
    record(registry, 1, served("b"), prices)
    record(registry, 2, prices, without=(unread("served"),))
    assert registry.llms.get("router:a").status == "available"
    registry.llms.set_status("router:a", "available", "we know better", actor="ann", now=NOW)
    record(registry, 3, served("b"), prices)
    assert registry.llms.get("router:a").is_routable
