"""Decisions during which something else happens: another decision, a kill, an MLflow that is down (F83, F93)."""

import json
from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.promotion import decisions
from flows.versions.mlflow_sync import follow
from flows.workspace import Workspace
from tests.fakes.contest import ANN, BOB, clock, digest_of, run_again
from tests.faults.asked_night import THIRD
from tests.faults.tiny_night import ForkedCommand

KILLED = -9
FOURTH = "2024-09-04"


def start(folder: Path, *arguments: str, **variables: str) -> ForkedCommand:
    """Start ``uniroute promotion`` in a process of its own."""
    return ForkedCommand.start(folder, "promotion", *arguments, "--yes", "--json", **variables)


def test_f83_two_people_who_decide_at_once_make_one_decision(contest_folder: Path) -> None:
    deciding = [
        start(contest_folder, verb, "2", "--reason", verb, "--actor", actor)
        for verb, actor in (("approve", "ann"), ("reject", "bob"))
    ]
    ended = [(json.loads(one.out), one.code) for one in [process.end() for process in deciding]]
    codes = sorted(code for _, code in ended)
    assert codes[1] == 4, ended
    assert codes[0] in (0, 3)
    refused = next(said["error"] for said, code in ended if code == 4)
    assert refused["kind"] == "stale"
    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        decided = workspace.registry.promotions.get(2)
        events = workspace.registry.ledger.events(event="router:promotion:")
        assert workspace.registry.ledger.verify().is_intact
        serves = digest_of(workspace, "champion")
    about = [event for event in events if json.loads(event.payload_json)["promotion"] == 2]
    assert {event.actor for event in about[1:]} == {decided.decided_by}, "the loser left no trace"
    assert (serves == decided.router_digest) == (decided.status == "applied")


@pytest.mark.parametrize("point", ["promotion decided", "alias set#1", "alias set#2"])
def test_f93_a_rollback_killed_anywhere_is_decided_once_and_mlflow_follows(contest_folder: Path, point: str) -> None:
    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        decisions.approve(workspace, 2, by=ANN, reason="better", clock=clock)
    killed = start(contest_folder, "rollback", "--reason", "worse", UNIROUTE_TEST_KILL_AT=point)
    assert killed.end().code == KILLED
    with Workspace(load_settings(contest_folder / "uniroute.toml")) as workspace:
        (event,) = workspace.registry.ledger.events(event="router:rollback:applied")
        assert event.reason == "worse"
        assert digest_of(workspace, "champion") == event.subject
        assert workspace.registry.promotions.pending(), "what was not confirmed is reported again"
        for _ in range(2):
            assert follow(workspace, clock) == ""
            assert dict(workspace.publisher.aliases("uniroute")) == {"champion": 1, "challenger": 2, "previous": 2}
        assert workspace.registry.promotions.pending() == ()
        assert len(workspace.registry.ledger.events(event="router:rollback:")) == 1
        assert [version.version for version in workspace.publisher.client.search_model_versions("")] == [2, 1]


def test_f83_a_decision_killed_before_its_commit_was_never_made(contest: Workspace, monkeypatch) -> None:
    before = contest.registry.ledger.count(), contest.registry.routers.aliases()

    def die(*_arguments: object, **_words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(contest.registry.promotions, "_point", die)
    with pytest.raises(KeyboardInterrupt):
        decisions.approve(contest, 2, by=BOB, reason="better", clock=clock)
    assert contest.registry.promotions.get(2).status == "requested"
    assert (contest.registry.ledger.count(), contest.registry.routers.aliases()) == before


def test_f93_no_night_promotes_again_what_a_person_rolled_back_from(contest_folder: Path, migrated: Path) -> None:
    config = contest_folder / "uniroute.toml"
    with Workspace(load_settings(config)) as workspace:
        decisions.approve(workspace, 2, by=ANN, reason="better", clock=clock)
        decisions.rollback(workspace, to=None, by=BOB, reason="users complain", clock=clock)
        serving = digest_of(workspace, "champion")
    found = run_again(contest_folder, migrated, THIRD, review="automatic")
    assert found.gate is not None and found.gate.passed
    assert found.promotion == "waiting for review"
    with Workspace(load_settings(config)) as workspace:
        assert workspace.settings.gate.policy == "automatic"
        assert digest_of(workspace, "champion") == serving
        asked = workspace.registry.promotions.list()[0]
        decisions.reject(workspace, asked.id, by=BOB, reason="I said no", clock=clock)
        n_promotions = len(workspace.registry.promotions.list())
    assert run_again(contest_folder, migrated, FOURTH).promotion == "rejected"
    with Workspace(load_settings(config)) as workspace:
        assert len(workspace.registry.promotions.list()) == n_promotions, "a review is requested only once"
