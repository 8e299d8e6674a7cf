"""Measure a large night with and without faults: ``make bench-load``.

20 LLMs are asked 2,000 prompts each, once by an endpoint that always answers and once by one that fails one request in
twenty: with 429, with 500, by hanging, and with garbage. The endpoint is a process of its own on loopback.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import click

from flows.config import environment
from tests.fakes.settings import QUICK

if TYPE_CHECKING:
    from flows.reports.night_report import NightReport

N_LLMS, N_PROMPTS = 20, 2000
FAULT_SHARE = 0.05
MOST_MEMORY_GB, LEAST_RATIO = 1.5, 0.6
_LETTERS = "ABCD"
_AS_OF = "2024-09-01"
_GARBAGE = b'{"choices": [{"message": {"content": "The ans'
_SETTINGS = (
    QUICK
    + """
[night]
canary_prompts = 0
[budget]
llm_usd = 1000
night_usd = 10000
[[catalog]]
name = "load"
kind = "toml"
location = "llms.toml"
endpoint = "load"
[[endpoint]]
name = "load"
base_url = "{base_url}"
concurrency = 64
timeout_s = 1
max_attempts = 8
max_tokens = 256
"""
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class FaultyApp:
    """An ASGI application that answers every question of `prepare` and fails a share of the requests.

    Parameters
    ----------
    fault_share
        Share of requests that fail, in [0, 1].
    """

    def __init__(self, fault_share: float) -> None:
        self._fault_share = fault_share
        self._rng = random.Random(0)  # noqa: S311 - repeatable faults, nothing secret

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or fail it."""
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body", False):
            message = await receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return
        is_faulty = self._rng.random() < self._fault_share
        fault = self._rng.choice(("429", "500", "hang", "garbage")) if is_faulty else ""
        if fault == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        status = int(fault) if fault.isdigit() else 200
        content = _GARBAGE if fault == "garbage" else b'{"error": {}}' if fault else _completion(json.loads(body))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _completion(request: dict[str, Any]) -> bytes:
    """Answer the question correctly as often as the number in the LLM's name says."""
    llm_id, text = request["model"], request["messages"][-1]["content"]
    number, skill = int(text.split()[1]), int(llm_id.rpartition("-")[2])
    is_right = crc32(f"{llm_id} {number}".encode()) % (2 * N_LLMS) < N_LLMS + skill - 1
    answer = f"The answer is ({_LETTERS[(number + (not is_right)) % 4]})."
    return json.dumps(
        {
            "model": llm_id,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 6},
        }
    ).encode()


def prepare(folder: Path, base_url: str, n_prompts: int) -> Path:
    """Write the settings, prompts and catalog of a night against the endpoint, and return the settings file."""
    folder.mkdir()
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for number in range(n_prompts):
            text = f"Question {number} of topic {number % 97}: which of A, B, C and D is right?"
            row = {"prompt_id": str(number), "text": text, "reference": _LETTERS[number % 4], "grader": "choice"}
            file.write(json.dumps(row) + "\n")
    listed = (
        f'[[llm]]\nid = "load-{number:02d}"\nreleased = 2024-08-01\n'
        f"input_usd_per_mtok = {number}\noutput_usd_per_mtok = {number}\n"
        for number in range(1, N_LLMS + 1)
    )
    (folder / "llms.toml").write_text("\n".join(listed), encoding="utf-8")
    config = folder / "uniroute.toml"
    config.write_text(_SETTINGS.format(base_url=base_url), encoding="utf-8")
    return config


