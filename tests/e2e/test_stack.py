"""What a team runs: PostgreSQL, an MLflow server and a Prefect server, and nights that these start."""

import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.cli.endings import ExitCode, exit_code_of
from flows.config.environment import prepare
from flows.config.loading import load_settings
from flows.deploy.deploy import deploy
from flows.errors import PrerequisiteError, ServerUnavailable
from flows.findings import Finding
from flows.workspace import Workspace
from registry.errors import MlflowDenied, MlflowUnavailable
from routing.errors import UnirouteError
from tests.flows.cli.shapes import PINNED, misfits
from tests.postgres import PostgresServer
from tests.stack.processes import running, wait_until
from tests.stack.proof import Proof, end_of, prove, schedule, state_of
from tests.stack.topology import BIN, Stack, a_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # This process is a client too; Prefect wants a home folder, and the first import decides where that is.
    prepare(tmp_path_factory.mktemp("client"))
    with a_stack(postgres, tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture(scope="module")
def proof(stack: Stack, template: Path) -> Proof:
    return prove(stack, mlflow_template=template)


def test_a_night_whose_worker_was_killed_ends_on_another_one_like_an_uninterrupted_one_on_sqlite(proof: Proof) -> None:
    assert 0 < proof.kept < proof.expected
    assert proof.states == ("RUNNING", "COMPLETED")
    assert proof.parts == ("COMPLETED", "COMPLETED", "CRASHED"), "whose process was killed was handed out again"
    assert proof.attempts == 2
    assert proof.differences == []
    assert len(proof.digests) == 1, "the copy holds what the server holds"
    assert {"PostgreSQL", "mlflow server", "prefect server", "worker with its flow"} >= set(proof.memory)
    assert all(found.resident_bytes > 10_000_000 for found in proof.memory.values())


def test_what_nights_log_on_workers_is_in_the_logs_of_their_flow_runs(stack: Stack, proof: Proof) -> None:
    async def read(client: Any) -> list[Any]:
        logs: list[Any] = []
        while page := await client.read_logs(limit=200, offset=len(logs)):
            logs += page
        return logs

    logged = {
        log.message.split()[0] for log in stack.ask(read) if log.name == "uniroute" and log.flow_run_id is not None
    }
    assert {"started", "planned", "reached", "finished"} <= logged


@contextmanager
def prefect_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Make Prefect in this process believe that it was started in a given environment."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    names = {PREFECT_API_AUTH_STRING, PREFECT_API_URL}
    given = {one: environment[one.name] for one in names if environment[one.name]}
    with pytest.MonkeyPatch.context() as patch, temporary_settings(given, restore_defaults=names - {*given}):
        for one in names:
            patch.setenv(one.name, environment[one.name])
        yield


@pytest.fixture
def as_client(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Finding, ...]]]:
    """Return `deploy` in this process, in the environment of a client; a test may change it."""
    for name, value in stack.environment.items():
        if name.startswith(("UNIROUTE_", "MLFLOW_")):
            monkeypatch.setenv(name, value)

    def deployed(*, pool: str = "nights", automations: Path | None = None, **changes: str) -> tuple[Finding, ...]:
        with prefect_environment({**stack.environment, **changes}):
            return deploy(
                load_settings(None), None, pool=pool, cron="0 2 * * *", automations=automations, is_dry_run=False
            )

    yield deployed


