"""What changed prompt files and an upgrade ask: only what is missing, of those LLMs from which it is missing."""

import gzip
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pytest

from flows.night.context import Night
from flows.stages import plan
from flows.workspace import Workspace
from registry.prompts import Prompt
from tests.fakes.nights import SETTINGS, settings_of
from tests.homes import copied_home

BEFORE = Path(__file__).parents[2] / "data" / "registry-0005.sql.gz"
NEXT = date(2024, 11, 1)
NEW = Prompt("new", "Question 99 about lakes and sums: A, B, C or D?", "B", "choice")

Change = Callable[[list[Prompt]], list[Prompt]]


def write_prompts(home: Path, prompts: list[Prompt]) -> None:
    rows = [{name: value for name, value in asdict(one).items() if value is not None} for one in prompts]
    (home / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def home(tmp_path: Path, answered_template: Path) -> Path:
    """A home after two nights; the third LLM came in the second and was not asked the map prompts."""
    shutil.copy(answered_template.with_name("uniroute.toml"), tmp_path)
    return copied_home(answered_template, tmp_path / "home")


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        pytest.param(lambda prompts: [*prompts, NEW], True, id="added"),
        pytest.param(lambda prompts: prompts[1:], False, id="dropped"),
        pytest.param(lambda prompts: prompts[::-1], False, id="in another order"),
        pytest.param(
            lambda prompts: [Prompt(prompts[0].prompt_id, NEW.text, NEW.reference, NEW.grader), *prompts[1:]],
            True,
            id="changed",
        ),
    ],
)
def test_a_changed_prompt_file_asks_only_what_is_missing(home: Path, change: Change, is_new: bool) -> None:
    with Workspace(settings_of(home)) as workspace:
        before = workspace.prompt_set
    write_prompts(home, change(list(before.prompts)))
    with Workspace(settings_of(home)) as workspace:
        night = Night(workspace, NEXT)
        planned = plan.fn(night)
        role = night.prompt_set.roles.get(NEW.digest)
        # The third LLM never answered the map prompts: without it the map is learned from the same LLMs as before.
        askable = ["fake:fair", "fake:good", "fake:weak"] if role != "map" else ["fake:fair", "fake:weak"]
        asked = {one.llm.key: [prompt.text for prompt in one.prompts] for one in planned.profiles}
        assert asked == ({key: [NEW.text] for key in askable} if is_new else {})
        assert before.digest != night.prompt_set.digest
        assert {key: night.prompt_set.roles.get(key, role) for key, role in before.roles.items()} == before.roles


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[Workspace]:
    """A registry of the version before, opened by this one: its second night had a prompt more and other roles."""
    home = tmp_path / "home"
    home.mkdir()
    with sqlite3.connect(home / "registry.db") as database:
        database.executescript(gzip.decompress(BEFORE.read_bytes()).decode())
        (last,) = database.execute("SELECT prompt_set_digest FROM run ORDER BY id DESC LIMIT 1").fetchone()
    database.close()
    (tmp_path / "uniroute.toml").write_text(SETTINGS.format(policy="automatic"))
    write_prompts(home, [NEW])
    with Workspace(settings_of(home)) as workspace:
        write_prompts(home, list(workspace.registry.prompts.get(last).prompts))
        yield workspace


def test_an_upgrade_keeps_digest_and_roles_and_asks_nothing(upgraded: Workspace) -> None:
    registry = upgraded.registry
    last = registry.prompts.get(registry.runs.list(limit=1)[0].prompt_set_digest)
    assert upgraded.prompt_set == last
    night = Night(upgraded, NEXT)
    assert night.fitted_map is not None
    graders = {"choice": max(registry.outcomes.graders())}
    missing = {
        llm.llm_id: registry.outcomes.missing(llm.key, night.prompts_for(llm), graders, night.sampling["fake"])
        for llm in registry.llms.all()
    }
    assert missing == {"weak": (), "fair": (), "good": ()}


def test_after_an_upgrade_a_prompt_more_changes_no_other(upgraded: Workspace) -> None:
    registry = upgraded.registry
    last = registry.prompts.get(registry.runs.list(limit=1)[0].prompt_set_digest)
    write_prompts(upgraded.settings.home, [NEW, *last.prompts])
    roles = upgraded.prompt_set.roles
    assert {key: roles[key] for key in last.roles} == last.roles
    # The set of the first night had other roles; those of the last one count.
    write_prompts(upgraded.settings.home, [one for one in last.prompts if one.prompt_id != "p40"])
    with Workspace(upgraded.settings) as again:
        assert {
            key: role for key, role in last.roles.items() if key in again.prompt_set.roles
        } == again.prompt_set.roles
