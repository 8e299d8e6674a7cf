"""People's decisions on promotions: request with a measurement, approve, reject, roll back; MLflow follows.

Plain functions, called by the command line and by the Prefect deployment ``promote`` alike. Each decision is one
transaction of the registry; MLflow is updated afterwards, and that may wait in the outbox.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from flows import crash_points
from flows.gate.refresh import refresh_today
from flows.logs import log_event
from flows.promotion.judging import (
    Clock,
    check_published,
    judge_again,
    load_to_judge,
    refusal,
    write_report,
)
from flows.promotion.refresh import judge_refresh_again, judge_waiting_again, refresh_champion
from flows.reports.night_report import RefreshOutcome
from flows.versions.mlflow_sync import follow
from flows.versions.store import find_router, load_version, router_folder
from flows.workspace import Workspace
from registry.errors import PromotionRefused, RegistryCorrupt
from registry.promotion_records import require_reason
from registry.promotions import GateRecord, Promotion
from registry.routers import RouterRecord
from routing.errors import ArtifactError, InvalidInput, UnirouteError

if TYPE_CHECKING:
    from routing.router import Router


@dataclass(frozen=True)
class Person:
    """The person who decides.

    Attributes
    ----------
    name
        Name for the ledger.
    account
        The account of the operating system from which the decision is made.
    """

    name: str
    account: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidInput("a decision needs the name of the person who makes it", hint="--actor NAME")

    @property
    def facts(self) -> Mapping[str, str]:
        """What the ledger records besides the name."""
        return {"account": self.account}


@dataclass(frozen=True)
class Decision:
    """The result of a decision.

    Attributes
    ----------
    promotion
        The promotion afterwards; in a dry run, as it stands or would be requested.
    pending
        Why MLflow has not been updated yet; empty when it has.
    remarks
        What else the person should know.
    """

    promotion: Promotion
    pending: str = ""
    remarks: tuple[str, ...] = ()


def request(
    workspace: Workspace, name: str, *, by: Person, reason: str, clock: Clock, is_dry_run: bool = False
) -> Decision:
    """Put a kept version to the gate against the present champion, on stored answers, and request its promotion.

    A version that fails the gate is rejected at once; one that the gate cannot decide on waits, unless the settings
    reject it; one that does not load leaves a failed promotion.

    Parameters
    ----------
    workspace
        The opened parts.
    name
        Alias, digest or number of the version.
    by
        The person who requests.
    reason
        Their reason; may be empty.
    clock
        Returns the time in UTC.
    is_dry_run
        Whether only to measure, keeping nothing.

    Raises
    ------
    ArtifactError
        The version does not load; a failed promotion records that.
    NotFound
        There is no such version, or the answers it was made from are unknown.
    PromotionRefused
        It is already the champion, or cannot be measured.
    VersionUnavailable, MlflowDenied, MlflowUnsuitable
        It is not on this machine, and MLflow is out of reach, denies access, or is not an MLflow server.
    """
    registry = workspace.registry
    digest, champion = find_router(registry, name).digest, registry.routers.aliases().champion
    registry.promotions.refuse_champion(digest, champion)
    try:
        router = load_to_judge(workspace, digest)
    except ArtifactError as error:
        if not is_dry_run:
            registry.promotions.note_failure(
                digest, champion, actor=by.name, reason=error.message, now=clock(), facts=by.facts
            )
        raise
    gate = judge_again(workspace, router, champion, clock)
    if is_dry_run:
        return Decision(Promotion.proposed(digest, champion, gate, by.name, clock(), None))
    review = write_report(workspace, digest, champion, gate)
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
    failure = refusal(gate)
    if failure:
        asked = registry.promotions.reject(asked.id, actor=by.name, reason=failure, now=clock(), facts=by.facts)
    return Decision(asked, remarks=remarks)


def approve(
    workspace: Workspace, promotion_id: int, *, by: Person, reason: str, clock: Clock, is_dry_run: bool = False
) -> Decision:
    """Approve a promotion that waits, and let its router serve: one transaction, then MLflow.

    The gate judges again: answers, LLMs and settings may have changed since the request. A promotion that was requested
    as undecided may be approved while it is undecided or passes: the person decides what the evidence does not, and the
    record goes on saying that the gate did not pass it. One that was requested as passing must still pass.

    Parameters
    ----------
    workspace
        The opened parts.
    promotion_id
        Number of the promotion.
    by
        The person who decides.
    reason
        Their reason; must not be empty.
    clock
        Returns the time in UTC.
    is_dry_run
        Whether only to check.

    Raises
    ------
    ArtifactError
        Its router no longer loads, or its version in MLflow is not what was published; the promotion has failed.
    PromotionRefused
        The gate rejects it by now, or requester and approver must be two people.
    RegistryCorrupt
        The report is not the one that was kept with the request.
    StalePromotion
        It is no longer open, or another router has become the champion.
    VersionUnavailable, MlflowDenied, MlflowUnsuitable
        Its router is not on this machine, and MLflow is out of reach, denies access, or is not an MLflow server.
    """
    require_reason(reason)
    promotions, two_person = workspace.registry.promotions, workspace.settings.gate.two_person
    waiting = promotions.require_open(promotion_id, approver=by.name if two_person else None)
    remarks = _check_report(workspace, waiting)
    try:
        router = load_to_judge(workspace, waiting.router_digest)
        remarks += check_published(workspace, waiting.router_digest)
    except ArtifactError as error:
        if not is_dry_run:
            promotions.mark_failed(promotion_id, actor=by.name, reason=error.message, now=clock())
        raise
    gate = _gate_now(workspace, waiting, router, clock)
    remarks += _still_approvable(waiting, gate)
    if is_dry_run:
        return Decision(waiting, remarks=remarks)
    facts = {**by.facts, "gate": hashlib.sha256(gate.details_json.encode()).hexdigest()}
    if waiting.gate.is_undecided:
        facts["verdict_at_approval"] = gate.verdict
    with workspace.registry.unit() as unit:
        decided = {"actor": by.name, "reason": reason, "now": clock(), "unit": unit}
        promotions.approve(promotion_id, two_person=two_person, facts=facts, **decided)
        applied = promotions.apply(promotion_id, **decided)
    crash_points.reach("promotion decided")
    if applied.is_refresh:
        remarks += judge_waiting_again(workspace, applied, clock)
    return _logged(Decision(applied, follow(workspace, clock), remarks))


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
    return _logged(Decision(promotions.reject(promotion_id, actor=by.name, reason=reason, now=clock(), facts=by.facts)))


def rollback(
    workspace: Workspace, *, to: str | None, by: Person, reason: str, clock: Clock, as_is: bool = False
) -> Decision:
    """Let an earlier champion serve again at once: no gate, no refit, and MLflow only follows.

    One that has LLMs that cannot serve is refreshed in the same step, so that it serves without them.

    Parameters
    ----------
    workspace
        The opened parts.
    to
        Alias, digest or number of the version; the previous champion when None.
    by
        The person who decides.
    reason
        Their reason; must not be empty.
    clock
        Returns the time in UTC.
    as_is
        Whether it serves as it was, also with LLMs that cannot serve.

    Raises
    ------
    ArtifactError
        The version is damaged on this machine.
    NotFound
        There is nothing to go back to.
    PromotionRefused
        It is already the champion, or never was, or none of its LLMs can serve, or what it can serve was turned down or
        is what it would replace.
    """
    require_reason(reason)
    target, remarks = rollback_target(workspace, to, on=clock().date(), as_is=as_is)
    done = workspace.registry.promotions.rollback(
        actor=by.name, reason=reason, now=clock(), to=target.digest, facts=by.facts
    )
    crash_points.reach("promotion decided")
    if not as_is and router_folder(workspace, target.digest).is_dir():
        refreshed = _refreshed(workspace, by, clock)
        if refreshed is not None and refreshed.promotion_id is not None:
            remarks += (f"Rollback {done.id} was refreshed at once: it serves {refreshed.changed}.",)
            done = workspace.registry.promotions.get(refreshed.promotion_id)
        elif refreshed is not None:
            remarks += (f"It serves as it was, because it cannot be refreshed: {refreshed.problem}.",)
    return _logged(Decision(done, follow(workspace, clock), remarks))


def _refreshed(workspace: Workspace, by: Person, clock: Clock) -> RefreshOutcome | None:
    """Refresh what was rolled back to; the rollback stands whatever becomes of that."""
    try:
        return refresh_champion(workspace, on=clock().date(), actor=by.name, clock=clock, is_decided=True)
    except UnirouteError as error:
        return RefreshOutcome("the champion", "refused", problem=error.message.rstrip("."))


def rollback_target(
    workspace: Workspace, to: str | None, *, on: date, as_is: bool = False
) -> tuple[RouterRecord, tuple[str, ...]]:
    """Return the version that `rollback` would let serve, with remarks on it, or refuse as `rollback` would.

    Parameters
    ----------
    workspace, to, as_is
        As for `rollback`.
    on
        The day on which its LLMs must be able to serve.
    """
    wanted = None if to is None else find_router(workspace.registry, to).digest
    target = workspace.registry.promotions.rollback_target(wanted)
    name = f"router {target.digest[:12]}"
    if not router_folder(workspace, target.digest).is_dir():
        return target, (f"{name} is not on this machine, so loading it could not be tried.",)
    found = refresh_today(workspace.registry, load_version(workspace, target.digest), on)
    if not found.is_due:
        return target, ()
    if as_is:
        dead = f"{name} sends {found.dead_share:.1%} of the prompts to LLMs that cannot serve."
        return target, (dead,) if found.dropped else ()
    if found.router is None:
        raise PromotionRefused(
            f"none of the LLMs of {name} can serve",
            unchanged="No alias was moved.",
            hint="Include an LLM again: uniroute llm list; or insist on it with --as-is",
        )
    registry, again = workspace.registry, found.router.digest
    if again == registry.routers.aliases().champion or registry.promotions.is_refused(again):
        is_champion = again == registry.routers.aliases().champion
        raise PromotionRefused(
            f"{name} can only serve {found.reason} today, and that router {again[:12]} "
            + ("is what serves already" if is_champion else "was turned down before"),
            unchanged="No alias was moved.",
            hint="let it serve as it was, with --as-is; or name another version: uniroute router list",
        )
    cannot = ": these cannot serve" if found.dropped else ""
    return target, (f"{name} will serve {found.reason}{cannot}. --as-is lets it serve as it was.",)


def decide(
    workspace: Workspace, promotion_id: int, decision: str, *, by: Person, reason: str, clock: Clock
) -> Decision:
    """Approve or reject, as filled in on a form.

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
        raise InvalidInput(
            f"{decision!r} is not a decision", unchanged="Nothing was decided.", hint="approve or reject"
        )
    return functions[decision](workspace, promotion_id, by=by, reason=reason, clock=clock)


