import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from registry.db.tables import alias
from registry.errors import NotFound, PromotionRefused, StalePromotion
from registry.promotion_records import GateTest
from registry.promotions import GateRecord, gate_result
from registry.routers import Aliases
from registry.store import Registry
from routing.errors import InvalidInput
from tests.registry.samples import NOW, digest_of, save_routers, start_night

ROOT = Path(__file__).resolve().parents[2]
PASSED = gate_result(True, {"score": {"value": 0.01, "threshold": 0.0}})
REFUSED = GateRecord(False, '{"score":"lower"}')
WORDS = {"actor": "ann", "reason": "looks right"}


@pytest.fixture
def routers(registry, night):
    return save_routers(registry, night)


def promote(registry, digest, **words):
    champion = registry.routers.aliases().champion
    asked = registry.promotions.request(digest, champion, PASSED, actor="night", now=NOW)
    return registry.promotions.apply(asked, now=NOW, **(WORDS | words))


def test_the_first_router_becomes_champion(registry, routers):
    done = promote(registry, routers[0])
    assert (done.status, done.expected_champion, done.decided_by, done.reason) == (
        "applied",
        None,
        "ann",
        "looks right",
    )
    assert (done.gate, done.applied_at) == (PASSED, NOW)
    assert registry.routers.aliases() == Aliases(champion=routers[0])
    assert [(one.alias, one.router_digest) for one in registry.promotions.pending()] == [("champion", routers[0])]


def test_the_old_champion_becomes_previous(registry, routers):
    for digest in routers:
        promote(registry, digest)
    assert registry.routers.aliases() == Aliases(champion=routers[2], previous=routers[1])


def test_c6_every_alias_move_is_one_ledger_event_with_before_and_after(registry, routers):
    promote(registry, routers[0])
    promote(registry, routers[1], reason="better and cheaper")
    events = registry.ledger.events(event="router:promotion:applied")
    assert [event.subject for event in events] == [routers[0], routers[1]]
    assert (events[1].actor, events[1].reason) == ("ann", "better and cheaper")
    assert f'"champion":["{routers[0]}","{routers[1]}"]' in events[1].payload_json
    assert [one.ledger_number for one in registry.promotions.pending()][1:] == [events[1].number] * 2
    assert registry.ledger.verify().is_intact


def test_f83_a_stale_promotion_is_refused_and_nothing_moves(registry, routers):
    promote(registry, routers[2])
    promote(registry, routers[0])
    asked = registry.promotions.request(routers[1], routers[0], PASSED, actor="night", now=NOW)
    registry.promotions.rollback(to=routers[2], now=NOW, **WORDS)
    before = (registry.routers.aliases(), registry.ledger.count(), registry.promotions.pending())
    with pytest.raises(StalePromotion, match="is superseded") as caught:
        registry.promotions.apply(asked, now=NOW, **WORDS)
    assert caught.value.unchanged == "No alias was moved."
    assert (registry.routers.aliases(), registry.ledger.count(), registry.promotions.pending()) == before


def test_f83_a_champion_that_moved_behind_an_open_promotion_refuses_it(registry, routers):
    promote(registry, routers[0])
    asked = registry.promotions.request(routers[1], routers[0], PASSED, actor="night", now=NOW)
    with registry.unit() as unit:
        unit.execute(alias.update().where(alias.c.name == "champion").values(router_digest=routers[2]))
    for decide in (registry.promotions.apply, registry.promotions.approve):
        with pytest.raises(StalePromotion, match="the champion now is router") as caught:
            decide(asked.id, now=NOW, **WORDS)
        assert caught.value.hint == "compare with the present champion and request again"
    assert registry.promotions.get(asked.id).status == "requested"
    assert registry.routers.aliases().champion == routers[2]


def test_f83_a_request_against_a_former_champion_is_refused(registry, routers):
    promote(registry, routers[0])
    with pytest.raises(StalePromotion, match="compared with no champion, but the champion now is router"):
        registry.promotions.request(routers[1], None, PASSED, actor="night", now=NOW)
    assert registry.promotions.list(status="requested") == ()


