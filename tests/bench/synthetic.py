"""A registry of any size on PostgreSQL, filled with synthetic outcomes, to measure what growth costs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from sqlalchemy import text
from sqlalchemy.schema import AddConstraint, DropConstraint

from registry.db.database import Database, Unit, ids_of
from registry.db.tables import llm, outcome, prompt, protocol
from registry.listings import CatalogFetch, Listing
from registry.outcome_queries import make_room, sums_query
from registry.outcomes import grader_labels
from registry.prompts import Prompt, PromptSet
from registry.store import Registry
from routing.errors import InvalidInput

GRADERS = {"choice": "1"}
SAMPLING = '{"temperature":0}'
_NOW = datetime(2024, 9, 1, tzinfo=UTC)
_COLUMNS = (
    "llm_id, protocol_id, prompt_id, score, input_tokens, output_tokens, cost_picousd, latency_s, finish_reason, "
    "attempts, usage_estimated, asked_at, run_id, lease_number"
)
_LLMS_AT_ONCE = 20


@dataclass(frozen=True)
class Sizes:
    """Number of outcomes, and the space they take in bytes."""

    rows: int
    table_bytes: int
    index_bytes: int


@dataclass(frozen=True)
class Grown:
    """A filled registry: its LLMs, its prompts, and the cluster of each prompt."""

    llm_keys: tuple[str, ...]
    prompts: PromptSet
    clusters: Mapping[str, int]


class Growth:
    """Fills an empty registry on PostgreSQL and inspects how it answers."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        if self._database.is_sqlite:
            raise InvalidInput("growth is measured on PostgreSQL", hint="use a postgresql:// URL")
        self._registry = Registry.open(url)

    def fill(self, n_llms: int, n_prompts: int, *, n_clusters: int, seed: int = 0) -> Grown:
        """Store LLMs and prompts, and an outcome of each LLM for each prompt, by COPY.

        Foreign keys are checked once at the end, as is usual in bulk loads.

        Parameters
        ----------
        n_llms, n_prompts
            Numbers of LLMs and prompts.
        n_clusters
            Number of clusters that the prompts are dealt to.
        seed
            Seed of the scores.
        """
        day = date(2024, 9, 1)
        run = self._registry.runs.start(
            "night:growth", as_of=day, settings_hash="", settings_json="{}", host="", pid=0, now=_NOW, lease_s=3600
        )
        listings = tuple(_listing(number) for number in range(n_llms))
        self._registry.llms.record_fetches(run, [CatalogFetch("growth", listings, (), True, "growth")], day)
        asked = tuple(Prompt(f"p{n}", f"Question {n}?", "ABCD"[n % 4], "choice", None) for n in range(n_prompts))
        prompts = self._registry.prompts.freeze("growth", asked)
        clusters = {one.digest: number % n_clusters for number, one in enumerate(asked)}
        with self._database.write() as unit:
            names = {"grader": grader_labels(GRADERS)["choice"], "sampling": SAMPLING}
            protocol_id = unit.execute(protocol.insert().values(names)).inserted_primary_key[0]
            keys = tuple(one.llm_key for one in listings)
            llm_numbers = list(ids_of(unit, llm.c.key, llm.c.id, keys).values())
            prompt_numbers = list(ids_of(unit, prompt.c.digest, prompt.c.id, list(clusters)).values())
            for constraint in outcome.foreign_key_constraints:
                unit.execute(DropConstraint(constraint))
            _copy(unit, llm_numbers, prompt_numbers, (protocol_id, run.id, run.lease_number), seed)
            for constraint in outcome.foreign_key_constraints:
                unit.execute(AddConstraint(constraint))
        self._database.release_space(outcome.name)
        return Grown(keys, prompts, clusters)

    @property
    def registry(self) -> Registry:
        """The registry that is filled."""
        return self._registry

    def sizes(self) -> Sizes:
        """Return how much space the outcomes take."""
        query = "SELECT (SELECT count(*) FROM outcome), pg_table_size('outcome'), pg_indexes_size('outcome')"
        with self._database.read() as unit:
            return Sizes(*unit.execute(text(query)).one())

    def plan(self, grown: Grown, llm_keys: Sequence[str]) -> str:
        """Return the server's plan for summing these LLMs' outcomes per cluster, with times."""
        with self._database.read() as unit:
            numbers = ids_of(unit, prompt.c.digest, prompt.c.id, list(grown.clusters))
            members = [(number, grown.clusters[digest]) for digest, number in numbers.items()]
            llms = list(ids_of(unit, llm.c.key, llm.c.id, llm_keys).values())
            make_room(unit)
            query = sums_query(unit, llms, members, sorted(grader_labels(GRADERS).values()), SAMPLING)
            written = query.compile(unit.engine, compile_kwargs={"render_postcompile": True})
            rows = unit.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {written}", dict(written.params))
            # The line with the list of prompts is as long as that list.
            return "\n".join(row[0] if len(row[0]) < 200 else f"{row[0][:160]} ..." for row in rows)

    def close(self) -> None:
        """Close every connection."""
        self._registry.close()
        self._database.close()


def _listing(number: int) -> Listing:
    price = Decimal(number + 1) / 100
    return Listing(
        catalog="growth",
        endpoint="growth",
        llm_id=f"llm-{number}",
        canonical_id=None,
        name=f"LLM {number}",
        released_at=None,
        context_tokens=8192,
        input_usd_per_mtok=price,
        output_usd_per_mtok=price,
        refusal=None,
        deprecated_at=None,
        raw="{}",
    )


def _copy(
    unit: Unit, llm_numbers: Sequence[int], prompt_numbers: Sequence[int], ids: tuple[int, int, int], seed: int
) -> None:
    import pyarrow as pa
    from pyarrow import csv

    random = np.random.default_rng(seed)
    driver: Any = unit.connection.dbapi_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY outcome ({_COLUMNS}) FROM STDIN (FORMAT csv)") as copy:
        for start in range(0, len(llm_numbers), _LLMS_AT_ONCE):
            some = llm_numbers[start : start + _LLMS_AT_ONCE]
            n = len(some) * len(prompt_numbers)
            skill = np.repeat(random.uniform(0.3, 0.9, len(some)), len(prompt_numbers))
            columns = [
                np.repeat(some, len(prompt_numbers)),
                np.full(n, ids[0]),
                np.tile(prompt_numbers, len(some)),
                (random.random(n) < skill).astype(float),
                random.integers(50, 800, n),
                random.integers(1, 400, n),
                random.integers(10**6, 10**9, n),
                random.random(n).round(3),
                np.full(n, "stop"),
                np.ones(n, dtype=int),
                np.full(n, "f"),
                np.full(n, _NOW.isoformat()),
                np.full(n, ids[1]),
                np.full(n, ids[2]),
            ]
            buffer = io.BytesIO()
            table = pa.table({str(place): values for place, values in enumerate(columns)})
            csv.write_csv(table, buffer, csv.WriteOptions(include_header=False, quoting_style="needed"))
            copy.write(buffer.getvalue())
