"""When a champion has to be refreshed, and what the refreshed one is: a pure decision."""

from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf

import pytest

from flows.gate.refresh import Refresh, Standing, refresh_of
from flows.gate.refresh_checks import refresh_checks
from registry.llms import LLM, Price
from tests.routing.synthetic import flat_llm, flat_router

TODAY = date(2024, 10, 1)


def champion():
    """Cluster 0 goes to `cheap`, the other two to `dear`; every one costs its price per prompt."""
    return flat_router(
        [flat_llm("e:cheap", [0, 1, 1], 1), flat_llm("e:dear", [1, 0, 0], 4), flat_llm("e:idle", [1, 1, 1], 9)]
    )


def standings(**changed: Standing) -> dict[str, Standing]:
    """Return the standings of a champion of which nothing changed but this."""
    as_it_was = {llm.key: Standing("", llm.input_usd_per_mtok, llm.output_usd_per_mtok) for llm in champion().llms}
    return as_it_was | {f"e:{name}": one for name, one in changed.items()}


def test_nothing_is_due_while_every_llm_serves_at_its_price() -> None:
    found = refresh_of(champion(), standings())
    assert not found.is_due
    assert found.router is found.champion
    assert found.reason == "nothing changed"


def test_a_dead_llm_is_dropped_and_the_rest_stays_as_it_was() -> None:
    found = refresh_of(champion(), standings(dear=Standing("withdrawn: gone", 4, 0)))
    assert found.is_due and found.router is not None
    assert found.router.keys == ("e:cheap", "e:idle")
    assert found.router.cluster_map is found.champion.cluster_map
    assert [llm.vector for llm in found.router.llms] == [found.champion.llms[0].vector, found.champion.llms[2].vector]
    (dropped,) = found.dropped
    assert (dropped.llm_key, dropped.reason) == ("e:dear", "withdrawn: gone")
    # Eight calibration prompts: the axes without a cluster of their own fall to the first.
    assert found.dead_share == dropped.share == pytest.approx(2 / 8)
    assert found.reason == "without e:dear"


def test_an_llm_without_traffic_is_dropped_all_the_same() -> None:
    found = refresh_of(champion(), standings(idle=Standing("excluded: by decision", 9, 0)))
    assert found.is_due and found.dead_share == 0


@pytest.mark.parametrize(("price", "is_due"), [(4.0, False), (4.06, False), (4.08, True), (3.92, True), (0.0, True)])
def test_a_price_makes_it_due_when_it_moves_what_the_champion_costs_by_more_than_one_percent(price, is_due) -> None:
    # 6 prompts at 1 USD and 2 at 4: 14 USD; 1 % of that is 0.07 per prompt of `dear`.
    found = refresh_of(champion(), standings(dear=Standing("", price, 0)))
    assert found.cost_change == pytest.approx(2 * (price - 4) / 14)
    assert found.is_due is is_due
    assert found.router is not None and found.router.llms[1].input_usd_per_mtok == price


def test_the_price_of_an_llm_without_traffic_makes_nothing_due() -> None:
    assert not refresh_of(champion(), standings(idle=Standing("", 900, 0))).is_due


def test_a_champion_that_was_free_is_refreshed_when_it_costs_something() -> None:
    free = flat_router([flat_llm("e:cheap", [0, 1, 1], 0), flat_llm("e:dear", [1, 0, 0], 0)])
    found = refresh_of(free, {"e:cheap": Standing("", 1, 0), "e:dear": Standing("", 0, 0)})
    assert found.is_due and found.cost_change == inf
    assert "which were free" in found.reason
    assert [check.value for check in refresh_checks(found)][-1] == "not free any more"


def test_nothing_is_left_to_serve() -> None:
    dead = Standing("quarantined: doubted")
    found = refresh_of(champion(), standings(cheap=dead, dear=dead, idle=dead))
    assert found.is_due and found.router is None and found.dead_share == 1


def test_no_llm_ever_returns_by_a_refresh() -> None:
    found = refresh_of(champion(), standings(dear=Standing("withdrawn: gone"), back=Standing("", 1, 1)))
    assert found.router is not None and "e:back" not in found.router.keys


def test_the_same_standings_refresh_no_further() -> None:
    known = standings(dear=Standing("withdrawn: gone"), cheap=Standing("", 2, 0))
    once: Refresh = refresh_of(champion(), known)
    assert once.router is not None
    assert not refresh_of(once.router, known).is_due


def listed(**changed) -> LLM:
    facts = {
        "key": "e:a",
        "endpoint": "e",
        "llm_id": "a",
        "canonical_id": None,
        "name": "a",
        "catalog": "c",
        "released_at": None,
    }
    facts |= {"deprecated_at": None, "first_seen_on": TODAY, "last_seen_on": TODAY, "context_tokens": None}
    facts |= {"status": "available", "status_reason": None, "refusal": None}
    return LLM(**facts | {"price": Price(Decimal(1), Decimal(2), TODAY, "c")} | changed)


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({}, ""),
        ({"refusal": "input price changed x12, held for review"}, ""),
        ({"refusal": "price missing", "price": None}, ""),
        ({"status": "withdrawn"}, "withdrawn: no longer listed"),
        ({"status": "quarantined", "status_reason": "doubted"}, "quarantined: doubted"),
        ({"status": "excluded", "status_reason": "not ours"}, "excluded: not ours"),
        ({"refusal": "excluded by the settings"}, "excluded by the settings"),
        ({"deprecated_at": datetime(2024, 10, 1, tzinfo=UTC)}, "retired on 2024-10-01"),
        ({"deprecated_at": datetime(2024, 10, 2, tzinfo=UTC)}, ""),
    ],
)
def test_what_cannot_serve(changed, refusal) -> None:
    assert Standing.of(listed(**changed), TODAY).refusal == refusal
