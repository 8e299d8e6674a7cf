"""Measure how long requests wait while `RouterClient` swaps router versions: ``python -m tests.bench.swaps``.

Two versions are published to an MLflow of its own. Threads continuously send requests of a few prompts while the
alias moves twenty times, each time to the other version as soon as the last move is served, and then for as long
without swaps; both take turns, because the speed of a machine changes.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from tests.bench.random_routers import published, random_router, tracking_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.publishing.client import RouterClient

_NAME = "swaps"
_SWAPS = 20
_TURNS = 2
_PROMPTS = tuple(f"Which gas do plants take in, of those in list {number}?" for number in range(8))


@dataclass(frozen=True)
class Latencies:
    """Durations of requests.

    Attributes
    ----------
    requests
        Number of requests.
    p50_ms, p99_ms, max_ms
        Median, 99th percentile and maximum, in milliseconds.
    """

    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Swaps:
    """Requests during swaps and without swaps.

    Attributes
    ----------
    during, without
        Durations of the requests.
    swap_s
        Median seconds of a swap: download, check, load and first answer. No request waits for it.
    digests
        Digests of the routers that answered during the swaps.
    swaps
        Number of swaps.
    """

    during: Latencies
    without: Latencies
    swap_s: float
    digests: frozenset[str]
    swaps: int


def measure(folder: Path, *, swaps: int = _SWAPS, turns: int = _TURNS, threads: int = 1) -> Swaps:
    """Measure requests during swaps and without.

    Parameters
    ----------
    folder
        An empty folder, for an MLflow and two routers.
    swaps
        Number of swaps per turn.
    turns
        How often both are measured.
    threads
        Number of threads that send requests.
    """
    from registry.publishing.client import RouterClient
    from routing.embedders import load_embedder

    embedder = load_embedder("hashing-256")
    publisher = published(folder, _NAME, [random_router(seed, embedder) for seed in (1, 2)], embedder)
    during: list[float] = []
    without: list[float] = []
    swaps_s: list[float] = []
    digests: set[str] = set()
    with RouterClient(_NAME, tracking_url=tracking_url(folder), folder=folder / "client", every_s=86_400.0) as client:
        for _ in range(turns):
            before = len(swaps_s)
            with _asking(client, threads, during, digests):
                for number in range(swaps):
                    publisher.set_alias(_NAME, "champion", 2 - number % 2)
                    swaps_s.append(_timed(client.check))
                    if client.status().last_error is not None:
                        raise RuntimeError(client.status().last_error)
            with _asking(client, threads, without, set()):
                time.sleep(sum(swaps_s[before:]))
    return Swaps(_summary(during), _summary(without), float(np.median(swaps_s)), frozenset(digests), swaps * turns)


def _timed(act: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    act()
    return time.perf_counter() - begun_s


@contextmanager
def _asking(client: RouterClient, threads: int, taken_s: list[float], digests: set[str]) -> Iterator[None]:
    """Send requests from threads within the context, and record the duration and router of each."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            begun_s = time.perf_counter()
            answers = client.predict(_PROMPTS)
            taken_s.append(time.perf_counter() - begun_s)
            (digest,) = set(answers["router_digest"])
            digests.add(digest)

    with ThreadPoolExecutor(threads) as pool:
        asking = [pool.submit(ask) for _ in range(threads)]
        try:
            yield
        finally:
            ended.set()
        for asked in asking:
            asked.result()


def _summary(taken_s: Sequence[float]) -> Latencies:
    p50, p99, longest = 1000 * np.quantile(taken_s, [0.5, 0.99, 1.0])
    return Latencies(len(taken_s), float(p50), float(p99), float(longest))


def report(found: Swaps) -> str:
    """Return the figures as text for people."""
    lines = [f"{'':14} {'requests':>10} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"]
    for name, latencies in (("during swaps", found.during), ("without swaps", found.without)):
        figures = (latencies.p50_ms, latencies.p99_ms, latencies.max_ms)
        lines.append(f"{name:14} {latencies.requests:10,}" + "".join(f" {figure:8.2f}" for figure in figures))
    lines.append(
        f"{found.swaps} swaps, {found.swap_s:.2f} s each from the alias to the first answer; "
        f"{len(found.digests)} routers answered, each request by one; no request failed"
    )
    return "\n".join(lines)


@click.command()
@click.option("--swaps", default=_SWAPS, show_default=True, type=click.IntRange(min=1), help="Swaps in a turn.")
@click.option("--turns", default=_TURNS, show_default=True, type=click.IntRange(min=1), help="How often to measure.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Threads with requests.")
def swaps(swaps: int, turns: int, threads: int) -> None:
    """Measure how long requests wait while router versions are swapped."""
    with tempfile.TemporaryDirectory(prefix="uniroute-bench-") as folder:
        click.echo(report(measure(Path(folder), swaps=swaps, turns=turns, threads=threads)))


if __name__ == "__main__":
    swaps()
