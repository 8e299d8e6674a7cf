import json

import numpy as np
import pytest

from flows.bench.folder import read_folder
from flows.bench.protocol import Bench, Split, run_trials
from flows.bench.report import METHODS, POSTERIORS, as_json, as_text
from flows.errors import PrerequisiteError
from tests.flows.bench.synthetic import embeddings, kind_of, write_folder

KNOWING = ("knn", "kmeans", "kmeans_f1", "learned_map", "posterior", "posterior_chosen", "clairvoyant", "oracle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return read_folder(write_folder(tmp_path_factory.mktemp("bench") / "topics"))


@pytest.fixture(scope="module")
def bench(folder):
    return Bench(embeddings(400), folder.scores, folder.costs_usd, 40, seed=0)


def pool_of(bench, folder, number):
    return sorted(kind_of(folder.llms[column]) for column in bench.split(number).test)


@pytest.fixture(scope="module")
def figures(bench, folder):
    """The first trial whose new LLMs are one of each kind."""
    number = next(n for n in range(100) if pool_of(bench, folder, n) == ["both", "first", "second"])
    return bench.run(number)


@pytest.mark.parametrize("method", KNOWING)
def test_a_method_that_distinguishes_the_topics_pays_a_quarter_for_everything(method, figures):
    # Every prompt goes to the LLM at 1 that knows its topic: score 1 at a quarter of the most expensive.
    found = figures[method]
    assert found.area == pytest.approx(1.0)
    assert found.aiq == pytest.approx(1.0)
    assert found.peak == pytest.approx(1.0)
    assert found.reached
    assert found.qnc == pytest.approx(0.25)
    assert found.qnc_vs_best == pytest.approx(0.25)


def test_zero_router_mixes_one_topic_with_both(figures):
    # From (1/4, 1/2) to (1, 1): 1/4 * 1/2 + 3/4 * 3/4; the gate prompts may be a few more of one topic.
    found = figures["zero_router"]
    assert found.area == pytest.approx(0.6875, abs=0.05)
    assert (found.peak, found.qnc, found.qnc_vs_best, found.reached) == (1.0, 1.0, 1.0, True)


def test_a_method_that_knows_nothing_reaches_half_of_it(figures):
    # With random errors, the first choice is any of the three: score 2/3, and later choices are cheaper and worse.
    assert figures["random"].peak == pytest.approx(2 / 3, abs=0.1)
    assert figures["random"].area < figures["zero_router"].area


def test_a_curve_reads_the_best_score_at_each_cost(figures):
    curve = np.array(figures["zero_router"].curve)
    assert len(curve) == 101
    assert (np.diff(curve) >= 0).all()
    assert curve[-1] == 1.0
    assert figures["posterior"].curve == pytest.approx([1.0] * 101)


def test_splits_are_disjoint_and_as_large_as_the_paper_has_them():
    split = Split.draw(1000, 33, 100, seed=4)
    parts = [split.map, split.few, split.gate]
    assert [len(part) for part in parts] == [600, 100, 300]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert (len(split.train), len(split.test)) == (22, 11)
    assert sorted([*split.train, *split.test]) == list(range(33))


def test_fewer_representative_prompts_leave_map_and_gate_as_they_are():
    many, few = Split.draw(1000, 9, 100, seed=4), Split.draw(1000, 9, 30, seed=4)
    assert few.map.tolist() == many.map.tolist()
    assert few.gate.tolist() == many.gate.tolist()
    assert len(few.few) == 30 and set(few.few) < set(many.few)


def test_more_representative_prompts_are_taken_from_the_map_prompts():
    usual, more = Split.draw(1000, 9, 100, seed=4), Split.draw(1000, 9, 250, seed=4)
    assert more.gate.tolist() == usual.gate.tolist()
    assert (len(more.few), len(more.map)) == (250, 450)


@pytest.mark.parametrize(("n_llms", "n_train"), [(1, 0), (2, 1), (3, 2), (9, 6)])
def test_there_is_always_a_new_llm(n_llms, n_train):
    split = Split.draw(100, n_llms, 10, seed=0)
    assert (len(split.train), len(split.test)) == (n_train, n_llms - n_train)


@pytest.mark.parametrize("of_a_kind", [1, 2])
def test_few_llms_are_enough(of_a_kind, tmp_path):
    small = read_folder(write_folder(tmp_path / "few", n=60, of_a_kind=of_a_kind))
    result = run_trials(small, embeddings(60), trials=3, seed=1, workers=1)
    assert all(0 <= value <= 1 for method in result.methods for value in method.area)


def test_figures_do_not_depend_on_the_number_of_workers(folder):
    def measure(workers):
        return as_json(
            run_trials(folder, embeddings(400), trials=2, methods=("kmeans", "posterior"), seed=5, workers=workers)
        )

    assert measure(1) == measure(2)


def test_the_json_has_the_shape_other_tools_read(folder):
    seen = []
    result = run_trials(folder, embeddings(400), trials=2, n_val=30, workers=1, on_trial=lambda: seen.append(1))
    content = json.loads(as_json(result))
    assert seen == [1, 1]
    assert set(content) == {
        "data", "trials", "n_val", "n_llms", "n_prompts", "methods", "share_of_clairvoyant", "sign_test"
    }  # fmt: skip
    assert (content["data"], content["trials"], content["n_val"]) == ("topics", 2, 30)
    assert (content["n_llms"], content["n_prompts"]) == (9, 400)
    assert tuple(content["methods"]) == METHODS
    for name, method in content["methods"].items():
        of_levels = {"level_error", "level_coverage", "cluster_coverage"} if name in POSTERIORS else set()
        assert set(method) == {"area", "qnc", "qnc_vs_best", "peak", "reach_rate"} | of_levels
        assert all(0 <= method[figure] <= 1 for figure in of_levels)
        assert set(method["area"]) == {"mean", "sd", "per_trial"}
        assert len(method["area"]["per_trial"]) == 2
    assert set(content["sign_test"]) == set(METHODS) - {"posterior"}
    assert set(content["sign_test"]["knn"]) == {"wins", "losses", "p"}
    assert "9 LLMs x 400 prompts, 2 trials, 30 representative prompts" in as_text(result, folder)


def test_a_folder_too_small_to_split_is_refused(folder):
    with pytest.raises(PrerequisiteError, match="cannot be split"):
        run_trials(folder, embeddings(400), trials=1, n_val=380, workers=1)


def test_free_llms_leave_nothing_to_save(tmp_path):
    written = write_folder(tmp_path / "free")
    free = read_folder(written)
    free.costs_usd[:] = 0
    with pytest.raises(PrerequisiteError, match="free"):
        run_trials(free, embeddings(400), trials=1, workers=1)
