import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from registry.db.tables import catalog_fetch, listing_text
from registry.db.tables import listing as listing_table
from registry.errors import NotFound, RunAlreadyActive
from registry.llms import Listing, Price, QuarantinedRow, Repricing
from routing.errors import InvalidInput
from tests.registry.samples import NOW, TODAY, fetch, listing, record_fetch, start_night

DAY_2 = date(2024, 9, 2)
DAY_3 = date(2024, 9, 3)


def next_night(registry, day):
    active = registry.runs.lease()
    if active.run_id is not None:
        run = registry.runs.get(active.run_id)
        registry.runs.finish(run, "completed", "done", "{}", NOW)
    return start_night(registry, f"night:{day}", as_of=day)


def price(amount, since=TODAY, catalog="open"):
    return Price(Decimal(amount), Decimal(amount), since, catalog)


def test_the_first_fetch_reports_every_visible_llm_as_new(registry, night):
    diff = record_fetch(registry, night, fetch([listing("a"), listing("b")], "1"), TODAY)
    assert diff.new == ("router:a", "router:b")
    assert (diff.withdrawn, diff.returned, diff.repriced, diff.held, diff.is_suspicious) == ((), (), (), (), None)
    found = registry.llms.get("router:a")
    assert found.is_routable
    assert found.price == price("1")
    assert (found.first_seen_on, found.status, found.endpoint, found.llm_id) == (TODAY, "available", "router", "a")


def test_changes_since_last_night_are_reported(registry, night):
    record_fetch(registry, night, fetch([listing(x) for x in "abcdefg"], "1"), TODAY)
    second = next_night(registry, DAY_2)
    listed = [listing("a"), listing("b", "2"), *(listing(x) for x in "defg"), listing("new")]
    diff = record_fetch(registry, second, fetch(listed, "2"), DAY_2)
    assert diff.new == ("router:new",)
    assert diff.withdrawn == ("router:c",)
    assert diff.repriced == (Repricing("router:b", price("1"), price("2", DAY_2)),)
    third = next_night(registry, DAY_3)
    diff = record_fetch(registry, third, fetch([*listed, listing("c")], "3"), DAY_3)
    assert (diff.returned, diff.new, diff.withdrawn, diff.repriced) == (("router:c",), (), (), ())
    assert registry.llms.get("router:c").is_routable
    assert registry.llms.price_history("router:b") == (price("1"), price("2", DAY_2))


def test_a_listing_with_a_future_date_is_kept_but_not_visible(registry, night):
    tomorrow = datetime(2024, 9, 2, tzinfo=UTC)
    listed = [listing("a"), listing("later", released_at=tomorrow)]
    assert record_fetch(registry, night, fetch(listed, "1"), TODAY).new == ("router:a",)
    with pytest.raises(NotFound):
        registry.llms.get("router:later")
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch(listed, "1"), DAY_2)
    assert diff.new == ("router:later",)
    assert registry.llms.get("router:later").first_seen_on == DAY_2
    assert [one.key for one in registry.llms.all(as_of=TODAY)] == ["router:a"]


def test_released_today_is_visible_today(registry, night):
    late = datetime(2024, 9, 1, 23, 59, tzinfo=UTC)
    assert record_fetch(registry, night, fetch([listing("a", released_at=late)], "1"), TODAY).new == ("router:a",)


def test_the_same_fetch_twice_in_one_run_changes_nothing(registry, night):
    first = record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    before = registry._database
    with before.read() as unit:
        n_rows = unit.execute(select(func.count()).select_from(listing_table)).scalar()
    assert record_fetch(registry, night, fetch([listing("a")], "1"), TODAY) == first
    with before.read() as unit:
        assert unit.execute(select(func.count()).select_from(listing_table)).scalar() == n_rows


def test_an_amended_fetch_returns_the_changes_of_the_whole_run(registry, night):
    record_fetch(registry, night, fetch([listing(x) for x in "abcde"], "1"), TODAY)
    second = next_night(registry, DAY_2)
    record_fetch(registry, second, fetch([listing("a", "2"), *(listing(x) for x in "bcd"), listing("n")], "2"), DAY_2)
    amended = [listing("a", "3"), *(listing(x) for x in "bcde"), listing("m")]
    diff = record_fetch(registry, second, fetch(amended, "3"), DAY_2)
    assert diff.new == ("router:m",)
    assert diff.withdrawn == ()
    assert diff.returned == ()
    assert diff.repriced == (Repricing("router:a", price("1"), price("3", DAY_2)),)
    assert registry.llms.price_history("router:a") == (price("1"), price("3", DAY_2))