APPLY = """
import sys
from datetime import UTC, datetime
from registry.errors import StalePromotion
from registry.store import Registry
with Registry.open(sys.argv[1]) as registry:
    try:
        registry.promotions.rollback(actor="p", reason="race", now=datetime.now(UTC), to=sys.argv[2])
    except Exception as error:
        print(type(error).__name__)
"""


def test_f83_two_processes_that_promote_at_once_leave_one_history(registry, routers, url):
    for digest in reversed(routers):
        promote(registry, digest)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", APPLY, url, digest], cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        for digest in routers[1:]
    ]
    assert [(child.communicate()[0], child.returncode) for child in children] == [(b"", 0)] * 2
    aliases = registry.routers.aliases()
    assert {aliases.champion, aliases.previous} == set(routers[1:]), "the second saw what the first had done"
    assert len(registry.ledger.events(event="router:rollback:applied")) == 2
    assert registry.ledger.verify().is_intact


def test_a_new_request_supersedes_the_open_ones(registry, routers):
    first = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW)
    second = registry.promotions.request(routers[1], None, PASSED, actor="night", now=NOW)
    assert registry.promotions.get(first.id).status == "superseded"
    assert registry.promotions.get(second.id).status == "requested"
    assert len(registry.ledger.events(event="router:promotion:superseded")) == 1


def test_a_repeated_request_returns_the_same_open_promotion(registry, routers, night):
    first = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW, run_id=night.id)
    n_events = registry.ledger.count()
    again = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW, run_id=night.id)
    assert (again, registry.ledger.count()) == (first, n_events)


def test_a_resumed_run_finds_its_own_rejection(registry, routers, night):
    asked = registry.promotions.request(routers[0], None, REFUSED, actor="night", now=NOW, run_id=night.id)
    rejected = registry.promotions.reject(asked.id, actor="night", reason="gate failed", now=NOW)
    again = registry.promotions.request(routers[0], None, REFUSED, actor="night", now=NOW, run_id=night.id)
    assert again == rejected
    assert registry.promotions.reject(again.id, actor="night", reason="gate failed", now=NOW) == rejected
    other = start_night(registry, "night:other", holder_is_gone=lambda _: True)
    fresh = registry.promotions.request(routers[0], None, REFUSED, actor="night", now=NOW, run_id=other.id)
    assert (fresh.id, fresh.status) == (asked.id + 1, "requested"), "another night may request it again"


def test_approve_then_apply(registry, routers):
    asked = registry.promotions.request(
        routers[0], None, REFUSED, actor="night", now=NOW, report_digest=digest_of(5), reason="new LLM"
    )
    approved = registry.promotions.approve(asked.id, actor="ann", reason="known risk", now=NOW + timedelta(hours=1))
    assert (approved.status, approved.decided_by, approved.report_digest) == ("approved", "ann", digest_of(5))
    done = registry.promotions.apply(
        approved, actor="publisher", reason="approved by ann", now=NOW + timedelta(hours=2)
    )
    assert (done.status, done.decided_by, done.decided_at) == ("applied", "ann", NOW + timedelta(hours=1))
    assert registry.routers.aliases().champion == routers[0]
    names = [event.event for event in registry.ledger.events(subject=routers[0], event="router:promotion:")]
    assert names == ["router:promotion:requested", "router:promotion:approved", "router:promotion:applied"]


def test_a_rejected_promotion_changes_nothing_and_stays_closed(registry, routers):
    promote(registry, routers[0])
    asked = registry.promotions.request(routers[1], routers[0], REFUSED, actor="night", now=NOW)
    registry.promotions.reject(asked.id, actor="ann", reason="worse", now=NOW)
    for decide in (registry.promotions.approve, registry.promotions.mark_failed):
        with pytest.raises(StalePromotion, match="is rejected"):
            decide(asked.id, actor="ann", reason="again", now=NOW)
    with pytest.raises(StalePromotion, match="is rejected"):
        registry.promotions.apply(asked.id, now=NOW, **WORDS)
    assert registry.routers.aliases().champion == routers[0]


