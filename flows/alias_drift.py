"""Aliases that somebody moved in MLflow behind the registry's back: found and noted, never silently overwritten."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from flows.workspace import Workspace

DRIFTED = "router:alias:drifted"
REPAIRED = "router:alias:repaired"


@dataclass(frozen=True)
class AliasDrift:
    """One alias on which registry and MLflow disagree.

    Attributes
    ----------
    alias
        ``champion``, ``challenger`` or ``previous``.
    router_digest
        The router that the registry says it points to; None when it should not exist.
    expected_version, found_version
        MLflow's version of that router, and the one the alias points to there; None where it points nowhere.
    """

    alias: str
    router_digest: str | None
    expected_version: int | None
    found_version: int | None

    def __str__(self) -> str:
        found = "is gone from MLflow" if self.found_version is None else f"points to version {self.found_version}"
        expected = "should not exist" if self.expected_version is None else f"should be version {self.expected_version}"
        return f"{self.alias} {found}, it {expected}"


def find_drift(workspace: Workspace) -> tuple[AliasDrift, ...]:
    """Compare the aliases of registry and MLflow; what waits in the outbox or is not published yet is no drift.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer.
    """
    registry = workspace.registry
    in_mlflow = workspace.publisher.aliases(workspace.settings.mlflow.router_name)
    waiting = {entry.alias for entry in registry.promotions.pending()}
    drifts = []
    for alias, digest in asdict(registry.routers.aliases()).items():
        version = None if digest is None else registry.routers.get(digest).mlflow_version
        is_unpublished = digest is not None and version is None
        if alias not in waiting and not is_unpublished and in_mlflow.get(alias) != version:
            drifts.append(AliasDrift(alias, digest, version, in_mlflow.get(alias)))
    return tuple(drifts)


def note_drift(workspace: Workspace, drifts: tuple[AliasDrift, ...], *, actor: str, now: datetime) -> None:
    """Write each drift into the ledger, once for as long as it stays the same."""
    registry = workspace.registry
    with registry.unit() as unit:
        for drift in drifts:
            subject = drift.router_digest or drift.alias
            known = registry.ledger.events(subject=subject, event="router:alias:", unit=unit)
            about = [one for one in known if json.loads(one.payload_json)["alias"] == drift.alias]
            latest = about[-1] if about else None
            if latest is None or latest.event != DRIFTED or json.loads(latest.payload_json) != asdict(drift):
                registry.ledger.append(
                    DRIFTED, subject, actor=actor, now=now, reason=str(drift), payload=asdict(drift), unit=unit
                )


def repair_drift(workspace: Workspace, drifts: tuple[AliasDrift, ...], *, actor: str, now: datetime) -> None:
    """Point each alias in MLflow where the registry says, and say so in the ledger.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer or refused.
    """
    name = workspace.settings.mlflow.router_name
    for drift in drifts:
        if drift.expected_version is None:
            workspace.publisher.delete_alias(name, drift.alias)
        else:
            workspace.publisher.set_alias(name, drift.alias, drift.expected_version)
        workspace.registry.ledger.append(
            REPAIRED, drift.router_digest or drift.alias, actor=actor, now=now, payload=asdict(drift)
        )