def test_f55_absence_from_an_incomplete_fetch_withdraws_nothing(registry, night):
    record_fetch(registry, night, fetch([listing(x) for x in "abcde"], "1"), TODAY)
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch([listing(x) for x in "abcd"], "2", is_complete=False), DAY_2)
    assert diff.withdrawn == ()
    assert diff.is_suspicious == "incomplete fetch"
    assert registry.llms.get("router:e").is_routable


def test_f55_a_list_that_shrank_is_believed_on_the_second_day(registry, night):
    record_fetch(registry, night, fetch([listing(x) for x in "abcdefghij"], "1"), TODAY)
    half = [listing(x) for x in "abcde"]
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch(half, "2"), DAY_2)
    assert (diff.withdrawn, diff.is_suspicious) == ((), "shrank from 10 to 5 LLMs")
    again = start_night(registry, "night:again", as_of=DAY_2, holder_is_gone=lambda _: True)
    assert record_fetch(registry, again, fetch(half, "2"), DAY_2).withdrawn == (), "the same day proves nothing"
    third = next_night(registry, DAY_3)
    diff = record_fetch(registry, third, fetch(half, "2"), DAY_3)
    assert diff.withdrawn == tuple(f"router:{x}" for x in "fghij")
    assert diff.is_suspicious is None


def test_f55_an_empty_list_withdraws_nothing(registry, night):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    for number, day in enumerate((DAY_2, DAY_3), start=2):
        run = next_night(registry, day)
        assert record_fetch(registry, run, fetch([], str(number)), day).withdrawn == ()
    assert registry.llms.get("router:a").is_routable


def test_a_fetch_dated_before_the_latest_is_kept_raw_only(registry, night):
    record_fetch(registry, night, fetch([listing("a", "2")], "1"), DAY_2)
    second = next_night(registry, TODAY)
    diff = record_fetch(registry, second, fetch([listing("a", "1"), listing("b")], "2"), TODAY)
    assert diff.is_suspicious == "dated before the latest fetch of this catalog"
    assert (diff.new, diff.repriced) == ((), ())
    assert registry.llms.get("router:a").price.input_usd_per_mtok == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": None}, "price missing"),
        ({"price": None, "refusal": "negative price -1"}, "negative price -1"),
        ({"price": "0", "refusal": "zero price, not allow-listed"}, "zero price, not allow-listed"),
        ({"price": "NaN"}, "price is not a finite, non-negative number"),
        ({"price": "-1"}, "price is not a finite, non-negative number"),
        ({"price": "Infinity"}, "price is not a finite, non-negative number"),
    ],
)
def test_f53_a_price_that_is_none_never_makes_an_llm_routable(registry, night, changes, reason):
    diff = record_fetch(registry, night, fetch([listing("a", **changes)], "1"), TODAY)
    found = registry.llms.get("router:a")
    assert diff.new == ("router:a",)
    assert (found.is_routable, found.price, found.refusal) == (False, None, reason)


def test_f53_an_allow_listed_free_llm_is_routable(registry, night):
    record_fetch(registry, night, fetch([listing("a:free", "0")], "1"), TODAY)
    assert registry.llms.get("router:a:free").is_routable


def test_a_price_that_disappears_makes_the_llm_unroutable_and_is_reported(registry, night):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch([listing("a", None, refusal="negative price -1")], "2"), DAY_2)
    assert diff.repriced == (Repricing("router:a", price("1"), None),)
    assert not registry.llms.get("router:a").is_routable
    assert registry.llms.all(as_of=TODAY)[0].price == price("1"), "the day before it had its price"
    third = next_night(registry, DAY_3)
    diff = record_fetch(registry, third, fetch([listing("a")], "3"), DAY_3)
    assert diff.repriced == (Repricing("router:a", None, price("1", DAY_3)),)
    assert registry.llms.get("router:a").is_routable


@pytest.mark.parametrize("new", ["10.1", "0.09", "1000000", "0.000001"])
def test_f54_an_implausible_price_is_held_and_the_old_one_stays(registry, night, new):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch([listing("a", new)], "2"), DAY_2)
    assert diff.held == ("router:a",)
    assert diff.repriced == (Repricing("router:a", price("1"), price(new, DAY_2)),)
    found = registry.llms.get("router:a")
    assert found.price == price("1")
    assert not found.is_routable
    assert "held for review" in found.refusal
    third = next_night(registry, DAY_3)
    diff = record_fetch(registry, third, fetch([listing("a", new)], "3"), DAY_3)
    assert (diff.held, diff.repriced) == ((), ()), "the same held price is not reported again"
    accepted = registry.llms.accept_price("router:a", actor="ann", reason="checked the price page", now=NOW)
    assert accepted.is_routable
    assert accepted.price == price(new, DAY_2)
    assert registry.ledger.events(event="llm:price:accepted")[0].actor == "ann"