def test_a_failed_promotion_is_closed_too(registry, routers):
    asked = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW)
    assert registry.promotions.mark_failed(asked.id, actor="night", reason="does not load", now=NOW).status == "failed"
    with pytest.raises(StalePromotion, match="is failed"):
        registry.promotions.apply(asked, now=NOW, **WORDS)


def test_applying_twice_moves_the_alias_once(registry, routers):
    done = promote(registry, routers[0])
    n_events, n_pending = registry.ledger.count(), len(registry.promotions.pending())
    assert registry.promotions.apply(done, now=NOW, **WORDS) == done
    assert (registry.ledger.count(), len(registry.promotions.pending())) == (n_events, n_pending)
    promote(registry, routers[1])
    with pytest.raises(StalePromotion, match="is applied"):
        registry.promotions.apply(done, now=NOW, **WORDS)


def test_rollback_needs_no_gate_and_goes_to_previous(registry, routers):
    promote(registry, routers[0])
    promote(registry, routers[1])
    done = registry.promotions.rollback(now=NOW, **WORDS)
    assert (done.kind, done.status, done.router_digest, done.expected_champion) == (
        "rollback",
        "applied",
        routers[0],
        routers[1],
    )
    assert registry.routers.aliases() == Aliases(champion=routers[0], previous=routers[1])
    assert registry.ledger.events(event="router:rollback:applied")[0].reason == "looks right"
    assert [(one.alias, one.router_digest) for one in registry.promotions.pending()][-2:] == [
        ("champion", routers[0]),
        ("previous", routers[1]),
    ]


def test_rollback_takes_any_name_of_a_router_that_served(registry, routers):
    for digest in routers:
        promote(registry, digest)
    registry.routers.set_published(routers[0], "uniroute", 7, "run")
    assert registry.promotions.rollback_target("v7").digest == routers[0]
    assert registry.promotions.rollback(to="v7", now=NOW, **WORDS).router_digest == routers[0]


def test_rollback_does_not_bypass_the_gate(registry, routers):
    promote(registry, routers[0])
    promote(registry, routers[1])
    asked = registry.promotions.request(routers[2], routers[1], REFUSED, actor="night", now=NOW)
    registry.promotions.reject(asked.id, actor="night", reason="gate failed", now=NOW)
    for go_back in (
        registry.promotions.rollback_target,
        lambda to: registry.promotions.rollback(to=to, now=NOW, **WORDS),
    ):
        with pytest.raises(PromotionRefused, match="was never the champion"):
            go_back(routers[2])
    assert registry.routers.aliases().champion == routers[1]


def test_rollback_without_a_previous_router_is_refused(registry, routers):
    with pytest.raises(NotFound, match="no previous router"):
        registry.promotions.rollback(now=NOW, **WORDS)
    promote(registry, routers[0])
    with pytest.raises(PromotionRefused, match="is already the champion"):
        registry.promotions.rollback(to=routers[0], now=NOW, **WORDS)


@pytest.mark.parametrize("reason", ["", "  ", "\n", "\u200b\u00a0"])
def test_decisions_need_a_reason(registry, routers, reason):
    asked = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW)
    for decide in (registry.promotions.apply, registry.promotions.approve, registry.promotions.reject):
        with pytest.raises(InvalidInput, match="needs a reason"):
            decide(asked.id, actor="ann", reason=reason, now=NOW)
    with pytest.raises(InvalidInput, match="needs a reason"):
        registry.promotions.rollback(actor="ann", reason=reason, now=NOW)
    assert registry.promotions.get(asked.id).status == "requested"


def test_unknown_routers_and_promotions_are_not_found(registry, routers):
    with pytest.raises(NotFound):
        registry.promotions.request(digest_of(999), None, PASSED, actor="night", now=NOW)
    with pytest.raises(NotFound):
        registry.promotions.set_challenger(digest_of(999), actor="night", now=NOW)
    with pytest.raises(NotFound, match="there is no promotion 99"):
        registry.promotions.apply(99, now=NOW, **WORDS)
    promote(registry, routers[0])
    with pytest.raises(PromotionRefused, match="is already the champion"):
        registry.promotions.request(routers[0], routers[0], PASSED, actor="night", now=NOW)


