"""Promotions as people decide them: requested with a measurement, approved, rejected, rolled back; MLflow follows.

Plain functions, called by the command line and by the Prefect deployment ``promote`` alike. Each decision is one
transaction of the registry; telling MLflow comes afterwards and may wait in the outbox.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flows import crash_points
from flows.errors import VersionUnavailable
from flows.logs import log_event
from flows.versions.mlflow_sync import sync_mlflow
from flows.versions.store import find_router, load_version, router_folder
from flows.workspace import Workspace
from registry.errors import (
    MlflowDenied,
    MlflowUnsuitable,
    NotFound,
    PromotionRefused,
    PublishIncomplete,
    RegistryCorrupt,
)
from registry.promotion_records import require_reason
from registry.promotions import GateRecord, Promotion, gate_result
from registry.publishing.probe import probe
from registry.routers import RouterRecord
from routing.errors import ArtifactCorrupt, ArtifactError, InvalidInput

if TYPE_CHECKING:
    from flows.reports.promotion.reviews import Attempt
    from routing.router import Router

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Person:
    """Who decides.

    Attributes
    ----------
    name
        As the ledger shall name them.
    account
        The account of the operating system that it is said from.
    """

    name: str
    account: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidInput("a decision needs somebody who makes it", hint="--actor NAME")

    @property
    def facts(self) -> Mapping[str, str]:
        """Give what the ledger remembers besides the name."""
        return {"account": self.account}


@dataclass(frozen=True)
class Decision:
    """What a decision came to.

    Attributes
    ----------
    promotion
        The promotion afterwards; what it would be made from when nothing was decided yet.
    pending
        Why MLflow has not been told yet; empty when it has.
    remarks
        What the person should know besides.
    """

    promotion: Promotion
    pending: str = ""
    remarks: tuple[str, ...] = ()


def request(
    workspace: Workspace, name: str, *, by: Person, reason: str, clock: Clock, is_dry_run: bool = False
) -> Decision:
    """Put a kept version to the gate against the present champion, with stored answers, and ask for its promotion.

    A version that fails the gate is rejected at once; one that does not load leaves a failed promotion.

    Parameters
    ----------
    workspace
        The opened parts.
    name
        Alias, digest or number of the version.
    by
        Who asks.
    reason
        Why; may be empty.
    clock
        Gives the time, in UTC.
    is_dry_run
        Whether to measure only, and to keep nothing.

    Raises
    ------
    ArtifactError
        The version does not load; the failed promotion says so.
    NotFound
        There is no such version, or nothing is known of the answers it was made from.
    PromotionRefused
        It is the champion already, or cannot be measured.
    VersionUnavailable, MlflowDenied, MlflowUnsuitable
        It is not on this machine and MLflow is out of reach, lets nobody in, or is none.
    """
    registry = workspace.registry
    digest, champion = find_router(registry, name).digest, registry.routers.aliases().champion
    registry.promotions.refuse_champion(digest, champion)
    try:
        router = _load(workspace, digest)
    except ArtifactError as error:
        if not is_dry_run:
            registry.promotions.note_failure(
                digest, champion, actor=by.name, reason=error.message, now=clock(), facts=by.facts
            )
        raise
    gate = _judge_again(workspace, router, champion, clock)
    if is_dry_run:
        return Decision(Promotion.proposed(digest, champion, gate, by.name, clock(), None))
    review = _write_report(workspace, digest, champion, gate)
    remarks = (f"No promotion report: {review.error}",) if review.error else ()
    asked = Promotion.proposed(digest, champion, gate, by.name, clock(), review.digest)
    asked = registry.promotions.request(
        digest,
        champion,
        gate,
        actor=by.name,
        now=asked.requested_at,
        reason=reason,
        report_digest=asked.report_digest,
        facts=by.facts,
    )
    if not gate.passed:
        failure = f"gate failed: {', '.join(failed_checks(gate))}"
        asked = registry.promotions.reject(asked.id, actor=by.name, reason=failure, now=clock(), facts=by.facts)
    return Decision(asked, remarks=remarks)


def approve(
    workspace: Workspace, promotion_id: int, *, by: Person, reason: str, clock: Clock, is_dry_run: bool = False
) -> Decision:
    """Approve a promotion that waits, and let its router serve: one transaction, then MLflow.

    The gate is asked again: answers, LLMs and settings may have changed since the request.

    Parameters
    ----------
    workspace
        The opened parts.
    promotion_id
        Which one.
    by
        Who decides.
    reason
        Why; must not be empty.
    clock
        Gives the time, in UTC.
    is_dry_run
        Whether to check only.

    Raises
    ------
    ArtifactError
        Its router does not load any more; the promotion has failed.
    PromotionRefused
        The gate does not pass any more, or requester and approver must be two.
    RegistryCorrupt
        The report is not the one that was kept with the request.
    StalePromotion
        It is no longer open, or another router is the champion by now.
    VersionUnavailable, MlflowDenied, MlflowUnsuitable
        Its router is not on this machine and MLflow is out of reach, lets nobody in, or is none.
    """
    require_reason(reason)
    promotions, two_person = workspace.registry.promotions, workspace.settings.gate.two_person
    waiting = promotions.require_open(promotion_id, approver=by.name if two_person else None)
    remarks = _check_report(workspace, waiting)
    try:
        router = _load(workspace, waiting.router_digest)
    except ArtifactError as error:
        if not is_dry_run:
            promotions.mark_failed(promotion_id, actor=by.name, reason=error.message, now=clock())
        raise
    gate = _judge_again(workspace, router, waiting.expected_champion, clock)
    if not gate.passed:
        raise PromotionRefused(
            f"promotion {promotion_id} does not pass the gate any more: {', '.join(failed_checks(gate))}",
            unchanged="No alias was moved.",
            hint=f"uniroute promotion request {waiting.router_digest[:12]} (shows what is found now)",
        )
    if gate != waiting.gate:
        remarks += ("What the gate finds has changed since the request; it still passes.",)
    if is_dry_run:
        return Decision(waiting, remarks=remarks)
    facts = {**by.facts, "gate": hashlib.sha256(gate.details_json.encode()).hexdigest()}
    with workspace.registry.unit() as unit:
        decided = {"actor": by.name, "reason": reason, "now": clock(), "unit": unit}
        promotions.approve(promotion_id, two_person=two_person, facts=facts, **decided)
        applied = promotions.apply(promotion_id, **decided)
    crash_points.reach("promotion decided")
    return _told(Decision(applied, follow(workspace, clock), remarks))


def reject(
    workspace: Workspace, promotion_id: int, *, by: Person, reason: str, clock: Clock, is_dry_run: bool = False
) -> Decision:
    """Reject a promotion that waits; nothing that serves changes.

    Parameters
    ----------
    workspace, promotion_id, by, reason, clock, is_dry_run
        As for `approve`.

    Raises
    ------
    StalePromotion
        It is no longer open.
    """
    require_reason(reason)
    promotions = workspace.registry.promotions
    if is_dry_run:
        return Decision(promotions.require_open(promotion_id, is_compared=False))
    return _told(Decision(promotions.reject(promotion_id, actor=by.name, reason=reason, now=clock(), facts=by.facts)))


def rollback(workspace: Workspace, *, to: str | None, by: Person, reason: str, clock: Clock) -> Decision:
    """Let an earlier champion serve again, at once: no gate, no refit, and no MLflow before it is decided.

    Parameters
    ----------
    workspace
        The opened parts.
    to
        Alias, digest or number of the version; the previous champion when omitted.
    by
        Who decides.
    reason
        Why; must not be empty.
    clock
        Gives the time, in UTC.

    Raises
    ------
    ArtifactError
        The version is damaged on this machine.
    NotFound
        There is nothing to go back to.
    PromotionRefused
        It is the champion already, or never was one.
    """
    require_reason(reason)
    target, remarks = rollback_target(workspace, to)
    done = workspace.registry.promotions.rollback(
        actor=by.name, reason=reason, now=clock(), to=target.digest, facts=by.facts
    )
    crash_points.reach("promotion decided")
    return _told(Decision(done, follow(workspace, clock), remarks))


def rollback_target(workspace: Workspace, to: str | None) -> tuple[RouterRecord, tuple[str, ...]]:
    """Give the version that `rollback` would let serve, and what is to be said about it; or refuse as it would."""
    wanted = None if to is None else find_router(workspace.registry, to).digest
    target = workspace.registry.promotions.rollback_target(wanted)
    if router_folder(workspace, target.digest).is_dir():
        load_version(workspace, target.digest)
        return target, ()
    return target, (f"router {target.digest[:12]} is not on this machine, so it could not be tried.",)


def decide(
    workspace: Workspace, promotion_id: int, decision: str, *, by: Person, reason: str, clock: Clock
) -> Decision:
    """Approve or reject, as a form says it.

    Parameters
    ----------
    workspace, promotion_id, by, reason, clock
        As for `approve`.
    decision
        ``approve`` or ``reject``.

    Raises
    ------
    InvalidInput
        For any other decision.
    """
    functions = {"approve": approve, "reject": reject}
    if decision not in functions:
        raise InvalidInput(f"{decision!r} is no decision", unchanged="Nothing was decided.", hint="approve or reject")
    return functions[decision](workspace, promotion_id, by=by, reason=reason, clock=clock)


def follow(workspace: Workspace, clock: Clock) -> str:
    """Bring MLflow in step with the registry; say why that has to wait, or nothing when it is done."""
    silence = probe(workspace.settings.mlflow_url)
    if silence:
        return silence
    try:
        left_alone = sync_mlflow(workspace, clock)
    except PublishIncomplete as error:
        return error.message
    return "; ".join(f"moved by hand in MLflow: {drift}" for drift in left_alone)


def _told(decision: Decision) -> Decision:
    """Log a decision, and give it back."""
    made = decision.promotion
    facts = {"id": made.id, "router": made.router_digest[:12], "actor": made.decided_by}
    log_event("promotion_decided", promotion=made.status, kind=made.kind, **facts)
    if decision.pending:
        log_event("publication_pending", router=made.router_digest[:12], reason=decision.pending)
    return decision


def failed_checks(gate: GateRecord) -> tuple[str, ...]:
    """Name the conditions of a kept gate result that did not hold."""
    checks = json.loads(gate.details_json).get("checks", [])
    return tuple(check["name"] for check in checks if not check["passed"])


def _load(workspace: Workspace, digest: str) -> Router:
    """Load a version; one that nobody has any more does not load, one that is out of reach may later."""
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


def _judge_again(workspace: Workspace, router: Router, champion: str | None, clock: Clock) -> GateRecord:
    """Measure a version against a champion with the answers that count now, under the present settings."""
    from flows.gate.evidence import Answers, put_to_gate
    from flows.gate.gate import gate_as_json

    serving = None if champion is None else _load(workspace, champion)
    answers = Answers.of_version(workspace.registry, router.digest, champion)
    found = put_to_gate(answers, router, serving, workspace.settings, on=clock().date())
    return gate_result(found.passed, gate_as_json(found))


def _write_report(workspace: Workspace, digest: str, champion: str | None, gate: GateRecord) -> Attempt:
    """Write what a reviewer will see; the gate decides whether or not that succeeds."""
    from flows.reports.promotion.gathering import Subject
    from flows.reports.promotion.reviews import attempt_review

    return attempt_review(workspace, Subject(digest, champion, json.loads(gate.details_json)))


def _check_report(workspace: Workspace, waiting: Promotion) -> tuple[str, ...]:
    """Refuse to decide on a report that somebody changed; say when there is none to be looked at."""
    from flows.reports.promotion.reviews import kept_review, kept_reviews

    if waiting.report_digest is None:
        return ("No report was kept with the request.",)
    if kept_review(workspace, waiting) is not None:
        return ()
    if not kept_reviews(workspace, waiting.router_digest):
        return ("The report that was kept with the request is not on this machine.",)
    raise RegistryCorrupt(
        f"the report of promotion {waiting.id} is not the one that was kept with the request",
        unchanged="No alias was moved.",
        hint=f"uniroute promotion request {waiting.router_digest[:12]} (after finding out who changed it)",
    )
