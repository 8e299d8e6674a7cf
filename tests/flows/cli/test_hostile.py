"""Fault F102: names, prompts, completions and error texts are harmless wherever they are shown."""

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from flows.cli.endings import report_error
from flows.errors import PrerequisiteError
from flows.profiling.availability import UnavailableLLM
from flows.profiling.plan import NightPlan
from flows.profiling.results import CanaryOutcome, GroupMove, ProfileOutcome, Quarantine
from flows.reports.closing import ClosingState
from flows.reports.digest import digest, escape, llm_endings, llm_table, verdict
from flows.reports.night_report import NightReport, RouterOutcome
from flows.reports.recording import night_record
from flows.reports.terminal import beginning_text, ending_text
from flows.text import sanitize, sanitize_lines, table
from registry.charges import EndpointSpend, PurposeSpend
from registry.llms import LLM, CatalogDiff, Price, Repricing
from registry.prompts import PromptSet
from registry.publishing import markdown, one_line
from registry.store import Registry
from tests.commands import Uniroute
from tests.fakes.hostile import HOSTILE, active_signs, bare_links, elements_of
from tests.registry.samples import NOW, fetch, listing, record_fetch

every_string = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
TODAY = date(2024, 9, 1)
# Emphasis and lists are the digest's own; an address, an image, a script or a heading would be foreign.
PLAIN = {"p", "br", "ul", "li", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}


def report_of(text: str) -> NightReport:
    """Return the report of a night in which every foreign name and message is the given text."""
    price = Price(Decimal(1), Decimal(2), TODAY, text)
    dates = {"released_at": None, "deprecated_at": None, "first_seen_on": TODAY, "last_seen_on": TODAY}
    names = {"key": text, "endpoint": "here", "llm_id": text, "canonical_id": text, "name": text, "catalog": text}
    llm = LLM(**names, **dates, context_tokens=1, status="available", status_reason=text, refusal=text, price=price)
    diff = CatalogDiff(text, (text,), (text,), (text,), (Repricing(text, price, None),), (text,), text)
    profile = ProfileOutcome(text, True, 2, 1, 1, Decimal(1), 0.5, 0.5, text, "timeout", 0.5, (text,))
    canary = CanaryOutcome(text, 2, 2, 2, 0, 0.0, Decimal(0), text, "timeout")
    router = RouterOutcome(
        "d" * 64, 1, False, True, 3, "promoted", publish_error=text, alias_drifts=(text,), left_out=((text, text),)
    )
    return NightReport(
        run_key="night:x",
        as_of=TODAY,
        prompt_set=PromptSet(text, "d" * 64, ()),
        diffs=(diff,),
        catalog_errors=(text,),
        plan=NightPlan((), (llm,), (llm,), 1),
        profiles=(profile,),
        canaries=(canary,),
        quarantined=(Quarantine(text, text),),
        drifted=(text,),
        absent=(UnavailableLLM(text, True),),
        router=router,
        attention=(text, f"{text} is incomplete: {text}"),
        closing=ClosingState(
            by_endpoint=(EndpointSpend(text, 1, Decimal(1)),),
            by_purpose=(PurposeSpend("profile", 1, Decimal(1)),),
            nightly_usd=(Decimal(1), Decimal(0)),
            waiting_promotion=7,
            champion_version=2,
            champion_since_at=NOW,
            ledger_events=9,
            ledger_problem=text,
            free_bytes=10**9,
            settings_conflict=text,
        ),
    )


def drifted_report_of(text: str) -> NightReport:
    """Return that report with a group that moved, which no night of earlier releases has."""
    report = report_of(text)
    moved = (GroupMove("", 2, 1.0, 0.0), GroupMove(text, 2, 1.0, 0.0))
    return replace(report, canaries=tuple(replace(found, nights=2, moved=moved) for found in report.canaries))


@every_string
def test_in_cells_and_lines_of_a_terminal(text: str) -> None:
    assert not active_signs(sanitize(text))
    assert not active_signs(sanitize_lines(text))
    lines = table(["NAME", "N"], [[text, 1], ["b", text]]).split("\n")
    assert len(lines) == 3
    assert not any(active_signs(line) for line in lines)


@every_string
def test_in_what_a_night_says_on_a_terminal(text: str) -> None:
    plain, hostile = (
        [part(report) for part in (beginning_text, ending_text)]
        for report in (drifted_report_of("plain"), drifted_report_of(text))
    )
    for expected, found in zip(plain, hostile, strict=True):
        assert not active_signs(found)
        assert found.count("\n") == expected.count("\n"), "foreign text made a line of its own"


