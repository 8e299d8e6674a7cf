"""``uniroute sandbox``: recorded answers as an endpoint that any client can call."""

from __future__ import annotations

import os

import click

from flows.cli.options import json_option
from flows.cli.screen import event_line
from flows.errors import PortTaken


@click.command("sandbox")
@click.option("--port", default=8400, show_default=True, help="Port on loopback; 0 picks a free one.")
@click.option("--latency-s", default=0.0, show_default=True, help="Seconds to wait before each answer.")
@json_option
def sandbox(port: int, latency_s: float, as_json: bool) -> None:
    """Serve recorded answers of real LLMs, until stopped.

    The endpoint is OpenAI-compatible and listens on loopback.
    """
    from flows.sandbox.server import main

    def announce(facts: dict[str, object]) -> None:
        if as_json:
            click.echo(event_line("sandbox", "serving", **facts))
        else:
            click.echo(f"Serving recorded answers at {facts['base_url']}, their catalog at {facts['catalog_url']}.")

    try:
        main(["--port", str(port), "--latency-s", str(latency_s)], announce=announce)
    except SystemExit as stop:
        if stop.code != os.EX_TEMPFAIL:
            raise
        raise PortTaken(
            f"Port {port} on 127.0.0.1 is taken.", unchanged="Nothing was served.", hint="uniroute sandbox --port 0"
        ) from None