@pytest.mark.parametrize("new", ["10", "0.1", "3"])
def test_a_price_change_up_to_tenfold_counts_at_once(registry, night, new):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch([listing("a", new)], "2"), DAY_2)
    assert diff.held == ()
    assert registry.llms.get("router:a").price == price(new, DAY_2)


def test_a_free_llm_that_starts_to_cost_is_held(registry, night):
    record_fetch(registry, night, fetch([listing("a", "0")], "1"), TODAY)
    second = next_night(registry, DAY_2)
    assert record_fetch(registry, second, fetch([listing("a", "5")], "2"), DAY_2).held == ("router:a",)


def test_a_held_price_that_is_withdrawn_is_deleted(registry, night):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    second = next_night(registry, DAY_2)
    record_fetch(registry, second, fetch([listing("a", "99")], "2"), DAY_2)
    third = next_night(registry, DAY_3)
    diff = record_fetch(registry, third, fetch([listing("a")], "3"), DAY_3)
    assert (diff.held, diff.repriced) == ((), ())
    assert registry.llms.get("router:a").is_routable
    with pytest.raises(NotFound, match="no price of router:a waits"):
        registry.llms.accept_price("router:a", actor="ann", reason="x", now=NOW)


def test_f57_the_first_of_two_rows_of_one_id_counts_and_both_are_kept(registry, night):
    listed = [listing("a", "1"), listing("a", "2", raw='{"id": "a", "twice": true}')]
    assert record_fetch(registry, night, fetch(listed, "1"), TODAY).new == ("router:a",)
    assert registry.llms.get("router:a").price == price("1")
    with registry._database.read() as unit:
        assert unit.execute(select(func.count()).select_from(listing_table)).scalar() == 2


def test_the_first_catalog_decides_and_the_second_is_kept_raw(registry, night):
    record_fetch(registry, night, fetch([listing("a", "1")], "1"), TODAY)
    other = [listing("a", "7", catalog="map"), listing("b", "7", catalog="map")]
    diff = record_fetch(registry, night, fetch(other, "2", catalog="map", precedence=1), TODAY)
    assert (diff.new, diff.repriced) == (("router:b",), ())
    assert registry.llms.get("router:a").price == price("1")
    assert registry.llms.get("router:b").catalog == "map"
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch(other[1:], "3", catalog="map", precedence=1), DAY_2)
    assert diff.withdrawn == (), "a is the first catalog's to withdraw"


def test_a_catalog_placed_first_later_takes_over(registry, night):
    first = fetch([listing("a", "1", catalog="map")], "1", catalog="map", precedence=1)
    record_fetch(registry, night, first, TODAY)
    second = next_night(registry, DAY_2)
    diff = record_fetch(registry, second, fetch([listing("a", "2")], "2"), DAY_2)
    assert diff.repriced == (Repricing("router:a", price("1", catalog="map"), price("2", DAY_2)),)
    assert registry.llms.get("router:a").catalog == "open"


def test_an_llm_that_its_catalog_drops_comes_back_through_another(registry, night):
    record_fetch(registry, night, fetch([listing(x) for x in "abcde"], "1"), TODAY)
    second = next_night(registry, DAY_2)
    record_fetch(registry, second, fetch([listing(x) for x in "abcd"], "2"), DAY_2)
    other = fetch([listing("e", catalog="map")], "3", catalog="map", precedence=1)
    assert record_fetch(registry, second, other, DAY_2).returned == ("router:e",)
    assert registry.llms.get("router:e").catalog == "map"


def test_f56_quarantined_rows_are_kept_and_make_no_llm(registry, night):
    bad = QuarantinedRow(1, "no id \ud800", '{"broken": "\x00"}')
    diff = record_fetch(registry, night, fetch([listing("a")], "1", quarantined=[bad]), TODAY)
    assert diff.new == ("router:a",)
    with registry._database.read() as unit:
        stored = unit.execute(select(listing_table).order_by(listing_table.c.position)).fetchall()
        raw = unit.execute(select(listing_text.c.raw)).scalars().all()
    assert [(row.llm_key, row.refusal, row.is_quarantined) for row in stored] == [
        ("router:a", None, False),
        (None, "no id \ud800", True),
    ]
    assert bad.raw in raw


