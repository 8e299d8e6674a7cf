"""Parts of a run: one process at a time asks an LLM, and none of them outlives the run."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest

from registry.errors import NotFound, PartAlreadyHeld, RunAlreadyActive
from registry.run_leases import PartState
from routing.errors import InvalidInput
from tests.registry.samples import NOW, failed, freeze, know_llms, outcome, start_night

LATER = NOW + timedelta(seconds=31)


@pytest.fixture
def llm_key(registry, night):
    return know_llms(registry, night, "a", "b")[0]


def take(registry, run, llm_key, **changes):
    wanted = {"host": "worker-a", "pid": 7, "now": NOW, "lease_s": 30.0}
    return registry.parts.take(run.key, run.lease_number, llm_key, **(wanted | changes))


def outcomes(frozen, llm_key):
    """A score for each prompt but the last, which fails."""
    first, *others = frozen.prompts
    return [*(outcome(llm_key, prompt) for prompt in others), failed(llm_key, first)]


def state(registry, run, llm_key, now=NOW):
    return registry.parts.states(run, [llm_key], now)[llm_key]


def test_a_part_is_held_by_one_process_until_it_is_returned(registry, night, llm_key):
    held = take(registry, night, llm_key)
    assert (held.id, held.lease_number, held.lease_s) == (night.id, night.lease_number, 30)
    with pytest.raises(PartAlreadyHeld, match="is being profiled on worker-a") as caught:
        take(registry, night, llm_key, host="worker-b", pid=8)
    assert "02:00:30 UTC" in caught.value.hint
    other = take(registry, night, "router:b", host="worker-b", pid=8)
    assert other.part != held.part
    registry.parts.leave(held)
    assert take(registry, night, llm_key, host="worker-b").part_number == held.part_number + 1


def test_a_part_of_a_process_that_vanished_is_taken_over_and_that_process_writes_no_more(registry, night, llm_key):
    frozen = freeze(registry)
    held = take(registry, night, llm_key)
    assert state(registry, night, llm_key, LATER) == PartState(is_held=False, is_silent=True, asked=0, scored=0)
    newer = take(registry, night, llm_key, host="worker-b", now=LATER)
    with pytest.raises(RunAlreadyActive, match="was assigned to another process"):
        registry.outcomes.record(held, outcomes(frozen, llm_key))
    with pytest.raises(RunAlreadyActive):
        registry.runs.heartbeat(held, LATER)
    registry.parts.leave(held)
    assert state(registry, night, llm_key, LATER).is_held, "it stays with the process that holds it now"
    registry.outcomes.record(newer, outcomes(frozen, llm_key))
    assert state(registry, night, llm_key, LATER).asked == len(outcomes(frozen, llm_key))


def test_a_process_that_is_known_to_be_dead_need_not_be_waited_for(registry, night, llm_key):
    take(registry, night, llm_key)
    assert take(registry, night, llm_key, holder_is_gone=lambda held: held.pid == 7).part_number == 2


def test_signs_of_life_keep_a_part_and_leave_the_lease_of_the_run_alone(registry, night, llm_key):
    held = take(registry, night, llm_key)
    registry.runs.heartbeat(held, NOW + timedelta(seconds=20))
    assert state(registry, night, llm_key, LATER).is_held
    assert registry.runs.lease().heartbeat_at == NOW


def test_parts_end_with_the_attempt_that_assigned_them(registry, night, llm_key):
    frozen = freeze(registry)
    held = take(registry, night, llm_key)
    again = start_night(registry, pid=2, holder_is_gone=lambda _: True)
    for act in (
        lambda: registry.outcomes.record(held, outcomes(frozen, llm_key)),
        lambda: take(registry, night, llm_key),
    ):
        with pytest.raises(RunAlreadyActive, match="lost its lease to a newer run"):
            act()
    assert take(registry, again, llm_key, host="worker-b").lease_number == again.lease_number
    registry.runs.finish(again, "completed", "fine", "{}", NOW)
    assert not state(registry, again, llm_key).is_held
    with pytest.raises(RunAlreadyActive, match="released its lease"):
        take(registry, again, llm_key)


def test_how_far_a_part_has_come_counts_the_answers_of_this_attempt(registry, night, llm_key):
    frozen = freeze(registry)
    made = outcomes(frozen, llm_key)
    registry.outcomes.record(take(registry, night, llm_key), made)
    found = state(registry, night, llm_key)
    assert (found.asked, found.scored) == (len(made), sum(one.score is not None for one in made))
    again = start_night(registry, pid=2, holder_is_gone=lambda _: True)
    assert state(registry, again, llm_key).asked == 0


def test_processes_that_reserve_at_once_stay_below_the_ceiling_they_share(registry, night, llm_key):
    parts = [take(registry, night, key) for key in (llm_key, "router:b")]

    def reserve_often(held, key):
        cent = Decimal("0.01")
        return sum(registry.charges.reserve(held, key, cent, ceiling_usd=Decimal("0.1")) for _ in range(10))

    with ThreadPoolExecutor(2) as pool:
        granted = list(pool.map(reserve_often, parts, (llm_key, "router:b")))
    assert sum(granted) == 10
    assert registry.outcomes.spend(night).reserved_usd == Decimal("0.1")
    frozen = freeze(registry)
    made = [outcome(llm_key, frozen.prompts[0], cost_usd=Decimal("0.004"))]
    registry.outcomes.record(parts[0], made, settled={llm_key: Decimal("0.01") * bool(granted[0])})
    spend = registry.outcomes.spend(night)
    assert spend.total_usd == Decimal("0.004")
    assert spend.reserved_usd == Decimal("0.1") - Decimal("0.01") * bool(granted[0])


def test_what_is_unknown_is_refused(registry, night, llm_key):
    with pytest.raises(NotFound, match="there is no LLM 'router:z'"):
        take(registry, night, "router:z")
    with pytest.raises(NotFound, match="there is no run night:none"):
        registry.parts.take("night:none", 1, llm_key, host="a", pid=1, now=NOW, lease_s=1)
    with pytest.raises(InvalidInput, match="a lease of 0 s"):
        take(registry, night, llm_key, lease_s=0)
