"""LLMs on the command line: listed, shown, and decided about."""

import re
import time
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.store import Registry
from tests.commands import Uniroute
from tests.fakes.hostile import active_signs
from tests.fakes.nights import SETTINGS
from tests.flows.cli.shapes import PINNED, misfits
from tests.registry.samples import fetch, listing, record_fetch, start_night

KEY = "sandbox:frugal"
LATER = date(2024, 9, 2)
HOSTILE = "\x1b[2Jnothing\nprompt p9: score 1\u202e"


@pytest.mark.parametrize(
    ("verb", "status"), [("exclude", "excluded"), ("quarantine", "quarantined"), ("include", "available")]
)
def test_a_decision_changes_the_status_and_is_kept_with_its_reason(
    home, registry: Registry, uniroute: Uniroute, verb: str, status: str
) -> None:
    before = registry.ledger.count()
    would = uniroute("llm", verb, KEY, "--reason", "a look", "--dry-run")
    assert (would.code, registry.ledger.count()) == (0, before)
    done = uniroute("llm", verb, KEY, "--reason", "a look", "--json").data
    assert (done["before"], done["after"], done["is_dry_run"]) == ("available", status, False)
    assert registry.llms.get(KEY).status == status
    event = registry.ledger.events(subject=KEY)[-1]
    assert (event.event, event.subject, event.reason) == (f"llm:status:{status}", KEY, "a look")


@pytest.mark.parametrize("reason", [(), ("--reason", "  ")])
def test_a_decision_without_a_reason_is_a_usage_error(home, uniroute: Uniroute, reason: tuple[str, ...]) -> None:
    refused = uniroute("llm", "exclude", KEY, *reason)
    assert (refused.code, refused.out) == (2, "")
    assert "reason" in refused.err


def test_people_read_yes_or_no_where_machines_read_a_boolean(home, uniroute: Uniroute) -> None:
    assert "is routable      yes" in uniroute("llm", "show", KEY).out.splitlines()
    assert uniroute("llm", "show", KEY, "--json").data["is_routable"] is True


def test_an_llm_is_shown_though_the_champion_that_it_is_compared_with_cannot_be_read(home, uniroute: Uniroute) -> None:
    shown = uniroute("llm", "show", KEY, "--json").data
    assert (shown["day_zero"], shown["prior_share"]) == (None, None)
    assert shown["day_zero_off"] == "the champion cannot be read here"
    assert "nothing is expected: the champion cannot be read here" in uniroute("llm", "show", KEY).out


def test_a_decision_without_a_reason_shows_the_whole_command(home, uniroute: Uniroute) -> None:
    refused = uniroute("llm", "exclude", KEY, "--dry-run")
    assert refused.err.splitlines()[-1] == f"next:  uniroute llm exclude {KEY} --dry-run --reason TEXT"


def test_a_decision_about_an_unknown_llm_is_refused(home, uniroute: Uniroute) -> None:
    refused = uniroute("llm", "exclude", "nobody", "--reason", "x")
    assert (refused.code, refused.out) == (2, "")
    assert "nobody" in refused.err


def test_the_diff_lists_what_catalogs_and_people_changed_since_a_day(
    home, registry: Registry, uniroute: Uniroute
) -> None:
    run = start_night(registry, "night:2024-09-02:abc", as_of=LATER)
    rows = [listing(name, endpoint="sandbox") for name in ("frugal", "middle", "strong", "fresh")]
    rows[1] = listing("middle", "1.5", endpoint="sandbox")
    rows[2] = listing("strong", "90", endpoint="sandbox")
    record_fetch(registry, run, fetch(rows, "second"), LATER)
    uniroute("llm", "exclude", KEY, "--reason", "too slow")
    found = {row["llm"]: row for row in uniroute("llm", "diff", "--json").data["changes"]}
    assert found["sandbox:fresh"]["change"] == "new"
    assert (found["sandbox:middle"]["change"], found["sandbox:middle"]["after"]) == ("repriced", "1.5/1.5")
    assert found["sandbox:strong"]["change"] == "price held"
    assert (found[KEY]["change"], found[KEY]["reason"]) == ("excluded", "too slow")
    assert uniroute("llm", "diff", "--since", "2999-01-01").out == "Nothing has changed since 2999-01-01.\n"
    assert "too slow" in uniroute("llm", "diff").out


def test_a_held_price_is_accepted_by_decision(home, registry: Registry, uniroute: Uniroute) -> None:
    run = start_night(registry, "night:2024-09-02:abc", as_of=LATER)
    rows = [listing(name, "90" if name == "middle" else "1", endpoint="sandbox") for name in ("frugal", "middle")]
    record_fetch(registry, run, fetch(rows, "second"), LATER)
    assert "next: uniroute llm accept-price sandbox:middle --reason TEXT" in uniroute("llm", "show", "middle").out
    would = uniroute("llm", "accept-price", "sandbox:middle", "--reason", "announced", "--dry-run", "--json").data
    assert (would["before"]["input_usd_per_mtok"], would["after"]["input_usd_per_mtok"]) == (1.0, 90.0)
    assert not registry.llms.get("sandbox:middle").is_routable
    assert uniroute("llm", "accept-price", "sandbox:middle", "--reason", "announced").code == 0
    assert registry.llms.get("sandbox:middle").is_routable
    assert uniroute("llm", "accept-price", "sandbox:middle", "--reason", "announced").code == 2


