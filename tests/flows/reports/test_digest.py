"""The digest of a night: the same lines in the same order every night, with the pending decision near the top."""

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from pydantic import TypeAdapter

from flows.fitting.refit_change import LLMChange, RefitChange
from flows.reports.attention import attention_lines
from flows.reports.digest import digest, report_note, spark_line
from flows.reports.night_record import NightRecord
from flows.reports.night_report import RefreshOutcome, RouterOutcome
from flows.reports.recording import night_record
from tests.flows.cli.test_hostile import report_of
from tests.registry.publishing.test_markdown import HOSTILE


def test_the_digest_says_what_to_decide_what_was_spent_and_whether_the_ledger_is_intact() -> None:
    lines = digest(report_of("plain")).splitlines()
    assert "- **decide**: promotion 7 waits: `uniroute promotion show 7`" in lines
    assert "- spent: plain $1.00 (profile $1.00); last nights █▁" in lines
    (health,) = [line for line in lines if line.startswith("- health: ")]
    assert "champion v2 since 2024-09-01; aliases wait for MLflow; ledger of 9 events broken (plain)" in health


def test_without_anything_to_decide_no_line_says_so() -> None:
    report = report_of("plain")
    assert report.closing is not None
    quiet = replace(report, closing=replace(report.closing, waiting_promotion=None, ledger_problem=""))
    assert "decide" not in digest(quiet)
    assert "ledger of 9 events intact" in digest(quiet)


def test_a_spark_line_is_as_high_as_its_largest_value() -> None:
    assert spark_line([0, 1, 2, 4]) == "▁▃▅█"
    assert spark_line([0, 0]) == "▁▁"
    assert spark_line([]) == ""


def test_an_applied_refresh_is_a_line_and_needs_nobody() -> None:
    done = RefreshOutcome("without e:gone", "applied", 4, "ab" * 32, judged_again=("promotion 3 waits as promotion 5",))
    report = replace(report_of("plain"), refresh=done)
    lines = digest(report).splitlines()
    assert "- refresh: the champion now serves without e:gone (`abababababab`)" in lines
    assert "- promotion 3 waits as promotion 5" in lines
    assert attention_lines(report) == attention_lines(report_of("plain"))
    record = night_record(report)
    assert record.as_data()["refresh"]["status"] == "applied"
    assert "refresh" not in night_record(report_of("plain")).as_data()


def test_a_refit_says_why_and_what_it_changed_and_is_stored() -> None:
    moved = (LLMChange("e:new|one", 0.31, 0.2952, 0, 12), LLMChange("e:old", 0.4, 0.4001, 30, 18))
    change = RefitChange("12 new LLMs since the last fit", 21, True, 359, 14, moved)
    report = report_of("plain")
    assert report.router is not None
    report = replace(report, router=replace(report.router, is_unchanged=False, refit=change))
    lines = [line.replace("\\", "") for line in digest(report).splitlines()]
    head = lines.index("- cluster map: fitted")
    assert lines[head + 1 : head + 4] == [
        "- refit: the prior fitted anew on 21 LLMs, from stored answers alone (12 new LLMs since the last fit)",
        "- refit: 14 of 359 gate prompts routed otherwise: e:new|one +12, e:old -12",
        "- refit: expected error of 1 LLM moved: e:new|one 0.310 -> 0.295",
    ]
    stored = TypeAdapter(NightRecord).validate_json(night_record(report).as_json())
    assert stored.router is not None and stored.router.refit == change
    assert "refit" not in night_record(report_of("plain")).as_data()["router"]


def test_a_champion_that_cannot_serve_comes_first() -> None:
    warning = "The champion rests on LLMs that cannot serve: 1 of its 2 LLMs (e:gone, withdrawn); 40.0% of the prompts"
    waits = RefreshOutcome("without e:gone", "requested", 4, "ab" * 32, problem="it waits for review")
    report = report_of("plain")
    assert report.closing is not None and report.router is not None
    report = replace(report, refresh=waits, closing=replace(report.closing, champion_warning=warning))
    report = replace(report, router=replace(report.router, promotion="rejected"))
    assert digest(report).splitlines()[0].replace("\\", "") == f"**{warning}**"
    first, second, *_ = attention_lines(report)
    assert first == warning
    assert second.endswith("is not applied: it waits for review; uniroute promotion approve 4 --reason TEXT")
    promoted = replace(report, router=replace(report.router, promotion="promoted"))
    assert not any("refresh" in line for line in attention_lines(promoted)), "the challenger serves instead"


@pytest.mark.parametrize("text", HOSTILE)
def test_the_note_beside_the_link_to_a_promotion_report_shows_hostile_reasons_as_text(text):
    router = RouterOutcome(digest="a" * 64, n_llms=1, is_unchanged=False, map_was_fitted=True, promotion=text)
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(report_note("v1", router))
    assert re.findall(r"<\s*/?\s*([A-Za-z0-9]+)", rendered) == ["p", "code", "code", "p"]
    assert "\x1b" not in rendered and "\u202e" not in rendered
