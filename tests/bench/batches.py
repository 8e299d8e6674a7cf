"""Measure how fast a file of prompts is routed, on Spark and without, against bare loops: ``make bench-spark``.

Two ways read one Parquet file and write another: `uniroute route`, and a local Spark with the published router. The
others keep all prompts in memory and write nothing: the published router in this process, and bare loops that embed and
route chunk by chunk and prompt by prompt. All get the same prompts and router and take turns, because the speed of a
machine changes; every decision of every way is compared.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from tests.bench.local_spark import local_spark, route_with_spark
from tests.bench.random_routers import published, random_router, random_texts, tracking_url

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.batch.routing import PreparedRouting
    from routing.embedding import Embedder

_NAME = "batches"
_PROMPTS = 100_000
# One prompt in this many is routed alone, which takes long.
_ALONE_SHARE = 50
_ROUNDS = 3
_WORDS = 40
_CORES = 2
_NUMBERS = ("expected_score", "standard_error", "expected_cost_usd")
_SPARK, _FILE, _PUBLISHED = "Spark, file to file", "uniroute route, file to file", "published router, chunks in memory"
_CHUNKS, _ALONE_WAY = "bare loop over chunks", "bare loop over prompts"


@dataclass(frozen=True)
class Answers:
    """Decisions of one way, in the order of the prompts.

    Attributes
    ----------
    llms
        Keys of the chosen LLMs.
    clusters : (n,) int64
        Clusters of the prompts.
    numbers : (n, 3) float64
        Expected score, its standard error and expected USD.
    """

    llms: tuple[str, ...]
    clusters: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.float64]

    @classmethod
    def of_columns(cls, columns: Mapping[str, Any]) -> Answers:
        """Read them from columns by name."""
        numbers = np.column_stack([np.asarray(columns[name], dtype=np.float64) for name in _NUMBERS])
        return cls(tuple(columns["llm"]), np.asarray(columns["cluster"]), numbers)

    @classmethod
    def of_table(cls, table: pa.Table) -> Answers:
        """Read them from a table, in the order of its column `id`."""
        ordered = table.sort_by("id")
        return cls.of_columns({name: ordered[name].to_pylist() for name in ("llm", "cluster", *_NUMBERS)})

    def differing(self, others: Answers) -> int:
        """Count the prompts with another LLM or cluster; if the others are more, their first ones are compared."""
        n = len(self.llms)
        same = self.clusters == others.clusters[:n]
        same &= np.fromiter((one == two for one, two in zip(self.llms, others.llms[:n], strict=True)), bool, n)
        return int(np.count_nonzero(~same))

    def largest_difference(self, others: Answers) -> float:
        """Return the largest difference of a number, relative to the number."""
        n = len(self.numbers)
        return float((np.abs(self.numbers - others.numbers[:n]) / np.maximum(np.abs(self.numbers), 1e-12)).max())


@dataclass(frozen=True)
class Batches:
    """How fast each way was, and whether it decided the same.

    Attributes
    ----------
    rates
        Prompts per second by way, medians over the rounds.
    differing
        Prompts with another LLM or cluster than by the bare loop over chunks, by way.
    largest_differences
        Largest relative difference of an expected score, standard error or cost from that loop's, by way.
    spark_start_s
        Seconds until Spark had started.
    spark_first_s
        Seconds of its first routing, which starts its workers.
    """

    rates: Mapping[str, float]
    differing: Mapping[str, int]
    largest_differences: Mapping[str, float]
    spark_start_s: float
    spark_first_s: float


def measure(
    folder: Path, embedder: Embedder, *, prompts: int = _PROMPTS, chunk: int = 10_000, rounds: int = _ROUNDS
) -> Batches:
    """Route the same prompts in every way, in turns.

    Parameters
    ----------
    folder
        An empty folder.
    embedder
        Embeds the prompts.
    prompts
        Number of prompts in the file.
    chunk
        Number of prompts that are routed together.
    rounds
        How often each way is measured, after one run that does not count.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = random_texts(0, prompts, _WORDS)
    pq.write_table(pa.table({"id": range(prompts), "prompt": texts}), folder / "prompts.parquet", row_group_size=50_000)
    begun_s = time.perf_counter()
    with local_spark(_CORES, batch_rows=chunk) as session:
        spark_start_s = time.perf_counter() - begun_s
        with _ways(folder, embedder, session, texts, chunk) as ways:
            answers, first_s = {}, {}
            for name, take in ways.items():
                begun_s = time.perf_counter()
                routed = take()
                first_s[name] = time.perf_counter() - begun_s
                answers[name] = _answers(folder, name, routed)
            taken_s = [{name: _timed(take) for name, take in ways.items()} for _ in range(rounds)]
    middle_s = {name: median(taken[name] for taken in taken_s) for name in first_s}
    compared = {name: found for name, found in answers.items() if name != _CHUNKS}
    return Batches(
        rates={name: len(answers[name].llms) / seconds for name, seconds in middle_s.items()},
        differing={name: found.differing(answers[_CHUNKS]) for name, found in compared.items()},
        largest_differences={name: found.largest_difference(answers[_CHUNKS]) for name, found in compared.items()},
        spark_start_s=spark_start_s,
        spark_first_s=first_s[_SPARK],
    )


