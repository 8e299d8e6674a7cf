"""A night whose profiles are made by other processes: nothing is asked or spent twice, whatever happens to them."""

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from flows.config.loading import SettingsSource
from flows.errors import Interrupted, PrerequisiteError
from flows.night.cancel import recall
from flows.night.context import Night
from flows.profiling.assignment import Assignment, carry_out
from flows.stages import sync
from flows.workspace import Workspace
from registry.errors import RunAlreadyActive
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import FIRST, AskedNight, right

EXPENSIVE = "input_usd_per_mtok = 1000\noutput_usd_per_mtok = 1000\n"


@pytest.fixture
def fake():
    with FakeEndpoint(lambda llm_id, prompt: right(prompt)) as server:
        server.scripts = {"one": "ok", "two": "ok"}
        yield server


@pytest.fixture
def asked(tmp_path, fake, migrated, monkeypatch):
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


@contextmanager
def handing_out(asked: AskedNight, as_of: str = FIRST):
    """Start a night that makes no profiles itself."""
    given = SettingsSource(config=str(asked.folder / "uniroute.toml"))
    with Workspace(given.load()) as workspace:
        night = Night(workspace, date.fromisoformat(as_of), given=given)
        night.run = start(night)
        sync(night, workspace.catalogs())
        yield night


def start(night: Night, **changes):
    wanted = {
        "as_of": night.as_of,
        "settings_hash": night.settings.digest,
        "settings_json": night.settings.canonical(),
        "prompt_set_digest": night.prompt_set.digest,
        "host": "host-a",
        "pid": 1,
        "now": night.clock(),
        "lease_s": 300.0,
    }
    return night.registry.runs.start(night.run_key, **(wanted | changes))


def assignment(night: Night, name: str, at_once: int = 2) -> Assignment:
    return Assignment.of(night, night.registry.llms.get(f"fake:{name}"), at_once)


async def both(night: Night):
    return await asyncio.gather(
        *(carry_out(assignment(night, name)) for name in ("one", "two")), return_exceptions=True
    )


def test_profiles_made_elsewhere_are_those_the_night_would_have_made(asked, fake, tmp_path, migrated, monkeypatch):
    asked.prepare("one", "two", night="canary_prompts = 0")
    with handing_out(asked) as night:
        endings = asyncio.run(both(night))
        spend = night.registry.outcomes.spend(night.run)
        states = night.registry.parts.states(night.run, ["fake:one", "fake:two"], night.clock())
    assert [(ending.stopped_by, ending.cut_share, ending.downgrades) for ending in endings] == [("", 0.0, ())] * 2
    assert set(fake.calls_per_prompt.values()) == {1}, "nothing is asked twice"
    assert [(found.asked, found.scored, found.is_held) for found in states.values()] == [(40, 40, False)] * 2
    assert spend.reserved_usd == 0
    elsewhere = {name: asked.rows("prompt_id, score, cost_picousd, attempts", name) for name in ("one", "two")}

    (tmp_path / "alone").mkdir()
    alone = AskedNight(tmp_path / "alone", fake, migrated, monkeypatch)
    alone.prepare("one", "two", night="canary_prompts = 0").run()
    for name, rows in elsewhere.items():
        assert sorted(alone.rows("prompt_id, score, cost_picousd, attempts", name)) == sorted(rows)


def test_all_processes_of_a_night_share_its_ceiling_and_the_limits_of_its_endpoints(asked, fake):
    fake.latency_s = 0.02
    asked.prepare(
        "one",
        "two",
        prices={"one": EXPENSIVE, "two": EXPENSIVE},
        budget="night_usd = 0.9\ncall_usd = 0.5",
        night="canary_prompts = 0",
        endpoint="concurrency = 4",
    )
    with handing_out(asked) as night:
        endings = asyncio.run(both(night))
        spend = night.registry.outcomes.spend(night.run)
    assert fake.peak_in_flight <= 4
    assert "budget of the night" in [ending.stopped_for for ending in endings]
    calls = sum(fake.calls.values())
    assert 20 < calls < 80
    assert Decimal("0.7") <= spend.total_usd <= Decimal("0.9")
    assert spend.reserved_usd == 0


