"""Kept versions put to the gate again on stored answers: when people decide, and when the champion was refreshed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from flows.errors import VersionUnavailable
from flows.versions.store import load_version, require_intact
from flows.workspace import Workspace
from registry.errors import MlflowDenied, MlflowUnsuitable, NotFound, PublishIncomplete
from registry.promotions import GateRecord, gate_result
from registry.publishing.probe import probe
from routing.errors import ArtifactCorrupt

if TYPE_CHECKING:
    from flows.reports.promotion.reviews import Attempt
    from routing.router import Router

Clock = Callable[[], datetime]


def load_to_judge(workspace: Workspace, digest: str) -> Router:
    """Load a version; one that is only out of reach may load later, one that is gone everywhere is corrupt.

    Raises
    ------
    ArtifactError
        It does not load, or is gone everywhere.
    VersionUnavailable, MlflowDenied, MlflowUnsuitable
        It is not on this machine, and MLflow is out of reach, denies access, or is not an MLflow server.
    """
    try:
        return load_version(workspace, digest)
    except (MlflowDenied, MlflowUnsuitable):
        raise
    except PublishIncomplete as error:
        raise VersionUnavailable(error.message, unchanged="Nothing was decided.", hint=error.hint) from error
    except NotFound as error:
        raise ArtifactCorrupt(
            f"router {digest[:12]} is neither on this machine nor in MLflow: {error.message}",
            unchanged="The champion stays as it is.",
            hint="uniroute doctor",
        ) from error


def check_published(workspace: Workspace, digest: str) -> tuple[str, ...]:
    """Compare the files of a version in MLflow, which are what will serve; return a remark when they are out of reach.

    Raises
    ------
    ArtifactCorrupt
        A file is not what was published.
    RegistryCorrupt
        Registry and ledger disagree about the digest of its folder.
    """
    record = workspace.registry.routers.get(digest)
    if record.mlflow_version is None:
        return ()
    unreachable = probe(workspace.settings.mlflow_url)
    if not unreachable:
        try:
            require_intact(workspace, record)
        except (PublishIncomplete, NotFound) as error:
            unreachable = error.message
    return (f"Its files in MLflow could not be compared with what was published: {unreachable}",) if unreachable else ()


def judge_again(workspace: Workspace, router: Router, champion: str | None, clock: Clock) -> GateRecord:
    """Put a version to the gate with the answers that count now, under the present settings.

    Raises
    ------
    NotFound
        The answers it was made from are unknown.
    PromotionRefused
        It cannot be measured.
    """
    from flows.gate.evidence import Answers, put_to_gate
    from flows.gate.gate import gate_as_json

    serving = None if champion is None else load_to_judge(workspace, champion)
    answers = Answers.of_version(workspace.registry, router.digest, champion)
    found = put_to_gate(answers, router, serving, workspace.settings, on=clock().date())
    return gate_result(found.passed, gate_as_json(found))


def write_report(workspace: Workspace, digest: str, champion: str | None, gate: GateRecord) -> Attempt:
    """Write the report that a reviewer will see; the gate decides whether or not that succeeds."""
    from flows.reports.promotion.gathering import Subject
    from flows.reports.promotion.reviews import attempt_review

    return attempt_review(workspace, Subject(digest, champion, json.loads(gate.details_json)))


def failed_checks(gate: GateRecord) -> tuple[str, ...]:
    """Return the names of the gate's checks that failed."""
    checks = json.loads(gate.details_json).get("checks", [])
    return tuple(check["name"] for check in checks if not check["passed"])