def test_llms_are_sorted_and_limited(home, uniroute: Uniroute) -> None:
    rows = uniroute("llm", "--sort", "-key", "--limit", "2", "--json").data
    assert [row["key"] for row in rows] == sorted((row["key"] for row in rows), reverse=True)
    assert len(rows) == 2


def test_llms_that_the_settings_leave_out_are_hidden_unless_all_are_wanted(
    home, registry: Registry, uniroute: Uniroute
) -> None:
    run = start_night(registry, "night:2024-09-02:abc", as_of=LATER)
    rows = [listing(name, endpoint="sandbox") for name in ("middle", "strong")]
    rows += [listing(f"fresh-{place}", endpoint="sandbox") for place in range(3000)]
    left_out = {KEY: "not among the included ids", "sandbox:never-seen": "not among the included ids"}
    record_fetch(registry, run, fetch(rows, "2", left_out=left_out), LATER)
    shown = [row["key"] for row in uniroute("llm", "list", "--json").data]
    assert (len(shown), KEY in shown) == (3002, False)
    assert len(uniroute("llm", "list", "--all", "--json").data) == 3003
    text = uniroute("llm", "list", "--limit", "2").out.splitlines()
    assert "PRICED BY" in text[0]
    assert text[-1] == "1 LLM left out by the settings: uniroute llm list --all"
    assert uniroute("llm", "show", KEY, "--json").data["refusal"] == "not among the included ids"


def test_the_score_of_an_llm_is_the_same_number_wherever_it_is_shown(eventful, uniroute: Uniroute) -> None:
    board = {
        place["key"]: (place["score"], place["n_scored"])
        for place in uniroute("report", "leaderboard", "--format", "json").data["places"]
        if place["score"] is not None
    }
    listed = {row["key"]: (row["mean_score"], row["prompts_scored"]) for row in uniroute("llm", "list", "--json").data}
    assert len(board) >= 3
    for key, (score, n) in board.items():
        shown = uniroute("llm", "show", key, "--json").data
        assert listed[key] == (shown["mean_score"], shown["prompts_scored"]) == (pytest.approx(score), n), key


def test_a_leaderboard_over_thousands_of_llms_takes_seconds_and_hides_what_is_left_out(
    eventful, uniroute: Uniroute
) -> None:
    with Registry.open(f"sqlite:///{eventful / 'registry.db'}") as registry:
        known = registry.llms.all()
        run = start_night(registry, "night:many", as_of=date(2025, 1, 1), holder_is_gone=lambda _: True)
        rows = [listing(one.llm_id, endpoint=one.endpoint) for one in known[1:]]
        rows += [listing(f"many-{place}", endpoint=known[0].endpoint) for place in range(3000)]
        hidden = {known[0].key: "not among the included ids"}
        record_fetch(registry, run, fetch(rows, "2", catalog=known[0].catalog, left_out=hidden), run.as_of)
    started_s = time.monotonic()
    board = uniroute("report", "leaderboard", "--format", "json").data
    assert time.monotonic() - started_s < 20, "it took five minutes when every LLM was a query of its own"
    assert (len(board["places"]), board["n_left_out"]) == (2999 + len(known), 1)
    assert known[0].key not in {place["key"] for place in board["places"]}
    assert board["places"][0]["score"] is not None
    board = uniroute("report", "leaderboard", "--all", "--format", "json").data
    assert (len(board["places"]), board["n_left_out"]) == (3000 + len(known), 0)
    assert "1 LLM left out by the settings: --all" in uniroute("report", "leaderboard", "--format", "markdown").out


def test_quarantine_lets_the_champion_serve_without_the_llm_at_once(eventful, tmp_path, uniroute: Uniroute) -> None:
    (tmp_path / "uniroute.toml").write_text(SETTINGS.format(policy="automatic"))
    done = uniroute("llm", "quarantine", "fake:weak", "--reason", "doubted")
    assert "fake:weak is now quarantined (it was available)" in done.out
    assert "The champion now serves without fake:weak" in done.out
    # The challenger that waited has the LLM too.
    assert "is rejected against the refreshed champion: gate failed: LLMs that may be routed to" in done.out
    shown = uniroute("promotion", "list", "--json").data
    assert [(row["kind"], row["status"]) for row in shown[:2]] == [("promotion", "rejected"), ("refresh", "applied")]
    assert uniroute("router", "history", "--json").data[-1]["kind"] == "refresh"


