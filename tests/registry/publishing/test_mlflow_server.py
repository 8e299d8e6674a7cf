"""A real MLflow server with users and passwords: what passes, who is refused, what a full disk leaves behind."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.cli import main
from registry.errors import MlflowUnavailable
from registry.publishing import RouterPublisher
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import FIRST, LLMS, TinyNight, answer
from tests.mlflow_server import PASSWORD, USER, MlflowServer
from tests.registry.publishing.samples import PROMPTS, Consumer, make_router, request_for
from tests.registry.publishing.test_hang_ups import reset
from tests.registry.publishing.test_processes import CONSUME

pytestmark = pytest.mark.slow

Found = tuple[int, str, str]


@pytest.fixture
def night(tmp_path: Path, template: Path) -> Iterator[TinyNight]:
    with FakeEndpoint(answer, scripts=dict.fromkeys(LLMS, "ok")) as endpoint:
        yield TinyNight.prepare(tmp_path / "night", endpoint, template)


@pytest.fixture
def tried(
    night: TinyNight, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Found]:
    """Run ``config validate --connect``; return the exit code, what it found about MLflow, and what to do."""
    monkeypatch.setenv("UNIROUTE_HOME", str(night.folder / "home"))
    monkeypatch.setenv("UNIROUTE_CONFIG", str(night.folder / "uniroute.toml"))

    def ask(tracking_url: str, **variables: str) -> Found:
        with monkeypatch.context() as patch:
            named = {"UNIROUTE_MLFLOW__TRACKING_URL": tracking_url, "UNIROUTE_MLFLOW__ROUTER_NAME": "not-there-yet"}
            for name, value in (named | variables).items():
                patch.setenv(name, value)
            capsys.readouterr()
            with pytest.raises(SystemExit) as stopped:
                main(["config", "validate", "--connect", "--json"])
        said = capsys.readouterr()
        assert PASSWORD not in said.out + said.err
        parts = {row["part"]: row for row in json.loads(said.out)["data"]["parts"]}
        assert [name for name, row in parts.items() if not row["is_fine"]] in ([], ["mlflow"])
        return stopped.value.code, parts["mlflow"]["finding"], parts["mlflow"]["hint"]

    return ask


@pytest.fixture
def let_in(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The server, whose user and password this process has."""
    for variable, value in mlflow_server.credentials.items():
        monkeypatch.setenv(variable, value)
    return mlflow_server


def test_publishing_and_consuming_through_a_server(let_in: MlflowServer, tmp_path: Path) -> None:
    router, publisher = make_router(), RouterPublisher(let_in.url)
    request = request_for(router, tmp_path)
    first, again = publisher.publish(request), publisher.publish(request)
    assert (first.version, first.created, again.version, again.created) == (1, True, 1, False)
    assert first.artifact_uri.startswith("mlflow-artifacts:/")
    publisher.set_alias("uniroute", "champion", 1)
    assert publisher.aliases("uniroute") == {"champion": 1}
    assert publisher.download("uniroute", 1, tmp_path / "back").digest == router.digest
    consumer = Consumer.at(tmp_path / "consumer", let_in.url)
    answer = consumer.run(CONSUME, json.dumps(PROMPTS), json.dumps({"cost_weight": 0}))
    assert {row["llm"] for row in answer["rows"]} == {"sandbox:strong"}
    assert {row["router_version"] for row in answer["rows"]} == {"uniroute/1"}


def test_what_is_wrong_with_a_server_is_said_before_a_night_and_nothing_of_it_stays(
    mlflow_server: MlflowServer, tried: Callable[..., Found]
) -> None:
    url = mlflow_server.url
    code, found, hint = tried(url)
    assert (code, "wants a user and a password" in found) == (77, True)
    assert "MLFLOW_TRACKING_USERNAME" in hint
    code, found, _ = tried(url, MLFLOW_TRACKING_USERNAME=USER, MLFLOW_TRACKING_PASSWORD="guess")
    assert (code, "does not accept its user and password" in found) == (77, True)
    code, found, hint = tried(url.replace("127.0.0.1", "localhost"), **mlflow_server.credentials)
    assert (code, "Invalid Host header" in found) == (78, True)
    assert f"localhost:{mlflow_server.port} in --allowed-hosts" in hint
    code, found, hint = tried(url.replace("http:", "https:"), **mlflow_server.credentials)
    assert (code, "does not speak https" in found) == (78, True)
    with mlflow_server.full_disk():
        code, found, hint = tried(url, **mlflow_server.credentials)
    assert (code, "disk of its artifacts may be full" in found) == (75, True)
    assert "--artifacts-destination" in hint
    # A password in the URL works, too, and is not shown.
    for good, variables in ((url, mlflow_server.credentials), (url.replace("//", f"//{USER}:{PASSWORD}@"), {})):
        code, found, _ = tried(good, **variables)
        assert (code, found.startswith("MLflow 3."), "no router version yet" in found) == (0, True, True)
    assert [file for file in mlflow_server.files() if file.name == "trial" and file.stat().st_size] == []


@contextmanager
def hanging_up_on_files(server: MlflowServer) -> Iterator[str]:
    """Stand before a server: pass its answers on until a file is sent, and hang up from then on."""

    class Between(BaseHTTPRequestHandler):
        has_hung_up = False

        def do_GET(self) -> None:
            Between.has_hung_up |= self.command == "PUT"
            if Between.has_hung_up:
                self.close_connection = True
                reset(self.connection)
                return
            behind = HTTPConnection("127.0.0.1", server.port, timeout=60)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            behind.request(self.command, self.path, body, dict(self.headers) | {"Host": f"127.0.0.1:{server.port}"})
            answer = behind.getresponse()
            content = answer.read()
            behind.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET

        def finish(self) -> None:
            if not Between.has_hung_up:
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    between = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    thread = threading.Thread(target=between.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{between.server_port}"
    finally:
        between.shutdown()
        thread.join()
        between.server_close()


def test_a_server_that_hangs_up_on_a_file_and_on_the_next_question_is_told_of_the_file(
    let_in: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with hanging_up_on_files(let_in) as url, pytest.raises(MlflowUnavailable) as refused:
        RouterPublisher(url).publish(request_for(make_router(), tmp_path, name="hung-up-on"))
    assert "disk of its artifacts may be full" in refused.value.message


def test_a_full_disk_of_artifacts_publishes_nothing_and_the_next_attempt_makes_one_version(
    let_in: MlflowServer, night: TinyNight
) -> None:
    name = "on-a-full-disk"
    there = {"UNIROUTE_MLFLOW__TRACKING_URL": let_in.url, "UNIROUTE_MLFLOW__ROUTER_NAME": name}
    there |= {"UNIROUTE_MLFLOW__EXPERIMENT": name} | let_in.credentials
    with let_in.full_disk():
        impatient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        assert night.run(FIRST, **there, **impatient) == 3, night.output()
    assert "published: pending." in night.output()
    assert "disk of its artifacts may be full" in night.output()
    from mlflow import MlflowClient

    client = MlflowClient(let_in.url)
    assert client.search_registered_models(f"name = '{name}'") == [], "half a router can never be loaded"
    ((digest,),) = night.rows("SELECT router_digest FROM alias WHERE name = 'champion'")

    assert night.run(FIRST, **there) == 0, night.output()
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (int(version.version), version.tags["digest"]) == (1, digest)
    assert client.get_model_version_by_alias(name, "champion").version == version.version
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"], "what the first attempt left is removed"