def test_the_same_raw_text_is_stored_once(registry, night):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    second = next_night(registry, DAY_2)
    record_fetch(registry, second, fetch([listing("a")], "1"), DAY_2)
    with registry._database.read() as unit:
        assert unit.execute(select(func.count()).select_from(listing_text)).scalar() == 1
        assert unit.execute(select(func.count()).select_from(catalog_fetch)).scalar() == 2


def test_f61_hostile_names_are_stored_escaped_and_hostile_ids_make_no_llm(registry, night):
    listed = [
        listing("a", name="x" * 10_000 + "\x00"),
        listing("b", name="\x1b[31m\ud800", canonical_id="\x00"),
        listing("c\x00"),
        listing("d" * 301),
    ]
    diff = record_fetch(registry, night, fetch(listed, "1"), TODAY)
    assert diff.new == ("router:a", "router:b")
    assert len(registry.llms.get("router:a").name) == 300
    assert registry.llms.get("router:b").name == "\x1b[31m\\ud800"


def test_a_decision_about_an_llm_outlives_the_next_fetch(registry, night):
    record_fetch(registry, night, fetch([listing(x) for x in "abcde"], "1"), TODAY)
    found = registry.llms.set_status("router:a", "quarantined", "knows the prompts by heart", actor="gap-test", now=NOW)
    assert (found.status, found.is_routable) == ("quarantined", False)
    second = next_night(registry, DAY_2)
    record_fetch(registry, second, fetch([listing(x) for x in "abcde"], "2"), DAY_2)
    assert registry.llms.get("router:a").status == "quarantined"
    third = next_night(registry, DAY_3)
    assert record_fetch(registry, third, fetch([listing(x) for x in "bcde"], "3"), DAY_3).withdrawn == ()
    event = registry.ledger.events(subject="router:a")[0]
    assert (event.event, event.actor, event.reason) == (
        "llm:status:quarantined",
        "gap-test",
        "knows the prompts by heart",
    )


def test_withdrawn_by_decision_does_not_come_back_by_itself(registry, night):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    registry.llms.set_status("router:a", "withdrawn", "never answers", actor="ann", now=NOW)
    second = next_night(registry, DAY_2)
    assert record_fetch(registry, second, fetch([listing("a")], "2"), DAY_2).returned == ()
    assert registry.llms.get("router:a").status == "withdrawn"


def test_f59_an_llm_is_not_routable_after_its_last_day(registry, night):
    ends = datetime(2024, 9, 2, 12, tzinfo=UTC)
    record_fetch(registry, night, fetch([listing("a", deprecated_at=ends), listing("b")], "1"), TODAY)
    a, b = registry.llms.all()
    assert a.deprecated_at == ends
    assert [a.is_routable_on(day) for day in (TODAY, DAY_3)] == [True, False]
    assert b.is_routable_on(DAY_3)


@pytest.mark.parametrize(("status", "reason"), [("gone", "x"), ("excluded", "  ")])
def test_a_status_must_be_known_and_have_a_reason(registry, night, status, reason):
    record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    with pytest.raises(InvalidInput):
        registry.llms.set_status("router:a", status, reason, actor="ann", now=NOW)
    assert registry.llms.get("router:a").status == "available"


def test_llms_are_found_by_part_of_key_or_name(registry, night):
    listed = [listing("lab/one", name="Grand One"), listing("lab/one-mini"), listing("other/100%")]
    record_fetch(registry, night, fetch(listed, "1"), TODAY)
    assert [one.llm_id for one in registry.llms.find("lab/one")] == ["lab/one"], "an exact id matches alone"
    assert [one.llm_id for one in registry.llms.find("LAB")] == ["lab/one", "lab/one-mini"]
    assert [one.llm_id for one in registry.llms.find("grand")] == ["lab/one"]
    assert [one.llm_id for one in registry.llms.find("%")] == ["other/100%"], "a percent sign is not a wildcard"
    assert registry.llms.find("nothing") == ()


@pytest.mark.parametrize("key", ["router:missing", "\ud800", "\x00", ""])
def test_an_unknown_llm_is_not_found(registry, key):
    with pytest.raises(NotFound, match="there is no LLM"):
        registry.llms.get(key)


def test_all_can_be_asked_for_one_status(registry, night):
    record_fetch(registry, night, fetch([listing("a"), listing("b")], "1"), TODAY)
    registry.llms.set_status("router:b", "excluded", "licence", actor="ann", now=NOW)
    assert [one.key for one in registry.llms.all("available")] == ["router:a"]
    assert [one.key for one in registry.llms.all("excluded")] == ["router:b"]
    assert len(registry.llms.all()) == 2


