"""A home folder in which a challenger waits for its reviewer: two real nights, made once and copied for each test."""

import re
import shutil
from pathlib import Path

import pytest

from flows.config.loading import load_settings
from flows.night.context import Night
from flows.promotion import decisions, publish
from flows.promotion.decisions import Person
from flows.reports.night_report import RouterOutcome
from flows.workspace import Workspace
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import FIRST, SECOND, AskedNight, candidate, right, wrong
from tests.registry.samples import NOW

ANN, BOB = Person("ann", "svc"), Person("bob", "svc")
LLMS = ("weak", "fair", "good")
SETTINGS = '[gate]\npolicy = "review"\nresamples = 200\nmax_share = 1.0\n'
_RIGHT_OUT_OF_TEN = {"weak": 4, "fair": 6, "good": 9}


def clock():
    return NOW


def answer(llm_id: str, prompt: str) -> str:
    """Answer 4 prompts out of ten correctly (`weak`), 6 (`fair`) or 9 (`good`)."""
    is_right = int(prompt.split()[1]) % 10 < _RIGHT_OUT_OF_TEN[llm_id]
    return (right if is_right else wrong)(prompt)


def prepare_contest(folder: Path, migrated: Path, template: Path) -> None:
    """Run a night with `weak` and `fair`, whose router is approved, and one that finds `good` and waits for review.

    Parameters
    ----------
    folder
        Gets ``uniroute.toml`` and the home folder.
    migrated, template
        Empty databases of registry and MLflow.
    """
    folder.mkdir()
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as fake, pytest.MonkeyPatch.context() as patch:
        asked = AskedNight(folder, fake, migrated, patch)
        for night, llms in ((FIRST, LLMS[:2]), (SECOND, LLMS)):
            asked.prepare(*llms, n_prompts=240, shares=(0.1, 0.3, 0.5, 0.1), night="canary_prompts = 0", more=SETTINGS)
            if night == FIRST:
                shutil.copyfile(template, folder / "home" / "mlflow.db")
            asked.run(night, _finish)
            if night == FIRST:
                with Workspace(load_settings(folder / "uniroute.toml")) as workspace:
                    decisions.approve(workspace, 1, by=ANN, reason="the first router", clock=clock)


def run_again(folder: Path, migrated: Path, night: str, **changed: str) -> RouterOutcome:
    """Run another night in such a folder, in which nothing is new, and return what became of its router."""
    settings = folder / "uniroute.toml"
    text = settings.read_text()
    for before, after in changed.items():
        text = text.replace(f'"{before}"', f'"{after}"')
    found = []
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as fake, pytest.MonkeyPatch.context() as patch:
        settings.write_text(re.sub(r"http://[^\"]*", fake.base_url, text))
        AskedNight(folder, fake, migrated, patch).run(night, lambda one: found.append(_finish(one)))
    return found[0]


def _finish(night: Night) -> RouterOutcome:
    made = candidate(night)
    return publish.keep_and_publish(night, made, publish.measure_candidate(night, made))


def digest_of(workspace: Workspace, alias: str) -> str:
    """Return the digest of the router that an alias of the registry points to."""
    return workspace.registry.routers.get(alias).digest
