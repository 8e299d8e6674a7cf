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
        ``champion``, ``challenger`` or ``previous``, or one that differs from these in case only.
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
    """Compare the aliases of registry and MLflow, and look for aliases that differ from ours in case only.

    An alias that waits to be moved may still be where MLflow was last told, or be gone; anywhere else, somebody moved
    it.

    Raises
    ------
    PublishIncomplete
        MLflow did not answer.
    """
    from registry.publishing import is_lookalike

    registry = workspace.registry
    in_mlflow = workspace.publisher.aliases(workspace.settings.mlflow.router_name)
    pending, delivered = registry.promotions.pending(), registry.promotions.delivered()
    drifts = []
    for alias, digest in asdict(registry.routers.aliases()).items():
        waiting = {entry.router_digest for entry in pending if entry.alias == alias}
        version = None if digest is None else registry.routers.get(digest).mlflow_version
        allowed = {version}
        if waiting or (digest is not None and version is None):
            told = waiting | ({delivered[alias]} if alias in delivered else set())
            allowed |= {None, *(registry.routers.get(one).mlflow_version for one in told)}
        if in_mlflow.get(alias) not in allowed:
            drifts.append(AliasDrift(alias, digest, version, in_mlflow.get(alias)))
    lookalikes = [AliasDrift(alias, None, None, found) for alias, found in in_mlflow.items() if is_lookalike(alias)]
    return (*drifts, *lookalikes)


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
    """Point each alias in MLflow where the registry says, remove those that should not exist, and say so in the ledger.

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
