"""What monitoring reads: one snapshot, by the clock that all share, without scanning the outcomes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from registry import clock
from registry.errors import RunAlreadyActive
from registry.monitoring import EndpointFigures, FailureCount, LlmCount, Waiting, failures_of
from registry.store import Registry
from tests.postgres import driver_of
from tests.registry.conftest import only_on_postgresql
from tests.registry.samples import NOW, cluster_map, failed, freeze, know_llms, outcome, router, start_night


def test_nothing_is_known_of_an_empty_registry(registry: Registry) -> None:
    snapshot = registry.monitoring.read(NOW)
    assert (snapshot.run, snapshot.finished, snapshot.champion, snapshot.runs_of_day) == (None, None, None, 0)
    assert (snapshot.endpoints, snapshot.failures, snapshot.llms, snapshot.lease.number) == ((), (), (), 0)
    assert (snapshot.outbox, snapshot.reviews, snapshot.unpublished) == (Waiting(0, None), Waiting(0, None), 0)
    assert (snapshot.ledger_events, snapshot.is_head_whole) == (0, True)


def test_calls_failures_money_and_the_queue_of_a_running_night_are_known(registry: Registry) -> None:
    night = start_night(registry)
    first, second = know_llms(registry, night, "a", "b")
    prompts = freeze(registry).prompts
    registry.monitoring.note_plan(night, 7)
    registry.charges.reserve(night, first, Decimal(2))
    made = [outcome(first, prompts[0]), failed(first, prompts[1]), failed(second, prompts[0], failure="timeout")]
    registry.outcomes.record(night, [*made, failed(second, prompts[1])])
    snapshot = registry.monitoring.read(NOW)
    assert (snapshot.planned_calls, snapshot.missing_calls) == (7, 3)
    assert snapshot.endpoints == (EndpointFigures("router", 4, Decimal("0.00012"), Decimal(2)),)
    assert set(snapshot.failures) == {FailureCount("router", "rate_limited", 2), FailureCount("router", "timeout", 1)}
    assert snapshot.llms == (LlmCount("router", "available", 2),)
    # A failure that a later answer replaces no longer counts.
    registry.outcomes.record(night, [outcome(second, prompts[0])])
    assert registry.monitoring.read(NOW).failures == (FailureCount("router", "rate_limited", 2),)


def test_the_queue_of_a_second_attempt_begins_where_the_first_was_killed(registry: Registry) -> None:
    night = start_night(registry)
    (only,) = know_llms(registry, night, "a")
    prompts = freeze(registry).prompts
    registry.monitoring.note_plan(night, 10)
    registry.outcomes.record(night, [outcome(only, prompt) for prompt in prompts[:4]])
    again = start_night(registry, now=NOW + timedelta(hours=1))
    assert registry.monitoring.read(NOW).planned_calls is None, "it has not planned yet"
    with pytest.raises(RunAlreadyActive):
        registry.monitoring.note_plan(night, 10)
    registry.monitoring.note_plan(again, 6)
    assert (registry.monitoring.read(NOW).planned_calls, registry.monitoring.read(NOW).missing_calls) == (6, 6)
    registry.runs.finish(again, "completed", "fine", "{}", NOW)
    snapshot = registry.monitoring.read(NOW)
    assert (snapshot.planned_calls, snapshot.missing_calls) == (None, None)
    assert snapshot.run == snapshot.finished == registry.runs.get(again.key)


def test_parts_of_the_night_in_other_processes_are_counted(registry: Registry) -> None:
    night = start_night(registry, lease_s=3600)
    keys = know_llms(registry, night, "a", "b", "c")
    taken = [
        registry.parts.take(night.key, night.lease_number, key, host="b", pid=1, now=NOW, lease_s=lease_s)
        for key, lease_s in zip(keys, (60, 600, 600), strict=True)
    ]
    registry.parts.leave(taken[2])
    snapshot = registry.monitoring.read(NOW + timedelta(minutes=5))
    assert (snapshot.parts_alive, snapshot.parts_silent) == (1, 1)
    assert snapshot.lease.name == "night"


def test_what_waits_is_counted_with_the_oldest(registry: Registry) -> None:
    night = start_night(registry)
    keys, prompt_set = know_llms(registry, night, "a"), freeze(registry)
    registry.routers.save_cluster_map(cluster_map(prompt_set))
    record = router(night, prompt_set, 1, keys)
    registry.routers.save(record, actor="night")
    registry.promotions.set_challenger(record.digest, actor="night", now=NOW, reason="new")
    snapshot = registry.monitoring.read(NOW)
    assert (snapshot.outbox, snapshot.unpublished) == (Waiting(1, NOW), 1)
    assert snapshot.ledger_events == registry.ledger.count() > 0


@only_on_postgresql
@pytest.mark.parametrize("skew", [timedelta(hours=2), timedelta(hours=-2)])
def test_ages_are_by_the_servers_clock(registry: Registry, monkeypatch: pytest.MonkeyPatch, skew: timedelta) -> None:
    monkeypatch.setattr(clock, "machine_time", lambda: datetime.now(UTC) + skew)
    start_night(registry, now=datetime.now(UTC) + skew)
    moment = registry.shared_time(datetime.now(UTC) + skew)
    assert abs(moment - datetime.now(UTC)) < timedelta(seconds=20)
    snapshot = registry.monitoring.read(datetime.now(UTC) + skew)
    assert snapshot.lease.is_held(snapshot.moment)
    assert snapshot.lease.heartbeat_at is not None
    assert timedelta() <= snapshot.moment - snapshot.lease.heartbeat_at < timedelta(seconds=20)


def test_failures_are_counted_from_an_index_that_holds_nothing_else(registry: Registry, url: str) -> None:
    engine = create_engine(make_url(url).set(drivername=driver_of(url)))
    query = str(failures_of(1).compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # A handful of rows is read faster without an index; the test is whether it can serve the query.
            connection.exec_driver_sql("SET enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF)"
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(f"{explain} {query}"))
    engine.dispose()
    assert "ix_outcome_failed" in plan
