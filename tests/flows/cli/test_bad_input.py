"""Bad input to ``uniroute night run``: one clear line, what to type next, the right exit code, and no calls."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import main
from routing.errors import EmbedderUnavailable

CATALOG = '[[catalog]]\nname = "mine"\nkind = "toml"\nlocation = "llms.toml"\nendpoint = "here"\n'
ENDPOINT = '[[endpoint]]\nname = "here"\nbase_url = "http://127.0.0.1:9/v1"\n'
LLMS = '[[llm]]\nid = "small"\nreleased = 2024-01-01\ninput_usd_per_mtok = 0.1\noutput_usd_per_mtok = 0.2\n'

Run = Callable[..., tuple[int, str]]


def prompts(count: int) -> list[dict[str, str]]:
    return [
        {"prompt_id": f"p{number}", "text": f"question {number}", "reference": "ABCD"[number % 4], "grader": "choice"}
        for number in range(count)
    ]


def lines(rows: list[dict[str, str]]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the night in this process; it must be refused before Prefect is even imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    (tmp_path / "llms.toml").write_text(LLMS)
    (tmp_path / "prompts.jsonl").write_text(lines(prompts(200)))

    def refused(settings: str = "", prompt_rows: str | None = None) -> tuple[int, str]:
        if prompt_rows is not None:
            (tmp_path / "prompts.jsonl").write_text(prompt_rows)
        head = settings if "[prompts]" in settings else f'[prompts]\nfile = "prompts.jsonl"\n{settings}'
        (tmp_path / "uniroute.toml").write_text(head + CATALOG + (ENDPOINT if "[[endpoint]]" not in head else ""))
        with pytest.raises(SystemExit) as stopped:
            main(["night", "run"])
        said = capsys.readouterr()
        assert said.out == ""
        error, hint = said.err.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("next:  ")
        return stopped.value.code, error

    return refused


def test_an_unknown_setting(run: Run) -> None:
    code, error = run("[budget]\nnigth_usd = 5\n")
    assert code == 78
    assert "'night_usd'" in error


def test_an_unreadable_prompt_file(run: Run) -> None:
    code, error = run('[prompts]\nfile = "nowhere.jsonl"\n')
    assert code == 78
    assert "nowhere.jsonl cannot be read: No such file" in error


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "holds no prompt"),
        ("\n{", "malformed: line 2: it is not JSON"),
        ("[1]", "not a JSON object"),
        ('{"text": "a", "text": "b"}', "malformed: line 1: the key 'text' occurs twice in one object"),
    ],
)
def test_an_empty_or_malformed_prompt_file(run: Run, rows: str, said: str) -> None:
    code, error = run(prompt_rows=rows)
    assert code == 78
    assert said in error


def test_a_prompt_without_a_reference(run: Run) -> None:
    rows = prompts(200)
    rows[7]["reference"] = "  "
    code, error = run(prompt_rows=lines(rows))
    assert code == 78
    assert "prompt 'p7' (row 8) has no reference" in error


def test_one_id_with_two_texts(run: Run) -> None:
    rows = [*prompts(200), {"prompt_id": "p3", "text": "another", "reference": "A", "grader": "choice"}]
    code, error = run(prompt_rows=lines(rows))
    assert code == 78
    assert "p3" in error


def test_an_unknown_grader(run: Run) -> None:
    code, error = run(prompt_rows=lines([row | {"grader": "vibes"} for row in prompts(200)]))
    assert code == 78
    assert "'vibes'" in error


def test_fewer_prompts_than_clusters(run: Run) -> None:
    code, error = run(prompt_rows=lines(prompts(40)))
    assert code == 78
    assert "too few for 10 clusters" in error


def test_a_key_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET_KEY", raising=False)
    keyed = '[[endpoint]]\nname = "here"\nbase_url = "https://127.0.0.1:9/v1"\napi_key_env = "UNSET_KEY"\n'
    code, error = run(keyed)
    assert code == 77
    assert "environment variable UNSET_KEY, which is not set" in error


def test_a_key_file_that_is_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    keyed = '[[endpoint]]\nname = "here"\nbase_url = "https://127.0.0.1:9/v1"\napi_key_file = "key"\n'
    assert run(keyed)[0] == 77


def test_missing_embedder_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *, folder: Path | None = None) -> None:
        raise EmbedderUnavailable("the weights are missing", hint="install them")

    monkeypatch.setattr("routing.embedders.load_embedder", missing)
    code, error = run()
    assert code == 78
    assert "weights are missing" in error


def test_a_registry_newer_than_the_code(run: Run, tmp_path: Path) -> None:
    import sqlite3

    from registry.store import Registry

    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / "registry.db"
    Registry.open(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE uniroute_alembic_version SET version_num = '9999'")
    connection.close()
    code, error = run()
    assert code == 78
    assert "9999" in error


def test_a_registry_that_is_not_a_database(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "registry.db").write_bytes(b"garbage " * 600)
    code, error = run()
    assert code == 5
    assert "registry.db" in error


def test_a_home_that_cannot_be_created(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    code, error = run()
    assert code == 78
    assert str(tmp_path / "home") in error


def test_init_writes_settings_that_load_and_never_touches_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.config.loading import load_settings

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main(["init"])
    assert done.value.code == 0
    assert load_settings().is_sandbox
    uncommented = [line.removeprefix("# ") for line in Path("uniroute.toml").read_text().splitlines()[4:]]
    Path("all.toml").write_text("\n".join(line for line in uncommented if line and not line.startswith(" ")))
    assert [catalog.name for catalog in load_settings("all.toml").catalog] == ["openrouter"]
    with pytest.raises(SystemExit) as refused:
        main(["init"])
    assert refused.value.code == 78
    assert "exists already" in capsys.readouterr().err