def test_the_challenger_moves_with_an_event_and_only_when_it_changes(registry, routers):
    for _ in range(2):
        registry.promotions.set_challenger(routers[0], actor="night", now=NOW, reason="measured tonight")
    registry.promotions.set_challenger(routers[1], actor="night", now=NOW)
    assert registry.routers.aliases() == Aliases(challenger=routers[1])
    assert [event.subject for event in registry.ledger.events(event="router:alias:moved")] == list(routers[:2])
    assert [(one.alias, one.router_digest) for one in registry.promotions.pending()] == [
        ("challenger", routers[0]),
        ("challenger", routers[1]),
    ]


def test_the_outbox_keeps_moves_until_mlflow_has_them(registry, routers):
    promote(registry, routers[0])
    (entry,) = registry.promotions.pending()
    registry.promotions.mark_undelivered(entry.id, "connection refused \x00")
    (entry,) = registry.promotions.pending()
    assert (entry.attempts, entry.last_error, entry.done_at) == (1, "connection refused \x00", None)
    registry.promotions.mark_done(entry.id, now=NOW)
    registry.promotions.mark_done(entry.id, now=NOW + timedelta(hours=1))
    registry.promotions.mark_undelivered(entry.id, "too late")
    assert registry.promotions.pending() == ()


def test_promotions_are_listed_newest_first(registry, routers):
    for digest in routers:
        promote(registry, digest)
    assert [one.router_digest for one in registry.promotions.list()] == list(reversed(routers))
    assert len(registry.promotions.list(status="applied", limit=2)) == 2


def test_applying_joins_a_unit_whole_or_not_at_all(registry, routers):
    asked = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW)
    with pytest.raises(RuntimeError, match="killed"), registry.unit() as unit:
        registry.promotions.apply(asked, now=NOW, unit=unit, **WORDS)
        raise RuntimeError("killed")
    assert registry.routers.aliases() == Aliases()
    assert registry.promotions.pending() == ()
    assert registry.promotions.get(asked.id).status == "requested"


def test_the_history_survives_reopening(registry, routers, url):
    promote(registry, routers[0])
    registry.close()
    with Registry.open(url) as again:
        assert again.routers.aliases().champion == routers[0]
        assert again.promotions.list()[0].status == "applied"


def test_the_requester_may_not_approve_where_two_people_are_required(registry, routers):
    promote(registry, routers[0])
    asked = registry.promotions.request(routers[1], routers[0], PASSED, actor="Ann Lee", now=NOW)
    for same in ("Ann Lee", "ann lee", "  ANN  LEE ", "\uff21nn Lee", "ann\u200b lee"):
        with pytest.raises(PromotionRefused, match="may not approve it") as caught:
            registry.promotions.approve(asked.id, actor=same, reason="fine", now=NOW, two_person=True)
        assert caught.value.hint.startswith("ask another person")
    assert registry.promotions.get(asked.id).status == "requested"
    other = {"actor": "bob", "reason": "fine", "now": NOW, "two_person": True}
    assert registry.promotions.approve(asked.id, **other).decided_by == "bob"


def test_one_person_may_do_both_where_one_is_enough(registry, routers):
    asked = registry.promotions.request(routers[0], None, PASSED, actor="ann", now=NOW)
    assert registry.promotions.approve(asked.id, now=NOW, **WORDS).status == "approved"


def test_a_router_that_does_not_load_leaves_a_failed_promotion_and_the_open_ones_open(registry, routers):
    promote(registry, routers[0])
    waiting = registry.promotions.request(routers[1], routers[0], PASSED, actor="night", now=NOW)
    facts = {"os_user": "svc"}
    failed = registry.promotions.note_failure(routers[2], routers[0], now=NOW, facts=facts, **WORDS)
    assert (failed.status, failed.reason, failed.gate) == ("failed", "looks right", GateRecord(False))
    assert registry.promotions.get(waiting.id).status == "requested"
    (event,) = registry.ledger.events(event="router:promotion:failed")
    assert '"os_user":"svc"' in event.payload_json
    for decide in (registry.promotions.approve, registry.promotions.apply):
        with pytest.raises(StalePromotion, match="is failed"):
            decide(failed.id, now=NOW, **WORDS)