@contextmanager
def _ways(
    folder: Path, embedder: Embedder, session: Any, texts: Sequence[str], chunk: int
) -> Iterator[Mapping[str, Callable[[], Any]]]:
    """Publish a router and yield the functions that route the prompts, by way."""
    from flows.batch.routing import PreparedRouting, route_file
    from registry.publishing.client import RouterClient
    from registry.publishing.spark import spark_router

    router = random_router(1, embedder)
    published(folder, _NAME, [router], embedder)
    prepared = PreparedRouting(router, embedder, None, router.keys, (), True)
    route = spark_router(session, _NAME, "champion", tracking_url=tracking_url(folder))
    source, target = folder / "prompts.parquet", folder / "routed.parquet"
    chunks = [texts[start : start + chunk] for start in range(0, len(texts), chunk)]
    with RouterClient(_NAME, tracking_url=tracking_url(folder), every_s=86_400.0) as client:
        yield {
            _SPARK: lambda: route_with_spark(session, route, source, folder / "spark.parquet"),
            _FILE: lambda: route_file(prepared, source, target, chunk_rows=chunk, may_overwrite=True),
            _PUBLISHED: lambda: [client.predict(texts) for texts in chunks],
            _CHUNKS: lambda: _routed(prepared, chunks),
            _ALONE_WAY: lambda: _routed(prepared, [[text] for text in texts[: len(texts) // _ALONE_SHARE]]),
        }


def _routed(prepared: PreparedRouting, chunks: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    found = [prepared.route(texts) for texts in chunks]
    return [
        {"llm": decisions.llms, "cluster": decisions.cluster} | {name: getattr(decisions, name) for name in _NUMBERS}
        for decisions in found
    ]


def _answers(folder: Path, name: str, chunks: Any) -> Answers:
    """Read the file that a way wrote, or join the chunks that it returned."""
    import pyarrow.parquet as pq

    written = {_SPARK: folder / "spark.parquet", _FILE: folder / "routed.parquet"}
    if name in written:
        return Answers.of_table(pq.read_table(written[name]))
    columns = ("llm", "cluster", *_NUMBERS)
    return Answers.of_columns({column: np.concatenate([chunk[column] for chunk in chunks]) for column in columns})


def _timed(act: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    act()
    return time.perf_counter() - begun_s


def report(found: Batches) -> str:
    """Return the figures as text for people."""
    lines = [f"{'':36} {'prompts/s':>10} {'of bare loop':>13} {'differing':>10} {'difference':>14}"]
    for name, rate in found.rates.items():
        line = f"{name:36} {rate:10,.1f} {rate / found.rates[_CHUNKS]:13.2f}"
        if name in found.differing:
            line += f" {found.differing[name]:10,} {found.largest_differences[name]:14.1e}"
        lines.append(line)
    lines.append(
        f"Spark took {found.spark_start_s:.1f} s to start and {found.spark_first_s:.1f} s to route the first time; "
        "neither is included above"
    )
    return "\n".join(lines)


@click.command()
@click.option("--prompts", default=_PROMPTS, show_default=True, type=click.IntRange(min=_ALONE_SHARE), help="How many.")
@click.option("--chunk", default=10_000, show_default=True, type=click.IntRange(min=1), help="Prompts at a time.")
@click.option("--rounds", default=_ROUNDS, show_default=True, type=click.IntRange(min=1), help="How often each way.")
@click.option("--embedder", "name", default="hashing-256", show_default=True, help="What embeds the prompts.")
def batches(prompts: int, chunk: int, rounds: int, name: str) -> None:
    """Measure how fast a file of prompts is routed, and fail if two ways decide differently."""
    from flows.config.loading import load_settings
    from routing.embedders import load_embedder

    embedder = load_embedder(name, folder=load_settings(None).home / "embedders")
    click.echo(f"{prompts:,} prompts of {_WORDS} words, {name}, Spark local[{_CORES}], chunks of {chunk:,}")
    with tempfile.TemporaryDirectory(prefix="uniroute-bench-", ignore_cleanup_errors=True) as folder:
        found = measure(Path(folder), embedder, prompts=prompts, chunk=chunk, rounds=rounds)
    click.echo(report(found))
    sys.exit(1 if any(found.differing.values()) else 0)


if __name__ == "__main__":
    batches()
