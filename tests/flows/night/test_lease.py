"""The lease of a night: kept until its run is closed, and taken over after a crash only when its holder is gone."""

import asyncio
import logging
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from flows.config.settings import Settings
from flows.night import lease
from flows.night.context import Night
from flows.night.lease import held_lease, kept_alive, start_after_a_crash
from flows.workspace import Workspace
from registry.clock import utc_now
from registry.errors import RunAlreadyActive
from registry.runs import Run
from registry.store import Registry
from tests.registry.samples import start_night

KEY = "night:2024-09-01:abc"


@pytest.fixture
def registry(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr("flows.night.lease._LOOK_EVERY_S", 0.05)
    shutil.copy(migrated, tmp_path / "registry.db")
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as opened:
        yield opened


async def again(registry: Registry) -> Run:
    return await start_after_a_crash(
        registry.runs, lambda: start_night(registry, KEY, host="host-b", now=utc_now(), lease_s=300)
    )


def test_a_night_that_crashed_waits_until_the_lease_of_the_dead_process_has_expired(registry: Registry) -> None:
    dead = start_night(registry, KEY, now=utc_now(), lease_s=0.6)
    run = asyncio.run(again(registry))
    assert (run.attempt, run.host) == (2, "host-b")
    assert run.lease_number > dead.lease_number


def test_it_gives_way_as_soon_as_the_holder_proves_to_be_alive(registry: Registry) -> None:
    holder = start_night(registry, KEY, now=utc_now(), lease_s=300)

    async def both() -> None:
        waiting = asyncio.create_task(again(registry))
        await asyncio.sleep(0.2)
        assert not waiting.done(), "it is not known yet whether the holder is alive"
        registry.runs.heartbeat(holder, utc_now())
        with pytest.raises(RunAlreadyActive):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(both())


def test_a_healthy_night_never_reports_its_lease_as_lost(
    tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a night shows after its run is closed may take longer than a heartbeat."""
    shutil.copy(migrated, tmp_path / "registry.db")
    every_s = 0.02
    with Workspace(Settings(home=tmp_path)) as workspace, caplog.at_level(logging.WARNING):
        night = Night(workspace, date(2024, 9, 1))
        monkeypatch.setattr(lease, "HEARTBEATS_PER_LEASE", night.settings.night.lease_s / every_s)
        beats = []
        beat = workspace.registry.runs.heartbeat
        monkeypatch.setattr(workspace.registry.runs, "heartbeat", lambda *given: (beats.append(given), beat(*given)))

        async def healthy() -> None:
            async with held_lease(night):
                async with kept_alive(night):
                    while len(beats) < 3:
                        await asyncio.sleep(every_s)
                workspace.registry.runs.finish(night.run, "completed", verdict="", summary="{}", now=night.clock())
                await asyncio.sleep(10 * every_s)

        asyncio.run(healthy())
        assert workspace.registry.runs.latest().status == "completed"
    assert [vars(record)["event"] for record in caplog.records if "lease" in str(vars(record).get("event"))] == []
