"""``uniroute promotion``: what it prints, how it asks, and how it ends."""

import io
import json
import re
from pathlib import Path

import pytest

from flows.cli.options import acting_person
from flows.config.loading import load_settings
from flows.workspace import Workspace
from registry.promotions import Promotion

REASON = ("--reason", "looks right")
DOWN = "http://127.0.0.1:9"


class Terminal(io.StringIO):
    """A person at a keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_contest(contest_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(contest_folder)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return contest_folder


def stored(folder: Path, number: int) -> Promotion:
    with Workspace(load_settings(folder / "uniroute.toml")) as workspace:
        return workspace.registry.promotions.get(number)


def test_the_list_names_what_waits_and_who_decided(at_contest: Path, uniroute) -> None:
    ended = uniroute("promotion")
    head, waiting, first = ended.out.splitlines()
    assert (ended.code, head.split()[:4]) == (0, ["ID", "KIND", "STATUS", "ROUTER"])
    assert waiting.split()[:6] == ["2", "promotion", "requested", "v2", "v1", "night"]
    assert first.split()[:7] == ["1", "promotion", "applied", "v1", "none", "night", "ann"]
    listed = uniroute("promotion", "list", "--status", "requested", "--json")
    assert json.loads(listed.out)["schema"] == "uniroute.promotion.list/1"
    assert [row["id"] for row in listed.data] == [2]
    assert [row["id"] for row in uniroute("promotion", "list", "--sort", "id", "--json").data] == [1, 2]


def test_show_says_what_changes_and_what_to_type(at_contest: Path, uniroute) -> None:
    ended = uniroute("promotion", "show", "2")
    assert ended.code == 0
    for part in (
        "promotion 2: requested",
        "router v2 (",
        "score at the champion's cost   +0.2",
        "prompts that go elsewhere      100.0%",
        "Gate: passed",
        "challenger 1 of this champion",
        "requested by night",
        "next: uniroute promotion approve 2 --reason TEXT",
    ):
        assert part in ended.out
    shown, checked = re.findall(r"score at the champion's cost\D+([+-][\d.]+ \(95 % interval [^)]+\))", ended.out)
    assert shown == checked, "the headline is the difference that the verdict rests on"
    data = uniroute("promotion", "show", "2", "--json").data
    assert data["headline"]["route_change"] == 1.0
    assert data["gate"]["rules"]["policy_digest"]
    assert [event["event"] for event in data["events"]] == ["router:promotion:requested"]


def test_approve_shows_the_changes_asks_and_serves(at_contest: Path, uniroute, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    ended = uniroute("promotion", "approve", "2", *REASON)
    assert ended.code == 130
    assert "score at the champion's cost" in ended.err
    assert stored(at_contest, 2).status == "requested"
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    ended = uniroute("promotion", "approve", "2", *REASON)
    assert (ended.code, ended.out.splitlines()[0].split()[-2:]) == (0, ["(promotion", "2)."])
    assert "next: uniroute promotion rollback --reason TEXT" in ended.out
    assert stored(at_contest, 2).decided_by == acting_person()


def test_without_a_terminal_nothing_is_asked_or_decided(at_contest: Path, uniroute) -> None:
    ended = uniroute("promotion", "reject", "2", *REASON)
    assert (ended.code, "--yes" in ended.err) == (2, True)
    assert stored(at_contest, 2).status == "requested"
    ended = uniroute("promotion", "reject", "2", *REASON, "--yes", "--actor", "Bob", "--json")
    assert (ended.code, ended.data["status"], ended.data["decided_by"]) == (0, "rejected", "Bob")
    assert ended.data["events"][-1]["reason"] == "looks right"


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_a_dry_run_decides_nothing(at_contest: Path, uniroute, verb: str) -> None:
    ended = uniroute("promotion", verb, "2", *REASON, "--dry-run")
    assert (ended.code, "This was a dry run" in ended.out) == (0, True)
    assert stored(at_contest, 2).status == "requested"


@pytest.mark.parametrize("command", [("approve", "2"), ("reject", "2"), ("rollback",)])
def test_an_empty_reason_is_a_usage_error(at_contest: Path, uniroute, command: tuple[str, ...]) -> None:
    ended = uniroute("promotion", *command, "--reason", " ", "--yes")
    assert (ended.code, "reason" in ended.err) == (2, True)
    assert uniroute("promotion", *command, "--yes").code == 2


def test_refusals_end_with_4_and_say_what_to_type(at_contest: Path, uniroute) -> None:
    uniroute("promotion", "reject", "2", *REASON, "--yes")
    ended = uniroute("promotion", "approve", "2", *REASON, "--yes", "--json")
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["kind"], error["exit_code"]) == (4, "stale", 4)
    assert error["message"] == "promotion 2 is rejected and can no longer be decided"
    assert error["hint"].startswith("uniroute promotion request ")
    assert uniroute("promotion", "request", "v1").code == 4
    assert uniroute("promotion", "rollback", *REASON, "--yes").code == 2, "nobody served before"
    assert uniroute("promotion", "show", "77").code == 2


def test_a_request_that_passes_waits_and_one_that_fails_is_refused(at_contest: Path, uniroute, monkeypatch) -> None:
    assert uniroute("promotion", "request", "v2", "--dry-run").code == 0
    ended = uniroute("promotion", "request", "v2", "--reason", "again", "--json")
    assert (ended.code, ended.data["status"]) == (3, "requested")
    monkeypatch.setenv("UNIROUTE_GATE__MAX_SHARE", "0.5")
    ended = uniroute("promotion", "request", "v2")
    assert ended.code == 4
    assert "FAILED  largest share of the gate prompts" in ended.out.split("passed")[0], "what failed comes first"


def test_a_damaged_version_ends_with_5_and_one_out_of_reach_with_75(at_contest: Path, uniroute, monkeypatch) -> None:
    folder = at_contest / "home" / "routers" / stored(at_contest, 2).router_digest
    path = folder / "router.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    assert uniroute("promotion", "request", "v2").code == 5
    path.write_bytes(whole)
    folder.rename(folder.with_name("elsewhere"))
    monkeypatch.setenv("UNIROUTE_MLFLOW__TRACKING_URL", DOWN)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ended = uniroute("promotion", "request", "v2", "--json")
    assert (ended.code, json.loads(ended.out)["error"]["kind"]) == (75, "unavailable")


def test_f93_rollback_says_what_is_pending_while_mlflow_is_down(at_contest: Path, uniroute, monkeypatch) -> None:
    uniroute("promotion", "approve", "2", *REASON, "--yes")
    tried = uniroute("promotion", "rollback", *REASON, "--dry-run")
    assert [line.split()[:2] for line in tried.out.splitlines()] == [["now", "v2"], ["then", "v1"]]
    monkeypatch.setenv("UNIROUTE_MLFLOW__TRACKING_URL", DOWN)
    ended = uniroute("promotion", "rollback", *REASON, "--yes")
    assert ended.code == 3
    assert f"MLflow is pending: MLflow does not answer at {DOWN}" in ended.out
    assert stored(at_contest, 3).kind == "rollback"
    assert uniroute("promotion", "rollback", "--to", "v2", *REASON, "--yes", "--exit-zero-on", "attention").code == 0


def test_foreign_text_in_names_and_reasons_is_sanitized(at_contest: Path, uniroute) -> None:
    hostile = "[/b]\x1b[31mred\x07\u202e"
    ended = uniroute("promotion", "reject", "2", "--reason", hostile, "--actor", hostile, "--yes")
    shown = uniroute("promotion", "show", "2").out + uniroute("promotion", "list").out + ended.out
    assert "[/b]" in shown
    assert not set("\x1b\x07\u202e") & set(shown)