@contextmanager
def served(fault_share: float) -> Iterator[str]:
    """Serve the application from a process of its own, and yield its base URL."""
    command = [sys.executable, "-m", "tests.bench.load", "--serve", str(fault_share)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own module
        assert server.stdout is not None, "a pipe was asked for"
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@dataclass(frozen=True)
class LoadNight:
    """Result of one night.

    Attributes
    ----------
    calls_per_s
        Prompts answered per second.
    duration_s
        Duration of the whole night, refit and publishing included.
    planned
        (LLM, prompt) pairs that were planned.
    outcomes
        (LLM, prompt) pairs with a final outcome in the registry, a score or a failure; its key allows one per pair.
    answered
        Those with a score; the others failed more often than a night retries.
    attempts
        Requests sent, retries included.
    peak_gb
        Peak memory of the night's process, in 10^9 bytes.
    """

    calls_per_s: float
    duration_s: float
    planned: int
    outcomes: int
    answered: int
    attempts: int
    peak_gb: float


def measure(folder: Path, fault_share: float, n_prompts: int = N_PROMPTS) -> LoadNight:
    """Run one night under load.

    Parameters
    ----------
    folder
        Folder for the night's state; must not exist yet.
    fault_share
        Share of requests that fail.
    n_prompts
        Number of prompts; with an empty registry, the LLMs are asked all of them.
    """
    from flows.config.loading import load_settings
    from flows.graders import grader
    from flows.nightly import night
    from flows.workspace import Workspace

    with served(fault_share) as base_url:
        config = prepare(folder, base_url, n_prompts)
        started_s = time.perf_counter()
        report: NightReport = asyncio.run(night(as_of=_AS_OF, config=str(config)))
        duration_s = time.perf_counter() - started_s
    with Workspace(load_settings(config)) as workspace:
        outcomes = workspace.registry.outcomes
        spend = outcomes.spend(workspace.registry.runs.get(report.run_key))
        final = outcomes.coverage(
            [found.llm_key for found in report.profiles],
            workspace.prompt_set.prompts,
            {"choice": grader("choice").label},
            workspace.open_endpoint(workspace.settings.endpoint[0]).sampling,
        )
    return LoadNight(
        calls_per_s=report.calls / report.calling_s,
        duration_s=duration_s,
        planned=report.plan.calls,
        outcomes=sum(found.n_scored + found.n_failed for found in final),
        answered=sum(found.n_scored for found in final),
        attempts=spend.calls,
        peak_gb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    )


def _serve(fault_share: float) -> None:
    import uvicorn

    from flows.sandbox.server import _listen

    listener = _listen("127.0.0.1", 0)
    click.echo(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    settings = uvicorn.Config(FaultyApp(fault_share), lifespan="off", access_log=False, log_level="error")
    uvicorn.Server(settings).run(sockets=[listener])


@click.command()
@click.option("--prompts", default=N_PROMPTS, show_default=True, help="How many prompts.")
@click.option("--serve", type=float, help="Only serve, with this share of faults.")
def main(serve: float | None, prompts: int) -> None:
    """Measure both nights, print the figures, and fail if they miss their targets."""
    if serve is not None:
        _serve(serve)
        return
    with tempfile.TemporaryDirectory(prefix="uniroute-load-") as name:
        folder = Path(name)
        environment.prepare(folder)
        nights = {share: measure(folder / f"faults-{share}", share, prompts) for share in (FAULT_SHARE, 0.0)}
    for share, found in nights.items():
        click.echo(
            f"{share:.0%} faults: {found.planned:,} planned, {found.outcomes:,} outcomes, "
            f"{found.answered:,} answers, {found.attempts:,} requests, {found.calls_per_s:.0f}/s, "
            f"night {found.duration_s:.0f} s, peak {found.peak_gb:.2f} GB"
        )
    ratio = nights[FAULT_SHARE].calls_per_s / nights[0.0].calls_per_s
    click.echo(f"throughput with faults over without: {ratio:.2f}")
    is_complete = all(found.outcomes == found.planned for found in nights.values())
    is_small = all(found.peak_gb < MOST_MEMORY_GB for found in nights.values())
    sys.exit(0 if is_complete and is_small and ratio >= LEAST_RATIO else 1)


if __name__ == "__main__":
    main()
