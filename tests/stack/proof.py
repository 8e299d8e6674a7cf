"""The proof: a night that a killed worker leaves behind ends on another one as if nothing had happened.

The other worker spreads the rest over flow runs of their own, one of which is killed too; and the same night is made by
a Dask cluster. All must come to what an uninterrupted night on a laptop comes to.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from registry.store import Registry
from tests.conftest import ROOT
from tests.faults.tiny_night import TinyNight, lasting
from tests.postgres import look_into
from tests.stack.processes import Memory, wait_until
from tests.stack.topology import BIN, Stack

AS_OF = "2024-11-01"
SHIPPED = ROOT / "docker" / "automations.yaml"
KILL_AT = 80
"""So many answers are kept when the worker is killed, of 240."""


@dataclass
class Proof:
    """What happened.

    Attributes
    ----------
    deployed
        What ``uniroute deploy --json`` printed.
    kept
        How many answers were kept when the worker was killed.
    expected
        How many there are in the end.
    states
        What Prefect says in the end of the run that was killed, and of the next one.
    parts
        What Prefect says in the end of the flow runs that profiled one LLM each, the one that was killed among them.
    attempts
        How often the registry saw the night started.
    digests
        Of the registry on PostgreSQL, and of its copy on SQLite.
    differences
        In what the night, and the one on Dask, differ from an uninterrupted one on SQLite.
    memory
        What each server takes after the night, and the worker with its flow in the middle of it.
    """

    deployed: dict[str, Any] = field(default_factory=dict)
    kept: int = 0
    expected: int = 0
    states: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    attempts: int = 0
    digests: set[str] = field(default_factory=set)
    differences: list[str] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)


def prove(stack: Stack, say: Callable[[str], None] = lambda _line: None, mlflow_template: Path | None = None) -> Proof:
    """Deploy, let a scheduled night begin on a worker, kill that, let the next schedule end it, and compare.

    The nights on SQLite begin with a copy of `mlflow_template`, or make MLflow's database themselves.
    """
    proof, clock = Proof(), _Clock(say)
    for name, took_s in stack.started_s.items():
        clock.say(f"{name} answers after {took_s:.1f} s")
    shipped = [f"--automations={SHIPPED}"] if SHIPPED.is_file() else []
    proof.deployed = json.loads(stack.uniroute("deploy", "--json", *shipped))["data"]
    clock.say("uniroute deploy: registry, work pool, deployments, automations")
    for home in ("alone", "dask"):
        (stack.folder / home).mkdir()
        if mlflow_template is not None:
            shutil.copyfile(mlflow_template, stack.folder / home / "mlflow.db")
    alone = TinyNight(stack.folder).start(AS_OF, UNIROUTE_HOME=str(stack.folder / "alone"))
    with night_on_dask(stack) as dask:
        with stack.worker("first") as worker:
            first = schedule(stack)
            wait_until(lambda: _answers_kept(stack) >= KILL_AT, "the middle of the night", worker)
            proof.memory["worker with its flow"] = Memory.of(worker.pid)
            worker.kill()
            proof.kept = _answers_kept(stack)
            clock.say(f"worker killed with SIGKILL when {proof.kept} answers were kept")
        with stack.worker("second", UNIROUTE_FAN_OUT__RUNNER="work_pool") as worker:
            # Prefect takes the first run for running still: it holds nothing that the second one needs.
            second = schedule(stack)
            clock.say(
                f"another worker; Prefect says {stack.ask(state_of(first))} of the killed run; the next one is due"
            )
            killed = wait_until(lambda: _kill_a_part(stack), "a flow run with one LLM", worker)
            clock.say(f"one flow run per LLM; the process that profiles {killed} killed with SIGKILL")
            wait_until(lambda: stack.ask(end_of(second)), "the end of the night", worker)
            proof.parts = stack.ask(_states_of_parts)
            proof.states = (stack.ask(state_of(first)), stack.ask(state_of(second)))
            clock.say(f"the night ended on the other worker: {proof.states[1]}")
        proof.memory |= stack.memory()
        alone.join(120)
        clock.say(f"uninterrupted night on SQLite: exit code {alone.exitcode}; on Dask: {dask.wait(120)}")
    _compare(stack, proof)
    clock.say("no difference" if not proof.differences else f"different: {', '.join(proof.differences)}")
    return proof


@dataclass
class _Clock:
    """Say how long after the beginning something happened."""

    tell: Callable[[str], None]
    since_s: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        self.tell(f"{time.monotonic() - self.since_s:6.1f} s  {line}")


@contextmanager
def night_on_dask(stack: Stack) -> Iterator[subprocess.Popen]:
    """Run the same night meanwhile on a local Dask cluster, with registry and MLflow in files of a home folder."""
    there = {key: value for key, value in stack.environment.items() if "__" not in key}
    command = [BIN / "uniroute", "night", "run", "--as-of", AS_OF]
    with (stack.folder / "dask.log").open("w") as log:
        night = subprocess.Popen(
            command,
            env=there | {"UNIROUTE_FAN_OUT__RUNNER": "dask", "UNIROUTE_HOME": str(stack.folder / "dask")},
            cwd=stack.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield night
        finally:
            with suppress(ProcessLookupError):
                os.killpg(night.pid, signal.SIGKILL)
            night.wait()


def schedule(stack: Stack) -> UUID:
    """Add a schedule to the night whose only run is due at once, and return that run's id."""
    from prefect.client.schemas.schedules import IntervalSchedule

    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)

    async def add(client: Any) -> None:
        deployment = await client.read_deployment_by_name("night/nightly")
        daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=due)
        await client.create_deployment_schedules(deployment.id, [(daily, True)], parameters={"as_of": AS_OF})

    async def made(client: Any) -> UUID | None:
        return next((run.id for run in await client.read_flow_runs() if run.expected_start_time == due), None)

    stack.ask(add)
    return wait_until(lambda: stack.ask(made), "the scheduled run", *stack.servers)


