"""What a night logs about its lease, and what endpoints log when they are asked less."""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.config.settings import EndpointSettings, Settings
from flows.endpoints import BoundedEndpoint, RetryPolicy
from flows.errors import EndpointError
from flows.logs import LOGGER
from flows.night import lease
from flows.night.context import Night
from flows.night.lease import log_take_over
from flows.workspace import Workspace
from registry.errors import RegistryBusy
from tests.fakes.endpoint import FakeEndpoint
from tests.registry.samples import NOW, start_night


@pytest.fixture
def seen() -> Iterator[list[dict[str, Any]]]:
    """The events that are logged during a test."""
    events: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: events.append(vars(record))  # type: ignore[method-assign]
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    yield events
    logger.removeHandler(handler)


@pytest.fixture
def night(tmp_path: Path, migrated: Path) -> Iterator[Night]:
    shutil.copy(migrated, tmp_path / "registry.db")
    with Workspace(Settings(home=tmp_path)) as workspace:
        yield Night(workspace, date(2024, 9, 1))


def test_a_lease_that_was_taken_over_is_logged_with_its_former_holder(night: Night, seen: list) -> None:
    night.run = start_night(night.registry, "night:first", host="gone")
    log_take_over(night)
    assert seen == [], "it had no holder"
    night.run = start_night(night.registry, night.run_key, host="here", now=NOW + timedelta(hours=1))
    log_take_over(night)
    assert [(one["event"], one["former_host"], one["former_run"]) for one in seen] == [
        ("lease_taken_over", "gone", "night:first")
    ]


def test_a_busy_registry_costs_a_heartbeat_and_a_lost_lease_is_logged(
    night: Night, seen: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.run = start_night(night.registry, night.run_key)
    beat, beats = night.registry.runs.heartbeat, []

    def stubborn(*given: object) -> None:
        beats.append(given)
        if len(beats) == 1:
            raise RegistryBusy("the server restarts")
        beat(*given)

    monkeypatch.setattr(night.registry.runs, "heartbeat", stubborn)

    async def live() -> None:
        beating = asyncio.create_task(lease._heartbeat(night, 0.01))
        while len(beats) < 3:
            await asyncio.sleep(0.01)
        start_night(night.registry, "night:other", now=NOW + timedelta(days=9000))
        with pytest.raises(Exception, match="lost its lease"):
            await beating

    asyncio.run(live())
    assert [one["event"] for one in seen if one["event"] != "lease_taken_over"] == ["heartbeat_missed", "lease_lost"]


def test_an_endpoint_logs_when_it_is_asked_less_and_when_as_much_as_before(seen: list) -> None:
    async def ask(fake: FakeEndpoint) -> None:
        settings = EndpointSettings(name="fake", base_url=fake.base_url, concurrency=2)
        retry_policy = RetryPolicy(first_backoff_s=0.001, longest_backoff_s=0.01)
        async with BoundedEndpoint(settings, retry_policy=retry_policy) as endpoint:
            await endpoint.complete("429,429,429,ok", "x")
            for number in range(40):
                await endpoint.complete("ok", str(number))
            for llm in ("401", "ok"):
                with pytest.raises(EndpointError):
                    await endpoint.complete(llm, "x")

    with FakeEndpoint() as fake:
        asyncio.run(ask(fake))
    assert [(one["event"], one["endpoint"]) for one in seen] == [
        ("endpoint_throttled", "fake"),
        ("endpoint_open", "fake"),
        ("endpoint_stopped", "fake"),
    ]
    assert seen[0]["reason"] == "rate_limited"
    assert seen[2]["reason"] == "refused_auth"
