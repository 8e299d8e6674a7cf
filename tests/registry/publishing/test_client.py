"""What a service that follows an alias serves while the alias moves, MLflow fails, or a version is not what it was."""

import importlib.util
import json
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.publishing import RouterPublisher
from registry.publishing.client import RouterClient
from registry.publishing.folder_check import read_folder
from registry.publishing.trust import TRUST_FILE, Trust
from registry.publishing.version_folder import routing_package, write_client
from routing.router import Router
from tests.homes import copied_home
from tests.registry.publishing.conftest import Store
from tests.registry.publishing.samples import PROMPTS, Consumer, make_router, recipe, request_for
from tests.registry.publishing.test_processes import free_port, server

LONG_S = 3600.0


class Turns:
    """Report when the thread has reached its pause, and let it pause until it is woken."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []
        self._idle: queue.Queue[None] = queue.Queue()

    def __call__(self, event: threading.Event, pause_s: float) -> None:
        self.pauses_s.append(pause_s)
        self._idle.put(None)
        event.wait()

    def reached(self) -> None:
        self._idle.get(timeout=60)


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory, template: Path) -> tuple[Path, tuple[Router, Router]]:
    """Publish two versions once, the first of which is champion."""
    folder = tmp_path_factory.mktemp("two-versions") / "store"
    folder.mkdir()
    shutil.copyfile(template, folder / "mlflow.db")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")
    made = (make_router(0), make_router(5))
    for number, router in enumerate(made, start=1):
        store.publisher().publish(request_for(router, folder.parent, f"night:{number}"))
    promote(store, 1)
    return folder, made


@pytest.fixture
def routers(store: Store, two_versions: tuple[Path, tuple[Router, Router]]) -> tuple[Router, Router]:
    """Two published versions in a store of the test's own, the first of which is champion."""
    made, routers = two_versions
    folder = store.artifact_root.parent
    shutil.rmtree(folder)
    copied_home(made, folder)
    return routers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def client(store: Store, routers: tuple[Router, Router], folder: Path):
    with RouterClient(tracking_url=store.url, folder=folder, every_s=LONG_S) as opened:
        yield opened
    assert list(folder.iterdir()) == [folder / "in-use"], "what was downloaded is removed"


def promote(store: Store, version: int) -> None:
    store.publisher().set_alias("uniroute", "champion", version)


def artifacts_of(store: Store, router: Router) -> Path:
    """Return the folder of a version where MLflow keeps it."""
    folders = store.artifact_root.glob("*/models/*/artifacts")
    manifests = {json.loads((at / "artifacts/code/manifest.json").read_text())["router_digest"]: at for at in folders}
    return manifests[router.digest]


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def served_digest(client: RouterClient) -> str:
    (digest,) = set(client.predict(PROMPTS)["router_digest"])
    return digest


def refused(call: Callable[[], object]) -> str:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        call()
    assert "\n" not in caught.value.message
    return caught.value.message


def assert_continues_to_serve(client: RouterClient, router: Router, reason: str) -> None:
    """Check that a check changes nothing but the reason, and that prompts are answered."""
    before = client.status()
    after = client.check()
    assert (after.version, after.digest, after.loaded_at) == (1, router.digest, before.loaded_at)
    assert after.last_checked_at > before.last_checked_at
    assert reason in after.last_error and "\n" not in after.last_error
    assert served_digest(client) == router.digest
    assert len(list(client._folder.glob("version-*"))) == 1, "nothing is left of what was refused"


def test_a_new_champion_is_served_without_a_restart_when_the_client_is_woken(store, routers, folder):
    turns = Turns()
    with RouterClient(tracking_url=store.url, folder=folder, every_s=60, jitter=0.2, wait=turns) as client:
        turns.reached()
        assert served_digest(client) == routers[0].digest
        assert set(client.predict(PROMPTS)["router_version"]) == {"uniroute/1"}
        promote(store, 2)
        client.wake()
        turns.reached()
        status = client.status()
        assert (status.version, status.digest, status.last_error) == (2, routers[1].digest, None)
        assert status.loaded_at >= status.last_checked_at
        assert served_digest(client) == routers[1].digest
        assert set(client.predict(PROMPTS)["router_version"]) == {"uniroute/2"}
        assert len(list(folder.glob("version-*"))) == 1
        for _ in range(6):
            client.wake()
            turns.reached()
    assert all(48 <= pause_s <= 72 for pause_s in turns.pauses_s)
    assert len(set(turns.pauses_s)) == len(turns.pauses_s) == 8
    assert client.status().version == 2