def test_deploying_again_finds_everything_as_it_is(
    stack: Stack,
    proof: Proof,
    as_client: Callable[..., tuple[Finding, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(misfits(proof.deployed, PINNED["uniroute.deploy/1"]["data"])) == []
    steps = [step for step in proof.deployed["steps"] if step["part"] != "automation"]
    made = [step["finding"] for step in steps if step["change"] == "made"]
    assert made[0] == "nights (process)"
    assert made[1].startswith("schema ")
    assert made[2:] == [
        "night/nightly, 0 2 * * * UTC",
        "promote/promote, on request",
        "profile-llm/profile-llm, on request",
    ]

    async def limit(client: Any) -> None:
        from prefect.client.schemas.actions import DeploymentUpdate

        known = await client.read_deployment_by_name("night/nightly")
        await client.update_deployment(known.id, DeploymentUpdate(concurrency_limit=1))

    with prefect_environment(stack.environment), pytest.raises(SystemExit) as ended:
        main(["deploy", "--dry-run"])
    printed = capsys.readouterr().out
    assert (ended.value.code, printed.splitlines()[-1]) == (0, "Nothing was changed.")
    assert re.search(r"^ok +work pool +nights \(process\)$", printed, re.MULTILINE)
    stack.ask(limit)  # as older versions deployed it
    changes = {step.subject: step.severity for step in as_client()}
    assert changes.pop("deployment") == "renewed"
    assert set(changes.values()) == {"ok"}


def test_a_scheduled_night_that_prefect_says_has_crashed_is_started_once_more_as_it_was(
    stack: Stack, proof: Proof
) -> None:
    from prefect.states import Crashed, Running

    async def crash(client: Any) -> Any:
        deployment = await client.read_deployment_by_name("night/nightly")
        assert deployment.global_concurrency_limit is None, "a run that hangs keeps no slot"
        # As the schedule makes them; its own runs are looked at late when they begin within five minutes.
        run = await client.create_flow_run_from_deployment(
            deployment.id, parameters={"plan_only": True}, tags=["auto-scheduled"]
        )
        for state in (Running(), Crashed(message="no heartbeats")):
            await client.set_flow_run_state(run.id, state, force=True)
        return run.id

    async def again(client: Any) -> Any:
        return next((run for run in await client.read_flow_runs() if run.parameters.get("restarted")), None)

    stack.ask(crash)
    found = wait_until(lambda: stack.ask(again), "the second start", *stack.servers)
    assert found.parameters == {
        "as_of": datetime.now(UTC).date().isoformat(),
        "config": "$UNIROUTE_CONFIG",
        "plan_only": True,
        "sandbox": False,
        "budget_usd": None,
        "max_new": None,
        "only": None,
        "restarted": True,
    }
    assert "auto-scheduled" not in found.tags, "which would start it a third time"
    stack.ask(lambda client: client.delete_flow_run(found.id))


def test_automations_are_applied_by_name_and_stay_off_when_a_person_switched_them_off(
    stack: Stack, as_client: Callable[..., tuple[Finding, ...]], tmp_path: Path
) -> None:
    file = tmp_path / "automations.yaml"
    text = (
        "automations:\n- name: {name}\n  description: {description}\n"
        "  trigger:\n    type: event\n    posture: Reactive\n    expect: [prefect.flow-run.Failed]\n"
        "    threshold: 1\n    within: 0\n  actions:\n  - type: do-nothing\n"
    )

    async def applied(client: Any) -> list[Any]:
        return await client.read_automations_by_name("nights that failed")

    async def switch_off(client: Any) -> None:
        await client.pause_automation((await applied(client))[0].id)

    file.write_text(text.format(name="nights that failed", description="first"))
    assert as_client(automations=file)[-1] == Finding("automation", "made", "nights that failed")
    stack.ask(switch_off)
    file.write_text(text.format(name="nights that failed", description="second"))
    assert as_client(automations=file)[-1].severity == "renewed"
    assert [(one.description, one.enabled) for one in stack.ask(applied)] == [("second", False)]
    file.write_text("automations:\n- name: broken\n")
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        as_client(automations=file)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"PREFECT_API_URL": ""}, ExitCode.CONFIGURATION, "No Prefect server is configured"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api"}, ExitCode.TRY_LATER, "does not answer"),
        ({"PREFECT_API_AUTH_STRING": "admin:guessed"}, ExitCode.CREDENTIALS, "does not accept PREFECT_API_AUTH_STRING"),
        ({"pool": "containers"}, ExitCode.CONFIGURATION, "The work pool containers is of type docker"),
    ],
)
def test_a_prefect_server_that_cannot_be_deployed_to_is_reported_in_a_line(
    stack: Stack, as_client: Callable[..., tuple[Finding, ...]], changes: dict[str, str], code: int, said: str
) -> None:
    if "pool" in changes:
        from prefect.client.schemas.actions import WorkPoolCreate

        stack.ask(lambda client: client.create_work_pool(WorkPoolCreate(name="containers", type="docker")))
    with pytest.raises(UnirouteError, match=said) as refused:
        as_client(**changes)
    assert exit_code_of(refused.value) == code
    assert refused.value.unchanged
    assert refused.value.hint
    assert "guessed" not in str(refused.value)


