"""Kept versions put to the gate again on stored answers: by people's decisions, after a refresh, and when undecided."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from flows.errors import VersionUnavailable
from flows.versions.store import load_version, require_intact
from flows.workspace import Workspace
from registry.errors import MlflowDenied, MlflowUnsuitable, NotFound, PublishIncomplete
from registry.promotion_records import REJECT, GateRecord, Promotion, gate_result
from registry.publishing.probe import probe
from routing.errors import ArtifactCorrupt, UnirouteError

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
    from flows.gate.answers import Answers
    from flows.gate.evidence import put_to_gate
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
    """Return the names of the gate's checks that did not pass."""
    checks = json.loads(gate.details_json).get("checks", [])
    return tuple(check["name"] for check in checks if not check["passed"])


def refusal(gate: GateRecord) -> str:
    """Return why a challenger is turned down without a person; empty when it is not."""
    if gate.decision != REJECT:
        return ""
    if gate.is_undecided:
        return f'gate undecided, and [gate] undecided = "reject": {", ".join(failed_checks(gate))}'
    return f"gate failed: {', '.join(failed_checks(gate))}"


def judge_undecided_again(workspace: Workspace, *, actor: str, clock: Clock, run_id: int | None) -> tuple[str, ...]:
    """Put challengers that wait because the gate could not decide to it again, if it now finds something else.

    They keep their requester, so that under ``[gate] two_person`` nobody approves what they requested themselves. One
    that passes now still waits: what is promoted without a person is tonight's router, and this is an earlier one.

    Parameters
    ----------
    workspace
        The opened parts.
    actor
        Who judges.
    clock
        Returns the time in UTC.
    run_id
        The night; what an attempt of it judged before it was killed is completed.

    Returns
    -------
    tuple of str
        One line per challenger.
    """
    promotions, champion = workspace.registry.promotions, workspace.registry.routers.aliases().champion
    lines = []
    for waiting in promotions.list(status="requested"):
        is_mine = run_id is not None and waiting.run_id == run_id
        if waiting.is_refresh or waiting.expected_champion != champion or not (waiting.gate.is_undecided or is_mine):
            continue
        name = f"promotion {waiting.id} of router {waiting.router_digest[:12]}"
        try:
            gate = judge_again(workspace, load_to_judge(workspace, waiting.router_digest), champion, clock)
        except UnirouteError as error:
            lines.append(f"{name} cannot be judged again: {error.message}")
            continue
        asked = waiting
        if gate != waiting.gate:
            why = f"promotion {waiting.id} again, on what is known now"
            asked = put_forward_again(workspace, waiting, champion, gate, why, run_id=run_id, clock=clock)
        lines += settled(workspace, name, asked, gate, actor=actor, clock=clock, is_new=asked.id != waiting.id)
    return tuple(lines)


def put_forward_again(
    workspace: Workspace,
    waiting: Promotion,
    champion: str | None,
    gate: GateRecord,
    reason: str,
    *,
    run_id: int | None,
    clock: Clock,
) -> Promotion:
    """Request a promotion that waits once more, with the gate's new result; its requester stays the same person."""
    review = write_report(workspace, waiting.router_digest, champion, gate)
    return workspace.registry.promotions.request(
        waiting.router_digest,
        champion,
        gate,
        actor=waiting.requested_by,
        now=clock(),
        reason=reason,
        report_digest=review.digest,
        run_id=run_id,
    )


def settled(
    workspace: Workspace,
    name: str,
    asked: Promotion,
    gate: GateRecord,
    *,
    actor: str,
    clock: Clock,
    is_new: bool = True,
    against: str = "the champion",
) -> list[str]:
    """Reject a challenger that was judged again if the gate turns it down; return a line unless nothing is new.

    Parameters
    ----------
    workspace, actor, clock
        As for `judge_undecided_again`.
    name
        The earlier request, in words.
    asked, gate
        The present request, and what the gate found.
    is_new
        Whether it is another request than the earlier one.
    against
        What it was compared with, in words.
    """
    from flows.gate.verdict import failed_text, undecided_sentence

    failure, details = refusal(gate), json.loads(gate.details_json)
    if failure:
        workspace.registry.promotions.reject(asked.id, actor=actor, reason=failure, now=clock())
        return [f"{name} is rejected against {against}: {failure} ({failed_text(details)})"]
    if not is_new:
        return []
    if gate.is_undecided:
        found = undecided_sentence(details)
        return [f"{name} waits as promotion {asked.id}: against {against} {found or 'the gate is undecided'}"]
    return [f"{name} waits as promotion {asked.id}: it passes against {against}"]
