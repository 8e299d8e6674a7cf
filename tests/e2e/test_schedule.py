"""Nights that Prefect starts by itself: served from a process, and deployed to a work pool with a worker."""

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from flows.environment import prepare
from flows.sandbox import Sandbox
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PREFECT = Path(sys.executable).with_name("prefect")
UNIROUTE = Path(sys.executable).with_name("uniroute")


@contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """Keep a process running; SIGTERM first, SIGKILL when it hangs, as Prefect's workers sometimes do."""
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what: str, log: Path, limit_s: float = 180.0):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen within {limit_s:.0f} s\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="module")
def quick_night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write settings of a night over two recorded LLMs and few prompts, and serve their answers."""
    folder = tmp_path_factory.mktemp("night")
    prompts = Sandbox.prompts()[:120]
    (folder / "prompts.jsonl").write_text(
        "\n".join(
            json.dumps({"prompt_id": p.prompt_id, "text": p.text, "reference": p.reference, "grader": p.grader})
            for p in prompts
        )
    )
    with Sandbox() as sandbox:
        (folder / "uniroute.toml").write_text(
            f'home = "home"\n[embedder]\nname = "hashing-256"\n[prompts]\nfile = "prompts.jsonl"\n'
            f"map = 0.4\nrepresentative = 0.2\ngate = 0.3\nhidden = 0.1\n[routing]\nn_clusters = 3\n"
            f'[[catalog]]\nname = "sandbox"\nkind = "openrouter"\nlocation = "{sandbox.catalog_url}"\n'
            f'endpoint = "here"\ninclude = ["yi-6b-chat", "gpt-4o-2024-05-13"]\n'
            f'[[endpoint]]\nname = "here"\nbase_url = "{sandbox.base_url}"\n'
        )
        yield folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, quick_night: Path) -> Iterator[dict[str, str]]:
    """Start a real Prefect server; give the environment that points to it."""
    home = tmp_path_factory.mktemp("prefect")
    api_url = f"http://127.0.0.1:{free_port()}/api"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
    environment = clean | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "1",
    }
    port = api_url.split(":")[2].split("/")[0]
    command = [str(PREFECT), "server", "start", "--host", "127.0.0.1", "--port", port]
    log = home / "server.log"
    with running(command, environment, log):

        def is_healthy() -> bool:
            try:
                with urlopen(f"{api_url}/health", timeout=2) as answer:
                    return answer.status == 200
            except (URLError, OSError):
                return False

        wait_until(is_healthy, "the start of Prefect's server", log)
        yield environment | {
            "PREFECT_API_URL": api_url,
            "UNIROUTE_CONFIG": str(quick_night / "uniroute.toml"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }


def with_client(api_url: str, ask):
    """Ask the server something through Prefect's own client."""
    prepare()
    from prefect.client.orchestration import PrefectClient

    async def asked():
        async with PrefectClient(api_url) as client:
            return await ask(client)

    return asyncio.run(asked())