def test_it_decides_as_the_version_itself(client, store):
    import mlflow.pyfunc
    import pandas as pd

    frame = pd.DataFrame({"prompt": list(PROMPTS)}, index=[f"row {n}" for n in range(len(PROMPTS))])
    at = store.publisher().client.get_model_version_download_uri("uniroute", "1")
    itself = mlflow.pyfunc.load_model(at).predict(frame, params={"cost_weight": 3.0})
    pd.testing.assert_frame_equal(
        client.predict(frame, {"cost_weight": 3.0}).drop(columns="router_version"),
        itself.drop(columns="router_version"),
    )


@pytest.mark.parametrize("file", ["artifacts/router/arrays.npz", "artifacts/code/routing/router.py", "consumer.py"])
def test_a_tampered_version_is_refused_and_served_once_it_is_whole_again(client, store, routers, file):
    at = artifacts_of(store, routers[1]) / file
    whole = at.read_bytes()
    flip_a_byte(at)
    promote(store, 2)
    assert_continues_to_serve(client, routers[0], "uniroute version 2 is not what was published")
    at.write_bytes(whole)
    assert client.check().last_error is None
    assert served_digest(client) == routers[1].digest


def test_what_is_served_does_not_change_when_its_files_in_the_store_do(client, store, routers):
    shutil.rmtree(artifacts_of(store, routers[0]))
    assert client.check().last_error is None
    assert served_digest(client) == routers[0].digest


def test_compiled_code_put_beside_a_version_is_refused_and_does_not_run(client, store, routers, tmp_path):
    source = tmp_path / "evil.py"
    source.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    at = artifacts_of(store, routers[1]) / "__pycache__" / f"consumer.{sys.implementation.cache_tag}.pyc"
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(at), doraise=True, invalidation_mode=unchecked)
    promote(store, 2)
    assert_continues_to_serve(client, routers[0], f"'__pycache__/{at.name}' is not what Python 3.")
    assert not (tmp_path / "ran").exists()


def test_without_mlflow_it_continues_to_serve_and_follows_again_when_mlflow_is_back(client, store, routers):
    promote(store, 2)
    database = Path(store.url.removeprefix("sqlite:///"))
    whole = database.read_bytes()
    database.write_bytes(b"this was MLflow's database" * 1000)
    assert_continues_to_serve(client, routers[0], "not a database")
    database.write_bytes(whole)
    assert client.check().version == 2
    assert served_digest(client) == routers[1].digest


