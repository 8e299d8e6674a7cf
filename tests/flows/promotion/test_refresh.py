"""The champion serves without what cannot serve: at night, at once by decision, or after a review."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from flows import crash_points
from flows.audit.replay import disagreements
from flows.batch.routing import prepare
from flows.checks.doctor import examine
from flows.config.sources import CONFIG_NAME
from flows.metrics.exposition import Figures
from flows.promotion.decisions import Person, approve, reject, rollback
from flows.promotion.refresh import refresh_at_once, refresh_champion
from flows.reports.digest import escape, refresh_lines
from flows.reports.terminal import refresh_text
from flows.reports.worth import worth_lines
from flows.versions.champion_state import champion_state
from flows.versions.mlflow_sync import sync_mlflow
from flows.versions.store import CONTENT_FILE, load_version, publication_folder
from flows.workspace import Workspace
from registry.errors import PromotionRefused
from registry.promotion_records import GateRecord
from routing.errors import ArtifactError
from tests.fakes import nights
from tests.fakes.nights import FIRST, SECOND, SETTINGS, Clock, answered_home, run_night, settings_of
from tests.registry.samples import NOW

LLMS = ("weak", "fair", "good")
LATER = NOW + timedelta(days=30)
ANNA = Person("anna", "anna")


@pytest.fixture(scope="module")
def made(tmp_path_factory, migrated: Path, template: Path) -> Path:
    """Make a home folder whose champion has three LLMs."""
    home = tmp_path_factory.mktemp("refresh") / "home"
    with answered_home(home, migrated, template) as workspace:
        assert run_night(workspace, FIRST, LLMS, Clock()).promotion == "promoted"
    return home


@pytest.fixture
def home(tmp_path: Path, made: Path) -> Path:
    from tests.homes import copied_home

    folder = copied_home(made, tmp_path / "home")
    folder.with_name(CONFIG_NAME).write_text(SETTINGS.format(policy="automatic"))
    return folder


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    with Workspace(settings_of(home)) as opened:
        yield opened


def dead_share_of(workspace: Workspace) -> float:
    """Return what monitoring reads."""
    reading = Figures(workspace.settings, Clock(LATER)).read()
    return reading.samples.values["champion_dead_share"][()]


def take_out(workspace: Workspace, name: str, clock: Clock) -> None:
    workspace.registry.llms.set_status(f"fake:{name}", "quarantined", "doubted", actor="anna", now=clock())


def refreshed(workspace: Workspace, clock: Clock, on: date = SECOND):
    return refresh_champion(workspace, on=on, actor="anna", clock=clock)


def test_a_champion_that_can_serve_is_left_alone(workspace) -> None:
    assert refreshed(workspace, Clock(LATER)) is None


def test_the_champion_serves_without_a_quarantined_llm_at_once(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    before = registry.routers.aliases().champion
    take_out(workspace, "good", clock)
    done = refreshed(workspace, clock)
    assert (done.status, done.changed) == ("applied", "without fake:good")
    aliases = registry.routers.aliases()
    assert (aliases.champion, aliases.previous) == (done.digest, before)
    router, former = load_version(workspace, done.digest), load_version(workspace, before)
    assert router.keys == ("fake:fair", "fake:weak")
    assert router.cluster_map.digest == former.cluster_map.digest
    (event,) = registry.ledger.events(event="router:refreshed")
    assert (event.subject, event.actor, event.reason) == (done.digest, "anna", "without fake:good")
    assert json.loads(event.payload_json)["aliases"]["champion"] == [before, done.digest]
    assert disagreements(registry, registry.ledger.events()) == ()
    assert champion_state(registry, SECOND).dead == ()
    sync_mlflow(workspace, clock)
    version = registry.routers.get(done.digest).mlflow_version
    assert workspace.publisher.aliases("uniroute")["champion"] == version
    assert refreshed(workspace, clock) is None, "nothing is left to refresh"
    page = (publication_folder(workspace, done.digest) / "review.md").read_text()
    assert page.startswith("## Refresh: router 2 is router 1 as it can serve")
    assert "**Refresh passed.** It leaves out good" in page and "quarantined: doubted" in page
    headline = worth_lines(done.worth)[0]
    assert headline.startswith("Against always using the best single LLM (fair")
    published = json.loads((publication_folder(workspace, done.digest) / CONTENT_FILE).read_text())
    assert f"- {headline}" in published["description"] and escape(headline, 400) in page
    assert headline in refresh_text(done) and f"- {escape(headline, 400)}" in refresh_lines(done)


def test_a_refresh_that_fails_its_checks_says_what_was_found_and_what_would_change_it(workspace, monkeypatch) -> None:
    take_out(workspace, "good", Clock(LATER))
    monkeypatch.setattr("flows.gate.refresh_checks.guesses", lambda outcomes: np.ones(len(outcomes.embeddings)))
    done = refreshed(workspace, Clock(LATER))
    assert done.status == "refused"
    assert done.problem.startswith("check failed: score on gate prompts: 0.")
    assert "(above 1.0000, what a guess scores); to change that: no setting: " in done.problem


def test_a_refreshed_version_is_rebuilt_to_the_byte(workspace) -> None:
    from flows.audit.version_check import verify_version

    clock = Clock(LATER)
    take_out(workspace, "weak", clock)
    done = refreshed(workspace, clock)
    sync_mlflow(workspace, clock)
    check = verify_version(workspace, workspace.registry.routers.get(done.digest))
    assert check.outcome == "identical", check.findings
    assert {one.subject: one.text for one in check.findings if one.severity != "ok"} == {}


def test_a_refresh_to_a_version_from_before_leaves_its_publication_as_the_ledger_knows_it(workspace) -> None:
    from flows.audit.verification import verify_everything

    clock = Clock(LATER)
    first = workspace.registry.routers.aliases().champion
    take_out(workspace, "good", clock)
    refreshed(workspace, clock)
    take_out(workspace, "weak", clock)
    only_fair = refreshed(workspace, clock).digest
    kept = (publication_folder(workspace, only_fair) / "publication.json").read_bytes()
    rollback(workspace, to=first, by=ANNA, reason="as it was", clock=clock, as_is=True)
    assert refreshed(workspace, clock).digest == only_fair, "from another parent"
    assert (publication_folder(workspace, only_fair) / "publication.json").read_bytes() == kept
    found = {one.subject: one for one in verify_everything(workspace).findings}
    assert found["publications"].severity == "ok", found["publications"].text


def test_the_account_of_tests_continues(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    before = registry.routers.aliases().champion
    tested = registry.promotions.tested_against(before)
    take_out(workspace, "good", clock)
    done = refreshed(workspace, clock)
    assert registry.promotions.tested_against(done.digest) == tested
    assert done.digest not in {one.router_digest for one in registry.promotions.tested_against(before)}


def test_nothing_is_left_to_serve(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    before = registry.routers.aliases()
    for name in LLMS:
        take_out(workspace, name, clock)
    done = refreshed(workspace, clock)
    assert (done.status, done.problem) == ("refused", "none of its LLMs is left to serve")
    assert registry.routers.aliases() == before
    state = champion_state(registry, SECOND)
    assert state.dead_share == pytest.approx(1)
    assert dead_share_of(workspace) == pytest.approx(1)
    assert state.warning.startswith("The champion rests on LLMs that cannot serve: 3 of its 3 LLMs")
    assert state.warning.endswith("100.0% of the prompts goes to them")


def set_policies(home: Path, policy: str, refresh: str) -> None:
    text = SETTINGS.format(policy=policy).replace("[gate]", f'[gate]\nrefresh = "{refresh}"')
    home.with_name(CONFIG_NAME).write_text(text)


def test_under_review_a_person_approves_it_and_the_event_is_a_refresh(home) -> None:
    set_policies(home, "automatic", "review")
    clock = Clock(LATER)
    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        take_out(workspace, "good", clock)
        asked = refreshed(workspace, clock)
        assert (asked.status, asked.problem) == ("requested", "it waits for review")
        assert refreshed(workspace, clock).promotion_id == asked.promotion_id, "asked once"
        assert champion_state(registry, SECOND).dead
        done = approve(workspace, asked.promotion_id, by=ANNA, reason="fine", clock=clock)
        assert done.promotion.status == "applied"
        assert registry.routers.aliases().champion == asked.digest
        assert [one.subject for one in registry.ledger.events(event="router:refreshed")] == [asked.digest]
        assert disagreements(registry, registry.ledger.events()) == ()


def test_a_refresh_that_waits_is_not_judged_as_a_challenger_by_the_same_night(home) -> None:
    set_policies(home, "automatic", "review")
    clock = Clock(LATER)
    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        before = registry.routers.aliases().champion
        take_out(workspace, "good", clock)
        outcome = run_night(workspace, SECOND, LLMS, clock)
        assert (outcome.is_unchanged, outcome.digest, outcome.gate) == (True, before, None)
        (waiting,) = registry.promotions.list(status="requested")
        assert waiting.is_refresh
        done = approve(workspace, waiting.id, by=ANNA, reason="fine", clock=clock)
        assert registry.routers.aliases().champion == done.promotion.router_digest == waiting.router_digest


def test_a_refresh_that_no_longer_fits_is_not_approved(home) -> None:
    set_policies(home, "automatic", "review")
    clock = Clock(LATER)
    with Workspace(settings_of(home)) as workspace:
        take_out(workspace, "good", clock)
        asked = refreshed(workspace, clock)
        take_out(workspace, "fair", clock)
        with pytest.raises(PromotionRefused, match="no longer what the champion can serve"):
            approve(workspace, asked.promotion_id, by=ANNA, reason="fine", clock=clock)


def test_a_router_that_a_person_rolled_back_from_never_returns_by_a_refresh(workspace) -> None:
    clock = Clock(LATER)
    take_out(workspace, "good", clock)
    done = refreshed(workspace, clock)
    rollback(workspace, to=None, by=ANNA, reason="no", clock=clock, as_is=True)
    again = refreshed(workspace, clock)
    assert (again.status, again.digest) == ("requested", done.digest)
    assert again.problem == "the same router was turned down before"


def test_a_waiting_challenger_is_judged_again_and_keeps_its_requester(home) -> None:
    clock = Clock(LATER)
    set_policies(home, "review", "automatic")
    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        assert run_night(workspace, SECOND, (*LLMS, "late"), clock).promotion == "waiting for review"
        (waiting,) = registry.promotions.list(status="requested")
        take_out(workspace, "weak", clock)
        done = refreshed(workspace, clock)
        (line,) = done.judged_again
        assert "rejected against the refreshed champion" in line and "LLMs that may be routed to" in line
        latest = registry.promotions.list(limit=1)[0]
        assert (latest.router_digest, latest.status) == (waiting.router_digest, "rejected")
        assert (latest.expected_champion, latest.requested_by) == (done.digest, waiting.requested_by)
        assert disagreements(registry, registry.ledger.events()) == ()


def test_a_night_refreshes_once_and_its_challenger_meets_the_refreshed_champion(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    before = registry.routers.aliases().champion
    take_out(workspace, "good", clock)
    outcome = run_night(workspace, SECOND, LLMS, clock)
    (event,) = registry.ledger.events(event="router:refreshed")
    assert json.loads(event.payload_json)["expected_champion"] == before
    assert event.reason == "without fake:good"
    # The answers are the same, so what the night would put forward is what already serves.
    assert outcome.is_unchanged and outcome.digest == event.subject


def test_what_one_night_did_not_find_is_not_judged_away_and_the_second_night_refreshes(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    before = registry.routers.aliases().champion
    first = run_night(workspace, SECOND, LLMS, clock, unknown=("good",))
    assert first.is_unchanged and first.digest == before, "its router without the LLM is the refresh of tomorrow"
    assert first.left_out == (("fake:good", "its endpoint does not know it"),)
    assert registry.promotions.list(status="rejected") == ()
    run_night(workspace, SECOND + timedelta(days=1), LLMS, clock, unknown=("good",))
    (event,) = registry.ledger.events(event="router:refreshed")
    assert event.reason == "without fake:good"
    assert registry.routers.aliases().champion == event.subject != before


def test_an_llm_that_returns_comes_back_by_a_challenger_and_not_by_a_refresh(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    take_out(workspace, "good", clock)
    without = refreshed(workspace, clock).digest
    registry.llms.set_status("fake:good", "available", "fine again", actor="anna", now=clock())
    assert refreshed(workspace, clock) is None
    outcome = run_night(workspace, SECOND, LLMS, clock)
    assert (outcome.promotion, outcome.gate.against) == ("promoted", without)
    assert len(registry.ledger.events(event="router:refreshed")) == 1


def test_a_rollback_to_dead_llms_is_refreshed_unless_a_person_insists(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    first = registry.routers.aliases().champion
    take_out(workspace, "good", clock)
    without_good = refreshed(workspace, clock)
    take_out(workspace, "weak", clock)
    only_fair = refreshed(workspace, clock)
    assert load_version(workspace, only_fair.digest).keys == ("fake:fair",)
    registry.llms.set_status("fake:weak", "available", "fine again", actor="anna", now=clock())
    done = rollback(workspace, to=first, by=ANNA, reason="the whole one", clock=clock)
    assert done.promotion.router_digest == registry.routers.aliases().champion == without_good.digest
    assert any("it serves without fake:good" in remark for remark in done.remarks)
    assert registry.routers.aliases().previous == first
    insisted = rollback(workspace, to=first, by=ANNA, reason="as it was", clock=clock, as_is=True)
    assert insisted.promotion.router_digest == registry.routers.aliases().champion == first
    assert "of the prompts to LLMs that cannot serve" in insisted.remarks[0]
    assert disagreements(registry, registry.ledger.events()) == ()


def doctor_says(workspace: Workspace) -> tuple[str, str]:
    """Return what doctor says of the champion, and what to type; a champion that cannot serve comes before all else."""
    findings = examine(workspace, repair=False, clock=Clock(LATER))
    assert findings[0].subject == "champion" and findings[0].text.startswith("The champion rests on LLMs that cannot")
    return findings[0].severity, findings[0].next_step


def test_doctor_advises_the_refresh_that_waits_and_the_night_when_that_one_would_be_refused(home) -> None:
    set_policies(home, "automatic", "review")
    clock = Clock(LATER)
    with Workspace(settings_of(home)) as workspace:
        take_out(workspace, "good", clock)
        assert doctor_says(workspace) == ("attention", "uniroute night run (makes the champion serve without them)")
        first = refreshed(workspace, clock).promotion_id
        assert f"uniroute promotion approve {first} --reason" in doctor_says(workspace)[1]
        take_out(workspace, "fair", clock)
        assert doctor_says(workspace)[1].startswith("uniroute night run")
        second = refreshed(workspace, clock)
        assert f"uniroute promotion approve {second.promotion_id} --reason" in doctor_says(workspace)[1]
        reject(workspace, second.promotion_id, by=ANNA, reason="no", clock=clock)
        assert doctor_says(workspace)[1].startswith("uniroute promotion list (the champion without them was turned")
        take_out(workspace, "weak", clock)
        assert doctor_says(workspace)[1].startswith("uniroute llm list")


def test_doctor_does_not_advise_a_refresh_that_fails_its_checks(workspace, monkeypatch) -> None:
    take_out(workspace, "good", Clock(LATER))
    failed = GateRecord(passed=False, details_json="{}")
    monkeypatch.setattr("flows.checks.doctor.gate_of", lambda *_: failed)
    assert doctor_says(workspace)[1].startswith("uniroute llm list")


def test_no_rollback_to_a_version_of_which_nothing_is_left(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    first = registry.routers.aliases().champion
    take_out(workspace, "good", clock)
    refreshed(workspace, clock)
    for name in LLMS:
        take_out(workspace, name, clock)
    with pytest.raises(PromotionRefused, match="none of the LLMs of router"):
        rollback(workspace, to=first, by=ANNA, reason="no", clock=clock)
    assert registry.routers.aliases().champion != first


def test_with_mlflow_down_the_registry_changes_and_mlflow_follows(home, monkeypatch) -> None:
    clock = Clock(LATER)
    with monkeypatch.context() as patch:
        patch.setenv("UNIROUTE_MLFLOW__TRACKING_URL", "http://127.0.0.1:9")
        with Workspace(settings_of(home)) as workspace:
            take_out(workspace, "good", clock)
            done = refresh_at_once(workspace, actor="anna", clock=clock)
            assert done.is_applied and done.publish_error
            assert workspace.registry.routers.aliases().champion == done.digest
            assert {entry.alias for entry in workspace.registry.promotions.pending()} == {"champion", "previous"}
    with Workspace(settings_of(home)) as workspace:
        assert sync_mlflow(workspace, clock) == ()
        version = workspace.registry.routers.get(done.digest).mlflow_version
        assert workspace.publisher.aliases("uniroute")["champion"] == version


def test_two_people_who_take_out_llms_in_one_moment_both_get_what_they_decided(home, workspace, monkeypatch) -> None:
    clock, reach = Clock(LATER), crash_points.reach
    take_out(workspace, "good", clock)
    with Workspace(settings_of(home)) as other:

        def overtaken(name: str) -> None:
            if name == "refresh registered":
                monkeypatch.setattr(crash_points, "reach", reach)
                take_out(other, "weak", clock)
                other.registry.llms.set_status("fake:good", "available", "not seen yet", actor="bert", now=clock())
                assert refresh_at_once(other, actor="bert", clock=clock).is_applied
                take_out(other, "good", clock)

        monkeypatch.setattr(crash_points, "reach", overtaken)
        done = refresh_at_once(workspace, actor="anna", clock=clock)
    assert (done.status, done.changed) == ("applied", "without fake:good")
    assert load_version(workspace, workspace.registry.routers.aliases().champion).keys == ("fake:fair",)


def test_a_challenger_that_a_killed_command_left_unjudged_is_judged_by_the_next_refresh_stage(
    home, monkeypatch
) -> None:
    set_policies(home, "review", "automatic")
    clock = Clock(LATER)
    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        run_night(workspace, SECOND, (*LLMS, "late"), clock)
        (waiting,) = registry.promotions.list(status="requested")
        take_out(workspace, "good", clock)

        def killed(name: str) -> None:
            if name == "refreshed":
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(crash_points, "reach", killed)
            with pytest.raises(KeyboardInterrupt):
                refreshed(workspace, clock)
        assert registry.promotions.list(status="requested") == ()
        for _ in range(2):
            assert refreshed(workspace, clock) is None
        latest, refresh = registry.promotions.list(limit=2)
        assert refresh.is_refresh
        assert (latest.router_digest, latest.expected_champion) == (waiting.router_digest, refresh.router_digest)


def test_a_refresh_that_waits_is_closed_when_its_llm_returns_or_nothing_is_left(home) -> None:
    set_policies(home, "automatic", "review")
    clock = Clock(LATER)
    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        take_out(workspace, "good", clock)
        first = refreshed(workspace, clock)
        registry.llms.set_status("fake:good", "available", "fine again", actor="anna", now=clock())
        assert refreshed(workspace, clock) is None
        take_out(workspace, "good", clock)
        second = refreshed(workspace, clock)
        for name in LLMS:
            take_out(workspace, name, clock)
        assert refreshed(workspace, clock).status == "refused"
        found = [registry.promotions.get(one.promotion_id) for one in (first, second)]
        assert [(one.status, one.reason) for one in found] == [("superseded", "LLMs or prices have changed again")] * 2
        assert disagreements(registry, registry.ledger.events()) == ()


def test_a_rollback_never_returns_what_it_replaces_or_what_was_turned_down(workspace) -> None:
    clock, registry = Clock(LATER), workspace.registry
    first = registry.routers.aliases().champion
    take_out(workspace, "good", clock)
    done = refreshed(workspace, clock)
    with pytest.raises(PromotionRefused, match="is what serves already"):
        rollback(workspace, to=None, by=ANNA, reason="it is bad", clock=clock)
    assert registry.routers.aliases().champion == done.digest
    rollback(workspace, to=first, by=ANNA, reason="it is bad", clock=clock, as_is=True)
    take_out(workspace, "weak", clock)
    assert refreshed(workspace, clock).is_applied
    registry.llms.set_status("fake:weak", "available", "fine again", actor="anna", now=clock())
    with pytest.raises(PromotionRefused, match="was turned down before"):
        rollback(workspace, to=first, by=ANNA, reason="back", clock=clock)


def test_a_rollback_stands_when_its_refresh_fails(workspace, monkeypatch) -> None:
    clock, registry = Clock(LATER), workspace.registry
    first = registry.routers.aliases().champion
    for name in ("good", "weak"):
        take_out(workspace, name, clock)
        refreshed(workspace, clock)
    registry.llms.set_status("fake:weak", "available", "fine again", actor="anna", now=clock())

    def unwritable(*_) -> None:
        raise ArtifactError("router 1 cannot be written.")

    monkeypatch.setattr("flows.promotion.refresh.save_router", unwritable)
    done = rollback(workspace, to=first, by=ANNA, reason="back", clock=clock)
    assert registry.routers.aliases().champion == done.promotion.router_digest == first
    assert done.remarks[-1] == "It serves as it was, because it cannot be refreshed: router 1 cannot be written."


def test_a_price_that_is_held_puts_nothing_forward(home, monkeypatch) -> None:
    clock = Clock(LATER)
    listed = nights.listing

    def multiplied(name: str, *, price: str, endpoint: str):
        return listed(name, price="3000" if name == "good" else price, endpoint=endpoint)

    with Workspace(settings_of(home)) as workspace:
        registry = workspace.registry
        monkeypatch.setattr(nights, "listing", multiplied)
        outcome = run_night(workspace, SECOND, LLMS, clock)
        assert "held for review" in registry.llms.get("fake:good").refusal
        assert (outcome.is_unchanged, outcome.digest) == (True, registry.routers.aliases().champion)
        assert len(registry.promotions.list()) == 1
        assert prepare(workspace, registry.routers.get("champion")).unavailable == ()
