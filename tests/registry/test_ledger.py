import sqlite3
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from registry.ledger import GENESIS
from registry.store import Registry
from tests.postgres import break_in
from tests.properties import examples
from tests.registry.conftest import only_on_sqlite
from tests.registry.samples import NOW


@pytest.fixture
def filled(registry):
    for number in range(6):
        registry.ledger.append(
            "router:promotion:requested" if number % 2 else "router:promotion:applied",
            f"router-{number}",
            actor="ann",
            now=NOW + timedelta(hours=number),
            reason=f"because {number}",
            payload={"number": number},
        )
    return registry


def test_events_form_a_chain(filled):
    events = filled.ledger.events()
    assert [event.number for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[0].previous_hash == GENESIS
    assert [event.previous_hash for event in events[1:]] == [event.hash for event in events[:-1]]
    check = filled.ledger.verify()
    assert (check.is_intact, check.n_events, check.head_hash, check.broken_at) == (True, 6, events[-1].hash, None)


def test_an_empty_ledger_is_intact(registry):
    check = registry.ledger.verify()
    assert (check.is_intact, check.n_events, check.head_hash) == (True, 0, GENESIS)


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(*[st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=60) for _ in range(3)])
def test_the_chain_verifies_with_any_text(registry, subject, actor, reason):
    registry.ledger.append("test:words:said", subject, actor=actor, reason=reason, now=NOW, payload={"said": reason})
    assert registry.ledger.verify().is_intact
    assert registry.ledger.events(limit=1)[0].reason == reason


@pytest.mark.parametrize(
    ("statement", "number", "said"),
    [
        ("UPDATE ledger SET actor = 'eve' WHERE number = 3", 3, "was changed after it was written"),
        ("UPDATE ledger SET at = '2024-09-01 00:00:00.000000' WHERE number = 4", 4, "was changed"),
        ("UPDATE ledger SET payload_json = '{\"number\":7}' WHERE number = 2", 2, "was changed"),
        ("UPDATE ledger SET subject = 'router-9' WHERE number = 1", 1, "was changed"),
        ("UPDATE ledger SET reason = x'00' WHERE number = 6", 6, "was changed"),
        ("UPDATE ledger SET hash = substr(hash, 2) || 'f' WHERE number = 5", 5, "was changed"),
        ("UPDATE ledger SET previous_hash = hash WHERE number = 5", 5, "does not follow the event before it"),
        ("DELETE FROM ledger WHERE number = 3", 3, "is missing"),
        ("DELETE FROM ledger WHERE number = 1", 1, "is missing"),
        ("UPDATE ledger SET number = 9 WHERE number = 6", 6, "is missing"),
    ],
)
def test_tampering_is_found_where_it_happened(filled, url, statement, number, said):
    if not url.startswith("sqlite"):
        statement = statement.replace("x'00'", "'\\x00'")
    break_in(url, statement)
    check = filled.ledger.verify()
    assert (check.is_intact, check.broken_at) == (False, number)
    assert f"event {number} {said}" in check.problem


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM ledger WHERE number = 6", "event 6 is missing from the end"),
        ("DELETE FROM ledger WHERE number > 3", "events 4 to 6 are missing from the end"),
        ("DELETE FROM ledger", "events 1 to 6 are missing from the end"),
        ("DELETE FROM ledger_head", "the registry no longer says which event is the last"),
        ("UPDATE ledger_head SET number = 5", "the registry says that event 5 is the last, another one is"),
        ("UPDATE ledger_head SET hash = 'f' || substr(hash, 2)", "the registry says that event 6 is the last"),
    ],
)
def test_a_ledger_cut_off_at_its_end_is_found(filled, url, statement, said):
    break_in(url, statement)
    check = filled.ledger.verify()
    assert (check.is_intact, said in check.problem) == (False, True), check.problem


def test_a_ledger_cut_off_with_the_note_of_its_end_lacks_the_head_noted_elsewhere(filled, url):
    noted = {filled.ledger.head()[1]: "MLflow"}
    shorter = "UPDATE ledger_head SET number = 5, hash = (SELECT hash FROM ledger WHERE number = 5)"
    break_in(url, "DELETE FROM ledger WHERE number = 6", shorter)
    assert filled.ledger.verify().is_intact, "the registry alone cannot know"
    check = filled.ledger.verify(noted_heads=noted)
    assert (check.is_intact, check.problem) == (False, "the head noted in MLflow is no longer part of the chain")


def test_older_noted_heads_are_still_part_of_the_chain(filled):
    noted = {event.hash: "a note" for event in filled.ledger.events()[:3]} | {GENESIS: "before anything"}
    assert filled.ledger.verify(noted_heads=noted).is_intact
    assert filled.ledger.head() == (6, filled.ledger.events()[-1].hash)


COLUMNS = ("at", "event", "subject", "actor", "reason", "payload_json", "previous_hash", "hash")


@only_on_sqlite
@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(1, 6), column=st.sampled_from(COLUMNS), place=st.integers(0, 80), bit=st.integers(0, 7))
def test_one_flipped_bit_in_any_event_is_found_where_it_is(filled, url, number, column, place, bit):
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    for verb in ("update", "delete"):
        connection.execute(f"DROP TRIGGER IF EXISTS ledger_refuses_{verb}")
    whole = connection.execute(f"SELECT CAST({column} AS BLOB) FROM ledger WHERE number = {number}").fetchone()[0]
    kind = "BLOB" if column == "reason" else "TEXT"
    flipped = bytearray(whole)
    flipped[place % len(whole)] ^= 1 << bit
    write = f"UPDATE ledger SET {column} = CAST(? AS {kind}) WHERE number = {number}"
    with connection:
        connection.execute(write, [bytes(flipped)])
    check = filled.ledger.verify()
    with connection:
        connection.execute(write, [whole])
    connection.close()
    assert not check.is_intact, (bytes(flipped), whole)
    assert check.broken_at == number, check.problem
    assert filled.ledger.verify().is_intact


def test_events_are_filtered(filled):
    def numbers(**wanted):
        return [event.number for event in filled.ledger.events(**wanted)]

    assert numbers(limit=2) == [5, 6]
    assert numbers(subject="router-3") == [4]
    assert numbers(event="router:promotion:applied") == [1, 3, 5]
    assert numbers(event="router:promotion:") == [1, 2, 3, 4, 5, 6]
    assert numbers(event="router_promotion") == [], "an underscore is not a wildcard"
    assert numbers(since=NOW + timedelta(hours=4)) == [5, 6]
    assert numbers(until=NOW + timedelta(hours=2)) == [1, 2]
    assert filled.ledger.count() == 6


def test_a_payload_that_is_not_json_is_refused(registry):
    with pytest.raises(ValueError, match="JSON compliant"):
        registry.ledger.append("test:row:added", "x", actor="a", now=NOW, payload={"score": float("nan")})
    assert registry.ledger.count() == 0


def test_the_chain_survives_reopening(url):
    for _ in range(3):
        with Registry.open(url) as registry:
            registry.ledger.append("test:row:added", "x", actor="a", now=NOW)
    with Registry.open(url) as registry:
        assert registry.ledger.verify().n_events == 3
