"""Other processes: publishers that race or are killed, and consumers without this repository."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from routing.embedders import load_embedder_for
from routing.tokens import estimated_input_tokens
from tests.registry.publishing.samples import PROMPTS, Consumer, make_router, request_for

ROOT = Path(__file__).resolve().parents[3]
START_S = 120
MLFLOW = (sys.executable, "-m", "mlflow")

_PUBLISH = """
import json, sys, time
from pathlib import Path
from registry.publishing import PublishRequest, RouterPublisher
url, artifacts, router, ready, go = sys.argv[1:]
publisher = RouterPublisher(url, artifact_root=Path(artifacts))
publisher.client
import mlflow.pyfunc
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.001)
published = publisher.publish(PublishRequest(router_folder=Path(router), publish_key="raced", metrics={"score": 0.5}))
print(json.dumps({"version": published.version, "created": published.created}))
"""

_KILLED = """
import os, signal, sys
from pathlib import Path
from registry.publishing import PublishRequest, RouterPublisher
url, artifacts, router, step = sys.argv[1:]
publisher = RouterPublisher(url, artifact_root=Path(artifacts))
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(publisher.client, step, die)
publisher.publish(PublishRequest(router_folder=Path(router), publish_key="killed", metrics={"score": 0.5}))
"""

CONSUME = """
import json, sys
for name in ("routing", "registry", "flows"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported")
import mlflow, pandas
frame = pandas.DataFrame({"prompt": json.loads(sys.argv[1])})
router = mlflow.pyfunc.load_model("models:/uniroute@champion")
answers = router.predict(frame, params=json.loads(sys.argv[2]))
heavy = sorted({"torch", "sentence_transformers", "sqlalchemy", "sklearn", "scipy"} & set(sys.modules))
print(json.dumps({"rows": json.loads(answers.to_json(orient="records")), "heavy": heavy}))
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def server(
    arguments: list[str], environment: dict[str, str], folder: Path, ready: str, program: tuple[str, ...] = MLFLOW
):
    """Start an MLflow command in a process group of its own, wait until it answers, and always end it."""
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*program, *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (folder / "server.log").read_text()[-3000:]
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(url: str, document: object) -> tuple[int, dict]:
    request = urllib.request.Request(url, json.dumps(document).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_two_processes_that_publish_at_once_make_one_version(store, tmp_path):
    folder = request_for(make_router(), tmp_path).router_folder
    go = tmp_path / "go"
    ready = [tmp_path / f"ready-{number}" for number in range(2)]
    both = [start(_PUBLISH, store.url, store.artifact_root, folder, mark, go) for mark in ready]
    try:
        deadline = time.monotonic() + START_S
        while not all(mark.exists() for mark in ready):
            assert time.monotonic() < deadline
            assert all(process.poll() is None for process in both), both[0].communicate()[1] + both[1].communicate()[1]
            time.sleep(0.01)
        go.touch()
        finished = [process.communicate(timeout=START_S) for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert all(process.returncode == 0 for process in both), finished
    results = [json.loads(output.splitlines()[-1]) for output, _ in finished]
    (version,) = store.publisher().client.search_model_versions("tags.publish_key = 'raced'")
    assert {result["version"] for result in results} == {int(version.version)}
    assert sum(result["created"] for result in results) == 1
    store.publisher().download("uniroute", int(version.version), tmp_path / "back")


@pytest.mark.parametrize("step", ["create_model_version"])
def test_a_publisher_killed_by_the_system_is_finished_by_the_next(store, tmp_path, step):
    request = request_for(make_router(), tmp_path, "killed", metrics={"score": 0.5}, figures={})
    killed = start(_KILLED, store.url, store.artifact_root, request.router_folder, step)
    killed.communicate(timeout=START_S)
    assert killed.returncode == -signal.SIGKILL
    publisher = store.publisher()
    published = publisher.publish(request)
    (version,) = publisher.client.search_model_versions("tags.publish_key = 'killed'")
    (run,) = publisher.client.search_runs([publisher.client.get_run(published.run_id).info.experiment_id])
    assert (int(version.version), run.info.run_id, run.info.status) == (1, published.run_id, "FINISHED")


def test_a_consumer_without_this_repository_routes_with_the_champion(store, tmp_path):
    router = make_router()
    publisher = store.publisher()
    publisher.publish(request_for(router, tmp_path))
    publisher.set_alias("uniroute", "champion", 1)
    consumer = Consumer.at(tmp_path / "consumer", store.url)
    params = {"cost_weight": 2.0, "candidates": ["sandbox:frugal", "sandbox:strong"]}
    answer = consumer.run(CONSUME, json.dumps(PROMPTS), json.dumps(params))
    embeddings = load_embedder_for(router.embedder).embed(PROMPTS)
    tokens = estimated_input_tokens(PROMPTS)
    decisions = router.route(embeddings, input_tokens=tokens, **params)
    for row, decision in zip(answer["rows"], decisions, strict=True):
        assert (row["llm"], row["runner_up"], row["cluster"]) == (decision.llm, decision.runner_up, decision.cluster)
        assert row["expected_score"] == pytest.approx(decision.expected_score, abs=1e-9)
        assert row["expected_cost_usd"] == pytest.approx(decision.expected_cost_usd, abs=1e-9)
        assert (row["router_version"], row["router_digest"]) == ("uniroute/1", router.digest)
    assert "torch" not in answer["heavy"]
    assert "sentence_transformers" not in answer["heavy"]
    assert "WARNING" not in answer["stderr"]
    assert list(consumer.folder.iterdir()) == []


@pytest.mark.slow
def test_a_served_champion_answers_over_http_and_says_what_it_refuses(store, tmp_path):
    router = make_router()
    publisher = store.publisher()
    publisher.publish(request_for(router, tmp_path))
    publisher.set_alias("uniroute", "champion", 1)
    consumer = Consumer.at(tmp_path / "consumer", store.url)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    served = ["models", "serve", "-m", "models:/uniroute@champion", "--env-manager", "local"]
    with server(
        [*served, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        consumer.environment,
        consumer.folder,
        f"{address}/ping",
    ):
        table = {"columns": ["prompt"], "data": [[prompt] for prompt in PROMPTS]}
        status, answer = post(f"{address}/invocations", {"dataframe_split": table, "params": {"cost_weight": 0}})
        assert status == 200
        assert {row["llm"] for row in answer["predictions"]} == {"sandbox:strong"}
        assert {row["router_version"] for row in answer["predictions"]} == {"uniroute/1"}
        status, answer = post(
            f"{address}/invocations", {"dataframe_split": table, "params": {"candidates": ["nowhere:gpt"]}}
        )
        assert status == 400
        # MLflow puts the table before the reason.
        assert "uniroute: candidates this router does not know: nowhere:gpt" in answer["message"].splitlines()[-1]