def test_f06_a_fetch_of_a_run_that_lost_its_lease_is_refused(registry, night):
    start_night(registry, "night:other", holder_is_gone=lambda _: True)
    with pytest.raises(RunAlreadyActive):
        record_fetch(registry, night, fetch([listing("a")], "1"), TODAY)
    assert registry.llms.all() == ()


DAYS = ("2025-07-20", "2025-07-29", "2026-08-19")


def openrouter_day(folder, day):
    """Read a real OpenRouter document in the simplest way, as the expected result."""
    rows = json.loads((folder / "catalogs" / f"openrouter_models_{day}.json").read_text())["data"]
    listed = []
    for row in rows:
        amounts = [Decimal(row["pricing"][side]) * 1_000_000 for side in ("prompt", "completion")]
        refusal = "negative price" if min(amounts) < 0 else "zero price" if max(amounts) == 0 else None
        listed.append(
            Listing(
                catalog="openrouter",
                endpoint="openrouter",
                llm_id=row["id"],
                canonical_id=row["canonical_slug"],
                name=row["name"],
                released_at=datetime.fromtimestamp(row["created"], UTC),
                context_tokens=row["context_length"],
                input_usd_per_mtok=amounts[0],
                output_usd_per_mtok=amounts[1],
                refusal=refusal,
                deprecated_at=None,
                raw=json.dumps(row),
            )
        )
    return {one.llm_id: one for one in listed}


def test_three_real_days_of_openrouter_result_in_the_right_changes(registry, shared_data):
    documents = [openrouter_day(shared_data, day) for day in DAYS]
    registry_knows: dict[str, Listing] = {}
    in_force: dict[str, tuple[Decimal, Decimal] | None] = {}
    held_before: set[str] = set()
    for day, document in zip(DAYS, documents, strict=True):
        on = date.fromisoformat(day)
        run = next_night(registry, on)
        diff = record_fetch(registry, run, fetch(document.values(), day, catalog="openrouter"), on)
        assert diff.is_suspicious is None
        visible = {key: one for key, one in document.items() if one.released_at.date() <= on}
        known = set(registry_knows)
        assert {key.partition(":")[2] for key in diff.new} == set(visible) - known
        assert {key.partition(":")[2] for key in diff.withdrawn} == {
            key for key in known if key not in document and registry_knows[key] is not None
        }
        usable = {
            key: None if one.refusal else (one.input_usd_per_mtok, one.output_usd_per_mtok)
            for key, one in visible.items()
        }
        changed = {key for key in known & set(visible) if usable[key] != in_force[key]}
        assert {one.llm_key.partition(":")[2] for one in diff.repriced} == changed
        for one in diff.repriced:
            key = one.llm_key.partition(":")[2]
            before = one.before and (one.before.input_usd_per_mtok, one.before.output_usd_per_mtok)
            after = one.after and (one.after.input_usd_per_mtok, one.after.output_usd_per_mtok)
            assert (before, after) == (in_force[key], usable[key])
        held = {key.partition(":")[2] for key in diff.held}
        in_force.update({key: value for key, value in usable.items() if key not in held})
        registry_knows = {key: one for key, one in {**registry_knows, **visible}.items() if key in document}
        held_before |= held
    assert len(documents[0]) == 147
    assert held_before == {
        "meta-llama/llama-3.2-3b-instruct",
        "mistralai/mistral-small-3.1-24b-instruct",
        "qwen/qwen3-235b-a22b-thinking-2507",
    }
    assert all(not one.is_routable or min(one.price.input_usd_per_mtok, one.price.output_usd_per_mtok) >= 0
               for one in registry.llms.all())  # fmt: skip
    assert "negative price" in {one.refusal for one in registry.llms.all()}


def test_the_counts_of_the_three_real_days(registry, shared_data):
    counts = []
    for day in DAYS:
        on = date.fromisoformat(day)
        document = openrouter_day(shared_data, day)
        run = next_night(registry, on)
        diff = record_fetch(registry, run, fetch(document.values(), day, catalog="openrouter"), on)
        counts.append((len(diff.new), len(diff.withdrawn), len(diff.repriced), len(diff.held)))
    assert counts == [(147, 0, 0, 0), (8, 4, 3, 1), (342, 79, 29, 2)]


def test_a_listing_has_the_key_of_its_llm():
    assert listing("a/b:free").llm_key == "router:a/b:free"
    assert replace(listing("a"), endpoint="vllm").llm_key == "vllm:a"
