"""``uniroute sandbox``: the recorded answers as an endpoint that anything may ask."""

from __future__ import annotations

import click


@click.command("sandbox")
@click.option("--port", default=8400, show_default=True, help="Port on loopback; 0 takes a free one.")
@click.option("--latency-s", default=0.0, show_default=True, help="Seconds to wait before each answer.")
def sandbox(port: int, latency_s: float) -> None:
    """Serve the recorded answers of real LLMs as an OpenAI-compatible endpoint, until stopped."""
    from flows.sandbox.server import main

    main(["--port", str(port), "--latency-s", str(latency_s)])