def test_routers_are_counted_once_for_each_champion_they_were_tested_against(registry, routers):
    promote(registry, routers[0])
    registry.promotions.note_failure(routers[2], routers[0], now=NOW, **WORDS)
    assert registry.promotions.tested_against(routers[0]) == (), "what does not load was not tested"
    for digest in (routers[1], routers[2], routers[1]):
        asked = registry.promotions.request(digest, routers[0], REFUSED, actor="night", now=NOW)
        registry.promotions.reject(asked.id, actor="night", reason="gate failed", now=NOW)
    assert registry.promotions.tested_against(routers[0]) == tuple(map(GateTest, routers[1:]))
    promote(registry, routers[2])
    assert registry.promotions.tested_against(routers[2]) == ()
    registry.promotions.rollback(now=NOW, **WORDS)
    tested = registry.promotions.tested_against(routers[0])
    assert tested == tuple(map(GateTest, routers[1:])), "a rollback does not restore the tests"


def test_approving_and_applying_are_one_transaction_together(registry, routers):
    asked = registry.promotions.request(routers[0], None, PASSED, actor="night", now=NOW)
    with pytest.raises(RuntimeError, match="killed"), registry.unit() as unit:
        registry.promotions.approve(asked.id, now=NOW, unit=unit, **WORDS)
        registry.promotions.apply(asked.id, now=NOW, unit=unit, **WORDS)
        raise RuntimeError("killed")
    assert registry.promotions.get(asked.id).status == "requested"
    assert registry.routers.aliases() == Aliases()


def test_a_rejection_or_rollback_by_a_person_is_a_veto_until_an_approval(registry, routers, night):
    promote(registry, routers[0])
    asked = registry.promotions.request(routers[1], routers[0], REFUSED, actor="night", now=NOW)
    registry.promotions.reject(asked.id, actor="night", reason="gate failed", now=NOW)
    assert not registry.promotions.is_vetoed(routers[1]), "a failed gate is not a decision of a person"
    asked = registry.promotions.request(routers[1], routers[0], PASSED, actor="night", now=NOW, run_id=night.id)
    rejected = registry.promotions.reject(asked.id, actor="ann", reason="not now", now=NOW)
    assert registry.promotions.is_vetoed(routers[1])
    again = registry.promotions.request(routers[1], routers[0], PASSED, actor="night", now=NOW, run_id=night.id)
    assert again == rejected, "the night does not request the same decision again"
    assert registry.promotions.request(routers[1], routers[0], PASSED, actor="ann", now=NOW).id > rejected.id
    promote(registry, routers[1])
    assert not registry.promotions.is_vetoed(routers[1])
    registry.promotions.rollback(now=NOW, **WORDS)
    assert registry.promotions.is_vetoed(routers[1])
    assert not registry.promotions.is_vetoed(routers[0])
    assert not registry.promotions.is_vetoed(routers[2])


def test_a_champion_that_was_graded_again_spends_nothing_and_continues_its_account(registry, routers):
    def judged(ordinal):
        return gate_result(True, {"spending": {"ordinal": ordinal, "level": 0.1}})

    first, challenger, regraded = routers
    promote(registry, first)
    asked = registry.promotions.request(challenger, first, judged(1), actor="night", now=NOW)
    registry.promotions.reject(asked.id, actor="ann", reason="not yet", now=NOW)
    asked = registry.promotions.request(regraded, first, judged(0), actor="night", now=NOW)
    tested = registry.promotions.tested_against(first)
    assert tested == (GateTest(challenger),), "the same router under newer grades is no test"
    registry.promotions.apply(asked, actor="night", reason="graded again", now=NOW)
    assert registry.promotions.tested_against(regraded) == (GateTest(challenger),), "no new account begins"
    asked = registry.promotions.request(challenger, regraded, judged(1), actor="night", now=NOW)
    registry.promotions.apply(asked, actor="night", reason="better", now=NOW)
    assert registry.promotions.tested_against(challenger) == (), "a real promotion begins one"
