"""Expose the figures to Prometheus: print them once, write them for node_exporter, or serve them until stopped."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector

import sql
from flows.config.settings import Settings
from flows.errors import FlowError, PortTaken
from flows.logs import log_event
from flows.metrics.listed import PREFIX, Samples
from flows.metrics.prefect_figures import note_prefect
from flows.metrics.registry_figures import add_registry_figures
from flows.versions.champion_state import champion_state
from flows.workspace import Workspace
from routing.errors import UnirouteError


class Reading(Collector):
    """The figures read at one moment.

    Parameters
    ----------
    samples
        The values.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    @property
    def is_up(self) -> bool:
        """Whether the registry could be read."""
        return self.samples.values["up"] == {(): 1.0}

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as Prometheus' client library expects them."""
        for name, metric, values in self.samples:
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(PREFIX + name, metric.means, labels=metric.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family

    def exposition(self) -> str:
        """Return the text that Prometheus reads."""
        return generate_latest(self).decode()


class Figures(Collector):
    """Read everything at each scrape; what cannot be read is left out, counted and logged.

    Parameters
    ----------
    settings
        Which registry to read, opened as it is and never migrated.
    clock
        Returns the time, in UTC.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._errors = Counter({"registry": 0, "prefect": 0})

    def read(self) -> Reading:
        """Read registry, disk and, when one is configured, the Prefect server."""
        started_s = time.monotonic()
        samples = Samples()
        samples.put("build_info", 1, version("uniroute"), sql.migrations()[-1].revision)
        with Workspace(self._settings, migrate=False) as workspace:
            samples.put("up", self._succeeds("registry", lambda: self._note_registry(samples, workspace)))
            samples.put("home_free_bytes", workspace.free_bytes)
        self._succeeds("prefect", lambda: note_prefect(samples))
        for part, count in self._errors.items():
            samples.put("scrape_errors", count, part)
        samples.put("scrape_duration_seconds", time.monotonic() - started_s)
        return Reading(samples)

    def _note_registry(self, samples: Samples, workspace: Workspace) -> None:
        schema = workspace.registry.schema_status()
        samples.put("schema_current", schema.is_current)
        samples.put("schema_pending_migrations", len(schema.pending))
        samples.put("schema_ahead", schema.is_newer)
        if not schema.pending:
            snapshot = workspace.registry.monitoring.read(self._clock())
            add_registry_figures(samples, snapshot)
            state = champion_state(workspace.registry, snapshot.moment.date())
            samples.put("champion_dead_share", None if state is None else state.dead_share)

    def _succeeds(self, part: str, note: Callable[[], None]) -> bool:
        try:
            note()
        except UnirouteError as error:
            self._errors[part] += 1
            log_event("metrics_unread", level=logging.WARNING, part=part, reason=error.message, hint=error.hint)
            return False
        return True

    def collect(self) -> Iterator[Metric]:
        """Read everything again, one scrape at a time, and yield it as Prometheus' client library expects it."""
        with self._one_at_a_time:
            reading = self.read()
        return reading.collect()


def write(reading: Reading, file: Path) -> None:
    """Write the text beside the file and move it into place at once: node_exporter never reads half of it.

    Raises
    ------
    FlowError
        The file cannot be written; an earlier one is kept.
    """
    try:
        write_to_textfile(str(file), reading)
    except OSError as error:
        raise FlowError(
            f"{file} cannot be written: {error.strerror}.",
            unchanged="An earlier file is kept.",
            hint="name a file ending in .prom in the folder of node_exporter's textfile collector",
        ) from None


def serve(figures: Figures, host: str, port: int, announce: Callable[[int], None]) -> None:
    """Serve the text over HTTP until SIGTERM or Ctrl-C.

    Parameters
    ----------
    figures
        What to serve.
    host, port
        Where to listen; port 0 picks a free one.
    announce
        Called with the port once the server listens.

    Raises
    ------
    PortTaken
        Another process listens there.
    """
    served = CollectorRegistry(auto_describe=False)
    served.register(figures)
    try:
        server, thread = start_http_server(port, host, served)
    except OSError as error:
        raise PortTaken(
            f"Port {port} on {host} cannot be used: {error.strerror}.",
            unchanged="Nothing was served.",
            hint=f"uniroute metrics --port {port + 1}",
        ) from None
    is_over = threading.Event()
    former = {number: signal.signal(number, lambda *_: is_over.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        announce(server.server_port)
        is_over.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        server.shutdown()
        server.server_close()
        thread.join()
