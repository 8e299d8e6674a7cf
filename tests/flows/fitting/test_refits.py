"""When map and prior are fitted anew: from stored answers alone, as a challenger like any other, once."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from flows.audit.version_check import verify_version
from flows.config.sections import RefitSettings, RoutingSettings
from flows.config.settings import Settings
from flows.findings import worst
from flows.fitting.estimation import estimate
from flows.fitting.refit import refit
from flows.fitting.refit_rules import why_due, why_not
from flows.night.asked_prompts import fitted_prompts
from flows.night.context import Night
from flows.reports.night_report import RouterOutcome
from flows.workspace import Workspace
from registry.cluster_maps import ClusterMapRecord, FittedMap
from registry.routers import REFITTED
from tests.fakes.nights import SECOND, SETTINGS, Clock, run_night, settings_of
from tests.homes import copied_home

THIRD = SECOND + timedelta(days=30)
ALL = ("weak", "fair", "good")


@contextmanager
def opened(home: Path, **wanted: object) -> Iterator[Workspace]:
    """Open a home folder under settings that ask for refits."""
    settings = settings_of(home)
    rules = settings.routing.model_copy(update={"refit": RefitSettings(**wanted)})
    with Workspace(settings.model_copy(update={"routing": rules})) as workspace:
        yield workspace


@pytest.fixture
def home(tmp_path: Path, answered_template: Path) -> Path:
    """A home after two nights: weak and fair answered the map prompts, good came later and did not."""
    home = copied_home(answered_template, tmp_path / "home")
    home.with_name("uniroute.toml").write_text(SETTINGS.format(policy="automatic"))
    return home


def night_on(workspace: Workspace, on: date, names: tuple[str, ...] = ALL) -> RouterOutcome:
    last = max(one.created_at for one in workspace.registry.routers.list())
    return run_night(workspace, on, names, Clock(last + timedelta(days=1)))


def n_answers(workspace: Workspace) -> int:
    with workspace.registry._database.read() as unit:
        return unit.exec_driver_sql("SELECT count(*) FROM outcome").scalar_one()


def test_a_later_llm_makes_a_refit_due_that_is_a_challenger_and_comes_out_again_to_the_byte(home: Path) -> None:
    with opened(home, new_llms=1) as workspace:
        routers, before = workspace.registry.routers, n_answers(workspace)
        earlier = {one.digest: one.cluster_map_digest for one in routers.list()}
        found = night_on(workspace, THIRD)
        assert n_answers(workspace) == before
        assert found.refit is not None
        assert (found.refit.why, found.refit.n_llms) == ("1 new LLM since the last fit", 3)
        # No known LLM answered otherwise: the clusters are the same, and the prior is another.
        assert found.refit.same_map
        assert {one.llm for one in found.refit.llms} == {f"fake:{name}" for name in ALL}
        assert found.refit.lines[0].startswith("refit: the prior fitted anew on 3 LLMs")
        assert found.gate is not None and found.promotion == "promoted"
        (event,) = workspace.registry.ledger.events(event=REFITTED)
        assert event.subject == routers.get(found.digest).cluster_map_digest
        assert json.loads(event.payload_json)["before"] in earlier.values()
        assert {one.digest: one.cluster_map_digest for one in routers.list()}.items() >= earlier.items()
        for record in routers.list():
            checked = verify_version(workspace, record)
            assert (checked.outcome, worst(checked.findings)) == ("identical", "ok"), checked.findings
        again = night_on(workspace, THIRD + timedelta(days=1))
        assert again.is_unchanged and again.refit is None


def test_a_night_that_is_killed_after_a_refit_makes_the_same_router_and_still_says_what_changed(home: Path) -> None:
    other = home.with_name("other") / "home"
    shutil.copytree(home, other)
    shutil.copy(home.with_name("uniroute.toml"), other.with_name("uniroute.toml"))
    with opened(other, new_llms=1) as workspace:
        whole = night_on(workspace, THIRD)
    with opened(home, new_llms=1) as workspace:
        last = max(one.created_at for one in workspace.registry.routers.list())
        night = Night(workspace, THIRD, Clock(last + timedelta(hours=1)))
        night.run = workspace.registry.runs.start(
            night.run_key,
            as_of=THIRD,
            settings_hash=workspace.settings.digest,
            settings_json=workspace.settings.canonical(),
            prompt_set_digest=night.prompt_set.digest,
            host="host-a",
            pid=1,
            now=night.clock(),
            lease_s=60,
        )
        assert refit.fn(night).map_was_fitted
        resumed = night_on(workspace, THIRD)
        assert resumed.digest == whole.digest
        assert not resumed.map_was_fitted
        assert resumed.refit == whole.refit
        checked = verify_version(workspace, workspace.registry.routers.get(resumed.digest))
        assert (checked.outcome, worst(checked.findings)) == ("identical", "ok"), checked.findings


def test_withdrawn_llms_still_teach_and_an_old_fit_is_due_once(home: Path) -> None:
    with opened(home, days=20) as workspace:
        gone = {"actor": "test", "now": workspace.registry.routers.list()[-1].created_at}
        workspace.registry.llms.set_status("fake:weak", "withdrawn", "gone", **gone)
        found = night_on(workspace, THIRD, ("good", "fair"))
        assert set(workspace.registry.routers.get(found.digest).llm_keys) == {"fake:fair", "fake:good"}
        (event,) = workspace.registry.ledger.events(event=REFITTED)
        assert event.reason == "the last fit is 60 days old"
        assert json.loads(event.payload_json)["n_llms"] == 3
        checked = verify_version(workspace, workspace.registry.routers.get(found.digest))
        assert (checked.outcome, worst(checked.findings)) == ("identical", "ok"), checked.findings
        night_on(workspace, THIRD + timedelta(days=19), ("good", "fair"))
        assert len(workspace.registry.ledger.events(event=REFITTED)) == 1


def test_a_small_change_of_the_prompts_keeps_the_map_and_asks_no_map_prompt(home: Path) -> None:
    rows = [json.loads(line) for line in (home / "prompts.jsonl").read_text().splitlines()]
    with opened(home) as workspace:
        known = {one.text for one in workspace.prompt_set.with_role("map")}
    place = next(place for place, row in enumerate(rows) if row["text"] in known)
    rows[place]["text"] = rows[place]["text"].replace("A, B, C or D", "A, B, C, or D")
    (home / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with opened(home) as workspace:
        assert Night(workspace, THIRD).fitted_map is None
    with opened(home, changed_prompts=0.01) as workspace:
        assert Night(workspace, THIRD).fitted_map is None
    with opened(home, changed_prompts=0.1) as workspace:
        night = Night(workspace, THIRD)
        assert night.fitted_map is not None
        assert not {one.text for one in night.profiled_prompts} & known
        found = night_on(workspace, THIRD)
        assert not found.map_was_fitted and found.refit is None
        record = workspace.registry.routers.get(found.digest)
        assert record.prompt_set_digest == night.prompt_set.digest
        assert record.cluster_map_digest == night.fitted_map.record.digest
        checked = verify_version(workspace, record)
        assert (checked.outcome, worst(checked.findings)) == ("identical", "ok"), checked.findings


def test_a_kept_map_knows_how_hard_prompts_are_by_what_they_are_not_by_their_places(home: Path) -> None:
    rows = [json.loads(line) for line in (home / "prompts.jsonl").read_text().splitlines()]
    (home / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows[::-1])))
    with opened(home, changed_prompts=0.1) as workspace:
        night = Night(workspace, THIRD + timedelta(days=1))
        assert night.fitted_map is not None
        fitted_on = fitted_prompts(workspace.registry, night.fitted_map.record)
        found = estimate(night, [workspace.registry.llms.get(f"fake:{name}") for name in ALL])
        order = found.representative.table.prompt_digests
        assert order != fitted_on and set(order) == set(fitted_on)
        stored = workspace.registry.routers.vectors(
            found.digest, prompt_set_digest=night.fitted_map.record.prompt_set_digest
        )
        before = {one.llm_key: one.errors for one in stored}
        for column, name in enumerate(ALL):
            assert np.allclose(found.vector(column).errors, before[f"fake:{name}"], atol=1e-5)


def fitted(n_llms: int, on: date | None = SECOND) -> FittedMap:
    arrays = {"n_training_llms": np.array([n_llms])}
    return FittedMap(ClusterMapRecord("0" * 64, "posterior", "1" * 64, "hashing@1/8", 2, 0, arrays), on)


def rules(method: str = "posterior", **wanted: object) -> RoutingSettings:
    return RoutingSettings(method=method, refit=RefitSettings(**wanted))


@pytest.mark.parametrize(
    ("wanted", "n_llms", "days", "expected"),
    [
        ({}, 99, 9999, ""),
        ({"new_llms": 3}, 11, 9999, ""),
        ({"new_llms": 3}, 12, 0, "3 new LLMs since the last fit"),
        ({"days": 30}, 9, 29, ""),
        ({"days": 30}, 9, 30, "the last fit is 30 days old"),
        ({"new_llms": 3, "days": 30}, 9, 30, "the last fit is 30 days old"),
    ],
)
def test_a_refit_is_due_when_the_settings_say_so(wanted, n_llms, days, expected) -> None:
    assert why_due(rules(**wanted), fitted(9), n_llms, SECOND + timedelta(days=days)) == expected


def test_nothing_of_a_k_means_map_depends_on_llms_and_an_unknown_day_is_no_age() -> None:
    assert why_due(rules("kmeans", new_llms=1, days=1), fitted(0), 50, THIRD) == ""
    assert why_due(rules(days=1), fitted(9, None), 9, THIRD) == ""


def test_a_refit_that_would_forget_most_of_what_is_known_is_put_off() -> None:
    assert why_not(fitted(9), 5, 9) == ""
    assert "only 1 LLM of 9" in why_not(fitted(9), 1, 9)
    assert "fitted on 20 LLMs" in why_not(fitted(20), 9, 9)


def test_refits_change_nothing_of_settings_that_ask_for_none() -> None:
    assert "refit" not in Settings().canonical()
    assert json.loads(Settings(routing=rules(days=30)).canonical())["routing"]["refit"] == {
        "changed_prompts": 0.0,
        "days": 30,
        "new_llms": 0,
    }
    stored = json.loads(Settings().canonical())["routing"]
    assert (stored["n_clusters"], RoutingSettings(**stored).clusters) == (10, 10)
    learned = json.loads(Settings(routing={"method": "learned_map"}).canonical())["routing"]
    assert RoutingSettings(**learned).clusters == 0