@pytest.mark.slow
def test_it_follows_an_mlflow_server_and_continues_to_serve_when_that_goes_away(store, tmp_path, monkeypatch):
    for name, value in {"TIMEOUT": "20", "MAX_RETRIES": "1", "BACKOFF_FACTOR": "0"}.items():
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    port, folder = free_port(), tmp_path / "server"
    folder.mkdir()
    address = f"http://127.0.0.1:{port}"
    arguments = ["server", "--backend-store-uri", store.url, "--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    router, client = make_router(), RouterClient(tracking_url=address, every_s=LONG_S)
    with server(
        [*arguments, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        environment,
        folder,
        f"{address}/health",
    ):
        RouterPublisher(address).publish(request_for(router, tmp_path))
        RouterPublisher(address).set_alias("uniroute", "champion", 1)
        client.start()
    with client:
        assert_continues_to_serve(client, router, "Max retries exceeded")
        assert set(client.predict(PROMPTS)["router_version"]) == {"uniroute/1"}
    assert not client._folder.exists()


def test_without_the_alias_it_continues_to_serve(client, store, routers):
    store.publisher().delete_alias("uniroute", "champion")
    assert_continues_to_serve(client, routers[0], "champion")


def test_a_version_that_does_not_load_is_refused(client, store, routers, tmp_path):
    broken = tmp_path / "broken" / "routing"
    shutil.copytree(routing_package(), broken, ignore=shutil.ignore_patterns("__pycache__"))
    (broken / "artifact.py").write_text("raise RuntimeError('no such\\nluck')")
    store.publisher(code_root=broken).publish(request_for(routers[1], tmp_path, "broken"))
    promote(store, 3)
    assert_continues_to_serve(client, routers[0], "no such luck")


@pytest.mark.parametrize("tag", ["digest", "version_digest"])
def test_a_version_without_its_tags_or_with_another_routers_is_refused(client, store, routers, tag):
    promote(store, 2)
    registry = store.publisher().client
    registry.set_model_version_tag("uniroute", "2", tag, "0" * 64)
    assert_continues_to_serve(client, routers[0], "0" * 64)
    registry.delete_model_version_tag("uniroute", "2", tag)
    assert_continues_to_serve(client, routers[0], f"has no tag {tag}")


class Bomb:
    """Report that it was unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.file,))


def test_a_pickle_with_the_right_digests_is_not_loaded(client, store, routers, tmp_path, monkeypatch):
    import cloudpickle
    import yaml

    # A whole version whose code was replaced by a pickle, and whose tags were forged to match.
    at = artifacts_of(store, routers[1])
    described = yaml.safe_load((at / "MLmodel").read_text())
    flavour = described["flavors"]["python_function"]
    del flavour["model_code_path"]
    flavour |= {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
        "cloudpickle_version": cloudpickle.__version__,
    }
    (at / "MLmodel").write_text(yaml.safe_dump(described))
    (at / "python_model.pkl").write_bytes(cloudpickle.dumps(Bomb(tmp_path / "ran")))
    store.publisher().client.set_model_version_tag("uniroute", "2", "version_digest", read_folder(at).digest)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    promote(store, 2)
    assert_continues_to_serve(client, routers[0], "pickle")
    assert not (tmp_path / "ran").exists()


def test_requests_during_twenty_swaps_are_all_answered_by_a_router_that_was_champion(client, store, routers, tmp_path):
    never = make_router(9)
    store.publisher().publish(request_for(never, tmp_path, "night:3"))
    swapped = threading.Event()

    def ask() -> list[frozenset[str]]:
        answers = []
        # A pause, or three busy threads would starve the swaps.
        while not swapped.wait(0.02):
            answers.append(frozenset(client.predict(PROMPTS)["router_digest"]))
        return answers

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for number in range(20):
                promote(store, 2 - number % 2)
                assert client.check().last_error is None
        finally:
            swapped.set()
    answered = [answer for asked in asking for answer in asked.result()]
    assert all(len(digests) == 1 for digests in answered), "no batch is split by a swap"
    assert set().union(*answered) == {router.digest for router in routers}
    assert len(list(client._folder.glob("version-*"))) == 1


HALF = """
import shutil, sys, time
from pathlib import Path
from registry.publishing.client import RouterClient

url, folder, source = sys.argv[1:]
client = RouterClient(tracking_url=url, folder=folder).start()

def half(artifact_uri, dst_path, tracking_uri):
    shutil.copytree(source, Path(dst_path) / "artifacts", ignore=shutil.ignore_patterns("router.json", "MLmodel"))
    print("half", flush=True)
    time.sleep(600)

import mlflow.artifacts
from mlflow import MlflowClient
mlflow.artifacts.download_artifacts = half
MlflowClient(tracking_uri=url).set_registered_model_alias("uniroute", "champion", "2")
client.check()
"""


def test_a_client_killed_in_the_middle_of_a_download_leaves_nothing_half_loaded(store, routers, folder):
    arguments = [store.url, str(folder), str(artifacts_of(store, routers[1]))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", HALF, *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "half\n"
        process.kill()
    half = set(folder.glob("version-*"))
    assert len(half) == 2
    with RouterClient(tracking_url=store.url, folder=folder, every_s=LONG_S) as client:
        assert client.status().version == 2
        assert served_digest(client) == routers[1].digest
        kept = set(folder.glob("version-*"))
        assert len(kept) == 1 and not kept & half


def test_two_clients_do_not_share_a_folder(client, store, folder):
    second = RouterClient(tracking_url=store.url, folder=folder)
    assert "another client uses the folder" in refused(second.start)
    assert client.check().last_error is None
    assert len(list(folder.glob("version-*"))) == 1


def test_it_does_not_start_without_a_version_and_starts_when_there_is_one(store, tmp_path, folder):
    client = RouterClient(tracking_url=store.url, folder=folder, every_s=LONG_S)
    assert "call start() first" in refused(lambda: client.predict(["a"]))
    assert "call start() first" in client.check().last_error
    assert "no router can be served" in refused(client.start)
    store.publisher().publish(request_for(make_router(), tmp_path))
    assert "champion" in refused(client.start)
    promote(store, 1)
    with client.start():
        assert client.start() is client
        assert len(client.predict(["a"])) == 1
    client.stop()
    assert len(client.predict(["a"])) == 1, "what was loaded can still answer"


@pytest.mark.parametrize("wrong", [{"every_s": 0}, {"every_s": float("nan")}, {"jitter": 1.5}, {"jitter": -0.1}])
def test_an_impossible_pause_is_refused(wrong):
    with pytest.raises(ValueError, match="every_s must be above 0 and jitter in"):
        RouterClient(**wrong)


def test_the_reason_names_no_password(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mlflow.MlflowClient.get_model_version_by_alias",
        lambda *_: (_ for _ in ()).throw(OSError("https://me:secret@mlflow.example/api does not\nanswer")),
    )
    client = RouterClient(tracking_url=f"sqlite:///{tmp_path / 'none.db'}")
    said = refused(client.start)
    assert "https://mlflow.example/api does not answer" in said
    assert "secret" not in said + client.status().last_error


def test_a_consumer_who_has_only_mlflow_uses_the_client_that_was_written_for_it(store, routers, tmp_path):
    consumer = Consumer.at(tmp_path / "consumer", store.url)
    client = write_client(consumer.folder / "client")
    trust = Trust(digests=(read_folder(artifacts_of(store, routers[0])).digest,))
    (client / TRUST_FILE).write_text(trust.written())
    code = (
        recipe("uniroute_client")
        + """
import json
answers = client.predict(["Which organ produces insulin?"])
status = client.status()
print(json.dumps({"digest": answers["router_digest"][0], "version": status.version, "by": status.compared_with}))
"""
    )
    found = consumer.run(code)
    assert (found["digest"], found["version"], found["by"]) == (routers[0].digest, 1, "pinned digest")
    (client / TRUST_FILE).write_text("{}")
    with pytest.raises(AssertionError, match=r"trust\.json cannot be read"):
        consumer.run(code)


def test_services_that_fetch_the_client_from_the_version_still_can(store, routers):
    carried = artifacts_of(store, routers[0]) / "artifacts" / "code" / "uniroute_client"
    original = Path(importlib.util.find_spec("registry.publishing.client").origin)
    assert (carried / "__init__.py").read_bytes() == original.read_bytes()
    assert not (carried / TRUST_FILE).exists()


def test_only_what_was_pinned_or_signed_is_served(store, routers, tmp_path):
    digests = [read_folder(artifacts_of(store, router)).digest for router in routers]
    with RouterClient(tracking_url=store.url, trust=Trust(digests=(digests[0],)), every_s=LONG_S) as client:
        assert client.status().compared_with == "pinned digest"
        promote(store, 2)
        assert_continues_to_serve(client, routers[0], "it is not among the versions that were pinned")
    with RouterClient(tracking_url=store.url, trust=Trust(digests=tuple(digests)), every_s=LONG_S) as client:
        assert client.status().version == 2


def test_a_link_in_the_store_is_refused_before_a_copy_follows_it(client, store, routers, tmp_path):
    file = artifacts_of(store, routers[1]) / "consumer.py"
    shutil.copy(file, tmp_path / "elsewhere.py")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.py")
    promote(store, 2)
    assert_continues_to_serve(client, routers[0], "'consumer.py' is a link")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"candidates": []}, "candidates is empty"),
        (
            {"excluded": ["sandbox:strong"]},
            "version 1 has no parameter excluded; it has cost_weight, ",
        ),
    ],
)
def test_what_mlflow_would_drop_or_take_for_everything_is_refused(client, params, said):
    assert said in refused(lambda: client.predict(PROMPTS, params))


def test_exclude_is_for_versions_that_know_it(client):
    assert set(client.predict(PROMPTS, {"cost_weight": 0.0})["llm"]) == {"sandbox:strong"}
    without = client.predict(PROMPTS, {"cost_weight": 0.0, "exclude": ["sandbox:strong"]})
    assert "sandbox:strong" not in set(without["llm"])
    # As a version of an earlier release describes itself.
    known = client._served.loaded.metadata.signature.params.params
    known[:] = [one for one in known if one.name != "exclude"]
    message = refused(lambda: client.predict(PROMPTS, {"exclude": ["sandbox:strong"]}))
    assert "version 1 was published before there was exclude: name the others in candidates" in message
