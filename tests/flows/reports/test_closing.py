"""Two deployments with different settings on one registry: told once they alternate, not when settings are changed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.reports.closing import rival_of
from registry.store import Registry
from tests.registry.samples import NOW, start_night

OURS = {"routing": {"n_clusters": 20}, "budget": {"night_usd": "20"}}
THEIRS = {"routing": {"n_clusters": 30}, "budget": {"night_usd": "20"}}
DEARER = {"routing": {"n_clusters": 20}, "budget": {"night_usd": "50"}}


@pytest.fixture
def registry(tmp_path: Path, migrated: Path) -> Iterator[Registry]:
    shutil.copy(migrated, tmp_path / "registry.db")
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}") as opened:
        yield opened


def rivals(registry: Registry, *settings: dict[str, object]) -> list[str]:
    """Run a night under each of these settings, one after the other; give what each is told."""
    told = []
    for day, wanted in enumerate(settings):
        run = start_night(registry, f"night:{day}", settings_json=json.dumps(wanted), host=f"worker-{day}")
        told.append(rival_of(registry, run))
        registry.runs.finish(run, "completed", "fine", "{}", NOW)
    return told


def test_deployments_that_alternate_are_told_of_each_other(registry):
    said = "night:1 on worker-1 ran under another [routing]"
    assert rivals(registry, OURS, THEIRS, OURS, THEIRS) == [
        "",
        "",
        said,
        said.replace("night:1 on worker-1", "night:2 on worker-2"),
    ]


def test_settings_that_were_changed_for_good_are_no_rival(registry):
    assert rivals(registry, OURS, OURS, THEIRS, THEIRS) == [""] * 4


def test_a_budget_given_by_hand_for_one_night_is_no_rival(registry):
    assert rivals(registry, OURS, DEARER, OURS) == [""] * 3
