"""Router versions: what each one is, what it was made from, and which alias points where."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from registry.cluster_maps import (
    REFITTED,
    ClusterMapRecord,
    ClusterMaps,
    FitSettings,
    FittedMap,
    StoredVector,
    VectorFields,
)
from registry.db.database import Unit
from registry.db.tables import ALIASES, alias, llm, router, router_llm, router_metric
from registry.errors import NotFound, RegistryCorrupt, RegistryError
from registry.ledger.facts import reopen
from routing.errors import InvalidInput
from routing.strict_json import canonical_json

__all__ = [
    "KEPT",
    "REFITTED",
    "Aliases",
    "ClusterMapRecord",
    "FitSettings",
    "FittedMap",
    "KnownFolder",
    "RouterRecord",
    "Routers",
    "StoredVector",
    "VectorFields",
]

KEPT = "router:version:kept"
"""The ledger event of a new version; its payload holds the digest of the row and what the version was made from."""

FOLDER, BUILT, FOUND = "router:folder:", "router:folder:built", "router:folder:found"
"""The ledger events of a version's whole folder: built to be published, or found when none had been kept of it."""


@dataclass(frozen=True)
class RouterRecord:
    """One immutable router version and what it was made from.

    Attributes
    ----------
    digest
        SHA-256 of its content.
    publish_key
        Names the publication, so that repeating it creates no second version.
    parent_digest
        The champion at the time; None for the first router.
    llm_keys
        The LLMs it can choose, in its own order.
    metrics
        Finite numbers by name.
    files_json
        Digests of the files of its folder, as JSON.
    created_at
        When, in UTC.
    number
        Position among the routers of this registry, from 1.
    mlflow_name, mlflow_version, mlflow_run_id
        Where it was published; None until then.
    folder_digest
        Digest of the whole version folder; None until it is published, and when it was before this was kept.
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
    folder_digest: str | None = None
    aliases: tuple[str, ...] = ()

    def row_digest(self) -> str:
        """SHA-256 over everything that is fixed when a version is stored; `created_at` is the event's time."""
        fixed = ("digest", "publish_key", "parent_digest", "cluster_map_digest", "prompt_set_digest", "embedder_key")
        facts = {name: getattr(self, name) for name in (*fixed, "run_id", "files_json")}
        content = facts | {
            "llm_keys": list(self.llm_keys),
            "metrics": {name: float(one) for name, one in self.metrics.items()},
        }
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


@dataclass(frozen=True)
class KnownFolder:
    """What the ledger knows of a version's whole folder.

    Attributes
    ----------
    digest
        Digest over all its files.
    files
        SHA-256 of each file by its path.
    signature
        The signed statement on it; None when it is not signed.
    is_found
        Whether it was read from MLflow later on, rather than when it was built.
    event_number
        The event that says so.
    """

    digest: str
    files: Mapping[str, str]
    signature: str | None
    is_found: bool
    event_number: int


@dataclass(frozen=True)
class Aliases:
    """Which router digest each alias points to; None where it points nowhere."""

    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None


