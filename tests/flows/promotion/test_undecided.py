"""A challenger on which the gate cannot decide: it waits for a person, keeps its record, and is judged again."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select, update

from flows.audit.replay import disagreements
from flows.audit.serving import history
from flows.config.sources import CONFIG_NAME
from flows.metrics.exposition import Figures
from flows.promotion.decisions import Person, approve, reject, request
from flows.promotion.judging import judge_undecided_again
from flows.promotion.refresh import refresh_champion
from flows.reports.attention import attention_lines
from flows.reports.audit import history_text
from flows.reports.decisions import promotion_text, review_data
from flows.reports.digest import digest, escape
from flows.reports.night_report import UNDECIDED_WAITS
from flows.reports.nights import night_markdown
from flows.reports.past_night import PastNight
from flows.reports.recording import night_record
from flows.reports.terminal import router_text
from flows.reports.worth import worth_lines
from flows.versions.store import publication_folder
from flows.workspace import Workspace
from registry.db.tables import llm, outcome, prompt
from registry.errors import PromotionRefused
from tests.fakes.nights import COST_USD, FIRST, SECOND, SETTINGS, Clock, answered_home, run_night, settings_of
from tests.flows.cli.test_hostile import report_of
from tests.homes import copied_home
from tests.registry.samples import NOW

LLMS = ("weak", "fair")
MORE = (*LLMS, "good")
THIRD = date(2024, 11, 1)
LATER = NOW + timedelta(days=90)
ANNA = Person("anna", "anna")
SCORE = "score at the champion's cost, against the champion"


def settings_text(policy: str = "automatic", *, epsilon: float = 0.02, undecided: str = "review") -> str:
    text = SETTINGS.format(policy=policy).replace("epsilon = 1.0", f"epsilon = {epsilon}")
    return text.replace("[gate]\n", f'[gate]\nundecided = "{undecided}"\n')


def write_settings(home: Path, *given: str, **changes) -> None:
    home.with_name(CONFIG_NAME).write_text(settings_text(*given, **changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory, migrated: Path, template: Path) -> Path:
    """Make a home folder whose second router, on 8 gate prompts, could not be decided on under policy automatic."""
    home = tmp_path_factory.mktemp("undecided") / "home"
    with answered_home(home, migrated, template) as workspace:
        assert run_night(workspace, FIRST, LLMS, Clock()).promotion == "promoted"
    write_settings(home)
    with Workspace(settings_of(home)) as workspace:
        found = run_night(workspace, SECOND, MORE, Clock(NOW + timedelta(days=30)))
    assert found.promotion == UNDECIDED_WAITS
    assert [check.name for check in found.gate.checks if not check.passed] == [SCORE]
    return home


@pytest.fixture
def home(tmp_path: Path, made: Path) -> Path:
    folder = copied_home(made, tmp_path / "home")
    write_settings(folder)
    return folder


@pytest.fixture
def workspace(home: Path) -> Iterator[Workspace]:
    with Workspace(settings_of(home)) as opened:
        yield opened


def waiting_of(workspace: Workspace):
    (one,) = workspace.registry.promotions.list(status="requested")
    return one


def move_a_grade(workspace: Workspace) -> None:
    """Change one recorded score on a gate prompt, as another answer would."""
    registry = workspace.registry
    waiting = registry.routers.get(waiting_of(workspace).router_digest)
    gate = registry.prompts.get(waiting.prompt_set_digest).with_role("gate")[0]
    of_prompt = outcome.c.prompt_id == select(prompt.c.id).where(prompt.c.digest == gate.digest).scalar_subquery()
    with registry._database.write() as unit:
        unit.execute(update(outcome).where(of_prompt).values(score=1 - outcome.c.score))


def test_it_waits_under_either_policy_and_is_not_rejected_by_the_gate(workspace: Workspace) -> None:
    assert workspace.settings.gate.policy == "automatic"
    promotions, waiting = workspace.registry.promotions, waiting_of(workspace)
    assert (waiting.gate.passed, waiting.gate.verdict, waiting.gate.decision) == (False, "undecided", "review")
    assert not promotions.is_refused(waiting.router_digest)
    assert not promotions.is_vetoed(waiting.router_digest)
    assert workspace.registry.routers.aliases().champion == waiting.expected_champion
    values = Figures(workspace.settings, Clock(LATER)).read().samples.values
    assert values["promotions_waiting"][()] == values["promotions_undecided"][()] == 1


def test_everything_that_shows_it_says_undecided_and_what_would_decide_it(workspace: Workspace) -> None:
    waiting = waiting_of(workspace)
    data = review_data(workspace, waiting)
    assert (data["gate_passed"], data["verdict"]) == (False, "undecided")
    judging = "17 gate or representative prompts"
    assert data["undecided"].startswith(f"the gate cannot decide: {judging} can show a difference of 0.")
    assert "would decide it" in data["undecided"]
    text = promotion_text(data)
    assert "Gate: UNDECIDED" in text and data["undecided"] in text
    assert f"UNDECIDED  {SCORE}" in text and "to change that: [gate] epsilon = 0.02 (this needs at least" in text
    for name in ("review.html", "review.md"):
        page = (publication_folder(workspace, waiting.router_digest) / name).read_text()
        assert "Gate undecided" in page and "17 gate or representative prompts can show a difference" in page
        assert "this needs at least" in page and "undecided" in page.lower()
    content = json.loads((publication_folder(workspace, waiting.router_digest) / "publication.json").read_text())
    assert content["tags"]["gate"] == "undecided" and "- Gate: undecided." in content["description"]
    assert f"- UNDECIDED: {SCORE}" in content["description"] and "this needs at least" in content["description"]


def test_the_night_needs_attention_and_its_texts_say_undecided(home: Path, workspace: Workspace) -> None:
    found = run_night(workspace, THIRD, MORE, Clock(LATER))
    report = replace(report_of("plain"), router=found)
    (line,) = [one for one in attention_lines(report) if "promotion of router" in one]
    assert UNDECIDED_WAITS in line and "17 gate or representative prompts can show" in line
    assert "**undecided**: the gate cannot decide" in digest(report)
    assert f"UNDECIDED: {SCORE}" in digest(report)
    assert "Undecided: the gate cannot decide" in router_text(found)
    assert f"UNDECIDED  {SCORE}" in router_text(found)
    past = PastNight(workspace.registry.runs.list(limit=1)[0], night_record(report), 0, Decimal(0), {})
    assert f"- UNDECIDED: {SCORE}" in night_markdown(past) and "this needs at least" in night_markdown(past)
    assert found.gate is not None
    failed = replace(found.gate.checks[0], passed=False, remedy="[gate] max_share = 1")
    refused = replace(found, promotion="rejected", gate=replace(found.gate, checks=(failed,)))
    (line,) = [one for one in attention_lines(replace(report, router=refused)) if "promotion of router" in one]
    assert f": rejected: {failed.name}: " in line and line.endswith("to change that: [gate] max_share = 1")


def test_a_person_approves_it_with_a_reason_and_the_record_does_not_say_that_it_passed(workspace: Workspace) -> None:
    registry, waiting = workspace.registry, waiting_of(workspace)
    done = approve(workspace, waiting.id, by=ANNA, reason="we need good", clock=Clock(LATER))
    assert done.remarks == (f"The gate cannot decide on promotion {waiting.id}: you decide.",)
    applied = done.promotion
    assert (applied.status, applied.decided_by, applied.reason) == ("applied", "anna", "we need good")
    assert (applied.gate.passed, applied.gate) == (False, waiting.gate)
    assert registry.routers.aliases().champion == waiting.router_digest
    events = registry.ledger.events(subject=waiting.router_digest, event="router:promotion:")
    payloads = [json.loads(event.payload_json) for event in events]
    assert [(one["gate_passed"], one["gate_verdict"]) for one in payloads] == [(False, "undecided")] * 3
    assert payloads[1]["verdict_at_approval"] == "undecided"
    assert disagreements(registry, registry.ledger.events()) == ()
    assert [(one["gate_passed"], one["verdict"]) for one in history(registry)] == [
        (True, "promote"),
        (False, "undecided"),
    ]
    assert "undecided" in history_text(history(registry))
    assert not registry.promotions.is_refused(waiting.router_digest)


def test_who_approves_what_passes_by_now_is_told_so(home: Path) -> None:
    write_settings(home, epsilon=1.0)
    with Workspace(settings_of(home)) as workspace:
        waiting = waiting_of(workspace)
        done = approve(workspace, waiting.id, by=ANNA, reason="fine", clock=Clock(LATER))
        assert "by now it passes" in done.remarks[0]
        assert not done.promotion.gate.passed, "the row is what was requested"
        approved = workspace.registry.ledger.events(subject=waiting.router_digest, event="router:promotion:approved")
        assert json.loads(approved[0].payload_json)["verdict_at_approval"] == "promote"


def test_what_the_gate_turns_down_by_now_is_not_approved(home: Path) -> None:
    write_settings(home, undecided="reject")
    with Workspace(settings_of(home)) as workspace:
        waiting = waiting_of(workspace)
        with pytest.raises(PromotionRefused, match=r"no longer passes the gate: score at .*\(undecided\)"):
            approve(workspace, waiting.id, by=ANNA, reason="please", clock=Clock(LATER))
        asked = request(workspace, waiting.router_digest, by=ANNA, reason="", clock=Clock(LATER)).promotion
        assert asked.status == "rejected"
        assert asked.reason == f'gate undecided, and [gate] undecided = "reject": {SCORE}'
        assert not workspace.registry.promotions.is_vetoed(asked.router_digest), "no person decided against it"


def test_what_was_requested_as_passing_must_still_pass(home: Path) -> None:
    """The reviewer saw a page that says passed."""
    write_settings(home, "review", epsilon=1.0)
    with Workspace(settings_of(home)) as workspace:
        asked = request(workspace, "challenger", by=ANNA, reason="", clock=Clock(LATER)).promotion
        assert asked.gate.passed
    write_settings(home, "review")
    with Workspace(settings_of(home)) as workspace:
        with pytest.raises(PromotionRefused, match="no longer passes the gate"):
            approve(workspace, asked.id, by=ANNA, reason="fine", clock=Clock(LATER))
        again = request(workspace, "challenger", by=ANNA, reason="", clock=Clock(LATER)).promotion
        assert (again.status, again.gate.is_undecided) == ("requested", True)
        assert approve(workspace, again.id, by=ANNA, reason="mine", clock=Clock(LATER)).promotion.status == "applied"


def test_a_person_who_rejects_it_has_vetoed_it(home: Path, workspace: Workspace) -> None:
    promotions, waiting = workspace.registry.promotions, waiting_of(workspace)
    reject(workspace, waiting.id, by=ANNA, reason="not this one", clock=Clock(LATER))
    assert promotions.is_vetoed(waiting.router_digest) and promotions.is_refused(waiting.router_digest)
    assert run_night(workspace, THIRD, MORE, Clock(LATER)).promotion == "rejected", "a review is requested only once"
    assert len(promotions.list()) == 2
    write_settings(home, epsilon=1.0)
    with Workspace(settings_of(home)) as lenient:
        found = run_night(lenient, date(2024, 11, 2), MORE, Clock(LATER + timedelta(days=1)))
        assert (found.gate.passed, found.promotion) == (True, "waiting for review")


def test_the_same_evidence_is_the_same_test_and_the_same_request(workspace: Workspace) -> None:
    waiting = waiting_of(workspace)
    found = run_night(workspace, THIRD, MORE, Clock(LATER))
    assert (found.promotion, found.gate.spending.ordinal) == (UNDECIDED_WAITS, 1)
    assert waiting_of(workspace) == waiting
    assert len(workspace.registry.promotions.tested_against(waiting.expected_champion)) == 1


def test_other_answers_are_a_second_look_that_takes_the_next_number_of_the_account(workspace: Workspace) -> None:
    registry, waiting = workspace.registry, waiting_of(workspace)
    move_a_grade(workspace)
    for _ in range(2):
        asked = request(workspace, waiting.router_digest, by=ANNA, reason="", clock=Clock(LATER)).promotion
        spending = json.loads(asked.gate.details_json)["spending"]
        assert (asked.gate.verdict, spending["ordinal"]) == ("undecided", 2)
    tested = registry.promotions.tested_against(waiting.expected_champion)
    assert {one.router_digest for one in tested} == {waiting.router_digest}
    assert len({one.evidence for one in tested}) == len(tested) == 2
    assert registry.promotions.get(waiting.id).status == "superseded"


def test_a_night_that_can_decide_promotes_it(home: Path) -> None:
    write_settings(home, epsilon=1.0)
    with Workspace(settings_of(home)) as workspace:
        waiting = waiting_of(workspace)
        found = run_night(workspace, THIRD, MORE, Clock(LATER))
        assert (found.digest, found.promotion) == (waiting.router_digest, "promoted")
        assert workspace.registry.promotions.get(waiting.id).status == "superseded"


def test_a_night_that_makes_no_other_router_judges_it_again(workspace: Workspace) -> None:
    clock, registry, waiting = Clock(LATER), workspace.registry, waiting_of(workspace)
    registry.llms.set_status("fake:good", "excluded", "not ours", actor="anna", now=clock())
    found = run_night(workspace, THIRD, MORE, clock)
    assert found.is_unchanged
    headline, *_ = worth_lines(found.worth)
    assert headline.startswith("Against always using the best single LLM") and headline in router_text(found)
    assert f"- {escape(headline, 400)}" in digest(replace(report_of("plain"), router=found))
    assert not any("Against the champion" in one for one in worth_lines(found.worth)), "it is the champion"
    (line,) = found.judged_again
    assert line.startswith(f"promotion {waiting.id} of router {waiting.router_digest[:12]} is rejected")
    assert line in digest(replace(report_of("plain"), router=found)) or "is rejected" in digest(
        replace(report_of("plain"), router=found)
    )
    assert line in attention_lines(replace(report_of("plain"), router=found))
    latest = registry.promotions.list()[0]
    assert (latest.router_digest, latest.status) == (waiting.router_digest, "rejected")
    assert latest.requested_by == waiting.requested_by
    assert registry.promotions.list(status="requested") == ()


def test_after_a_refresh_it_is_judged_once_and_waits(workspace: Workspace) -> None:
    clock, registry, waiting = Clock(LATER), workspace.registry, waiting_of(workspace)
    registry.llms.set_status("fake:weak", "withdrawn", "gone", actor="anna", now=clock())
    done = refresh_champion(workspace, on=THIRD, actor="anna", clock=clock)
    assert done.status == "applied"
    (line,) = done.judged_again
    assert f"promotion {waiting.id} of router" in line
    champion = registry.routers.aliases().champion
    assert registry.promotions.to_judge_again(champion, waiting.expected_champion) == ()


@pytest.mark.parametrize(("policy", "promotion"), [("automatic", "promoted"), ("review", UNDECIDED_WAITS)])
def test_a_cheaper_one_is_promoted_where_the_settings_say_so(home: Path, policy: str, promotion: str) -> None:
    write_settings(home, policy, undecided="promote_if_cheaper")
    with Workspace(settings_of(home)) as workspace:
        waiting, registry = waiting_of(workspace), workspace.registry
        of_good = outcome.c.llm_id == select(llm.c.id).where(llm.c.key == "fake:good").scalar_subquery()
        with registry._database.write() as unit:
            unit.execute(update(outcome).where(of_good).values(cost_picousd=COST_USD / 2))
        found = run_night(workspace, THIRD, MORE, Clock(LATER))
        assert (found.gate.verdict, found.gate.decision) == ("undecided", "promote")
        assert found.promotion == promotion
        is_serving = registry.routers.aliases().champion == waiting.router_digest
        assert is_serving == (promotion == "promoted")
        if is_serving:
            latest = registry.promotions.list()[0]
            assert not latest.gate.passed
            assert 'undecided = "promote_if_cheaper"' in latest.reason


def test_f82_what_a_killed_night_judged_again_and_did_not_reject_is_rejected(workspace: Workspace, monkeypatch) -> None:
    clock, registry, waiting = Clock(LATER), workspace.registry, waiting_of(workspace)
    registry.llms.set_status("fake:good", "excluded", "not ours", actor="anna", now=clock())

    def die(*_arguments: object, **_words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry.promotions, "reject", die)
        judge_undecided_again(workspace, actor="night", clock=clock, run_id=waiting.run_id)
    left = waiting_of(workspace)
    assert (left.id != waiting.id, left.gate.decision) == (True, "reject")
    with pytest.raises(PromotionRefused, match="LLMs that may be routed to"):
        approve(workspace, left.id, by=ANNA, reason="now", clock=clock)
    (line,) = judge_undecided_again(workspace, actor="night", clock=clock, run_id=waiting.run_id)
    assert "is rejected against the champion: gate failed: LLMs that may be routed to" in line
    assert registry.promotions.get(left.id).status == "rejected"
    assert judge_undecided_again(workspace, actor="night", clock=clock, run_id=waiting.run_id) == ()
    assert len(registry.promotions.list()) == 3
