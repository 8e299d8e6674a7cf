"""Cluster maps, feature vectors and router versions: what was derived, from what, and which alias points where."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, func, select

from routing.errors import InvalidInput

from .columns import array_bytes
from .database import Database, Unit, ids_of
from .errors import NotFound, RegistryError
from .ledger import canonical_json
from .runs import Run, Runs
from .tables import (
    ALIASES,
    alias,
    cluster_map,
    cluster_map_array,
    feature_vector,
    llm,
    router,
    router_llm,
    router_metric,
)

_VECTOR_ARRAYS = ("errors", "standard_errors", "counts", "input_tokens", "output_tokens")


@dataclass(frozen=True, eq=False)
class ClusterMapRecord:
    """A fitted cluster map as arrays, and what it was fitted from.

    Attributes
    ----------
    digest
        SHA-256 of its content.
    kind
        Which class reads the arrays.
    prompt_set_digest, embedder_key
        What it was fitted on.
    n_clusters, seed
        How it was fitted.
    arrays
        Name to array; finite float32, float64, int64 or int32.
    run_id
        The run that fitted it.
    """

    digest: str
    kind: str
    prompt_set_digest: str
    embedder_key: str
    n_clusters: int
    seed: int
    arrays: Mapping[str, NDArray[Any]]
    run_id: int | None = None


class VectorFields(Protocol):
    """What `save_vectors` reads; `routing.features.FeatureVector` has it."""

    errors: NDArray[np.float32]
    standard_errors: NDArray[np.float32]
    counts: NDArray[np.int64]
    input_tokens: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    n_prompts: int
    n_scored: int


@dataclass(frozen=True, eq=False)
class StoredVector:
    """The latest feature vector of one LLM on one cluster map: arrays of shape ``(n_clusters,)``."""

    llm_key: str
    cluster_map_digest: str
    prompt_set_digest: str
    run_id: int
    digest: str
    errors: NDArray[np.float32]
    standard_errors: NDArray[np.float32]
    counts: NDArray[np.int64]
    input_tokens: NDArray[np.float32]
    output_tokens: NDArray[np.float32]
    n_prompts: int
    n_scored: int


@dataclass(frozen=True)
class RouterRecord:
    """One immutable router version and what it came from.

    Attributes
    ----------
    digest
        SHA-256 of its content.
    publish_key
        Names the publication, so that repeating it makes no second version.
    parent_digest
        The champion at the time; None for the first router.
    llm_keys
        The LLMs it can choose, in its order.
    metrics
        Finite numbers by name.
    files_json
        Digests of the files of its folder, as JSON.
    created_at
        When, in UTC.
    number
        Counts the routers of this registry, from 1.
    mlflow_name, mlflow_version, mlflow_run_id
        Where it was published; None until then.
    aliases
        Those that point to it now.
    """

    digest: str
    publish_key: str
    parent_digest: str | None
    cluster_map_digest: str
    prompt_set_digest: str
    embedder_key: str
    run_id: int
    llm_keys: tuple[str, ...]
    metrics: Mapping[str, float]
    files_json: str
    created_at: datetime
    number: int = 0
    mlflow_name: str | None = None
    mlflow_version: int | None = None
    mlflow_run_id: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aliases:
    """Which router digest each alias points to; None where it points nowhere."""

    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None


class Routers:
    """Keep and find cluster maps, feature vectors and router versions."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def save_cluster_map(self, record: ClusterMapRecord, *, unit: Unit | None = None) -> None:
        """Keep a cluster map; one that is already stored stays as it is.

        Parameters
        ----------
        record
            The map.
        unit
            The transaction to join.
        """
        with self._database.write(unit) as opened:
            if opened.execute(select(cluster_map.c.id).where(cluster_map.c.digest == record.digest)).first():
                return
            facts = {name: getattr(record, name) for name in ClusterMapRecord.__dataclass_fields__ if name != "arrays"}
            number = opened.execute(cluster_map.insert().values(facts)).inserted_primary_key[0]
            for name, values in sorted(record.arrays.items()):
                opened.execute(cluster_map_array.insert().values(cluster_map_id=number, name=name, contents=values))

    def cluster_map(self, digest: str) -> ClusterMapRecord:
        """Give a cluster map by digest.

        Raises
        ------
        NotFound
            When there is none.
        """
        found = self._cluster_map(cluster_map.c.digest == digest)
        if found is None:
            raise NotFound(f"there is no cluster map {digest[:12]}")
        return found

    def latest_cluster_map(self, prompt_set_digest: str, embedder_key: str) -> ClusterMapRecord | None:
        """Give the map that was fitted last on this prompt set with this embedder; None when there is none."""
        return self._cluster_map(
            (cluster_map.c.prompt_set_digest == prompt_set_digest) & (cluster_map.c.embedder_key == embedder_key)
        )

    def _cluster_map(self, condition: ColumnElement[bool]) -> ClusterMapRecord | None:
        with self._database.read() as unit:
            row = unit.execute(select(cluster_map).where(condition).order_by(cluster_map.c.id.desc())).first()
            if row is None:
                return None
            stored = unit.execute(
                select(cluster_map_array.c.name, cluster_map_array.c.contents)
                .where(cluster_map_array.c.cluster_map_id == row.id)
                .order_by(cluster_map_array.c.name)
            )
            arrays = {row.name: row.contents for row in stored}
        facts = {name: row._mapping[name] for name in ClusterMapRecord.__dataclass_fields__ if name != "arrays"}
        return ClusterMapRecord(**facts, arrays=arrays)

    def save_vectors(
        self,
        cluster_map_digest: str,
        vectors: Mapping[str, VectorFields],
        prompt_set_digest: str,
        run: Run | int,
        *,
        unit: Unit | None = None,
    ) -> int:
        """Keep feature vectors; one that equals the LLM's latest is not stored again.

        Parameters
        ----------
        cluster_map_digest
            The map whose clusters the vectors speak of.
        vectors
            By LLM key.
        prompt_set_digest
            The prompts behind the numbers.
        run
            The run that computed them; fenced as in `Outcomes.record`.
        unit
            The transaction to join.

        Returns
        -------
        int
            How many were written.

        Raises
        ------
        InvalidInput
            For a vector of another length, or with NaN or infinite values.
        NotFound
            For an unknown map or LLM.
        """
        with self._database.write(unit) as opened:
            held = self._runs.require_lease(run, opened)
            shape = opened.execute(
                select(cluster_map.c.id, cluster_map.c.n_clusters).where(cluster_map.c.digest == cluster_map_digest)
            ).first()
            if shape is None:
                raise NotFound(f"there is no cluster map {cluster_map_digest[:12]}", unchanged="Nothing was written.")
            numbers = self._llm_numbers(opened, tuple(vectors))
            latest = {one.llm_key: one.digest for one in self.vectors(cluster_map_digest, unit=opened)}
            rows = []
            for key, vector in sorted(vectors.items()):
                row = _vector_row(key, vector, shape.n_clusters, prompt_set_digest)
                if latest.get(key) != row["digest"]:
                    rows.append({**row, "cluster_map_id": shape.id, "llm_id": numbers[key], "run_id": held.id})
            if rows:
                opened.execute(feature_vector.insert(), rows)
            return len(rows)

    def vectors(self, cluster_map_digest: str, *, unit: Unit | None = None) -> tuple[StoredVector, ...]:
        """Give the latest feature vector of each LLM on a cluster map, by LLM key."""
        newest = (
            select(func.max(feature_vector.c.id))
            .join_from(feature_vector, cluster_map)
            .where(cluster_map.c.digest == cluster_map_digest)
            .group_by(feature_vector.c.llm_id)
        )
        fields = [name for name in StoredVector.__dataclass_fields__ if name not in ("llm_key", "cluster_map_digest")]
        with self._database.read(unit) as opened:
            rows = opened.execute(
                select(llm.c.key, *(feature_vector.c[name] for name in fields))
                .join_from(feature_vector, llm)
                .where(feature_vector.c.id.in_(newest))
                .order_by(llm.c.key)
            )
            return tuple(StoredVector(row[0], cluster_map_digest, *row[1:]) for row in rows)

    def save(self, record: RouterRecord, *, unit: Unit | None = None) -> RouterRecord:
        """Keep a router version; one of the same digest stays as it is and is returned.

        Parameters
        ----------
        record
            The router; `number`, the publication and `aliases` are not taken from it.
        unit
            The transaction to join.

        Raises
        ------
        InvalidInput
            For a metric that is not finite.
        NotFound
            For an LLM, parent, cluster map or prompt set that is not stored.
        RegistryError
            When the publish key belongs to another router.
        """
        unfit = [name for name, value in record.metrics.items() if not math.isfinite(value)]
        if unfit:
            raise InvalidInput(f"metric {unfit[0]} of router {record.digest[:12]} is not finite")
        with self._database.write(unit) as opened:
            known = opened.execute(select(router).where(router.c.digest == record.digest)).first()
            if known is not None:
                return self._record(opened, known)
            taken = opened.execute(select(router.c.digest).where(router.c.publish_key == record.publish_key)).scalar()
            if taken is not None:
                raise RegistryError(
                    f"the publish key {record.publish_key} already belongs to router {taken[:12]}",
                    unchanged="The new router was not stored.",
                    hint="derive the publish key from the digest",
                )
            numbers = self._llm_numbers(opened, record.llm_keys)
            columns = ("digest", "publish_key", "parent_digest", "cluster_map_digest", "prompt_set_digest")
            columns += ("embedder_key", "run_id", "files_json", "created_at")
            facts = {name: getattr(record, name) for name in columns}
            number = opened.execute(router.insert().values(facts)).inserted_primary_key[0]
            for position, key in enumerate(record.llm_keys):
                place = {"router_id": number, "position": position, "llm_id": numbers[key]}
                opened.execute(router_llm.insert().values(place))
            for name, value in sorted(record.metrics.items()):
                metric = {"router_id": number, "name": name, "value": float(value)}
                opened.execute(router_metric.insert().values(metric))
            return self.get(record.digest, unit=opened)

    def get(self, name: str, *, unit: Unit | None = None) -> RouterRecord:
        """Give a router by digest, by a prefix of it, by version (``v3``) or by alias.

        Raises
        ------
        NotFound
            When none, or more than one, answers to that name.
        """
        with self._database.read(unit) as opened:
            rows = opened.execute(select(router).where(self._named(name)).limit(3)).fetchall()
            if len(rows) == 1:
                return self._record(opened, rows[0])
        if rows:
            raise NotFound(f"more than one router begins with {name!r}", hint="give more digits")
        raise NotFound(f"there is no router {name!r}", hint="uniroute router list")

    def list(self) -> tuple[RouterRecord, ...]:
        """Give all routers, the newest first."""
        with self._database.read() as unit:
            rows = unit.execute(select(router).order_by(router.c.id.desc())).fetchall()
            return tuple(self._record(unit, row) for row in rows)

    def set_published(
        self, digest: str, name: str, version: int, mlflow_run_id: str, *, unit: Unit | None = None
    ) -> RouterRecord:
        """Note where a router was published; saying the same again changes nothing.

        Raises
        ------
        NotFound
            When there is no such router.
        RegistryError
            When it is already published as something else, or the version belongs to another router.
        """
        with self._database.write(unit) as opened:
            record = self.get(digest, unit=opened)
            if (record.mlflow_name, record.mlflow_version) == (name, version):
                return record
            if record.mlflow_version is not None:
                raise RegistryError(
                    f"router {digest[:12]} is already published as {record.mlflow_name} v{record.mlflow_version}",
                    unchanged="The registry still names that version.",
                    hint="uniroute doctor",
                )
            facts = {"mlflow_name": name, "mlflow_version": version, "mlflow_run_id": mlflow_run_id}
            opened.execute(router.update().where(router.c.digest == digest).values(facts))
            return self.get(digest, unit=opened)

    def aliases(self, *, unit: Unit | None = None) -> Aliases:
        """Give where the aliases point."""
        with self._database.read(unit) as opened:
            return Aliases(**{row.name: row.router_digest for row in opened.execute(select(alias))})

    def _named(self, name: str) -> ColumnElement[bool]:
        if name in ALIASES:
            return router.c.digest.in_(select(alias.c.router_digest).where(alias.c.name == name))
        if re.fullmatch(r"v[0-9]{1,9}", name):
            return router.c.mlflow_version == int(name[1:])
        if re.fullmatch(r"[0-9a-f]{4,64}", name):
            return router.c.digest.startswith(name)
        return router.c.publish_key == name

    def _record(self, unit: Unit, row: Row) -> RouterRecord:
        llms = unit.execute(
            select(llm.c.key)
            .join_from(router_llm, llm)
            .where(router_llm.c.router_id == row.id)
            .order_by(router_llm.c.position)
        ).scalars()
        metrics = unit.execute(
            select(router_metric.c.name, router_metric.c.value)
            .where(router_metric.c.router_id == row.id)
            .order_by(router_metric.c.name)
        )
        pointing = unit.execute(
            select(alias.c.name).where(alias.c.router_digest == row.digest).order_by(alias.c.name)
        ).scalars()
        facts = {name: row._mapping[name] for name in RouterRecord.__dataclass_fields__ if name in row._mapping}
        return RouterRecord(
            **facts,
            llm_keys=tuple(llms),
            metrics={metric.name: metric.value for metric in metrics},
            number=row.id,
            aliases=tuple(pointing),
        )

    def _llm_numbers(self, unit: Unit, keys: tuple[str, ...]) -> Mapping[str, int]:
        numbers = ids_of(unit, llm.c.key, llm.c.id, keys)
        unknown = set(keys) - set(numbers)
        if unknown:
            raise NotFound(f"there is no LLM {min(unknown)!r}", unchanged="Nothing was written.")
        return numbers


def _vector_row(key: str, vector: VectorFields, n_clusters: int, prompt_set_digest: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    digest = hashlib.sha256(prompt_set_digest.encode())
    for name in _VECTOR_ARRAYS:
        kind = np.int64 if name == "counts" else np.float32
        values = np.ascontiguousarray(getattr(vector, name), dtype=kind)
        if values.shape != (n_clusters,):
            raise InvalidInput(f"{name} of {key} has shape {values.shape}; the cluster map has {n_clusters} clusters")
        digest.update(array_bytes(values))
        row[name] = values
    facts = {"n_prompts": int(vector.n_prompts), "n_scored": int(vector.n_scored)}
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return {**row, **facts, "prompt_set_digest": prompt_set_digest, "digest": digest.hexdigest()}


def files_json(files: Mapping[str, str]) -> str:
    """Write the digests of a router folder's files the way `RouterRecord` keeps them."""
    return canonical_json(dict(files))
