"""Promotions decided by people: measured again, refused for the right reasons, then followed by MLflow."""

import hashlib
import shutil
import sqlite3

import pytest

from flows.config.settings import GateSettings
from flows.promotion import decisions
from flows.promotion.decisions import Person
from flows.versions.mlflow_sync import follow
from flows.versions.store import publication_folder, router_folder
from flows.workspace import Workspace
from registry.errors import NotFound, PromotionRefused, RegistryCorrupt, StalePromotion
from registry.promotions import gate_result
from routing.errors import ArtifactCorrupt, InvalidInput
from tests.fakes.contest import ANN, BOB, clock, digest_of

WORDS = {"by": BOB, "reason": "looks right", "clock": clock}
DOWN = "http://127.0.0.1:9"


def with_settings(workspace: Workspace, **changes) -> Workspace:
    """Open the same folder under other settings."""
    return Workspace(workspace.settings.model_copy(update=changes))


def without_mlflow(workspace: Workspace) -> Workspace:
    mlflow = workspace.settings.mlflow.model_copy(update={"tracking_url": DOWN})
    return with_settings(workspace, mlflow=mlflow)


def in_mlflow(workspace: Workspace) -> dict[str, int]:
    return dict(workspace.publisher.aliases("uniroute"))


def state(workspace: Workspace) -> tuple:
    registry = workspace.registry
    return (
        registry.routers.aliases(),
        registry.ledger.count(),
        registry.promotions.list(),
        registry.promotions.pending(),
    )


def break_version(workspace: Workspace, alias: str) -> None:
    path = router_folder(workspace, digest_of(workspace, alias)) / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def test_an_approved_challenger_serves_and_mlflow_follows(contest: Workspace) -> None:
    challenger, champion = digest_of(contest, "challenger"), digest_of(contest, "champion")
    done = decisions.approve(contest, 2, **WORDS)
    assert (done.promotion.status, done.promotion.decided_by, done.pending) == ("applied", "bob", "")
    aliases = contest.registry.routers.aliases()
    assert (aliases.champion, aliases.previous) == (challenger, champion)
    assert in_mlflow(contest) == {"champion": 2, "challenger": 2, "previous": 1}
    events = contest.registry.ledger.events(subject=challenger, event="router:promotion:")
    assert [event.event.rpartition(":")[2] for event in events] == ["requested", "approved", "applied"]
    assert '"account":"svc"' in events[1].payload_json


def test_a_version_measured_outside_its_night_gets_the_same_verdict(contest: Workspace) -> None:
    stored = contest.registry.promotions.get(2)
    again = decisions.request(contest, "challenger", by=ANN, reason="", clock=clock, is_dry_run=True)
    assert again.promotion.gate == stored.gate, (
        "the same evidence gives the same JSON, with the same number of the test"
    )
    assert contest.registry.promotions.list() == (stored, contest.registry.promotions.get(1))


def test_trying_decides_and_writes_nothing(contest: Workspace) -> None:
    before = state(contest)
    assert decisions.approve(contest, 2, is_dry_run=True, **WORDS).promotion.status == "requested"
    assert decisions.reject(contest, 2, is_dry_run=True, **WORDS).promotion.status == "requested"
    assert decisions.request(contest, "v2", is_dry_run=True, **WORDS).promotion.id == 0
    assert state(contest) == before


def test_a_rejected_promotion_stays_rejected(contest: Workspace) -> None:
    before = contest.registry.routers.aliases()
    assert decisions.reject(contest, 2, **WORDS).promotion.status == "rejected"
    with pytest.raises(StalePromotion, match="promotion 2 is rejected"):
        decisions.approve(contest, 2, **WORDS)
    assert contest.registry.routers.aliases() == before


def test_a_superseded_promotion_cannot_be_approved(contest: Workspace) -> None:
    challenger, champion = digest_of(contest, "challenger"), digest_of(contest, "champion")
    other = gate_result(True, {"checks": []})
    contest.registry.promotions.request(challenger, champion, other, actor="night", now=clock())
    with pytest.raises(StalePromotion, match="promotion 2 is superseded"):
        decisions.approve(contest, 2, **WORDS)


def test_f83_a_promotion_compared_with_a_former_champion_is_refused(contest: Workspace) -> None:
    decisions.approve(contest, 2, **WORDS)
    decisions.rollback(contest, to=None, **WORDS)
    first = decisions.request(contest, "v2", **WORDS).promotion
    decisions.rollback(contest, to="v2", **WORDS)
    for decide in (decisions.approve, decisions.reject):
        with pytest.raises(StalePromotion, match=f"promotion {first.id} is superseded"):
            decide(contest, first.id, **WORDS)


