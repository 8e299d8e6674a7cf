"""``uniroute night run`` with its options, as JSON lines: a whole small night, with every part real except Prefect."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.store import Registry
from tests.commands import Ended, Uniroute
from tests.fakes.endpoint import FakeEndpoint
from tests.fakes.plain import without_prefect
from tests.faults.tiny_night import FIRST, LLMS, SECOND, TinyNight, answer
from tests.flows.cli.shapes import PINNED, misfits


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as fake:
        yield fake


@pytest.fixture
def tiny(endpoint: FakeEndpoint, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> TinyNight:
    """Prepare a night of three LLMs and two dozen prompts, in the working folder."""
    for name in [name for name in os.environ if name.startswith("UNIROUTE_")]:
        monkeypatch.delenv(name)
    night = TinyNight.prepare(tmp_path / "night", endpoint, template)
    monkeypatch.chdir(night.folder)
    without_prefect(monkeypatch.setattr)
    return night


def lines_of(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in ended.out.splitlines()]


def test_a_night_is_reported_from_its_lease_to_the_status_of_every_llm(tiny: TinyNight, uniroute: Uniroute) -> None:
    ended = uniroute("night", "run", "--as-of", FIRST, "--json")
    assert ended.code in (0, 3), ended.err
    first, *between, last = lines_of(ended)
    assert {line["schema"] for line in (first, *between, last)} == {"uniroute.night.run/1"}
    pinned = PINNED["uniroute.night.run/1"]["lines"]
    assert [fault for line in (first, *between, last) for fault in misfits(line, pinned[line["event"]], "line")] == []
    assert (first["event"], first["attempt"]) == ("started", 1)
    assert [line["stage"] for line in between if line["event"] == "reached"][:3] == ["catalogs", "regraded", "planned"]
    assert (last["event"], last["run"]) == ("finished", first["run"])
    assert {row["llm"]: row["status"] for row in last["llms"]} == {"fake:weak": "profiled", "fake:fair": "profiled"}
    assert last["status"] == ("attention" if ended.code == 3 else "completed")
    after = last["data"]["aftermath"]
    assert after["spend_by_endpoint"]["fake"] == pytest.approx(last["data"]["spent_usd"])
    assert (after["waiting_promotion"], after["champion_version"], after["ledger_problem"]) == (None, 1, "")
    shown = uniroute("night", "show", "--json").data
    assert shown["key"] == first["run"]
    assert shown["summary"]["verdict"] == last["data"]["verdict"]
    assert shown["calls"] == sum(row["calls"] for row in last["llms"])
    text = uniroute("night", "show").out
    assert "fake:weak" in text
    assert f"router   version 1: 2 LLMs, {last['data']['router']['promotion']}" in text


def test_a_decision_that_waits_is_the_next_thing_to_look_at(
    tiny: TinyNight, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIROUTE_GATE__POLICY", "review")
    ended = uniroute("night", "run", "--as-of", FIRST)
    assert ended.code == 3
    assert ended.out.endswith("\nnext: uniroute promotion show 1\n")


def test_only_the_named_llm_is_asked(tiny: TinyNight, endpoint: FakeEndpoint, uniroute: Uniroute) -> None:
    ended = uniroute("night", "run", "--as-of", SECOND, "--only", "good", "--only", "fake:weak", "--plan", "--json")
    assert {row["llm"] for row in lines_of(ended)[-1]["data"]["plan"]["llms"]} == {"fake:good", "fake:weak"}
    again = ["night", "run", "--as-of", SECOND, "--only", "good", "--only", "fake:weak"]
    assert uniroute(*again, "--plan").out.endswith(f"\nnext: uniroute {' '.join(again)}\n")
    refused = uniroute("night", "run", "--as-of", SECOND, "--only", "nobody")
    assert (refused.code, refused.out) == (2, "")
    assert "error: No available LLM is called nobody. Nothing was called." in refused.err
    assert not endpoint.calls


def test_an_llm_beyond_max_new_is_deferred_and_reported(tiny: TinyNight, uniroute: Uniroute) -> None:
    last = lines_of(uniroute("night", "run", "--as-of", FIRST, "--max-new", "1", "--plan", "--json"))[-1]
    assert last["data"]["plan"]["deferred"] == ["fake:fair"]
    assert [(row["llm"], row["status"]) for row in last["llms"]] == [("fake:fair", "deferred")]


def test_a_plan_without_an_llm_to_route_to_says_what_to_do_and_naming_them_free_is_enough(
    tiny: TinyNight, endpoint: FakeEndpoint, uniroute: Uniroute
) -> None:
    prices = tiny.folder / "llms.toml"
    prices.write_text(prices.read_text().replace("= 0.1\n", "= 0\n").replace("= 0.2\n", "= 0\n"))
    ended = uniroute("night", "run", "--as-of", FIRST, "--plan")
    assert ended.code == 3
    assert "! No LLM can be routed to: " in ended.out
    assert "name under free of [[catalog]]" in ended.out
    assert ended.out.endswith("\nnext: uniroute llm list\n")
    refused = uniroute("night", "run", "--as-of", FIRST)
    assert refused.code == 78
    assert "No LLM can be routed to: " in refused.err
    assert not endpoint.calls
    settings = tiny.folder / "uniroute.toml"
    settings.write_text(settings.read_text().replace("[[catalog]]", '[[catalog]]\nfree = ["*"]'))
    (*_, last) = lines_of(uniroute("night", "run", "--as-of", FIRST, "--json"))
    assert (last["data"]["spent_usd"], last["data"]["router"]["promotion"]) == (0, "promoted")
    assert uniroute("llm", "list").code == 0


def test_a_night_that_ends_early_has_no_last_line_but_an_error(tiny: TinyNight, uniroute: Uniroute) -> None:
    ended = uniroute("night", "run", "--as-of", FIRST, "--budget-usd", "0.0000001", "--json")
    assert ended.code == 3
    first, *_, last = lines_of(ended)
    assert first["event"] == "started"
    assert (last["error"]["kind"], last["error"]["exit_code"]) == ("budget", 3)
    forgiven = uniroute("night", "run", "--as-of", FIRST, "--budget-usd", "0.0000001", "--exit-zero-on", "attention")
    assert (forgiven.code, forgiven.out) == (0, "")


def test_without_the_lease_nothing_is_started(tiny: TinyNight, uniroute: Uniroute) -> None:
    from datetime import UTC, datetime

    from tests.registry.samples import start_night

    with Registry.open(f"sqlite:///{tiny.registry}") as registry:
        start_night(registry, host="elsewhere", now=datetime.now(UTC))
    ended = uniroute("night", "run", "--as-of", FIRST, "--json")
    assert ended.code == 75
    (only,) = lines_of(ended)
    assert only["error"]["kind"] == "busy"
    refused = uniroute("night", "run", "--as-of", FIRST)
    assert (refused.code, refused.out) == (75, "")
    assert "is already active since" in refused.err
    assert "Starting Prefect" not in refused.err, "it is refused before anything slow begins"


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
def test_an_impossible_budget_is_refused(tiny: TinyNight, uniroute: Uniroute, value: str) -> None:
    refused = uniroute("night", "run", "--budget-usd", value)
    assert (refused.code, refused.out) == (78, "")
    assert "budget.night_usd (in the command line)" in refused.err


def test_quiet_leaves_the_result_and_nothing_else(tiny: TinyNight, uniroute: Uniroute) -> None:
    loud = uniroute("night", "run", "--as-of", FIRST, "--plan")
    quiet = uniroute("night", "run", "--as-of", FIRST, "--plan", "--quiet")
    assert "Starting Prefect" in loud.err
    assert (quiet.err, quiet.out) == ("", loud.out)
