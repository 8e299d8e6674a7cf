"""Two deployments with different settings on one registry: reported once they alternate, not when they change."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.reports.closing import settings_conflict
from registry.store import Registry
from tests.registry.samples import NOW, start_night

OURS = {"routing": {"n_clusters": 20}, "budget": {"night_usd": "20"}}
THEIRS = {"routing": {"n_clusters": 30}, "budget": {"night_usd": "20"}}
MORE_BUDGET = {"routing": {"n_clusters": 20}, "budget": {"night_usd": "50"}}


@pytest.fixture
def registry(tmp_path: Path, migrated: Path) -> Iterator[Registry]:
    shutil.copy(migrated, tmp_path / "registry.db")
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as opened:
        yield opened


def conflicts(registry: Registry, *settings: dict[str, object]) -> list[str]:
    """Run a night under each of these settings, one after the other; return the conflict each sees."""
    found = []
    for day, wanted in enumerate(settings):
        run = start_night(registry, f"night:{day}", settings_json=json.dumps(wanted), host=f"worker-{day}")
        found.append(settings_conflict(registry, run))
        registry.runs.finish(run, "completed", "fine", "{}", NOW)
    return found


def test_deployments_that_alternate_are_reported(registry):
    said = "night:1 on worker-1 ran with a different [routing]"
    assert conflicts(registry, OURS, THEIRS, OURS, THEIRS) == [
        "",
        "",
        said,
        said.replace("night:1 on worker-1", "night:2 on worker-2"),
    ]


def test_settings_that_were_changed_for_good_are_no_conflict(registry):
    assert conflicts(registry, OURS, OURS, THEIRS, THEIRS) == [""] * 4


def test_a_budget_given_by_hand_for_one_night_is_no_conflict(registry):
    assert conflicts(registry, OURS, MORE_BUDGET, OURS) == [""] * 3
