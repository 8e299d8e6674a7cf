"""``uniroute metrics``: figures for Prometheus."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.endings import ExitCode
from flows.cli.options import config_option, json_option
from flows.cli.screen import event_line, show


@click.command("metrics")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Serve the figures on this port until stopped; 0 picks a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen with --port.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to this file, for node_exporter."
)
@config_option
@json_option
def metrics(port: int | None, host: str, out: Path | None, config: str | None, as_json: bool) -> int:
    """Print figures of nights, lease, champion and disk in the Prometheus text format.

    If the registry cannot be read, uniroute_up is 0, standard error says why, and the exit code is 3.
    """
    from flows.config.loading import load_settings
    from flows.metrics.exposition import Figures, serve, write
    from registry.clock import utc_now

    if port is not None and out is not None:
        raise click.UsageError("--port serves and --out writes: use one of them.")
    figures = Figures(load_settings(config), utc_now)
    if port is not None:
        serve(figures, host, port, lambda used: _announce(f"http://{host}:{used}/metrics", as_json=as_json))
        return ExitCode.DONE
    reading = figures.read()
    if out is not None:
        write(reading, out)
    data = {
        "file": str(out) if out is not None else None,
        "is_up": reading.is_up,
        "metrics": [
            {"name": sample.name, "labels": sample.labels, "value": sample.value}
            for family in reading.collect()
            for sample in family.samples
        ],
    }
    show("metrics", data, as_json=as_json, text=lambda: f"Wrote {out}." if out else reading.exposition().rstrip("\n"))
    return ExitCode.DONE if reading.is_up else ExitCode.ATTENTION


def _announce(url: str, *, as_json: bool) -> None:
    click.echo(event_line("metrics", "serving", url=url) if as_json else f"Serving metrics at {url} until stopped.")
