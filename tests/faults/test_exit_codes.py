"""How ``uniroute night run`` ends when a night is refused: one code per cause, and the same in JSON."""

import json
import socket
from datetime import UTC, date, datetime

import pytest

from flows.cli import main
from flows.config.loading import load_settings
from flows.workspace import Workspace
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.asked_night import FIRST, AskedNight, right


@pytest.fixture
def fake():
    with FakeEndpoint(lambda llm_id, prompt: right(prompt), scripts={"one": "ok", "two": "ok"}) as server:
        yield server


@pytest.fixture
def asked(tmp_path, fake, migrated, monkeypatch):
    monkeypatch.delenv("UNIROUTE_HOME", raising=False)
    return AskedNight(tmp_path, fake, migrated, monkeypatch)


@pytest.fixture
def ended(asked, monkeypatch, capsys):
    """Run ``uniroute night run --json`` in this process, without Prefect, and return its code, error and events."""

    def run():
        from flows import nightly

        monkeypatch.setattr(nightly, "night", getattr(nightly.night, "fn", nightly.night))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(["night", "run", "--json", "--as-of", FIRST, "--config", str(asked.folder / "uniroute.toml")])
        said = capsys.readouterr()
        lines = [json.loads(line) for line in said.out.splitlines()]
        error = lines[-1]["error"]
        assert error["exit_code"] == stopped.value.code
        assert error["message"].split(":")[0][:60] in said.err, "people read the same"
        assert error["unchanged"] or error["hint"]
        events = [line["event"] for line in lines[:-1]]
        assert "finished" not in events, "a stream without this line is a night that ended early"
        return stopped.value.code, error, events

    return run


def test_f36_a_key_that_every_endpoint_refuses_ends_the_night_with_77(asked, fake, ended, monkeypatch):
    monkeypatch.setenv("OUR_TEST_KEY", "sk-secret")
    fake.scripts = {"one": "401", "two": "401"}
    asked.prepare("one", "two", endpoint='api_key_env = "OUR_TEST_KEY"\nconcurrency = 1')
    code, error, events = ended()
    assert (code, error["kind"]) == (77, "credentials")
    assert "sk-secret" not in json.dumps(error)
    assert events[0] == "started"


def test_f36_a_missing_key_ends_the_night_with_77_before_it_has_begun(asked, fake, ended):
    asked.prepare("one", endpoint='api_key_env = "NO_SUCH_KEY_HERE"')
    code, error, events = ended()
    assert (code, error["kind"], events) == (77, "credentials", [])
    assert "NO_SUCH_KEY_HERE" in error["hint"]
    assert not fake.requests


def test_f04_a_night_that_is_under_way_ends_a_second_one_with_75(asked, fake, ended):
    asked.prepare("one")
    with Workspace(load_settings(asked.folder / "uniroute.toml")) as workspace:
        workspace.registry.runs.start(
            "night:another",
            as_of=date(2024, 8, 1),
            settings_hash="0" * 64,
            settings_json="{}",
            prompt_set_digest=None,
            host="elsewhere",
            pid=1,
            now=datetime.now(UTC),
            lease_s=300,
        )
    code, error, events = ended()
    assert (code, error["kind"], events) == (75, "busy", [])
    assert "elsewhere" in error["message"]
    assert not fake.requests


def test_f29_an_endpoint_that_is_down_ends_the_night_with_75(asked, ended):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    asked.prepare("one", endpoint="max_attempts = 1")
    path = asked.folder / "uniroute.toml"
    path.write_text(path.read_text().replace(asked.fake.base_url, f"http://127.0.0.1:{port}/v1"))
    code, error, _ = ended()
    assert (code, error["kind"]) == (75, "unavailable")


def test_f96_a_budget_that_leaves_no_llm_to_route_to_ends_the_night_with_3(asked, fake, ended):
    asked.prepare("one", "two", budget="night_usd = 0.0002", endpoint="concurrency = 1")
    code, error, _ = ended()
    assert (code, error["kind"]) == (3, "budget")
    assert "ceiling" in error["message"] and "kept" in error["unchanged"]


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("[budget]", "[budget]\nnight_usd = -1"),
        ("[night]", "[night]\nbatch_sise = 5"),
        ('"hashing-256"', '"none-such"'),
        ('endpoint = "fake"', 'endpoint = "nobody"'),
    ],
)
def test_f106_impossible_settings_end_the_night_with_78(asked, fake, ended, written, instead):
    asked.prepare("one")
    path = asked.folder / "uniroute.toml"
    path.write_text(path.read_text().replace(written, instead, 1))
    code, error, events = ended()
    assert (code, events) == (78, [])
    assert error["kind"] == "configuration"
    assert not fake.requests