def test_requester_and_approver_differ_where_two_people_are_required(contest: Workspace) -> None:
    gate = GateSettings(policy="review", two_person=True, resamples=200)
    with with_settings(contest, gate=gate) as careful:
        asked = decisions.request(careful, "v2", by=ANN, reason="", clock=clock).promotion
        for same in ("ann", " ANN "):
            with pytest.raises(PromotionRefused, match="may not approve it"):
                decisions.approve(careful, asked.id, by=Person(same, "svc"), reason="mine", clock=clock)
        assert decisions.approve(careful, asked.id, by=BOB, reason="yes", clock=clock).promotion.status == "applied"


def test_a_version_that_does_not_load_fails_and_the_waiting_one_still_waits(contest: Workspace) -> None:
    break_version(contest, "challenger")
    with pytest.raises(ArtifactCorrupt):
        decisions.request(contest, "v2", **WORDS)
    failed, waiting = contest.registry.promotions.list(limit=2)
    assert (failed.status, failed.requested_by, waiting.status) == ("failed", "bob", "requested")
    assert "arrays.npz" in failed.reason
    with pytest.raises(ArtifactCorrupt):
        decisions.approve(contest, waiting.id, **WORDS)
    assert contest.registry.promotions.get(waiting.id).status == "failed"
    for number in (failed.id, waiting.id):
        with pytest.raises(StalePromotion, match="is failed"):
            decisions.approve(contest, number, **WORDS)
    assert digest_of(contest, "champion") != digest_of(contest, "challenger")


def test_a_version_that_is_gone_everywhere_fails(contest: Workspace) -> None:
    shutil.rmtree(router_folder(contest, digest_of(contest, "challenger")))
    contest.publisher.client.delete_model_version("uniroute", "2")
    with pytest.raises(ArtifactCorrupt, match="neither on this machine nor in MLflow"):
        decisions.request(contest, "v2", **WORDS)
    assert contest.registry.promotions.list()[0].status == "failed"


def test_a_damaged_champion_is_not_the_challengers_fault(contest: Workspace) -> None:
    break_version(contest, "champion")
    with pytest.raises(ArtifactCorrupt):
        decisions.approve(contest, 2, **WORDS)
    assert contest.registry.promotions.get(2).status == "requested"


def test_a_challenger_whose_llm_was_quarantined_since_is_refused(contest: Workspace) -> None:
    contest.registry.llms.set_status("fake:good", "quarantined", "it cheats", actor="ann", now=clock())
    with pytest.raises(PromotionRefused, match="no longer passes the gate: LLMs that may be routed to"):
        decisions.approve(contest, 2, **WORDS)
    assert contest.registry.promotions.get(2).status == "requested"
    asked = decisions.request(contest, "v2", **WORDS).promotion
    assert (asked.status, asked.reason) == ("rejected", "gate failed: LLMs that may be routed to")


def test_stricter_settings_since_the_request_are_applied_and_looser_ones_are_reported(contest: Workspace) -> None:
    cap = GateSettings(policy="review", max_share=0.5, resamples=200)
    with with_settings(contest, gate=cap) as strict, pytest.raises(PromotionRefused, match="largest share"):
        decisions.approve(strict, 2, **WORDS)
    loose = GateSettings(policy="review", epsilon=0.5, resamples=200)
    with with_settings(contest, gate=loose) as lax:
        tried = decisions.approve(lax, 2, is_dry_run=True, **WORDS)
    assert "has changed since the request" in tried.remarks[-1]


@pytest.mark.parametrize("reason", ["", " \t", "\u200b"])
def test_every_decision_needs_a_reason(contest: Workspace, reason: str) -> None:
    before, words = state(contest), WORDS | {"reason": reason}
    for decide in (decisions.approve, decisions.reject):
        with pytest.raises(InvalidInput, match="needs a reason"):
            decide(contest, 2, **words)
    with pytest.raises(InvalidInput, match="needs a reason"):
        decisions.rollback(contest, to=None, **words)
    assert state(contest) == before


def test_a_decision_needs_a_person_and_is_one_of_two(contest: Workspace) -> None:
    with pytest.raises(InvalidInput, match="the name of the person"):
        Person("  ", "svc")
    with pytest.raises(InvalidInput, match="'merge' is not a decision"):
        decisions.decide(contest, 2, "merge", **WORDS)
    assert decisions.decide(contest, 2, "reject", **WORDS).promotion.status == "rejected"