def state_of(run_id: UUID) -> Callable[[Any], Any]:
    async def read(client: Any) -> str:
        return (await client.read_flow_run(run_id)).state.type.value

    return read


def end_of(run_id: UUID) -> Callable[[Any], Any]:
    async def read(client: Any) -> bool:
        return (await client.read_flow_run(run_id)).state.is_final()

    return read


def _kill_a_part(stack: Stack) -> str | None:
    """Kill the process that profiles an LLM, once it has kept answers of its own; give the LLM."""
    held = look_into(
        stack.registry_url,
        "SELECT l.pid, m.key FROM lease l JOIN llm m ON l.name = 'profile:' || m.id JOIN run r ON r.id = l.run_id "
        "WHERE (SELECT count(*) FROM outcome o WHERE o.llm_id = m.id AND o.lease_number = r.lease_number) > 0",
    )
    if not held:
        return None
    pid, llm_key = held[0]
    os.kill(pid, signal.SIGKILL)
    return llm_key


async def _states_of_parts(client: Any) -> tuple[str, ...]:
    runs = await client.read_flow_runs()
    return tuple(sorted(run.state.type.value for run in runs if "assignment" in run.parameters))


def _answers_kept(stack: Stack) -> int:
    return look_into(stack.registry_url, "SELECT count(*) FROM outcome")[0][0]


def _compare(stack: Stack, proof: Proof) -> None:
    """Copy the registry to a file as people do, and look at both nights row by row."""
    copied = stack.folder / "copied.db"
    with Registry.open(stack.registry_url) as there, Registry.unmade(f"sqlite:///{copied}") as here:
        digest = there.backups.copy_to(here.backups, datetime.now(UTC)).digest
        proof.digests = {digest, there.backups.contents().digest}
        assert there.ledger.verify().is_intact
        proof.attempts = there.runs.list()[0].attempt
    ours = lasting(copied, stack.folder / "home", stack.mlflow_database)
    alone, dask = (_at_home(stack, name) for name in ("alone", "dask"))
    proof.expected = len(alone["outcome"])
    for name, found in (("", ours), ("dask: ", dask)):
        proof.differences += sorted(f"{name}{part}" for part in {*found, *alone} if found.get(part) != alone.get(part))


def _at_home(stack: Stack, name: str) -> dict[str, Any]:
    home = stack.folder / name
    return lasting(home / "registry.db", home, f"sqlite:///{home / 'mlflow.db'}")