def test_under_review_exclude_says_what_waits_and_ends_with_3(eventful, uniroute: Uniroute) -> None:
    done = uniroute("llm", "exclude", "fake:weak", "--reason", "not ours")
    assert done.code == 3
    assert "The champion is not refreshed (without fake:weak" in done.out
    number = re.search(r"uniroute promotion approve (\d+) --reason TEXT", done.out)[1]
    assert uniroute("promotion", "show", number, "--json").data["kind"] == "refresh"
    # What waited before still waits: a refresh is no challenger.
    assert len(uniroute("promotion", "list", "--status", "requested", "--json").data) == 2
    # And the doctor says the same first.
    first = uniroute("doctor", "--json").data["checks"][0]
    assert first["finding"].startswith("The champion rests on LLMs that cannot serve: 1 of its 2 LLMs")
    assert first["repair"] == f"uniroute promotion approve {number} --reason TEXT (serves without them)"


ANSWERED = "fake:weak"
OF_ONE = "llm_id = (SELECT id FROM llm WHERE key = 'fake:weak') AND prompt_id = :prompt"


@pytest.fixture
def doubtful(eventful: Path) -> Path:
    """A home in which two answers of one LLM could not be read: one is pruned, the other says hostile things."""
    with Registry.open(f"sqlite:///{eventful / 'registry.db'}") as registry, registry._database.write() as unit:
        unit.execute(text("UPDATE outcome SET is_unreadable = FALSE WHERE score IS NOT NULL"))
        first, second = (answered_prompt(unit, at) for at in (0, 1))
        for number in (first, second):
            unit.execute(text(f"UPDATE outcome SET is_unreadable = TRUE, score = 0 WHERE {OF_ONE}"), {"prompt": number})
        unit.execute(text(f"DELETE FROM completion WHERE {OF_ONE}"), {"prompt": first})
        unit.execute(
            text(f"UPDATE completion SET text = :said WHERE {OF_ONE}"), {"prompt": second, "said": HOSTILE.encode()}
        )
    return eventful


def answered_prompt(unit, at: int) -> int:
    """Return the number of the prompt at a place among those that the LLM has answered."""
    answered = (
        "SELECT o.prompt_id FROM outcome o JOIN llm l ON l.id = o.llm_id JOIN protocol p ON p.id = o.protocol_id "
        "WHERE l.key = 'fake:weak' AND o.score IS NOT NULL AND p.sampling NOT LIKE '%canary%' ORDER BY 1"
    )
    return unit.execute(text(answered)).scalars().all()[at]


def test_unreadable_answers_are_shown_with_what_was_asked_and_cannot_harm_the_terminal(
    doubtful, uniroute: Uniroute
) -> None:
    shown = uniroute("llm", "show", ANSWERED, "--unreadable").out
    assert active_signs(shown) == set()
    lines = shown.splitlines()
    (sentence,) = [line for line in lines if line.startswith("unreadable ")]
    assert " 2 of " in sentence
    assert any(line.startswith("2 unreadable answers of 2") for line in lines)
    assert "    | (the text was pruned)" in lines
    assert "    | prompt p9: score 1" in [line.rstrip() for line in lines], "quoted, not a line of ours"
    assert sum(line.startswith("  reference ") for line in lines) == 2
    assert uniroute("llm", "show", ANSWERED, "--unreadable", "--limit", "1").out.count("in doubt") == 1
    plain = uniroute("llm", "show", ANSWERED).out
    assert "in doubt" not in plain
    assert plain.splitlines()[-1] == f"next: uniroute llm show {ANSWERED} --unreadable"


def test_machines_read_unreadable_answers_as_they_are_stored(doubtful, uniroute: Uniroute) -> None:
    data = uniroute("llm", "show", ANSWERED, "--unreadable", "--json").data
    assert list(misfits(data, PINNED["uniroute.llm.show/1"]["data"])) == []
    assert (data["prompts_unreadable"], data["prompts_judged"]) == (2, 0)
    assert data["unreadable_share"] == 2 / data["prompts_checked"]
    said = {one["is_pruned"]: one["completion"] for one in data["unreadable_answers"]}
    assert said == {True: None, False: HOSTILE}
    assert all(one["prompt"] and one["reference"] for one in data["unreadable_answers"])
    assert uniroute("llm", "show", ANSWERED, "--json").data["unreadable_answers"] is None


def test_what_no_earlier_release_looked_at_is_unknown_and_not_zero(eventful: Path, uniroute: Uniroute) -> None:
    with Registry.open(f"sqlite:///{eventful / 'registry.db'}") as registry, registry._database.write() as unit:
        unit.execute(text("UPDATE outcome SET is_unreadable = NULL"))
    assert "unreadable       unknown" in uniroute("llm", "show", ANSWERED).out.splitlines()
    assert uniroute("llm", "show", ANSWERED, "--json").data["unreadable_share"] is None
    assert "No unreadable answer is known." in uniroute("llm", "show", ANSWERED, "--unreadable").out