def test_the_champion_and_unknown_versions_are_not_put_forward(contest: Workspace) -> None:
    with pytest.raises(PromotionRefused, match="is already the champion"):
        decisions.request(contest, "champion", **WORDS)
    with pytest.raises(NotFound, match="'Champion'"):
        decisions.request(contest, "Champion", **WORDS)
    with pytest.raises(NotFound):
        decisions.rollback(contest, to="v7", **WORDS)


def test_a_version_that_never_served_is_no_way_back(contest: Workspace) -> None:
    with pytest.raises(PromotionRefused, match="was never the champion"):
        decisions.rollback(contest, to="challenger", **WORDS)


def test_the_report_that_was_kept_is_the_report_that_is_approved(contest: Workspace) -> None:
    waiting = contest.registry.promotions.get(2)
    path = publication_folder(contest, waiting.router_digest) / "review.html"
    page = path.read_bytes()
    assert waiting.report_digest == hashlib.sha256(page).hexdigest()
    path.write_bytes(page.replace(b"passed", b"parsed", 1))
    before = state(contest)
    with pytest.raises(RegistryCorrupt, match="is not the one that was kept"):
        decisions.approve(contest, 2, **WORDS)
    assert state(contest) == before
    path.write_bytes(page)
    assert decisions.approve(contest, 2, is_dry_run=True, **WORDS).remarks == ()
    path.unlink()
    assert "is not on this machine" in decisions.approve(contest, 2, **WORDS).remarks[0]


def test_f93_rollback_needs_no_mlflow_which_follows_later(contest: Workspace) -> None:
    decisions.approve(contest, 2, **WORDS)
    with without_mlflow(contest) as alone:
        done = decisions.rollback(alone, to=None, **WORDS)
    assert (done.promotion.kind, done.promotion.status) == ("rollback", "applied")
    assert done.pending.startswith(f"MLflow does not answer at {DOWN}")
    assert digest_of(contest, "champion") == done.promotion.router_digest
    assert in_mlflow(contest)["champion"] == 2
    for _ in range(2):
        assert follow(contest, clock) == ""
        assert in_mlflow(contest) == {"champion": 1, "challenger": 2, "previous": 2}
    assert contest.registry.promotions.pending() == ()


def test_approving_needs_no_mlflow_either(contest: Workspace) -> None:
    with without_mlflow(contest) as alone:
        done = decisions.approve(alone, 2, **WORDS)
        assert (done.promotion.status, bool(done.pending)) == ("applied", True)
        decisions.rollback(alone, to=None, **WORDS)
    assert follow(contest, clock) == ""
    assert in_mlflow(contest) == {"champion": 1, "challenger": 2, "previous": 2}, "only where the moves ended counts"


def test_f86_a_champion_deleted_in_mlflow_is_rolled_back_from(contest: Workspace) -> None:
    decisions.approve(contest, 2, **WORDS)
    contest.publisher.client.delete_model_version("uniroute", "2")
    assert in_mlflow(contest) == {"previous": 1}, "MLflow forgets the aliases with the version"
    done = decisions.rollback(contest, to=None, **WORDS)
    assert in_mlflow(contest)["champion"] == 1, "consumers are served again"
    assert done.pending, "the version that is gone is still to be published again"


def test_f85_an_alias_that_differs_in_case_is_none_of_ours(contest: Workspace) -> None:
    contest.publisher.client.set_registered_model_alias("uniroute", "Champion", "1")
    assert decisions.approve(contest, 2, **WORDS).promotion.status == "applied"
    found = in_mlflow(contest)
    assert (found["champion"], found["Champion"]) == (2, 1)


def test_a_damaged_version_is_not_rolled_back_to_and_a_distant_one_is_said_to_be_untried(contest: Workspace) -> None:
    decisions.approve(contest, 2, **WORDS)
    folder = router_folder(contest, digest_of(contest, "previous"))
    (folder / "arrays.npz").write_bytes(b"x")
    before = state(contest)
    with pytest.raises(ArtifactCorrupt):
        decisions.rollback(contest, to=None, **WORDS)
    assert state(contest) == before
    shutil.rmtree(folder)
    assert "is not on this machine" in decisions.rollback(contest, to=None, **WORDS).remarks[0]


def test_a_version_whose_evidence_is_not_kept_cannot_be_measured(contest: Workspace) -> None:
    with sqlite3.connect(contest.home / "registry.db") as connection:
        connection.execute("DROP TRIGGER ledger_refuses_delete")
        connection.execute("DELETE FROM ledger WHERE event = 'router:version:kept'")
    connection.close()
    with pytest.raises(NotFound, match="does not say which answers router"):
        decisions.request(contest, "v2", **WORDS)
