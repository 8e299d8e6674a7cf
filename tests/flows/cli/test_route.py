"""What `uniroute route` decides for a prompt."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.batch.routing import RoutedFile
from flows.cli import main
from flows.cli.route import _duration_text, decide
from flows.config.settings import Settings
from flows.workspace import Workspace
from routing.artifact import load_router, save_router
from tests.homes import copied_home
from tests.registry.publishing.samples import make_router


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, served_template: Path) -> Iterator[Workspace]:
    """One home for all tests here: none of them changes anything."""
    home = copied_home(served_template, tmp_path_factory.mktemp("route") / "home")
    with Workspace(Settings(home=home, embedder={"name": "hashing-256"})) as workspace:
        yield workspace


def test_a_prompt_costs_its_own_tokens(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    short, long = (decide(served, record, "word " * n, candidates="middle") for n in (20, 2000))
    assert short.llm == long.llm == "sandbox:middle"
    # Five bytes per word, four bytes per token, 10 USD per million tokens; the answer's tokens stay the same.
    assert long.expected_cost_usd - short.expected_cost_usd == pytest.approx(1980 * 5 / 4 * 10 / 1e6)


def test_a_long_prompt_goes_to_a_cheaper_llm_than_a_short_one_like_it(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    short, long = (decide(served, record, "word " * n, cost_weight=10.0) for n in (1, 20_000))
    assert (short.llm, long.llm) == ("sandbox:middle", "sandbox:frugal")


def test_under_a_budget_a_prompt_costs_its_own_tokens_too(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    # The representative prompts have about ten tokens: frugal costs 0.2 USD per 1,000 of them, middle 2 and strong 20.
    short, long = (decide(served, record, "word " * n, max_cost_usd=2.5) for n in (10, 20_000))
    assert (short.llm, long.llm) == ("sandbox:middle", "sandbox:frugal")
    assert 1000 * short.expected_cost_usd < 2.5
    assert short.cost_weight == long.cost_weight


def test_a_share_of_the_best_score_is_kept_as_cheaply_as_possible(served: Workspace) -> None:
    record = served.registry.routers.get("champion")
    kept = [decide(served, record, "word", min_score=share) for share in (1.0, 0.7, 0.0)]
    assert [decision.llm for decision in kept] == ["sandbox:strong", "sandbox:middle", "sandbox:frugal"]


def test_a_router_from_before_lengths_were_kept_spends_the_budget_as_it_was_solved(
    served: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = served.registry.routers.get("champion")
    monkeypatch.setattr("flows.versions.store.load_version", lambda *_: make_router(knows_lengths=False))
    # Frugal costs 0.3 USD per 1,000 prompts of the profile's length and middle 3: of any length.
    for n in (1, 20_000):
        decision = decide(served, record, "word " * n, max_cost_usd=0.5)
        assert (decision.llm, decision.expected_cost_usd) == ("sandbox:frugal", pytest.approx(0.0003))


@pytest.fixture
def run(
    served: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("UNIROUTE_HOME", str(served.home))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")

    def typed(*arguments: str, command: tuple[str, ...] = ("route",)) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([*command, *arguments])
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return typed


def test_what_is_typed_is_what_is_decided(run) -> None:
    for options, llm in (
        (("--min-score", "1"), "sandbox:strong"),
        (("--min-score", "0"), "sandbox:frugal"),
        (("--max-cost-usd", "2.5"), "sandbox:middle"),
        (("--cost-weight", "0"), "sandbox:strong"),
    ):
        code, out, _ = run("word " * 10, *options, "--json")
        data = json.loads(out)["data"]
        assert (code, data["llm"]) == (0, llm)
        assert data["standard_error"] > 0
    code, out, _ = run("word")
    assert code == 0
    assert "(standard error 0.050)" in out and "runner-up" in out


@pytest.mark.parametrize(
    ("options", "code", "said", "hint"),
    [
        (("--cost-weight", "1", "--min-score", "1"), 2, "--cost-weight and --min-score exclude each other", "--help"),
        (("--max-cost-usd", "1", "--min-score", "1"), 2, "--max-cost-usd and --min-score exclude each other", "--help"),
        (
            ("--cost-weight", "1", "--max-cost-usd", "1", "--min-score", "1"),
            2,
            "--cost-weight and --max-cost-usd and --min-score exclude each other",
            "--help",
        ),
        (("--max-cost-usd", "0.1"), 2, "no choice stays within 0.0001 USD per prompt", "at least 0.20"),
        (("--max-cost-usd", "nan"), 2, "max_cost_usd", ""),
        (("--max-cost-usd", "-1"), 2, "max_cost_usd", ""),
        (("--min-score", "1.01"), 2, "min_score must be a finite number in [0, 1], got 1.01", ""),
        (("--min-score", "inf"), 2, "min_score must be a finite number in [0, 1]", ""),
        (("--cost-weight", "-1"), 2, "cost_weight must be a finite number of at least 0", ""),
        (("--candidates", "nobody"), 2, "has no LLM nobody", "uniroute router show"),
        (("--candidates", ",".join(f"x{n}" for n in range(40))), 2, "x9 and 30 more", "uniroute router show"),
        (("--candidates", " , "), 2, "No candidate is named", "Leave candidates out"),
        (("--candidates", ""), 2, "No candidate is named", "Leave candidates out"),
    ],
)
def test_criteria_that_cannot_be_met_are_refused_by_name(run, options, code, said, hint) -> None:
    found, out, err = run("word", *options)
    assert (found, out) == (code, "")
    assert said in err
    assert hint in err


def test_a_file_of_prompts_is_routed_as_prompt_by_prompt(served: Workspace, run, tmp_path: Path) -> None:
    source, target = tmp_path / "prompts.jsonl", tmp_path / "routed.jsonl"
    texts = ["word " * n for n in (1, 10, 1000, 20_000)]
    source.write_text("".join(json.dumps({"prompt": text, "n": len(text)}) + "\n" for text in texts))
    files = ("--input", str(source), "--output", str(target), "--cost-weight", "10")
    code, out, err = run(*files, "--chunk", "3", "--json")
    envelope = json.loads(out)
    data = envelope["data"]
    champion = served.registry.routers.get("champion")
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert (code, envelope["schema"]) == (0, "uniroute.route.file/1")
    assert set(data) == {
        "path",
        "rows",
        "seconds",
        "share_per_llm",
        "digest",
        "prompts_per_second",
        "router_version",
    }
    assert (data["rows"], data["digest"], data["router_version"]) == (4, champion.digest, champion.mlflow_version)
    assert data["share_per_llm"] == {llm: share for llm, share in data["share_per_llm"].items() if share > 0}
    assert sum(data["share_per_llm"].values()) == 1
    assert [row["llm"] for row in rows] == [decide(served, champion, text, cost_weight=10.0).llm for text in texts]
    assert [row["n"] for row in rows] == [len(text) for text in texts]
    assert "4 prompts in" in err
    code, out, err = run(*files)
    assert (code, out) == (2, "")
    assert f"The output {target} exists" in err and "--overwrite" in err
    code, out, err = run(*files, "--overwrite", "--candidates", "frugal", "--quiet")
    assert (code, err) == (0, "")
    assert "4 prompts" in out and "100.0% sandbox:frugal" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'TEXT', or --input and --output for a file of prompts."),
        (("--input", "a.jsonl"), "--output is missing"),
        (("--output", "a.jsonl"), "--input is missing"),
        (("--chunk", "5"), "Missing argument 'TEXT'"),
        (("--input", "a.jsonl", "--output", "b.jsonl", "--chunk", "0"), "--chunk"),
        (("word", "--input", "a.jsonl"), "TEXT and --input exclude each other"),
        (
            ("word", "--input", "a.jsonl", "--output", "b.jsonl", "--overwrite"),
            "TEXT and --input and --output and --overwrite exclude each other",
        ),
        (("--input", "a.jsonl", "--output", "b.parquet"), "must have the same format, .jsonl"),
        (("--input", "a.jsonl", "--output", "b.jsonl", "--candidates", "nobody"), "has no LLM nobody"),
    ],
)
def test_one_prompt_or_a_file_of_prompts_but_not_both(run, arguments, said) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_rate_is_shown_only_where_it_is_not_a_fraction() -> None:
    ended = [RoutedFile(Path("b.jsonl"), rows, 8.0, {}, "") for rows in (4, 8000)]
    assert [_duration_text(one) for one in ended] == ["4 prompts in 8.0 s", "8,000 prompts in 8.0 s, 1,000 per second"]


def test_a_version_is_shown_with_the_standard_errors_of_its_clusters(served: Workspace, run) -> None:
    code, out, _ = run("champion", command=("router", "show"))
    assert code == 0
    router = load_router(served.home / "routers" / served.registry.routers.get("champion").digest)
    errors = router.llms[0].vector.errors
    assert "STRONGEST CLUSTER" in out
    for number in (errors.argmin(), errors.argmax()):
        assert f"{number}: {errors[number]:.3f} ± 0.050" in out


def test_what_is_excluded_is_not_chosen_and_need_not_exist(run) -> None:
    code, out, _ = run("word", "--cost-weight", "0")
    best = out.splitlines()[0].removeprefix("-> ")
    code, out, _ = run("word", "--cost-weight", "0", "--exclude", f"{best}, gone-since")
    assert code == 0
    assert best not in out.splitlines()[0]


ROUTE = """
import sys
from pathlib import Path
from flows.cli import cli
from flows.versions import store
from routing.artifact import load_router, save_router
store.load_version = lambda workspace, digest: load_router(Path(sys.argv[1]))
try:
    cli.main(["route", "Which planet is the largest?"])
except SystemExit as ended:
    assert ended.code == 0
wanted = {"onnxruntime", "tokenizers"}
heavy = {"mlflow", "sklearn", "torch", "pandas", "scipy", "prefect", "transformers", "sentence_transformers", "pyarrow"}
assert wanted <= set(sys.modules) and not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_a_prompt_is_routed_without_importing_what_only_nights_need(served: Workspace, tmp_path: Path) -> None:
    save_router(make_router(embedder_name="all-MiniLM-L6-v2"), tmp_path / "router")
    environment = {**os.environ, "UNIROUTE_HOME": str(served.settings.home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ROUTE, str(tmp_path / "router")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-> sandbox:")
