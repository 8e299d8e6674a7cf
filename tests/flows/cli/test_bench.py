"""``uniroute bench DATA`` as it is typed: what it prints and writes, and what it refuses at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.bench.report import METHODS
from flows.cli import main
from tests.flows.bench.synthetic import write_folder

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--trials", "2", "--methods", "zero_router,kmeans,posterior,clairvoyant")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process beside a folder of 300 prompts and six LLMs; trials run in this process too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIROUTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    write_folder(tmp_path / "topics", n=300, of_a_kind=2)

    def measured(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["bench", *arguments])
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return measured


def test_table_json_and_figure_of_a_small_folder(run: Run) -> None:
    code, out, err = run("topics", *QUICK, "--out", "made/for/it/found.json", "--figures", "figures")
    assert code == 0
    assert out.startswith("topics: 6 LLMs x 300 prompts, 2 trials, 30 representative prompts; cost is recorded tokens")
    for word in ("AREA", "QNC/BEST", "AIQ", "REACHED", "POSTERIOR WINS:LOSSES", "of the way from zero_router to"):
        assert word in out
    found = json.loads(Path("made/for/it/found.json").read_text(), parse_constant=pytest.fail)
    assert list(found["methods"]) == ["zero_router", "kmeans", "posterior", "clairvoyant"]
    assert isinstance(found["share_of_clairvoyant"], float)
    assert Path("figures/deferral_curves.png").read_bytes().startswith(b"\x89PNG")
    assert err.startswith("read topics\nembed topics  0/300 prompts\n")
    assert "measure topics  0/2 trials\n" in err and "measure topics  2 trials in " in err
    assert "figure: figures/deferral_curves.png" in err


def test_standard_output_is_the_json_of_the_file_and_a_second_run_embeds_nothing(run: Run) -> None:
    first = run("topics", *QUICK, "--out", "found.json", "--json")
    again = run("topics", *QUICK, "--out", "again.json", "--json")
    assert json.loads(first[1])["schema"] == "uniroute.bench/1"
    found = json.loads(Path("found.json").read_text())
    assert json.loads(first[1])["data"] == found == json.loads(again[1])["data"]
    assert "embed topics" in first[2] and "embed topics" not in again[2]


def test_without_the_posterior_there_is_nothing_to_compare_with(run: Run) -> None:
    code, out, _ = run("topics", "--trials", "1", "--methods", " random, zero_router ,random,", "--json")
    found = json.loads(out)["data"]
    assert code == 0
    assert list(found["methods"]) == ["zero_router", "random"], "in the order of the table of methods"
    assert (found["share_of_clairvoyant"], found["sign_test"]) == (None, {})
    assert found["methods"]["random"]["area"]["sd"] == 0.0


def test_the_study_draws_area_against_representative_prompts_and_keeps_the_numbers(run: Run) -> None:
    code, out, err = run("topics", *QUICK, "--n-val-study", "--figures", "figures")
    assert code == 0
    assert "area against the number of representative prompts, 2 trials" in out and "N_VAL 50" in out
    (found,) = json.loads(Path("figures/area_against_n_val.json").read_text(), parse_constant=pytest.fail)
    assert (found["n_val"], found["trials"]) == (50, 2)
    assert Path("figures/area_against_n_val.png").read_bytes().startswith(b"\x89PNG")
    assert "topics, 50 representative prompts" in err


@pytest.mark.parametrize("n_llms", [1, 2, 3])
def test_all_methods_measure_a_pool_of_few_llms(run: Run, tmp_path: Path, n_llms: int) -> None:
    from tests.flows.bench.synthetic import rewrite

    kept = ["both-0", "first-0", "second-0"][:n_llms]
    folder = write_folder(tmp_path / "few", n=60, of_a_kind=1)
    rewrite(folder, "outcomes", lambda t: t[t["model"].isin(kept)])
    code, out, _ = run("few", "--trials", "1", "--json")
    found = json.loads(out, parse_constant=pytest.fail)["data"]
    assert code == 0
    assert tuple(found["methods"]) == METHODS
    assert found["n_llms"] == n_llms
    if n_llms == 1:
        # Every method chooses it.
        assert len({method["area"]["mean"] for method in found["methods"].values()}) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "DATA is missing"),
        (("nowhere",), 78, "nowhere is not a folder"),
        (("topics", "--methods", "knn,magic"), 2, "unknown method magic; there are zero_router, knn"),
        (("topics", "--trials", "0"), 2, "--trials"),
        (("topics", "--seed", "-1"), 2, "--seed"),
        (("topics", "--n-val", "250"), 78, "300 prompts cannot be split into map, 250 representative and gate prompts"),
        (("topics", "--out", "topics/models.parquet/a.json"), 78, "models.parquet cannot be created"),
        (("topics", "--figures", "topics/models.parquet/a"), 78, "cannot be created"),
    ],
)
def test_what_is_refused_before_anything_is_measured(
    run: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    found, out, err = run(*arguments, *(() if "--trials" in arguments else ("--trials", "1")))
    assert (found, out) == (code, "")
    assert said in err
    assert "next:  " in err
    if code == 78:
        assert "Nothing was measured." in err


def test_a_folder_too_small_for_the_study_says_what_it_takes(run: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "tiny", n=100, of_a_kind=1)
    code, out, err = run("tiny", "--n-val-study")
    assert (code, out) == (78, "")
    assert "tiny has 100 prompts, too few for --n-val-study" in err
    assert "It takes 250" in err


def test_what_is_left_out_is_named_and_foreign_names_cannot_draw_on_the_terminal(run: Run) -> None:
    from tests.flows.bench.synthetic import rewrite

    evil = {"both-0": "\x1b[31mred\nline"}
    rewrite(
        Path("topics"),
        "models",
        lambda t: t.assign(model=t["model"].replace(evil), usd_per_1m_input=[None] + [0.0] * 5),
    )
    rewrite(Path("topics"), "outcomes", lambda t: t.assign(model=t["model"].replace(evil))[1:-1])
    code, out, _ = run("topics", "--trials", "1", "--methods", "zero_router")
    assert code == 0
    assert "\x1b" not in out
    assert "left out: [31mred line (no price)" in out
    assert "dropped: 1 prompt that some kept LLM did not answer" in out