def test_a_worker_with_other_settings_is_refused_before_it_asks(asked, fake, monkeypatch):
    asked.prepare("one", night="canary_prompts = 0")
    with handing_out(asked) as night:
        handed = assignment(night, "one")
        monkeypatch.setenv("UNIROUTE_ROUTING__COST_WEIGHT", "3")
        with pytest.raises(PrerequisiteError, match=r"settings .* are not those of the night"):
            asyncio.run(carry_out(handed))
    assert not fake.calls


@pytest.mark.parametrize("changes", [{"grader_versions": {"choice": "choice/0"}}, {"sampling": "{}"}])
def test_a_worker_of_another_version_is_refused_before_it_asks(asked, fake, changes):
    asked.prepare("one", night="canary_prompts = 0")
    with handing_out(asked) as night:
        with pytest.raises(PrerequisiteError, match="another version of uniroute"):
            asyncio.run(carry_out(replace(assignment(night, "one"), **changes)))
        assert not night.registry.parts.states(night.run, ["fake:one"], night.clock())["fake:one"].is_held
    assert not fake.calls


def test_a_worker_whose_night_was_taken_over_can_no_longer_store_anything(asked, fake):
    fake.latency_s = 0.02
    asked.prepare("one", night="canary_prompts = 0", endpoint="concurrency = 1")
    with handing_out(asked) as night:
        handed = assignment(night, "one")

        async def taken_over():
            working = asyncio.create_task(carry_out(handed))
            while sum(fake.calls.values()) < 10:
                await asyncio.sleep(0.01)
            night.run = start(night, pid=2, holder_is_gone=lambda _: True)
            kept = len(asked.rows("prompt_id", "one"))
            with pytest.raises(RunAlreadyActive, match="lost its lease to a newer run"):
                await working
            return kept

        kept = asyncio.run(taken_over())
        assert len(asked.rows("prompt_id", "one")) == kept
        with pytest.raises(RunAlreadyActive, match="lost its lease to a newer run"):
            asyncio.run(carry_out(handed))
        asyncio.run(carry_out(assignment(night, "one")))
    assert len(asked.rows("prompt_id", "one")) == 40
    assert Counter(fake.calls_per_prompt.values())[2] <= 10, "only what was under way is asked again"


def test_a_night_that_is_stopped_stops_its_workers(asked, fake, monkeypatch):
    monkeypatch.setattr("flows.profiling.assignment.LONGEST_LEASE_S", 0.3)
    ended = []
    monkeypatch.setattr("flows.night.interruption._EXIT_LIMIT_S", 0.1)
    monkeypatch.setattr("os._exit", ended.append)
    fake.latency_s = 0.1
    asked.prepare("one", night="canary_prompts = 0\nstop_grace_s = 5", endpoint="concurrency = 1")
    with handing_out(asked) as night:

        async def stopped():
            working = asyncio.create_task(carry_out(assignment(night, "one")))
            while not fake.calls:
                await asyncio.sleep(0.01)
            recall(night.registry, night.run, now=night.clock())
            begun_s = time.monotonic()
            with pytest.raises(Interrupted):
                await working
            return time.monotonic() - begun_s

        assert asyncio.run(stopped()) < 4
        recall(night.registry, night.run, now=night.clock())
        assert len(night.registry.ledger.events(event="run:night:cancel_requested")) == 1, "asked once"
    answered = sum(fake.calls.values())
    assert 0 < answered < 40
    assert len(asked.rows("prompt_id", "one")) == answered, "what was under way is kept"
    time.sleep(0.3)
    assert ended == [], "a process that works for many nights, as those of Dask do, continues"


def test_a_worker_waits_for_the_lease_of_one_that_vanished_on_another_machine(asked, fake, monkeypatch):
    monkeypatch.setattr("flows.profiling.assignment.LONGEST_LEASE_S", 1.0)
    monkeypatch.setattr("flows.profiling.assignment._RETRY_EVERY_S", 0.1)
    asked.prepare("one", night="canary_prompts = 0")
    with handing_out(asked) as night:
        gone = {"host": "far-away", "pid": 1, "now": night.clock(), "lease_s": 0.5}
        night.registry.parts.take(night.run.key, night.run.lease_number, "fake:one", **gone)
        asyncio.run(carry_out(assignment(night, "one")))
    assert len(asked.rows("prompt_id", "one")) == 40
