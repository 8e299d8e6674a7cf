"""Measure how profiling scales over worker processes: ``make bench-fan-out``.

Recorded LLMs are asked over HTTP, each answer delayed by 200 ms, by one, two and four workers of a work pool that
profile one LLM each, every worker with the same number of concurrent calls; and by the night's own process, once with
the concurrency of one worker and once with that of four. The server of the answers, Prefect's server, the registry
(SQLite) and all workers share one machine, so cores run out before workers do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.config import environment

if TYPE_CHECKING:
    from flows.sandbox import Sandbox

LATENCY_S = 0.2
CALLS_OF_ONE_WORKER = 8
_AS_OF = "2024-09-01"
_POOL = "bench"
_LLMS = ("yi-6b-chat", "llama-3-8b-instruct", "gpt-4o-2024-05-13", "command-r-v01")
_SETTINGS = """
home = "home"
[prompts]
file = "prompts.jsonl"
[embedder]
name = "hashing-256"
[routing]
n_clusters = 5
[night]
canary_prompts = 0
batch_size = 1000
[budget]
llm_usd = 1000
night_usd = 1000
[fan_out]
runner = "{runner}"
llms_at_once = {workers}
[[catalog]]
name = "sandbox"
kind = "openrouter"
location = "{catalog_url}"
endpoint = "sandbox"
include = {llms}
[[endpoint]]
name = "sandbox"
base_url = "{base_url}"
concurrency = {concurrency}
"""


@dataclass(frozen=True)
class Scaling:
    """Result of one way to profile.

    Attributes
    ----------
    runner, workers
        Where profiles were made, and number of processes.
    concurrency
        Maximum number of concurrent calls, all processes together.
    calls, calling_s
        Prompts asked, and seconds from the request of the first flow run to the last answer.
    outcomes
        Rows in the registry; one per LLM and prompt if nothing was lost, as its key prevents a second one.
    attempts
        Requests booked, retries included.
    """

    runner: str
    workers: int
    concurrency: int
    calls: int
    calling_s: float
    outcomes: int
    attempts: int

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.calling_s


def measure(folder: Path, n_prompts: int, workers: tuple[int, ...]) -> list[Scaling]:
    """Measure every way in turn.

    Parameters
    ----------
    folder
        Empty folder for the state of all nights.
    n_prompts
        Number of prompts that each of the four LLMs is asked.
    workers
        Numbers of workers to measure.
    """
    from flows.deploy.serve import prefect_server
    from flows.sandbox import Sandbox

    most = max(workers) * CALLS_OF_ONE_WORKER
    found = []
    with Sandbox(latency_s=LATENCY_S) as sandbox, prefect_server(_free_port()) as api_url:
        for concurrency in (CALLS_OF_ONE_WORKER, most):
            config = _prepare(folder / f"threads-{concurrency}", sandbox, n_prompts, "threads", 1, concurrency)
            found.append(_night(config, api_url, "threads", 1, concurrency))
        for number in workers:
            concurrency = number * CALLS_OF_ONE_WORKER
            config = _prepare(folder / f"workers-{number}", sandbox, n_prompts, "work_pool", number, concurrency)
            _run(["uniroute", "deploy", "--pool", _POOL, "--config", str(config)], api_url)
            with _workers(number, api_url):
                found.append(_night(config, api_url, "work_pool", number, concurrency))
    return found


def _prepare(folder: Path, sandbox: Sandbox, n_prompts: int, runner: str, workers: int, concurrency: int) -> Path:
    from flows.sandbox import Sandbox

    folder.mkdir()
    rows = [
        {"prompt_id": one.prompt_id, "text": one.text, "reference": one.reference, "grader": one.grader}
        for one in Sandbox.prompts()[:n_prompts]
    ]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = folder / "uniroute.toml"
    config.write_text(
        _SETTINGS.format(
            runner=runner,
            workers=workers,
            concurrency=concurrency,
            llms=json.dumps(_LLMS),
            base_url=sandbox.base_url,
            catalog_url=sandbox.catalog_url,
        ),
        encoding="utf-8",
    )
    return config


def _night(config: Path, api_url: str, runner: str, workers: int, concurrency: int) -> Scaling:
    from flows.config.loading import load_settings
    from flows.workspace import Workspace

    printed = _run(["uniroute", "night", "run", "--as-of", _AS_OF, "--json", "--config", str(config)], api_url)
    data = json.loads(printed.splitlines()[-1])["data"]
    with Workspace(load_settings(config)) as workspace:
        registry = workspace.registry
        run = registry.runs.get(data["run_key"])
        states = registry.parts.states(run, [f"sandbox:{name}" for name in _LLMS], run.started_at)
        attempts = registry.outcomes.spend(run).calls
    return Scaling(
        runner=runner,
        workers=workers,
        concurrency=concurrency,
        calls=data["calls"],
        calling_s=data["calling_s"],
        outcomes=sum(state.asked for state in states.values()),
        attempts=attempts,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(api_url: str) -> dict[str, str]:
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    return os.environ | quick | {"PREFECT_API_URL": api_url}


def _run(command: list[str], api_url: str) -> str:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(  # noqa: S603 - our own command line
        [program, *command[1:]], env=_environment(api_url), capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 3):
        raise click.ClickException(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def _workers(number: int, api_url: str) -> Iterator[None]:
    """Run workers that take one LLM each; they are killed with all processes they started."""
    command = [Path(sys.executable).with_name("prefect"), "worker", "start", "--pool", _POOL, "--limit", "1"]
    with ExitStack() as started:
        for _ in range(number):
            worker = subprocess.Popen(  # noqa: S603 - our own environment
                command,
                env=_environment(api_url),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            started.callback(worker.wait)
            started.callback(os.killpg, worker.pid, signal.SIGKILL)
        yield


def table(found: list[Scaling]) -> str:
    """Return the figures as a table, with ratios to one worker."""
    one = next((row.rate for row in found if row.runner == "work_pool" and row.workers == 1), found[0].rate)
    lines = [f"{'':22} {'at once':>8} {'calls':>8} {'seconds':>8} {'calls/s':>8} {'of one worker':>14} {'twice':>6}"]
    for row in found:
        name = "the night's process" if row.runner == "threads" else f"workers: {row.workers}"
        twice = row.attempts - row.outcomes
        lines.append(
            f"{name:22} {row.concurrency:8} {row.calls:8,} {row.calling_s:8.1f} {row.rate:8.0f} "
            f"{row.rate / one:14.2f} {twice:6}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--prompts", default=1498, show_default=True, type=click.IntRange(min=100), help="Prompts of each LLM.")
@click.option("--workers", default="1,2,4", show_default=True, help="Numbers of workers to measure.")
def main(prompts: int, workers: str) -> None:
    """Measure every way in turn; fail if an outcome is missing or was asked twice."""
    with tempfile.TemporaryDirectory(prefix="uniroute-bench-") as name:
        environment.prepare(Path(name))
        found = measure(Path(name), prompts, tuple(int(number) for number in workers.split(",")))
    click.echo(table(found))
    is_whole = all(row.outcomes == row.attempts == row.calls > 0 for row in found)
    sys.exit(0 if is_whole else 1)


if __name__ == "__main__":
    main()