@every_string
def test_in_the_digest_that_prefect_and_chats_render(text: str) -> None:
    found = digest(drifted_report_of(text))
    assert not active_signs(found)
    assert elements_of(found) <= PLAIN
    assert bare_links(found) == []
    assert len(found.splitlines()) == len(digest(report_of("plain")).splitlines()) <= 40


@every_string
def test_in_the_table_of_llms_that_prefect_renders(text: str) -> None:
    for cell in (*llm_table(report_of(text))[0].values(), verdict(report_of(text))):
        assert not active_signs(str(cell))
        assert elements_of(f"| a |\n|---|\n| {cell} |") <= PLAIN
        assert bare_links(str(cell)) == []


@every_string
def test_in_the_text_that_mlflow_renders(text: str) -> None:
    shown = markdown(text)
    assert not active_signs(shown)
    assert elements_of(shown) <= {"p", "br", "ul", "li"}
    assert bare_links(shown) == []
    assert "\n" not in one_line(text, 500)
    assert not active_signs(one_line(text, 500))


@every_string
def test_in_json_where_it_stays_what_it_was(text: str) -> None:
    report = report_of(text)
    for written in (night_record(report).as_json(), json.dumps(llm_endings(report), allow_nan=False)):
        assert written.isascii()
        assert not active_signs(written)
        json.loads(written, parse_constant=pytest.fail)
    record = night_record(report)
    assert json.loads(record.as_json())["attention"] == record.as_data()["attention"] == list(report.attention)


@every_string
def test_in_the_two_lines_of_an_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    report_error(PrerequisiteError(text, unchanged=text, hint=text), as_json=True, verbose=True)
    said = capsys.readouterr()
    assert not active_signs(said.err)
    lines = said.err.splitlines()
    assert [line[:6] for line in lines[:2]] == ["error:", "next: "]
    assert all(line.startswith("  ") for line in lines[2:])
    assert json.loads(said.out)["error"]["message"] == text
    assert said.out.isascii()


@every_string
def test_escaped_text_reads_the_same(text: str) -> None:
    shown = escape(text, 6000)
    words = one_line(text, 6000)
    assert shown.replace("\\", "") == words.replace("\\", "")


@pytest.fixture
def poisoned(home: Path, registry: Registry, tmp_path: Path) -> Path:
    """Put every hostile string wherever catalogs, people and prompt files can put text."""
    run = registry.runs.latest()
    assert run is not None
    listings = [
        listing(f"llm-{number}", endpoint="sandbox", name=text, refusal=text[:250])
        for number, text in enumerate(HOSTILE.values())
    ]
    listings += [listing(text[:200], endpoint="bad") for text in HOSTILE.values() if text[:200].strip()]
    record_fetch(registry, run.id, fetch(listings, "hostile", catalog="evil"), run.as_of)
    for text in HOSTILE.values():
        registry.llms.set_status("sandbox:llm-1", "quarantined", text, actor=text, now=run.started_at)
    prompts = [
        {
            "prompt_id": f"{number} {text}",
            "text": text,
            "reference": "ABCD"[number % 4],
            "grader": "choice",
            "category": text,
        }
        for number, text in enumerate(HOSTILE.values())
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    (tmp_path / "uniroute.toml").write_text('[prompts]\nfile = "prompts.jsonl"\n')
    return home


@pytest.mark.parametrize(
    "command",
    [
        ("llm", "list"),
        ("llm", "show", "sandbox:llm-1"),
        ("llm", "diff"),
        ("night", "show"),
        ("night", "events"),
        ("prompt", "list", "--limit", "1000"),
        ("prompt", "check"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_in_what_commands_print(poisoned: Path, uniroute: Uniroute, command: tuple[str, ...]) -> None:
    said = uniroute(*command)
    assert said.code in (0, 3, 5), said.err
    assert not active_signs(said.out + said.err)
    assert not [line for line in said.out.splitlines() if line.startswith(("error:", "=", "@"))]
    as_json = uniroute(*command, "--json")
    assert as_json.out.isascii()
    assert not active_signs(as_json.out)
    json.loads(as_json.out)


def test_in_an_error_about_a_command_line(home: Path, uniroute: Uniroute) -> None:
    for text in HOSTILE.values():
        for said in (uniroute("llm", "show", "--", text), uniroute(f"--{text}"), uniroute("night", "show", text)):
            assert not active_signs(said.err), ascii(said.err)
            assert (said.out, len(said.err.splitlines())) == ("", 2), said.err