@contextmanager
def another_server(version: bytes) -> Iterator[str]:
    """Serve a health check and a version, and hang up on every other request; return the address."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(("/health", "/version")):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(version)

        def log_message(self, *_words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("version", "kind", "said"),
    [
        (b'"2.19.9"', PrerequisiteError, "is version 2.19.9, which does not understand"),
        (b'"3.99.0"', ServerUnavailable, "stopped answering"),
    ],
)
def test_a_server_of_another_version_is_refused_and_one_that_goes_away_is_reported(
    as_client: Callable[..., tuple[Finding, ...]], version: bytes, kind: type[UnirouteError], said: str
) -> None:
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        another_server(version) as url,
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(kind, match=said),
    ):
        as_client(PREFECT_API_URL=url)


def test_an_mlflow_that_refuses_the_password_or_is_down_is_reported_in_a_line(
    as_client: Callable[..., tuple[Finding, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "guessed")
    with pytest.raises(MlflowDenied, match="does not accept its user and password"):
        as_client()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("UNIROUTE_MLFLOW__TRACKING_URL", "http://127.0.0.1:9")
    with pytest.raises(MlflowUnavailable):
        as_client()


def test_workers_need_a_settings_file_and_a_home_that_stays(
    as_client: Callable[..., tuple[Finding, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "homeless.toml").write_text("")
    monkeypatch.setenv("UNIROUTE_CONFIG", str(tmp_path / "homeless.toml"))
    with pytest.raises(PrerequisiteError, match="must name the home folder"):
        as_client()
    monkeypatch.delenv("UNIROUTE_CONFIG")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PrerequisiteError, match="needs a settings file"):
        as_client()


def test_a_served_night_runs_when_its_schedule_says_and_decides_by_form(
    stack: Stack, proof: Proof, template: Path
) -> None:
    """Without a work pool: one process serves nights and the form, with registry and MLflow in its home folder."""

    async def undeploy(client: Any) -> None:
        for name in ("night/nightly", "promote/promote"):
            await client.delete_deployment((await client.read_deployment_by_name(name)).id)

    async def served(client: Any) -> Any:
        try:
            return (await client.read_deployment_by_name("promote/promote")).id
        except ObjectNotFound:
            return None

    from prefect.exceptions import ObjectNotFound

    stack.ask(undeploy)
    home = stack.folder / "served"
    home.mkdir()
    shutil.copyfile(template, home / "mlflow.db")
    alone = {name: value for name, value in stack.environment.items() if "__" not in name}
    command = [str(BIN / "uniroute"), "night", "serve", "--cron", "0 2 * * *"]
    with running("served", command, alone | {"UNIROUTE_HOME": str(home)}, stack.folder) as server:
        form = wait_until(lambda: stack.ask(served), "the deployment", server)
        night = schedule(stack)
        wait_until(lambda: stack.ask(end_of(night)), "the scheduled run", server)
        assert stack.ask(state_of(night)) == "COMPLETED", server.last_words()
        filled_in = {"promotion_id": 1, "decision": "reject", "reason": "too late", "actor": "ann"}

        async def send(client: Any) -> Any:
            return (await client.create_flow_run_from_deployment(form, parameters=filled_in)).id

        sent = stack.ask(send)
        wait_until(lambda: stack.ask(end_of(sent)), "the decision", server)

        async def message(client: Any) -> str:
            state = (await client.read_flow_run(sent)).state
            return f"{state.type.value}: {state.message}"

        decided = stack.ask(message)
        server.process.terminate()
        assert server.process.wait(60) == 0, server.last_words()
        assert "Warning" not in server.log.read_text()
    settings = load_settings(stack.config).model_copy(update={"home": home})
    with Workspace(settings) as workspace:
        assert "champion" in workspace.registry.routers.list()[0].aliases
    assert decided.startswith("FAILED: ")
    assert "promotion 1 is applied and can no longer be decided" in decided


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--port", "TAKEN"], ExitCode.TRY_LATER, "is taken, so Prefect's server cannot start there"),
        (["--cron", "whenever"], ExitCode.CONFIGURATION, "'whenever' is not a cron expression"),
    ],
)
def test_a_taken_port_and_a_bad_cron_are_refused_in_one_line(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("UNIROUTE_CONFIG", str(stack.config))
    server = {"PREFECT_API_URL": ""} if "--port" in options else {}
    with prefect_environment({**stack.environment, **server}), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as refused:
            main(["night", "serve", *(port if option == "TAKEN" else option for option in options)])
    assert refused.value.code == code
    assert said in capsys.readouterr().err
