from datetime import timedelta

import pytest

from registry.errors import NotFound, RunAlreadyActive
from routing.errors import InvalidInput
from tests.registry.samples import NOW, TODAY, freeze, start_night

LATER = NOW + timedelta(seconds=61)


def test_a_run_starts_and_finishes(registry):
    run = start_night(registry)
    assert (run.key, run.as_of, run.status, run.attempt, run.lease_number) == (
        "night:2024-09-01:abc",
        TODAY,
        "active",
        1,
        1,
    )
    assert registry.runs.lease().is_held(NOW)
    done = registry.runs.finish(run, "attention", "2 LLMs incomplete", '{"calls": 3}', LATER)
    assert (done.status, done.verdict, done.summary_json, done.finished_at) == (
        "attention",
        "2 LLMs incomplete",
        '{"calls": 3}',
        LATER,
    )
    assert not registry.runs.lease().is_held(NOW)


def test_f04_the_error_of_a_second_night_names_the_active_one(registry, night):
    with pytest.raises(RunAlreadyActive) as caught:
        start_night(registry, "night:2024-09-01:other", host="host-b", pid=2)
    assert caught.value.message == (
        "run night:2024-09-01:abc is already active since 2024-09-01 02:00:00 UTC on host-a (process 1)"
    )
    assert "02:01:00 UTC" in caught.value.hint
    assert [run.key for run in registry.runs.list()] == [night.key]


def test_f04_the_same_key_cannot_start_twice_either(registry, night):
    with pytest.raises(RunAlreadyActive):
        start_night(registry, pid=2)
    assert registry.runs.get(night.key).attempt == 1


def test_f05_an_expired_lease_is_taken_over_and_the_ledger_says_so(registry, night):
    other = start_night(registry, "night:other", host="host-b", pid=2, now=LATER)
    assert other.lease_number == 2
    (event,) = registry.ledger.events(event="run:lease:taken_over")
    assert (event.subject, event.actor, event.at) == ("night:other", "host-b", LATER)
    assert '"former_run":"night:2024-09-01:abc"' in event.payload_json
    assert registry.runs.get(night.key).status == "interrupted"


def test_starting_after_a_released_lease_is_not_a_take_over(registry, night):
    registry.runs.finish(night, "completed", "fine", "{}", NOW)
    start_night(registry, "night:other", now=LATER)
    assert registry.ledger.events(event="run:lease:taken_over") == ()


def test_f05_the_same_key_resumes_as_the_next_attempt(registry, night):
    again = start_night(registry, now=LATER, pid=2)
    assert (again.id, again.attempt, again.lease_number, again.status) == (night.id, 2, 2, "active")
    assert again.started_at == NOW
    assert len(registry.ledger.events(event="run:lease:taken_over")) == 1


def test_a_holder_known_to_be_dead_is_replaced_at_once(registry, night):
    asked = []

    def holder_is_gone(held):
        asked.append((held.host, held.pid))
        return True

    assert start_night(registry, pid=2, holder_is_gone=holder_is_gone).attempt == 2
    assert asked == [("host-a", 1)]


def test_a_holder_known_to_live_keeps_its_lease(registry, night):
    with pytest.raises(RunAlreadyActive):
        start_night(registry, pid=2, holder_is_gone=lambda _: False)


def test_a_heartbeat_keeps_the_lease_alive(registry, night):
    registry.runs.heartbeat(night, NOW + timedelta(seconds=50))
    with pytest.raises(RunAlreadyActive):
        start_night(registry, "night:other", now=NOW + timedelta(seconds=109))
    assert start_night(registry, "night:other", now=NOW + timedelta(seconds=111)).lease_number == 2


def test_f06_a_holder_that_wakes_up_late_is_fenced_off(registry, night):
    other = start_night(registry, "night:other", now=LATER)
    for write in (
        lambda: registry.runs.heartbeat(night, LATER),
        lambda: registry.runs.finish(night, "completed", "fine", "{}", LATER),
    ):
        with pytest.raises(RunAlreadyActive, match="lost its lease to a newer run") as caught:
            write()
        assert caught.value.unchanged
    assert registry.runs.lease().run_id == other.id


def test_f06_the_former_attempt_of_the_same_run_is_fenced_off_too(registry, night):
    start_night(registry, now=LATER)
    with pytest.raises(RunAlreadyActive):
        registry.runs.heartbeat(night, LATER)


def test_a_finished_run_writes_no_more(registry, night):
    registry.runs.finish(night, "completed", "fine", "{}", NOW)
    with pytest.raises(RunAlreadyActive, match="released its lease"):
        registry.runs.finish(night, "failed", "again", "{}", NOW)
    assert registry.runs.get(night.id).verdict == "fine"


def test_a_holder_whose_lease_ran_out_unnoticed_may_continue(registry, night):
    registry.runs.heartbeat(night, LATER)
    assert registry.runs.lease().is_held(LATER)


@pytest.mark.parametrize("status", ["active", "done", ""])
def test_a_run_ends_with_a_known_status(registry, night, status):
    with pytest.raises(InvalidInput):
        registry.runs.finish(night, status, "x", "{}", NOW)
    assert registry.runs.get(night.id).status == "active"


@pytest.mark.parametrize("lease_s", [0, -1, float("inf"), float("nan")])
def test_a_lease_lasts_a_positive_finite_time(registry, lease_s):
    with pytest.raises(InvalidInput):
        start_night(registry, lease_s=lease_s)
    assert registry.runs.latest() is None


def test_the_prompts_of_a_run_are_noted(registry):
    frozen = freeze(registry)
    night = start_night(registry, prompt_set_digest=frozen.digest)
    assert registry.runs.get(night.id).prompt_set_digest == frozen.digest
    again = start_night(registry, now=LATER)
    assert again.prompt_set_digest == frozen.digest, "starting again without one keeps it"


def test_runs_are_listed_latest_first(registry):
    for number in range(4):
        run = start_night(registry, f"night:{number}")
        registry.runs.finish(run, "completed" if number % 2 else "failed", "x", "{}", NOW)
    assert [run.key for run in registry.runs.list()] == [f"night:{n}" for n in (3, 2, 1, 0)]
    assert [run.key for run in registry.runs.list(limit=1)] == ["night:3"]
    assert registry.runs.latest().key == "night:3"
    assert registry.runs.latest(status="failed").key == "night:2"
    assert registry.runs.latest(status="interrupted") is None


def test_an_unknown_run_is_not_found(registry):
    for key in ("night:x", 17):
        with pytest.raises(NotFound, match="there is no run"):
            registry.runs.get(key)