def schedule_and_await_run(api_url: str, log: Path) -> str:
    """Give the deployment ``night/nightly`` a schedule that fires now, and await the state of the run it makes."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
    from prefect.client.schemas.schedules import IntervalSchedule

    async def deployment_id(client):
        try:
            return (await client.read_deployment_by_name("night/nightly")).id
        except Exception:
            return None

    found = wait_until(lambda: with_client(api_url, deployment_id), "the deployment", log)

    async def schedule(client):
        deployment = await client.read_deployment(found)
        assert [entry.schedule.cron for entry in deployment.schedules] == ["0 2 * * *"]
        every_hour = IntervalSchedule(interval=timedelta(seconds=20))
        await client.create_deployment_schedules(found, [(every_hour, True)])

    with_client(api_url, schedule)

    async def finished(client):
        of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[found]))
        runs = await client.read_flow_runs(flow_run_filter=of_deployment)
        ended = [run for run in runs if run.state is not None and run.state.is_final() and run.auto_scheduled]
        return ended[0].state.type.value if ended else None

    try:
        return wait_until(lambda: with_client(api_url, finished), "the scheduled run", log)
    finally:
        with_client(api_url, lambda client: client.delete_deployment(found))


def decide_by_form(api_url: str, log: Path) -> str:
    """Fill in the form of the deployment ``promote/promote``, and await the message that the run ends with."""

    async def send(client):
        try:
            deployment = await client.read_deployment_by_name("promote/promote")
        except Exception:
            return None
        filled_in = {"promotion_id": 1, "decision": "reject", "reason": "too late", "actor": "ann"}
        return (await client.create_flow_run_from_deployment(deployment.id, parameters=filled_in)).id

    found = wait_until(lambda: with_client(api_url, send), "the form", log)

    async def ended(client):
        state = (await client.read_flow_run(found)).state
        return f"{state.type.value}: {state.message}" if state is not None and state.is_final() else None

    return wait_until(lambda: with_client(api_url, ended), "the decision", log)


def routers_of(quick_night: Path) -> list[str]:
    from flows.settings import load_settings
    from flows.workspace import Workspace

    with Workspace(load_settings(quick_night / "uniroute.toml")) as workspace:
        return [",".join(record.aliases) for record in workspace.registry.routers.list()]


def test_a_served_night_runs_when_its_schedule_says(server: dict[str, str], quick_night: Path, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    with running([str(UNIROUTE), "night", "serve", "--cron", "0 2 * * *"], server, log):
        assert schedule_and_await_run(server["PREFECT_API_URL"], log) == "COMPLETED", log.read_text()[-4000:]
        decided = decide_by_form(server["PREFECT_API_URL"], log)
    assert "champion" in routers_of(quick_night)[0]
    assert decided.startswith("FAILED: ")
    assert "promotion 1 is applied and can no longer be decided" in decided


def test_a_night_deployed_to_a_work_pool_runs_on_a_worker(
    server: dict[str, str], quick_night: Path, tmp_path: Path
) -> None:
    for command in (["work-pool", "create", "--type", "process", "nights"], ["--no-prompt", "deploy", "--all"]):
        done = subprocess.run([PREFECT, *command], env=server, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    log, nights = tmp_path / "worker.log", told_in_prefect(server).count("finished")
    worker = server | {"UNIROUTE_LOG__FORMAT": "json"}
    with running([str(PREFECT), "worker", "start", "--pool", "nights"], worker, log):
        assert schedule_and_await_run(server["PREFECT_API_URL"], log) == "COMPLETED", log.read_text()[-4000:]
        wait_until(lambda: told_in_prefect(server).count("finished") > nights, "the log of the flow run", log, 30)
    assert len(routers_of(quick_night)) == 1
    written = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"level"')]
    assert {"started", "planned", "finished"} <= {line.get("event") for line in written}


def told_in_prefect(server: dict[str, str]) -> list[str]:
    """Give, by their first words, the lines of ours in the logs of all flow runs, in which people read them."""
    with sqlite3.connect(Path(server["PREFECT_HOME"]) / "prefect.db") as connection:
        rows = connection.execute("SELECT message FROM log WHERE name = 'uniroute' AND flow_run_id IS NOT NULL")
        words = [message.split()[0] for (message,) in rows]
    connection.close()
    return words


def test_a_taken_port_and_a_bad_cron_are_refused_in_one_line(server: dict[str, str]) -> None:
    without_server = {name: value for name, value in server.items() if name != "PREFECT_API_URL"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [UNIROUTE, "night", "serve", "--port", port], env=without_server, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 75
    assert f"Port {port}" in done.stderr
    done = subprocess.run(
        [UNIROUTE, "night", "serve", "--cron", "whenever"], env=server, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 78
    assert "'whenever' is not a cron expression" in done.stderr
