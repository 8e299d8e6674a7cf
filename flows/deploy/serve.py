"""Run nights on a schedule and decisions by form from this process; without a configured server, start one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flows.config.prefect_server import API_URL, require_prefect
from flows.deploy.deployables import deployments
from flows.errors import FlowError, PortTaken
from flows.logs import say

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

_START_UP_S = 180.0
_HOST = "127.0.0.1"


def serve_nights(config: str | None, cron: str, *, port: int) -> None:
    """Run nights when `cron` says, and decide promotions when a form is sent, until stopped.

    Parameters
    ----------
    config
        Path of the settings file that every night reads; None finds it as ``uniroute night run`` does.
    cron
        A cron expression, in UTC.
    port
        Where Prefect's server listens when none is configured by ``PREFECT_API_URL``.

    Raises
    ------
    PrerequisiteError
        `cron` is not a cron expression.
    PortTaken
        Another process listens on `port`.
    FlowError
        The configured server cannot be worked with.
    """
    require_prefect()
    server = nullcontext(os.environ[API_URL]) if os.environ.get(API_URL) else prefect_server(port)
    with _ended_by_sigterm(), server as api_url:
        os.environ[API_URL] = api_url
        _serve(deployments(config, cron))
        say("Stopped. The schedule is paused until nights are served again.")


def _serve(served: Iterable[RunnerDeployment]) -> None:
    """Serve deployments until Ctrl-C or SIGTERM: a night under way ends as after a signal of its own."""
    import asyncio

    from prefect.runner import Runner

    class SignalledRunner(Runner):
        # Prefect's own handler calls a coroutine that it never awaits, and Python warns of it. Leaving the runner, for
        # whatever reason, pauses the schedule and ends the runs.
        handle_sigterm = staticmethod(_interrupt)

    async def until_stopped() -> None:
        runner = SignalledRunner(pause_on_shutdown=True)
        for deployment in served:
            await runner.aadd_deployment(deployment)
        say("Serving nights and decisions until stopped.")
        await runner.start()

    with suppress(KeyboardInterrupt):
        asyncio.run(until_stopped())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that Prefect's server is never left behind."""
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def prefect_server(port: int) -> Iterator[str]:
    """Start Prefect's server on loopback, wait until it answers, yield its API's address, and stop it at the end."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise PortTaken(
                f"Port {port} on {_HOST} is taken, so Prefect's server cannot start there.",
                unchanged="Nothing was scheduled.",
                hint=f"uniroute night serve --port {port + 1}, or set PREFECT_API_URL to the server that runs there",
            ) from None
    api_url = f"http://{_HOST}:{port}/api"
    # Its server makes this folder, but none above it, and those are missing before the first night.
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    # The UI asks port 4200 unless this names the server.
    environment = os.environ | {"PREFECT_SERVER_UI_API_URL": api_url, "PREFECT_API_URL": ""}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        _wait_until_healthy(server, api_url)
        yield api_url
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], api_url: str) -> None:
    import httpx2

    deadline_s = time.monotonic() + _START_UP_S
    while time.monotonic() < deadline_s:
        if server.poll() is not None:
            raise FlowError(
                f"Prefect's server stopped with code {server.returncode} before it answered.",
                hint="prefect server start",
            )
        try:
            if httpx2.get(f"{api_url}/health", timeout=5, trust_env=False).is_success:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.5)
    raise FlowError(f"Prefect's server did not answer within {_START_UP_S:.0f} s.", hint="prefect server start")
