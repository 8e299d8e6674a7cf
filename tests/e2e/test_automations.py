"""The Prefect automations of docker/: valid for the server, and a night whose process was killed is found."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml

from flows.config import environment
from flows.config.settings import NightSettings
from flows.deploy.serve import prefect_server
from flows.metrics.listed import Samples
from flows.metrics.prefect_figures import note_prefect
from tests.homes import with_prefect
from tests.stack.processes import free_port, wait_until

FILE = Path(__file__).resolve().parents[2] / "docker" / "automations.yaml"
PREFECT = str(Path(sys.executable).with_name("prefect"))
# A flow run of a deployment as a worker executes it, in a process that can be killed.
KILLED = """
import asyncio
from prefect import flow, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments import run_deployment
from prefect.flow_engine import run_flow

@flow(name="night")
async def night():
    print("running", flush=True)
    await asyncio.sleep(600)

async def scheduled():
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="nights", type="process"))
    made = await night.to_deployment("nightly", work_pool_name="nights")
    await made.apply()
    return await run_deployment("night/nightly", timeout=0)

if __name__ == "__main__":
    flow_run = asyncio.run(scheduled())
    print(flow_run.id, flush=True)
    asyncio.run(run_flow(night, flow_run=flow_run))
"""


def automations() -> list[dict[str, Any]]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["automations"]


def test_the_automations_are_accepted_by_prefects_client_and_server() -> None:
    from prefect.events.schemas.automations import AutomationCore
    from prefect.server.events.schemas.automations import AutomationCore as OnServer

    for one in automations():
        sent = AutomationCore.model_validate(one)
        kept = OnServer.model_validate(sent.model_dump(mode="json"))
        assert kept.trigger.match_related == OnServer.model_validate(one).trigger.match_related


def test_a_dead_run_is_told_from_a_slow_one_and_its_lease_has_ended_by_then() -> None:
    from prefect.settings.models.flows import FlowsSettings

    heartbeat_s = FlowsSettings.model_fields["heartbeat_frequency"].default
    within_s = automations()[0]["trigger"]["within"]
    assert within_s >= 3 * heartbeat_s
    assert within_s - heartbeat_s >= NightSettings().lease_s


@pytest.fixture
def server(tmp_path: Path, prefect_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    for name, value in environment.DEFAULTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", str(with_prefect(tmp_path, prefect_template) / "prefect"))
    with prefect_server(free_port()) as api_url:
        monkeypatch.setenv("PREFECT_API_URL", api_url)
        yield api_url


def asked(url: str, content: dict[str, Any]) -> Any:
    request = Request(url, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_killed_night_becomes_crashed(server: str, tmp_path: Path) -> None:
    """With ten seconds instead of ten minutes, the least that Prefect allows."""
    ours = automations()
    ours[0]["trigger"]["within"] = 10
    (tmp_path / "automations.yaml").write_text(yaml.safe_dump({"automations": ours}))
    subprocess.run(
        [PREFECT, "automation", "create", "--from-file", "automations.yaml"], cwd=tmp_path, check=True, timeout=60
    )
    (tmp_path / "killed.py").write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, "killed.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        run_id = child.stdout.readline().strip()
        assert child.stdout.readline() == "running\n"

        def beats() -> int:
            wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}}
            return asked(f"{server}/events/filter", {"filter": wanted})["total"]

        wait_until(beats, "a heartbeat", limit_s=60)
        os.killpg(child.pid, signal.SIGKILL)
    figures = Samples()
    note_prefect(figures)
    assert figures.values["prefect_nights_running"] == {(): 1.0}, "Prefect believes that it runs"
    assert figures.values["prefect_pool_ready"] == {("nights",): 0.0}

    def crashed() -> Any:
        found = asked(f"{server}/flow_runs/filter", {})
        return [run["state"]["message"] for run in found if (run["id"], run["state_name"]) == (run_id, "Crashed")]

    assert wait_until(crashed, "the crash", limit_s=60)[0].startswith("No sign of life for ten minutes")
