"""Run nights on a schedule and decisions by form from this process; without a configured server, start one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from flows.config.prefect_server import API_URL, require_prefect
from flows.deploy.deployables import deployments
from flows.errors import FlowError, PortTaken

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
    with server as api_url:
        os.environ[API_URL] = api_url
        from prefect import serve

        serve(*deployments(config, cron))


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