def _logged(decision: Decision) -> Decision:
    """Log a decision and return it."""
    made = decision.promotion
    facts = {"id": made.id, "router": made.router_digest[:12], "actor": made.decided_by}
    log_event("promotion_decided", promotion=made.status, kind=made.kind, **facts)
    if decision.pending:
        log_event("publication_pending", router=made.router_digest[:12], reason=decision.pending)
    return decision


def _still_approvable(waiting: Promotion, gate: GateRecord) -> tuple[str, ...]:
    """Refuse what the gate turns down by now, and return remarks on what it finds.

    Raises
    ------
    PromotionRefused
        The gate rejects it, or cannot decide on what it passed at the request: the reviewer saw another page.
    """
    from flows.gate.verdict import failed_text

    name = f"promotion {waiting.id}"
    request = f"uniroute promotion request {waiting.router_digest[:12]}"
    if refusal(gate) or (gate.is_undecided and not waiting.gate.is_undecided):
        raise PromotionRefused(
            f"{name} no longer passes the gate: {failed_text(json.loads(gate.details_json))}"
            + (" (undecided)" if gate.is_undecided else ""),
            unchanged="No alias was moved.",
            hint=f"{request} (shows what the gate finds now)",
        )
    if gate.is_undecided:
        changed = "" if gate == waiting.gate else " What it finds has changed since the request."
        return (f"The gate cannot decide on {name}: you decide.{changed}",)
    if gate == waiting.gate:
        return ()
    if waiting.gate.is_undecided:
        return (f"The gate was undecided when {name} was requested; by now it passes.",)
    return ("What the gate finds has changed since the request; it still passes.",)


def _gate_now(workspace: Workspace, waiting: Promotion, router: Router, clock: Clock) -> GateRecord:
    """Judge a promotion that waits once more: a challenger by the gate, a refresh by its own checks."""
    if waiting.is_refresh:
        return judge_refresh_again(workspace, waiting, clock().date())
    return judge_again(workspace, router, waiting.expected_champion, clock)


def _check_report(workspace: Workspace, waiting: Promotion) -> tuple[str, ...]:
    """Refuse to decide on a report that was changed; return a remark when there is none to look at."""
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
        hint=f"uniroute promotion request {waiting.router_digest[:12]} (after finding out how it was changed)",
    )
