"""Cluster maps and feature vectors as they are stored: arrays, and what they were derived from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from operator import itemgetter
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, func, select

from registry.cluster_maps.vectors import StoredVector, VectorFields, vector_row
from registry.db.database import Database, Unit, ids_of
from registry.db.tables import cluster_map, cluster_map_array, feature_vector, llm, router, run
from registry.errors import NotFound
from registry.ledger import Ledger
from registry.runs import Run, Runs
from routing.day_zero import LevelPrior

REFITTED = "router:map:refitted"
"""The ledger event of a cluster map and prior that were fitted anew; its subject is the digest of the result."""


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


@dataclass(frozen=True)
class FitSettings:
    """What the settings ask of a cluster map and prior.

    Attributes
    ----------
    embedder_key
        The embedder.
    kind, seed
        As in `ClusterMapRecord`.
    n_clusters
        The number asked for; 0 when simulation chooses it, None when it is not for the settings to say.
    """

    embedder_key: str
    kind: str
    seed: int
    n_clusters: int | None = None

    def accepts(self, record: ClusterMapRecord) -> bool:
        """Whether a map was fitted under these settings."""
        # Estimators need scikit-learn, which those who only route do without.
        from routing.stored_estimator import ASKED

        asked = int(record.arrays[ASKED][0]) if ASKED in record.arrays else record.n_clusters
        facts = (record.embedder_key, record.kind, record.seed)
        return facts == (self.embedder_key, self.kind, self.seed) and self.n_clusters in (None, asked)


@dataclass(frozen=True)
class RefitRecord:
    """What the ledger keeps of a refit.

    Attributes
    ----------
    run_key
        The night.
    before
        Digest of the map that was in use.
    why
        What made it due.
    n_llms
        Number of LLMs whose answers the map was fitted on.
    """

    run_key: str
    before: str
    why: str
    n_llms: int


@dataclass(frozen=True, eq=False)
class FittedMap:
    """The cluster map and prior in use, and when they were fitted last.

    Attributes
    ----------
    record
        The map.
    on
        The day of the night that fitted it last; None when that is not known.
    refit
        How it was fitted anew; None for the first fit.
    """

    record: ClusterMapRecord
    on: date | None
    refit: RefitRecord | None = None


class ClusterMaps:
    """Store and find cluster maps and feature vectors."""

    def __init__(self, database: Database, runs: Runs, events: Ledger) -> None:
        self._database = database
        self._runs = runs
        self._events = events

    def save_cluster_map(self, record: ClusterMapRecord, *, unit: Unit | None = None) -> None:
        """Store a cluster map; one that is already stored stays as it is.

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
        """Return a cluster map by digest.

        Raises
        ------
        NotFound
            When there is none.
        """
        found = self._cluster_map(cluster_map.c.digest == digest)
        if found is None:
            raise NotFound(f"there is no cluster map {digest[:12]}")
        return found

    def save_refit(
        self, record: ClusterMapRecord, held: Run, *, before: str, why: str, n_llms: int, actor: str, now: datetime
    ) -> RefitRecord:
        """Store a cluster map that was fitted anew, and record it in the ledger, together.

        The result may be a map that is stored already; it is in use again from now on.

        Parameters
        ----------
        record
            The map.
        held
            The night; fenced as in `Outcomes.record`.
        before, why, n_llms
            As in `RefitRecord`.
        actor, now
            Who fitted it, and when.
        """
        with self._database.write() as unit:
            self._runs.require_lease(held, unit)
            self.save_cluster_map(record, unit=unit)
            facts = {name: getattr(record, name) for name in ("prompt_set_digest", "embedder_key", "kind", "seed")}
            facts |= {"before": before, "n_llms": n_llms, "as_of": held.as_of.isoformat(), "run_key": held.key}
            self._events.append(REFITTED, record.digest, actor=actor, now=now, reason=why, payload=facts, unit=unit)
        return RefitRecord(held.key, before, why, n_llms)

    def fitted_map(self, wanted: FitSettings, prompt_set_digest: str | None = None) -> FittedMap | None:
        """Return the map that was fitted last under some settings; None when there is none.

        Two prompt sets with the same map prompts have the same map, which is stored once: for the second set, the
        routers made from it say so.

        Parameters
        ----------
        wanted
            The settings.
        prompt_set_digest
            Only maps fitted on, or used for, this prompt set; by default, on any.
        """
        with self._database.read() as unit:
            found = [
                self._last_refit(wanted, prompt_set_digest, unit),
                self._first_fit(wanted, prompt_set_digest, unit),
            ]
            known = [one for one in found if one is not None]
            return max(known, key=lambda one: one.on or date.min, default=None)

    def _last_refit(self, wanted: FitSettings, prompt_set_digest: str | None, unit: Unit) -> FittedMap | None:
        for event in reversed(self._events.events(event=REFITTED, unit=unit)):
            facts = json.loads(event.payload_json)
            if prompt_set_digest in (None, facts["prompt_set_digest"]) and facts["kind"] == wanted.kind:
                record = self._cluster_map(cluster_map.c.digest == event.subject, unit)
                if record is not None and wanted.accepts(record):
                    refit = RefitRecord(facts["run_key"], facts["before"], event.reason, facts["n_llms"])
                    return FittedMap(record, date.fromisoformat(facts["as_of"]), refit)
        return None

    def _first_fit(self, wanted: FitSettings, prompt_set_digest: str | None, unit: Unit) -> FittedMap | None:
        condition = (cluster_map.c.kind == wanted.kind) & (cluster_map.c.embedder_key == wanted.embedder_key)
        if prompt_set_digest is not None:
            of_routers = select(router.c.cluster_map_digest).where(router.c.prompt_set_digest == prompt_set_digest)
            of_set = (cluster_map.c.prompt_set_digest == prompt_set_digest) | cluster_map.c.digest.in_(of_routers)
            condition &= of_set
        days = select(cluster_map.c.digest, run.c.as_of).outerjoin_from(cluster_map, run).where(condition)
        for row in unit.execute(days.order_by(cluster_map.c.id.desc())).fetchall():
            record = self._cluster_map(cluster_map.c.digest == row.digest, unit)
            if record is not None and wanted.accepts(record):
                return FittedMap(record, row.as_of)
        return None

    def _cluster_map(self, condition: ColumnElement[bool], joined: Unit | None = None) -> ClusterMapRecord | None:
        with self._database.read(joined) as unit:
            row = unit.execute(select(cluster_map).where(condition)).first()
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
        """Store feature vectors; one that equals the LLM's latest is not stored again.

        Parameters
        ----------
        cluster_map_digest
            The map whose clusters the vectors refer to.
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
                row = vector_row(key, vector, shape.n_clusters, prompt_set_digest)
                if latest.get(key) != row["digest"]:
                    rows.append({**row, "cluster_map_id": shape.id, "llm_id": numbers[key], "run_id": held.id})
            if rows:
                opened.execute(feature_vector.insert(), rows)
            return len(rows)

    def vectors(
        self, cluster_map_digest: str, *, prompt_set_digest: str | None = None, unit: Unit | None = None
    ) -> tuple[StoredVector, ...]:
        """Return the latest feature vector of each LLM on a cluster map, by LLM key.

        Parameters
        ----------
        cluster_map_digest
            The map whose clusters the vectors refer to.
        prompt_set_digest
            Only vectors of these prompts: two prompt sets may share a map, and their vectors must never be mixed.
        unit
            The transaction to join.
        """
        newest = _one_per_llm(func.max(feature_vector.c.id), cluster_map_digest)
        if prompt_set_digest is not None:
            newest = newest.where(feature_vector.c.prompt_set_digest == prompt_set_digest)
        fields = [name for name in StoredVector.__dataclass_fields__ if name not in ("llm_key", "cluster_map_digest")]
        with self._database.read(unit) as opened:
            rows = opened.execute(
                select(llm.c.key, *(feature_vector.c[name] for name in fields))
                .join_from(feature_vector, llm)
                .where(feature_vector.c.id.in_(newest))
            )
            # A server sorts text by the rules of its own language.
            return tuple(StoredVector(row[0], cluster_map_digest, *row[1:]) for row in sorted(rows, key=itemgetter(0)))

    def levels(self, cluster_map_digest: str) -> Mapping[str, LevelPrior | None]:
        """Return what was expected of each LLM's level when its first vector on a cluster map was computed, by LLM key.

        Its later vectors on this map start from the same, whatever catalogs say meanwhile.
        """
        first = _one_per_llm(func.min(feature_vector.c.id), cluster_map_digest)
        with self._database.read() as unit:
            rows = unit.execute(
                select(llm.c.key, feature_vector.c.level_mean, feature_vector.c.level_variance)
                .join_from(feature_vector, llm)
                .where(feature_vector.c.id.in_(first))
            )
            return {
                key: None if mean is None or variance is None else LevelPrior(mean, variance)
                for key, mean, variance in rows
            }

    def vector_history(self, cluster_map_digest: str, llm_key: str) -> tuple[StoredVector, ...]:
        """Return every feature vector that one LLM has had on a cluster map, the oldest first."""
        fields = [name for name in StoredVector.__dataclass_fields__ if name not in ("llm_key", "cluster_map_digest")]
        with self._database.read() as unit:
            rows = unit.execute(
                select(*(feature_vector.c[name] for name in fields))
                .join_from(feature_vector, llm)
                .join(cluster_map, cluster_map.c.id == feature_vector.c.cluster_map_id)
                .where(cluster_map.c.digest == cluster_map_digest, llm.c.key == llm_key)
                .order_by(feature_vector.c.id)
            )
            return tuple(StoredVector(llm_key, cluster_map_digest, *row) for row in rows)

    def _llm_numbers(self, unit: Unit, keys: tuple[str, ...]) -> Mapping[str, int]:
        numbers = ids_of(unit, llm.c.key, llm.c.id, keys)
        unknown = set(keys) - set(numbers)
        if unknown:
            raise NotFound(f"there is no LLM {min(unknown)!r}", unchanged="Nothing was written.")
        return numbers


def _one_per_llm(number: ColumnElement[int], cluster_map_digest: str) -> Select[tuple[int]]:
    return (
        select(number)
        .join_from(feature_vector, cluster_map)
        .where(cluster_map.c.digest == cluster_map_digest)
        .group_by(feature_vector.c.llm_id)
    )