class Routers(ClusterMaps):
    """Store and find router versions, and the cluster maps and feature vectors they are made of."""

    def save(
        self,
        record: RouterRecord,
        *,
        evidence: Mapping[str, Any] | None = None,
        actor: str = "night",
        unit: Unit | None = None,
    ) -> RouterRecord:
        """Store a router version and record it in the ledger; one of the same digest stays as it is and is returned.

        Parameters
        ----------
        record
            The router; its `number`, publication and `aliases` are ignored.
        evidence
            What it was made from, as JSON without NaN; kept in the ledger's event.
        actor
            Who made it.
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
            self._events.append(
                KEPT,
                record.digest,
                actor=actor,
                now=record.created_at,
                payload={"row": record.row_digest(), "evidence": dict(evidence or {})},
                unit=opened,
            )
            return self.get(record.digest, unit=opened)

    def get(self, name: str, *, unit: Unit | None = None) -> RouterRecord:
        """Return a router by digest, by a prefix of it, by version (``v3``) or by alias.

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
        with self._database.read(unit) as opened:
            is_empty = opened.execute(select(router.c.id).limit(1)).first() is None
        hint = "uniroute night run" if is_empty else "uniroute router list"
        raise NotFound(f"there is no router {name!r}", hint=hint)

    def exist(self) -> bool:
        """Whether there is any router."""
        with self._database.read() as unit:
            return unit.execute(select(router.c.id).limit(1)).first() is not None

    def list(self) -> tuple[RouterRecord, ...]:
        """Return all routers, the newest first."""
        with self._database.read() as unit:
            rows = unit.execute(select(router).order_by(router.c.id.desc())).fetchall()
            return tuple(self._record(unit, row) for row in rows)

    def note_built(
        self,
        digest: str,
        files: Mapping[str, str],
        folder_digest: str,
        *,
        signature: str | None,
        actor: str,
        now: datetime,
    ) -> None:
        """Record the content of a version's folder before it is uploaded; an attempt that fails leaves only the event.

        Parameters
        ----------
        digest
            The router.
        files, folder_digest, signature
            As for `KnownFolder`.
        actor
            Who publishes.
        now
            When it was built.
        """
        facts = {"folder_digest": folder_digest, "files": dict(files)}
        facts |= {} if signature is None else {"signature": signature}
        self._events.append(BUILT, digest, actor=actor, now=now, payload=facts)

    def note_found(
        self, digest: str, files: Mapping[str, str], folder_digest: str, *, actor: str, now: datetime
    ) -> RouterRecord:
        """Record what the folder of a version holds of which nothing was kept when it was published.

        Parameters
        ----------
        digest
            The router.
        files, folder_digest
            As for `KnownFolder`.
        actor
            Who looked.
        now
            When.

        Raises
        ------
        RegistryError
            When a digest of its folder is known.
        """
        with self._database.write(None) as opened:
            record = self.get(digest, unit=opened)
            if self.known_folder(record, unit=opened) is not None:
                raise RegistryError(f"the folder of router {digest[:12]} is known", unchanged="Nothing was changed.")
            facts = {"folder_digest": folder_digest, "files": dict(files), "version": record.mlflow_version}
            self._events.append(FOUND, digest, actor=actor, now=now, payload=facts, unit=opened)
            reopen(opened, router, router.c.digest == digest)
            opened.execute(router.update().where(router.c.digest == digest).values(folder_digest=folder_digest))
            return self.get(digest, unit=opened)

    def known_folder(self, record: RouterRecord, *, unit: Unit | None = None) -> KnownFolder | None:
        """Return what the ledger knows of a version's folder; None when it was published before that was kept.

        Raises
        ------
        RegistryCorrupt
            When the row names a digest that the ledger does not know, or none although the ledger does.
        """
        known = {}
        for event in self._events.events(subject=record.digest, event=FOLDER, unit=unit):
            facts = json.loads(event.payload_json)
            of = (facts["folder_digest"], facts["files"], facts.get("signature"), event.event == FOUND, event.number)
            known[facts["folder_digest"]] = KnownFolder(*of)
        if record.mlflow_version is None or (record.folder_digest is None and not known):
            return None
        if record.folder_digest not in known:
            raise RegistryCorrupt(
                f"the digest of the folder of router {record.digest[:12]} is not one that the ledger knows",
                unchanged="Nothing was compared with it.",
                hint="uniroute audit verify",
            )
        return known[record.folder_digest]

    def set_published(
        self,
        digest: str,
        name: str,
        version: int,
        mlflow_run_id: str,
        *,
        folder_digest: str | None = None,
        unit: Unit | None = None,
    ) -> RouterRecord:
        """Note where a router was published; repeating it changes nothing.

        Parameters
        ----------
        digest
            The router.
        name, version, mlflow_run_id
            Where it is in MLflow.
        folder_digest
            Digest of its folder as MLflow says; kept only when the ledger knows it.
        unit
            The transaction to join.

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
            built = self._events.events(subject=digest, event=FOLDER, unit=opened)
            is_known = folder_digest in {json.loads(one.payload_json)["folder_digest"] for one in built}
            facts = {"mlflow_name": name, "mlflow_version": version, "mlflow_run_id": mlflow_run_id}
            facts["folder_digest"] = folder_digest if is_known else None
            reopen(opened, router, router.c.digest == digest)
            opened.execute(router.update().where(router.c.digest == digest).values(facts))
            return self.get(digest, unit=opened)

    def forget_publication(self, digest: str, *, unit: Unit | None = None) -> RouterRecord:
        """Note that the version of a router is gone from MLflow, so that it is published again.

        Raises
        ------
        NotFound
            When there is no such router.
        """
        nowhere = {"mlflow_name": None, "mlflow_version": None, "mlflow_run_id": None, "folder_digest": None}
        with self._database.write(unit) as opened:
            record = self.get(digest, unit=opened)
            reopen(opened, router, router.c.digest == record.digest)
            opened.execute(router.update().where(router.c.digest == record.digest).values(nowhere))
            return self.get(record.digest, unit=opened)

    def aliases(self, *, unit: Unit | None = None) -> Aliases:
        """Return where the aliases point."""
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
