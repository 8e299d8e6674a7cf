"""Prompts on the command line: listed, checked, added, and shown by cluster."""

import json
from pathlib import Path

import numpy as np
import pytest

from registry.prompts import Prompt
from registry.store import Registry
from tests.commands import Uniroute


def rows(numbers: range, **changes: str) -> str:
    found = [
        {"prompt_id": f"p{n}", "text": f"question {n}\u2028?", "reference": "ABCD"[n % 4], "grader": "choice"} | changes
        for n in numbers
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


@pytest.fixture
def prompt_file(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "uniroute.toml").write_text('[prompts]\nfile = "prompts.jsonl"\n')
    file = tmp_path / "prompts.jsonl"
    file.write_text(rows(range(60)))
    return file


def test_prompts_are_listed_with_their_roles(prompt_file: Path, uniroute: Uniroute) -> None:
    found = uniroute("prompt", "--json", "--limit", "60").data
    assert len(found) == 60
    assert {row["role"] for row in found} == {"map", "representative", "gate", "hidden"}
    gate = uniroute("prompt", "list", "--role", "gate", "--sort", "-prompt_id", "--json").data
    assert [row["prompt_id"] for row in gate] == sorted(r["prompt_id"] for r in found if r["role"] == "gate")[::-1]
    assert "2 of 60 prompts" in uniroute("prompt", "list", "--limit", "2").out


def test_sound_prompts_are_reported_and_duplicates_are_named(prompt_file: Path, uniroute: Uniroute) -> None:
    prompt_file.write_text(rows(range(60)) + rows(range(1), prompt_id="again"))
    found = uniroute("prompt", "check", "--json").data
    assert (found["prompts"], found["duplicates"], found["graders"]) == (60, ["again"], {"choice": 60})
    assert sum(found["roles"].values()) == 60
    text = uniroute("prompt", "check").out
    assert "1 duplicate of earlier prompts, not counted: again" in text


@pytest.mark.parametrize(
    ("n", "settings", "verdict", "code"),
    [
        (1, "", "A night would not start with these prompts: 1 map prompt and 0 representative prompts are too few", 3),
        (1, "[routing]\nn_clusters = 1\n", "A night would not start with these prompts: ", 3),
        (60, "[routing]\nn_clusters = 2\n", "The prompts are complete, but too few for a sound set: with 14 gate", 3),
        (400, "", "The prompts are sound.", 0),
        (
            400,
            "ask = 5\n",
            "The prompts are complete, but too few for a sound set: 24 hidden prompts beside 2 representative prompts "
            "that are drawn for a new LLM could not even show an LLM that has memorised all of the latter",
            3,
        ),
    ],
)
def test_the_design_is_judged(
    prompt_file: Path, uniroute: Uniroute, tmp_path: Path, n: int, settings: str, verdict: str, code: int
) -> None:
    prompt_file.write_text(rows(range(n)))
    with (tmp_path / "uniroute.toml").open("a") as file:
        file.write(settings)
    ended = uniroute("prompt", "check")
    assert (ended.code, ended.out.startswith(verdict)) == (code, True), ended.out
    assert "[gate] epsilon = 0.02 would need 2,009 gate prompts, 8,371 prompts in all" in ended.out
    design = uniroute("prompt", "check", "--json").data["design"]
    assert (design["is_sound"], design["gate_needed"]) == (code == 0, 2009)
    if n > 1:
        validated = uniroute("config", "validate")
        assert (validated.code, "the gate sees a difference of " in validated.out) == (0, True)
        assert ("attention  prompts" in validated.out) == (code == 3)


def test_adding_before_the_first_night_moves_no_prompt_either(prompt_file: Path, uniroute: Uniroute) -> None:
    before = {row["prompt_id"]: row["role"] for row in uniroute("prompt", "--json", "--limit", "99").data}
    for n in range(60, 63):
        prompt_file.with_name("one.jsonl").write_text(rows(range(n, n + 1)))
        assert uniroute("prompt", "add", "one.jsonl", "--dry-run", "--json").data["moved"] == 0
        assert "No earlier prompt changes its role." in uniroute("prompt", "add", "one.jsonl").out
    after = {row["prompt_id"]: row["role"] for row in uniroute("prompt", "--json", "--limit", "99").data}
    assert len(after) == 63
    assert before.items() < after.items()


def test_prompts_whose_references_the_grader_cannot_read_are_refused(
    prompt_file: Path, uniroute: Uniroute, tmp_path: Path
) -> None:
    (tmp_path / "odd.jsonl").write_text(rows(range(60), reference="perhaps"))
    refused = uniroute("prompt", "check", "odd.jsonl")
    assert (refused.code, refused.out) == (78, "")
    assert "choice" in refused.err


def test_prompts_are_added_once_and_a_dry_run_changes_nothing(
    prompt_file: Path, uniroute: Uniroute, tmp_path: Path
) -> None:
    before = prompt_file.read_bytes()
    (tmp_path / "more.jsonl").write_text(rows(range(50, 80)))
    would = uniroute("prompt", "add", "more.jsonl", "--dry-run", "--json").data
    assert (len(would["added"]), would["known"], would["prompts"], would["moved"]) == (20, 10, 80, 0)
    assert prompt_file.read_bytes() == before
    done = uniroute("prompt", "add", "more.jsonl", "--json").data
    assert done["added"] == [f"p{n}" for n in range(60, 80)]
    assert prompt_file.read_bytes().startswith(before)
    assert uniroute("prompt", "check", "--json").data["prompt_set"] == would["prompt_set"]
    assert uniroute("prompt", "add", "more.jsonl", "--json").data["added"] == []
    assert [path.name for path in tmp_path.glob("prompts.jsonl*")] == ["prompts.jsonl"]


def test_an_id_that_stands_for_something_else_is_refused_and_the_file_stays(
    prompt_file: Path, uniroute: Uniroute, tmp_path: Path
) -> None:
    before = prompt_file.read_bytes()
    (tmp_path / "more.jsonl").write_text(rows(range(3), text="another question"))
    refused = uniroute("prompt", "add", "more.jsonl")
    assert refused.code == 78
    assert "p0" in refused.err
    assert prompt_file.read_bytes() == before


def test_the_prompts_nearest_to_a_centre_are_shown(home: Path, registry: Registry, uniroute: Uniroute) -> None:
    from flows.config.loading import load_settings
    from flows.versions.store import load_version
    from flows.workspace import Workspace

    record = registry.routers.get("champion")
    with Workspace(load_settings()) as workspace:
        fitted = load_version(workspace, record.digest).cluster_map
    centre = fitted.matrix[0] / np.linalg.norm(fitted.matrix[0])
    prompts: tuple[Prompt, ...] = registry.prompts.get(record.prompt_set_digest).prompts
    spread = np.linspace(0, 0.02, len(prompts))[:, None] * np.eye(fitted.dim)[: len(prompts)]
    rows = centre + spread
    matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    registry.prompts.store_embeddings(record.embedder_key, prompts, matrix)
    cluster = int(fitted.assign(matrix[:1])[0])
    found = uniroute("prompt", "example", str(cluster), "--limit", "3", "--json").data
    inside = [p.prompt_id for p, c in zip(prompts, fitted.assign(matrix), strict=True) if c == cluster]
    nearness = dict(zip([p.prompt_id for p in prompts], matrix @ fitted.matrix[cluster], strict=True))
    assert [row["prompt_id"] for row in found["prompts"]] == sorted(inside, key=lambda one: -nearness[one])[:3]
    refused = uniroute("prompt", "example", "99999")
    assert (refused.code, refused.out) == (2, "")
    assert "99999" in refused.err
