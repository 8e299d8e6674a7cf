"""A real MLflow server with users and passwords: who is not let in, by which name, and what a full disk leaves."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.cli import main
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.tiny_night import FIRST, LLMS, TinyNight, answer
from tests.mlflow_server import PASSWORD, USER, MlflowServer

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
    """Ask ``config validate --connect``; give the exit code, what it found of MLflow, and what to do."""
    monkeypatch.setenv("UNIROUTE_HOME", str(night.folder / "home"))
    monkeypatch.setenv("UNIROUTE_CONFIG", str(night.folder / "uniroute.toml"))

    def ask(tracking_url: str, **variables: str) -> Found:
        with monkeypatch.context() as patch:
            for name, value in {"UNIROUTE_MLFLOW__TRACKING_URL": tracking_url, **variables}.items():
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
    assert (code, "disk of its artifacts is full" in found) == (75, True)
    assert "--artifacts-destination" in hint
    # What works: a password in the URL, too, and it is not shown.
    for good, variables in ((url, mlflow_server.credentials), (url.replace("//", f"//{USER}:{PASSWORD}@"), {})):
        code, found, _ = tried(good, **variables)
        assert (code, found.startswith("MLflow 3."), "no router version yet" in found) == (0, True, True)
    assert [file for file in mlflow_server.files() if file.stat().st_size] == []


def test_f10_a_full_disk_of_artifacts_publishes_nothing_and_the_next_attempt_makes_one_version(
    mlflow_server: MlflowServer, night: TinyNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "on-a-full-disk"
    there = {"UNIROUTE_MLFLOW__TRACKING_URL": mlflow_server.url, "UNIROUTE_MLFLOW__ROUTER_NAME": name}
    there |= {"UNIROUTE_MLFLOW__EXPERIMENT": name} | mlflow_server.credentials
    with mlflow_server.full_disk():
        impatient = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        assert night.run(FIRST, **there, **impatient) == 3, night.output()
    assert "published: pending." in night.output()
    assert "disk of its artifacts is full" in night.output()
    for variable, value in mlflow_server.credentials.items():
        monkeypatch.setenv(variable, value)
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_server.url)
    assert client.search_registered_models(f"name = '{name}'") == [], "nobody can load half a router"
    ((digest,),) = night.rows("SELECT router_digest FROM alias WHERE name = 'champion'")

    assert night.run(FIRST, **there) == 0, night.output()
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (int(version.version), version.tags["digest"]) == (1, digest)
    assert client.get_model_version_by_alias(name, "champion").version == version.version
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"], "what the first attempt left is tidied away"
