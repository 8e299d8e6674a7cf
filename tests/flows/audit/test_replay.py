"""The ledger played back agrees with the rows after any history; where they differ, the difference is named."""

import shutil
import sqlite3
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from flows.audit.moments import Span
from flows.audit.replay import disagreements
from flows.audit.serving import served_in
from registry.errors import NotFound, RegistryCorrupt, RegistryError
from registry.promotions import gate_result
from registry.store import Registry
from tests.properties import examples
from tests.registry.samples import NOW, save_routers, start_night

STEP = st.tuples(
    st.sampled_from(["promote", "promote", "request", "reject", "rollback", "challenge"]),
    st.integers(0, 3),
    st.integers(1, 90),
)


def take(registry, routers, action, router, now):
    """Do one thing as a night, a reviewer or an operator would; what the registry refuses changes nothing."""
    promotions, champion = registry.promotions, registry.routers.aliases().champion
    try:
        if action == "rollback":
            promotions.rollback(actor="ann", reason="worse", now=now, to=routers[router] if router else None)
        elif action == "challenge":
            promotions.set_challenger(routers[router], actor="night", now=now)
        else:
            gate = gate_result(True, {"at": str(now)})
            asked = promotions.request(routers[router], champion, gate, actor="night", now=now, reason="new")
            if action == "promote":
                promotions.apply(asked, actor="night", reason="gate passed", now=now)
            elif action == "reject":
                promotions.reject(asked.id, actor="bob", reason="no", now=now)
    except RegistryError:
        pass


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(steps=[("promote", 0, 1), ("promote", 1, 1), ("rollback", 0, 1)], asked=[1, 2, 3])
@given(steps=st.lists(STEP, min_size=1, max_size=10), asked=st.lists(st.integers(0, 400), min_size=1, max_size=6))
def test_who_served_when_agrees_with_what_happened(migrated, tmp_path, steps, asked):
    shutil.copy(migrated, tmp_path / "registry.db")
    for leftover in tmp_path.glob("registry.db-*"):
        leftover.unlink()
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        routers = save_routers(registry, start_night(registry), 4)
        now, truth = NOW, [(NOW, None)]
        for action, router, minutes in steps:
            now += timedelta(minutes=minutes)
            take(registry, routers, action, router, now)
            truth.append((now, registry.routers.aliases().champion))
        events = registry.ledger.events()
        assert disagreements(registry, events) == ()
        for minutes in asked:
            moment = NOW + timedelta(minutes=minutes)
            served = [champion for at, champion in truth if at <= moment][-1]
            span = Span(moment, moment, "then")
            if served is None:
                with pytest.raises(NotFound, match="No router served on then"):
                    served_in(registry, span, now + timedelta(days=9))
            else:
                (answer,) = served_in(registry, span, now + timedelta(days=9))
                assert answer["digest"] == served
                assert answer["evidence"]["gate_passed"]


@pytest.fixture
def url(migrated, tmp_path):
    shutil.copy(migrated, tmp_path / "registry.db")
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture
def promoted(url):
    with Registry.open(url) as registry:
        promote_two(registry)
        yield registry


def promote_two(registry):
    routers = save_routers(registry, start_night(registry))
    for minute, router in enumerate(routers[:2]):
        take(registry, routers, "promote", routers.index(router), NOW + timedelta(minutes=minute))
    take(registry, routers, "request", 2, NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "UPDATE alias SET router_digest = (SELECT digest FROM router WHERE id = 1) WHERE name = 'champion'",
            "champion points to",
        ),
        ("DELETE FROM alias WHERE name = 'previous'", "previous points to nothing; the ledger says"),
        ("UPDATE promotion SET status = 'rejected' WHERE id = 3", "promotion 3: status is rejected; the ledger says"),
        (
            "UPDATE promotion SET decided_by = 'eve' WHERE id = 1",
            "promotion 1: decided by is eve; the ledger says night",
        ),
        ("UPDATE promotion SET requested_by = 'eve' WHERE id = 2", "promotion 2: requested by is eve"),
        ("UPDATE promotion SET reason = x'65' WHERE id = 2", "promotion 2: reason is e; the ledger says gate passed"),
        ("UPDATE promotion SET gate_passed = 0 WHERE id = 2", "promotion 2: gate passed is False"),
        ("UPDATE promotion SET gate_json = '{}' WHERE id = 2", "promotion 2: gate result is"),
        ("UPDATE promotion SET expected_champion = NULL WHERE id = 2", "promotion 2: expected champion is nothing"),
        ("UPDATE promotion SET report_digest = router_digest WHERE id = 2", "promotion 2: report digest is"),
        ("UPDATE promotion SET applied_at = requested_at WHERE id = 2", ""),
        ("UPDATE promotion SET applied_at = '2024-09-02 00:00:00.000000' WHERE id = 2", "promotion 2: applied at is"),
        ("DELETE FROM promotion WHERE id = 2", "promotion 2 is in the ledger but not in the registry"),
        (
            "INSERT INTO promotion (router_digest, kind, status, gate_json, gate_passed, requested_by, requested_at) "
            "SELECT router_digest, kind, status, gate_json, 1, 'eve', requested_at FROM promotion WHERE id = 1",
            "promotion 4 is in the registry but not in the ledger",
        ),
    ],
)
def test_a_row_changed_behind_the_ledgers_back_is_named(promoted, url, statement, said):
    assert disagreements(promoted, promoted.ledger.events()) == ()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(statement)
    connection.close()
    found = disagreements(promoted, promoted.ledger.events())
    assert any(line.startswith(said) for line in found) if said else found == ()


def test_a_ledger_that_was_changed_answers_nothing(promoted, url):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("DROP TRIGGER ledger_refuses_update")
        connection.execute("UPDATE ledger SET actor = 'eve' WHERE number = 6")
    connection.close()
    with pytest.raises(RegistryCorrupt, match=r"The ledger cannot be trusted: event 6 was changed"):
        served_in(promoted, Span(NOW, NOW, "then"), NOW)


def test_evidence_that_the_ledger_does_not_remember_is_refused(promoted, url):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE promotion SET gate_json = '{\"checks\": []}' WHERE id = 1")
    connection.close()
    with pytest.raises(RegistryCorrupt, match="The evidence of promotion 1 is not what the ledger recorded"):
        served_in(promoted, Span(NOW, NOW, "then"), NOW)
