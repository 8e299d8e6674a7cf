"""Faults of catalogs: prices that mislead, catalogs that are down or cut, hostile rows, floods."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from flows.catalogs import open_catalog
from flows.cli.endings import ExitCode, exit_code_of
from flows.config.sections import CatalogSettings, EndpointSettings, JudgeSettings, PromptSettings
from flows.config.settings import Settings
from flows.errors import CatalogMalformed, CatalogUnavailable
from flows.profiling.plan import NightPlan, plan_night
from flows.reports.digest import digest
from flows.text import sanitize, table
from flows.workspace import Workspace
from registry.runs import Run
from registry.store import Registry
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import AskedNight
from tests.flows.catalogs.conftest import openrouter_document, openrouter_row
from tests.registry.samples import NOW, TODAY, prompts, record_fetch, start_night

_LIST_AND_MAP = """
[[catalog]]
name = "served"
kind = "openai"
location = "{base_url}/models"
endpoint = "fake"
exclude = ["unwanted"]
[[catalog]]
name = "map"
kind = "litellm"
location = "map.json"
endpoint = "fake"
"""
TOMORROW = TODAY + timedelta(days=1)


def rows(*ids: str) -> bytes:
    return openrouter_document(*(openrouter_row(one) for one in ids))


def next_night(registry: Registry, run: Run) -> Run:
    registry.runs.finish(run, "completed", "fine", "{}", NOW)
    return start_night(registry, "night:2024-09-02:abc", as_of=TOMORROW)


def routable(registry: Registry) -> list[str]:
    return [llm.llm_id for llm in registry.llms.all() if llm.is_routable]


def plan_of(registry: Registry) -> NightPlan:
    """Plan a night that may take on fifty new LLMs, of three prompts each."""
    llms = registry.llms.all()
    missing = {llm.key: prompts(3) for llm in llms}
    return plan_night(
        llms, TODAY, missing, dict.fromkeys(missing, 3), max_new=50, max_tokens={"router": 100}, seen_output_tokens=None
    )


SENTINELS = [
    ("-1", "negative input price"),
    ("-0.0000001", "negative input price"),
    ("0", "zero price, not allow-listed"),
    ("0.0", "zero price, not allow-listed"),
    (None, "price missing"),
    ("", "price missing"),
    ("free", "input price is not a number"),
    ("NaN", "input price is not a number"),
    ("Infinity", "input price is not a number"),
    (True, "input price is not a number"),
    (["0.000001"], "input price is not a number"),
    ("1e-400", "implausible input price"),
    ("1", "implausible input price"),
    ("9" * 400, "input price is not a number"),
]


@pytest.mark.parametrize(("price", "reason"), SENTINELS, ids=lambda value: str(value)[:12])
def test_f53_an_llm_with_an_invalid_price_is_not_routed_to(registry, night, catalog_of, price, reason):
    pricing = {"prompt": price, "completion": "0.000002"}
    document = openrouter_document(openrouter_row("maker/odd", pricing=pricing), openrouter_row("maker/good"))
    record_fetch(registry, night, catalog_of(document).fetch(), TODAY)
    odd = registry.llms.get("router:maker/odd")
    assert (odd.price, odd.is_routable) == (None, False)
    assert reason in str(odd.refusal)
    assert routable(registry) == ["maker/good"]
    assert [one.llm.llm_id for one in plan_of(registry).profiles] == ["maker/good"], "and it is not asked anything"


def test_f53_a_price_that_turns_into_a_sentinel_overnight_takes_the_llm_off(registry, night, catalog_of):
    record_fetch(registry, night, catalog_of(rows("maker/a", "maker/b")).fetch(), TODAY)
    later = next_night(registry, night)
    odd = openrouter_row("maker/a", pricing={"prompt": "-1", "completion": "-1"})
    document = openrouter_document(odd, openrouter_row("maker/b"))
    diff = record_fetch(registry, later, catalog_of(document).fetch(), TOMORROW)
    assert routable(registry) == ["maker/b"]
    assert [(one.llm_key, one.after) for one in diff.repriced] == [("router:maker/a", None)]
    assert registry.llms.price_history("router:maker/a")[0].input_usd_per_mtok == Decimal(1)


def test_f53_only_what_the_user_declares_free_may_cost_nothing(registry, night, catalog_of):
    nothing = {"prompt": "0", "completion": "0"}
    document = openrouter_document(*(openrouter_row(f"maker/{name}", pricing=nothing) for name in ("mine", "other")))
    record_fetch(registry, night, catalog_of(document, free=("maker/mine",)).fetch(), TODAY)
    assert routable(registry) == ["maker/mine"]


FIVE = tuple(f"maker/{number}" for number in range(5))


@pytest.mark.parametrize(
    ("status", "body"), [("500 Oops", b"{}"), ("200 OK", b""), ("200 OK", b'{"data": []}'), ("200 OK", b"<html>")]
)
def test_f55_a_catalog_that_is_down_or_empty_leaves_yesterday_as_it_was(
    registry, night, server, catalog_of, status, body
):
    record_fetch(registry, night, catalog_of(rows(*FIVE)).fetch(), TODAY)
    catalog = open_catalog(name="listed", kind="openrouter", location=server.serves(body, status=status), endpoint="r")
    with pytest.raises((CatalogUnavailable, CatalogMalformed)) as caught:
        catalog.fetch()
    assert exit_code_of(caught.value) in (ExitCode.TRY_LATER, ExitCode.CONFIGURATION)
    assert "listed" in caught.value.message
    assert routable(registry) == list(FIVE)


def test_f55_half_a_list_withdraws_no_llm_until_it_says_so_twice(registry, night, catalog_of):
    record_fetch(registry, night, catalog_of(rows(*FIVE)).fetch(), TODAY)
    second = next_night(registry, night)
    half = catalog_of(rows(*FIVE[:3])).fetch()
    diff = record_fetch(registry, second, half, TOMORROW)
    assert (diff.withdrawn, diff.is_suspicious) == ((), "shrank from 5 to 3 LLMs")
    assert routable(registry) == list(FIVE)
    registry.runs.finish(second, "attention", "", "{}", NOW)
    third = start_night(registry, "night:2024-09-03:abc")
    diff = record_fetch(registry, third, half, TOMORROW + timedelta(days=1))
    assert diff.withdrawn == ("router:maker/3", "router:maker/4")
    assert routable(registry) == list(FIVE[:3])


def test_f55_absence_from_a_list_with_many_unreadable_rows_says_nothing(registry, night, catalog_of):
    record_fetch(registry, night, catalog_of(rows(*FIVE)).fetch(), TODAY)
    cut = openrouter_document(*(openrouter_row(one) for one in FIVE[:4]), {"id": 5}, {"id": None})
    fetched = catalog_of(cut).fetch()
    diff = record_fetch(registry, next_night(registry, night), fetched, TOMORROW)
    assert (fetched.is_complete, diff.withdrawn, diff.is_suspicious) == (False, (), "incomplete fetch")


def test_f56_one_bad_row_is_kept_with_its_reason_and_costs_the_others_nothing(registry, night, catalog_of):
    good = ",".join(json.dumps(openrouter_row(one)) for one in FIVE)
    document = '{"data": [' + good + ', {"id": "maker/odd", "pricing": {"prompt": NaN}}]}'
    fetched = catalog_of(document).fetch()
    record_fetch(registry, night, fetched, TODAY)
    (bad,) = fetched.quarantined
    assert (bad.position, bad.reason) == (5, "NaN is not a number in JSON")
    assert fetched.is_complete
    assert routable(registry) == list(FIVE)


def test_f57_one_identity_per_endpoint_and_id_and_no_moving_alias_is_routed_to(registry, night, catalog_of):
    document = openrouter_document(
        openrouter_row("maker/a"),
        openrouter_row("maker/a", pricing={"prompt": "0.1", "completion": "0.1"}),
        openrouter_row("Maker/A"),
        openrouter_row("maker/a:free", pricing={"prompt": "0", "completion": "0"}),
        openrouter_row("~maker/a-latest"),
    )
    fetched = catalog_of(document).fetch()
    record_fetch(registry, night, fetched, TODAY)
    assert [row.reason for row in fetched.quarantined] == ["the id 'maker/a' is listed twice; the first row counts"]
    assert registry.llms.get("router:maker/a").price.input_usd_per_mtok == Decimal(1), "the first row counts"
    assert sorted(routable(registry)) == ["Maker/A", "maker/a"], "case counts; variants and aliases stay out"
    assert registry.llms.get("router:maker/a:free").refusal == "zero price, not allow-listed"
    assert "alias" in str(registry.llms.get("router:~maker/a-latest").refusal)


def test_f60_ten_thousand_new_llms_in_one_night_are_known_and_few_are_asked(registry, night, catalog_of):
    names = [f"maker/{number:05}" for number in range(10_000)]
    diff = record_fetch(registry, night, catalog_of(rows(*names)).fetch(), TODAY)
    assert len(diff.new) == 10_000
    planned = plan_of(registry)
    assert len(planned.profiles) == 50
    assert planned.calls == 150
    assert len(planned.deferred) == 9_950


HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "a\nforged log line",
    "[link=http://evil]click[/link] [/b]",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "name\u202eesrever",
    "x" * 200_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:12]))
def test_f61_a_hostile_name_is_cut_and_harmless_wherever_it_is_shown(registry, night, catalog_of, text):
    document = openrouter_document(openrouter_row("maker/a", name=text), openrouter_row("maker/b", name=text * 2))
    fetched = catalog_of(document).fetch()
    record_fetch(registry, night, fetched, TODAY)
    for llm in registry.llms.all():
        assert len(llm.name) <= 300
        shown = table(["NAME"], [[llm.name]]).splitlines()
        assert len(shown) == 2
        assert sanitize(llm.name) == shown[1].strip()
        assert shown[1].isprintable()


def test_f61_a_row_of_a_megabyte_is_not_read(registry, night, catalog_of):
    document = openrouter_document(openrouter_row("maker/a", description="x" * 1_000_000), openrouter_row("maker/b"))
    fetched = catalog_of(document).fetch()
    assert [len(row.raw) for row in fetched.quarantined] == [2000]
    assert [row.llm_id for row in fetched.listings] == ["maker/b"]


@pytest.mark.parametrize("llm_id", ["../../etc/passwd\x00", "a b", "a\nb", "\u202ea", "x" * 201, "\ud800", ""])
def test_f61_a_hostile_id_makes_no_llm(registry, night, catalog_of, llm_id):
    document = openrouter_document(openrouter_row(llm_id), openrouter_row("maker/good"))
    fetched = catalog_of(document).fetch()
    record_fetch(registry, night, fetched, TODAY)
    assert [row.position for row in fetched.quarantined] == [0]
    assert [llm.llm_id for llm in registry.llms.all()] == ["maker/good"]


def test_the_judge_is_listed_whatever_include_says(tmp_path):
    catalog = CatalogSettings(name="c", kind="openai", location="list.json", endpoint="e", include=["a"])
    (tmp_path / "list.json").write_text(json.dumps({"data": [{"id": name} for name in ("a", "b[1]", "b1", "c")]}))
    judge = JudgeSettings(llm="e:b[1]")
    endpoint = EndpointSettings(name="e", base_url="http://127.0.0.1:9/v1")
    catalog = catalog.model_copy(update={"location": str(tmp_path / "list.json")})
    asked = PromptSettings(file=tmp_path / "prompts.jsonl")
    settings = Settings(home=tmp_path, prompts=asked, catalog=(catalog,), endpoint=(endpoint,), judge=judge)
    with Workspace(settings) as workspace:
        fetched = workspace.catalogs()[0].fetch()
    assert [one.llm_id for one in fetched.listings] == ["a", "b[1]"]
    assert sorted(fetched.left_out) == ["e:b1", "e:c"]


@pytest.fixture
def asked(tmp_path, migrated, monkeypatch):
    with FakeEndpoint() as fake:
        yield AskedNight(tmp_path, fake, migrated, monkeypatch)


def test_x09_prices_arrive_with_the_list_and_pages_that_are_missing_withdraw_nothing(asked):
    row = {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    (asked.folder / "map.json").write_text(json.dumps(dict.fromkeys(("a", "b", "c", "unwanted"), row)))
    asked.prepare("own", n_prompts=20, more=_LIST_AND_MAP.format(base_url=asked.fake.base_url))
    whole = {"data": [{"id": name, "created": 1_677_610_602} for name in ("a", "b", "c", "unwanted")]}
    asked.fake.documents["/v1/models"] = whole
    seen = {}

    def look(night):
        seen[night.as_of] = {llm.llm_id: llm for llm in night.registry.llms.all()}

    report = asked.run("2024-09-01", look)
    assert {diff.catalog: (diff.new, diff.n_left_out) for diff in report.diffs} == {
        "ours": (("fake:own",), 0),
        "served": (("fake:a", "fake:b", "fake:c"), 1),
        "map": ((), 0),
    }
    assert sorted(found.llm_key for found in report.profiles) == ["fake:a", "fake:b", "fake:c", "fake:own"]
    assert "1 left out by the settings" in digest(report)
    assert "unwanted" not in digest(report)
    first = seen[report.as_of]
    assert (first["a"].price.catalog, first["a"].catalog, first["a"].released_at) == ("map", "served", None)
    asked.fake.documents["/v1/models"] = {"data": whole["data"][:2], "has_more": True, "last_id": "b"}
    (asked.folder / "map.json").write_text(json.dumps({"a": row}))
    report = asked.run("2024-09-02", look)
    assert [diff.withdrawn for diff in report.diffs] == [(), (), ()]
    assert seen[report.as_of]["c"].status == "available"
