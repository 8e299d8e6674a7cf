"""Documents as they were really served: every row is read, and the nights between them report what changed.

The expected changes are computed here from the raw JSON by plain set arithmetic, without the code under test.
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from flows.catalogs import open_catalog
from registry.llms import CatalogDiff, CatalogFetch
from registry.store import Registry
from tests.registry.samples import TODAY, record_fetch, start_night

DAYS = {"2025-07-20": 147, "2025-07-29": 151, "2026-08-19": 414}
MILLION = Decimal(1_000_000)
Pair = tuple[Decimal, Decimal]


def document(shared_data: Path, day: str) -> Path:
    return shared_data / "catalogs" / f"openrouter_models_{day}.json"


def fetch(shared_data: Path, day: str) -> CatalogFetch:
    path = document(shared_data, day)
    return open_catalog(name="openrouter", kind="openrouter", location=str(path), endpoint="router").fetch()


def raw_rows(shared_data: Path, day: str) -> dict[str, dict]:
    rows = json.loads(document(shared_data, day).read_text())["data"]
    return {row["id"]: row for row in rows}


def usable_prices(rows: dict[str, dict]) -> dict[str, Pair]:
    """Return the prices that may be used, read from the raw rows."""
    prices = {}
    for llm_id, row in rows.items():
        by_hour = [tier for tier in row["pricing"].get("overrides", []) if "utc_start" in tier]
        tiers = [row["pricing"], *by_hour]
        pair = tuple(max(Decimal(tier[side]) for tier in tiers) * MILLION for side in ("prompt", "completion"))
        is_other = llm_id.startswith(("~", "perplexity/")) or llm_id.endswith(":batch")
        if min(pair) > 0 and not is_other:
            prices[llm_id] = pair
    return prices


@pytest.mark.parametrize(("day", "count"), DAYS.items())
def test_every_row_of_a_real_day_is_read(shared_data: Path, day: str, count: int) -> None:
    found = fetch(shared_data, day)

    assert len(found.listings) == count
    assert found.quarantined == ()
    assert found.is_complete
    expected = usable_prices(raw_rows(shared_data, day))
    assert {
        listing.llm_id: (listing.input_usd_per_mtok, listing.output_usd_per_mtok)
        for listing in found.listings
        if listing.refusal is None
    } == expected


def test_the_traps_of_the_real_days_are_refused_by_name(shared_data: Path) -> None:
    refusals = Counter(listing.refusal for day in DAYS for listing in fetch(shared_data, day).listings)

    assert refusals["negative input price -1"] == 5
    assert refusals["zero price, not allow-listed"] == 11 + 12 + 20
    assert refusals["batch variant, does not answer at once"] == 61
    assert refusals["fee per search"] == 5, "Perplexity's, which search the web for every answer"
    assert refusals["alias of anthropic/claude-opus-5"] == 1
    assert sum(count for reason, count in refusals.items() if reason and reason.startswith("alias of ")) == 11


@pytest.mark.parametrize(("release", "chat"), [("1.55.0", 551), ("1.70.0", 805), ("1.109.1", 3265)])
def test_every_chat_row_of_a_real_price_map_is_read(shared_data: Path, release: str, chat: int) -> None:
    path = shared_data / "catalogs" / f"litellm_prices_{release}.json"
    raw = json.loads(path.read_text())

    found = open_catalog(name="prices", kind="litellm", location=str(path), endpoint="router").fetch()

    assert len(found.listings) == chat
    assert {listing.llm_id for listing in found.listings} == {k for k, row in raw.items() if row.get("mode") == "chat"}
    assert found.quarantined == ()
    for listing in found.listings:
        row = raw[listing.llm_id]
        if listing.refusal is None and "tiered_pricing" not in row:
            assert float(listing.input_usd_per_mtok) == pytest.approx(row["input_cost_per_token"] * 1e6, rel=1e-12)
            assert listing.output_usd_per_mtok > 0
        if not row.get("input_cost_per_token") and "tiered_pricing" not in row:
            assert listing.refusal is not None


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as opened:
        yield opened


def night(registry: Registry, shared_data: Path, day: str) -> CatalogDiff:
    on = date.fromisoformat(day)
    now = datetime(on.year, on.month, on.day, 2, tzinfo=UTC)
    run = registry.runs.start(
        f"night:{day}:test",
        as_of=on,
        settings_hash="test",
        settings_json="{}",
        host="here",
        pid=1,
        now=now,
        lease_s=300,
    )
    diff = record_fetch(registry, run, fetch(shared_data, day), on)
    registry.runs.finish(run, "completed", "synced", "{}", now)
    return diff


def keys(ids: set[str]) -> set[str]:
    return {f"router:{llm_id}" for llm_id in ids}


def test_three_real_days_show_what_is_new_withdrawn_returned_and_repriced(
    shared_data: Path, registry: Registry
) -> None:
    listed = {day: raw_rows(shared_data, day) for day in DAYS}
    in_force: dict[str, Pair | None] = {}
    seen: set[str] = set()
    available: set[str] = set()
    counts: dict[str, tuple[int, ...]] = {}

    for day, rows in listed.items():
        diff = night(registry, shared_data, day)

        today, prices = set(rows), usable_prices(rows)
        repriced = {llm_id for llm_id in today & seen if in_force[llm_id] != prices.get(llm_id)}
        assert diff.is_suspicious is None
        assert set(diff.new) == keys(today - seen)
        assert set(diff.withdrawn) == keys(available - today)
        assert set(diff.returned) == keys((today & seen) - available)
        assert {change.llm_key for change in diff.repriced} == keys(repriced)
        for change in diff.repriced:
            llm_id = change.llm_key.removeprefix("router:")
            for price, pair in ((change.before, in_force[llm_id]), (change.after, prices.get(llm_id))):
                assert (price and (price.input_usd_per_mtok, price.output_usd_per_mtok)) == pair
        held = {key.removeprefix("router:") for key in diff.held}
        in_force |= {llm_id: prices.get(llm_id) for llm_id in today - held}
        seen |= today
        available = today
        counts[day] = tuple(len(part) for part in (diff.new, diff.withdrawn, diff.returned, diff.repriced, diff.held))

    # new, withdrawn, returned, repriced, and held among the repriced
    assert counts == {"2025-07-20": (147, 0, 0, 0, 0), "2025-07-29": (8, 4, 0, 3, 1), "2026-08-19": (342, 79, 0, 29, 2)}
    routable = {llm.key for llm in registry.llms.all() if llm.is_routable}
    assert routable == keys(set(usable_prices(listed["2026-08-19"])) - held)


def test_a_document_recorded_twice_in_one_night_changes_nothing(shared_data: Path, registry: Registry) -> None:
    night(registry, shared_data, "2025-07-20")
    before = registry.llms.all()

    again = record_fetch(registry, 1, fetch(shared_data, "2025-07-20"), date(2025, 7, 20))

    assert len(again.new) == 147
    assert registry.llms.all() == before


def test_no_sound_price_of_a_real_price_map_is_doubted(shared_data: Path, registry: Registry) -> None:
    path = shared_data / "catalogs" / "litellm_prices_1.109.1.json"
    run = start_night(registry)

    whole = open_catalog(name="prices", kind="litellm", location=str(path), endpoint="router").fetch()
    (diff,) = registry.llms.record_fetches(run, [whole], TODAY, unread=())

    assert diff.held == ()
    doubted = {one.llm_id for one in registry.llms.all() if (one.refusal or "").startswith("implausible")}
    assert doubted == {  # USD per thousand tokens, and an LLM that paints
        "azure_ai/jais-30b-chat",
        "watsonx/core42/jais-13b-chat",
        "fireworks_ai/accounts/fireworks/models/flux-1-dev-controlnet-union",
    }


def test_of_a_real_price_map_only_the_included_llm_is_new(shared_data: Path, registry: Registry) -> None:
    path = shared_data / "catalogs" / "litellm_prices_1.109.1.json"
    options = {"name": "prices", "kind": "litellm", "location": str(path), "endpoint": "router"}

    fetched = open_catalog(**options, include=["gpt-4o-mini"]).fetch()
    (diff,) = registry.llms.record_fetches(start_night(registry), [fetched], TODAY, unread=())

    assert (diff.new, diff.n_left_out) == (("router:gpt-4o-mini",), 3264)
    assert [one.key for one in registry.llms.all()] == ["router:gpt-4o-mini"]
