"""Measure how fast a file of prompts is routed, against bare loops: ``python -m flows.bench.batches``.

The bare loops have all prompts in memory and write nothing: one embeds and routes chunks of the same size, the other
prompt by prompt. All see the same prompts and router, in turns, because a machine's speed changes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
import numpy as np

from flows.bench.swaps import random_router

if TYPE_CHECKING:
    from flows.batch_routing import PreparedRouting

_PROMPTS = 100_000
_ALONE = 2_000
_ROUNDS = 3
_WORDS = 40


@dataclass(frozen=True)
class Rates:
    """Prompts per second, medians over the rounds.

    Attributes
    ----------
    file
        From a Parquet file into another.
    chunks
        Embedding and routing in memory, in chunks of the same size.
    alone
        Embedding and routing in memory, prompt by prompt.
    same
        Share of the prompts of `alone` that get the same LLM from all three.
    """

    file: float
    chunks: float
    alone: float
    same: float


def measure(folder: Path, *, prompts: int = _PROMPTS, chunk: int = 10_000, rounds: int = _ROUNDS) -> Rates:
    """Route the same prompts in three ways, in turns.

    Parameters
    ----------
    folder
        An empty folder.
    prompts
        How many prompts the file has.
    chunk
        How many are routed together.
    rounds
        How often each way is taken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from flows.batch_routing import PreparedRouting, route_file
    from routing.embedding import load_embedder

    router = random_router(1)
    prepared = PreparedRouting(router, load_embedder("hashing-256"), None, router.keys, (), True)
    texts = _texts(prompts)
    source, target = folder / "prompts.parquet", folder / "routed.parquet"
    pq.write_table(pa.table({"id": range(prompts), "prompt": texts}), source, row_group_size=50_000)
    few = texts[:_ALONE]
    taken_s: dict[str, list[float]] = {"file": [], "chunks": [], "alone": []}
    for _ in range(rounds):
        taken_s["file"].append(
            _timed(lambda: route_file(prepared, source, target, chunk_rows=chunk, may_overwrite=True))
        )
        taken_s["chunks"].append(_timed(lambda: _chunked(prepared, texts, chunk)))
        taken_s["alone"].append(_timed(lambda: _one_by_one(prepared, few)))
    alone = _one_by_one(prepared, few)
    ways = (pq.read_table(target, columns=["llm"])["llm"].to_pylist(), _chunked(prepared, texts, chunk))
    same = np.mean([all(way[row] == llm for way in ways) for row, llm in enumerate(alone)])
    return Rates(
        prompts / median(taken_s["file"]),
        prompts / median(taken_s["chunks"]),
        len(few) / median(taken_s["alone"]),
        float(same),
    )


def _timed(act: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    act()
    return time.perf_counter() - begun_s


def _chunked(prepared: PreparedRouting, texts: Sequence[str], chunk: int) -> list[str]:
    starts = range(0, len(texts), chunk)
    return [llm for start in starts for llm in prepared.route(texts[start : start + chunk]).llms]


def _one_by_one(prepared: PreparedRouting, texts: Sequence[str]) -> list[str]:
    return [prepared.route([text]).llms[0] for text in texts]


def _texts(prompts: int) -> list[str]:
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(500)])
    return [" ".join(chosen) for chosen in words[random.integers(0, len(words), (prompts, _WORDS))].tolist()]


def report(rates: Rates) -> str:
    """Say the figures for people."""
    rows = (
        ("Parquet file to Parquet file", rates.file),
        ("bare loop over chunks", rates.chunks),
        ("bare loop over prompts", rates.alone),
    )
    lines = [
        f"{name:28} {rate:10,.0f} prompts a second; the file has {rates.file / rate:.2f} times that"
        for name, rate in rows
    ]
    lines.append(f"{rates.same:.1%} of the prompts routed one by one get the same LLM from all three")
    return "\n".join(lines)


@click.command()
@click.option("--prompts", default=_PROMPTS, show_default=True, type=click.IntRange(min=_ALONE), help="How many.")
@click.option("--chunk", default=10_000, show_default=True, type=click.IntRange(min=1), help="Prompts at a time.")
def batches(prompts: int, chunk: int) -> None:
    """Measure how fast a file of prompts is routed."""
    with tempfile.TemporaryDirectory(prefix="uniroute-bench-") as folder:
        click.echo(report(measure(Path(folder), prompts=prompts, chunk=chunk)))


if __name__ == "__main__":
    batches()
