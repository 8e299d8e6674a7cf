"""The champion replaced by itself as it can serve: without LLMs that cannot, and at the prices in force.

A night does this once, and so do people's decisions on an LLM, at once. The registry's row is the truth; a refresh that
was stopped anywhere is completed by doing it again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from flows import crash_points
from flows.gate.refresh import Refresh, refresh_today
from flows.logs import log_event
from flows.promotion.judging import Clock, judge_again, load_to_judge, put_forward_again, settled, write_report
from flows.reports.night_report import RefreshOutcome
from flows.text import counted
from flows.versions.mlflow_sync import follow
from flows.versions.provenance import refreshed_provenance
from flows.versions.store import (
    Publication,
    embedder_of,
    figure_path,
    remove_scratch_of_killed,
    router_folder,
)
from flows.workspace import Workspace
from registry.errors import NotFound, PromotionRefused, StalePromotion
from registry.promotion_records import REFRESH, REJECT, GateRecord, Promotion, gate_result
from registry.routers import RouterRecord
from routing.artifact import save_router
from routing.embedders import keep_embedder
from routing.errors import UnirouteError

if TYPE_CHECKING:
    from flows.gate.answers import Answers
    from flows.gate.gate import GateResult
    from routing.router import Router

_ATTEMPTS = 5
"""How often a person's refresh is tried while others move the champion."""


def refresh_champion(
    workspace: Workspace,
    *,
    on: date,
    actor: str,
    clock: Clock,
    answers: Answers | None = None,
    run_id: int | None = None,
    is_decided: bool = False,
) -> RefreshOutcome | None:
    """Refresh the champion when that is due, by the policy of the settings; MLflow is not updated here.

    Parameters
    ----------
    workspace
        The opened parts.
    on
        The day on which LLMs must be able to serve.
    actor
        The night or person that refreshes.
    clock
        Returns the time in UTC.
    answers
        The answers that count; those that the champion was made from when omitted.
    run_id
        The night.
    is_decided
        Whether a person has just decided that it serves: then nothing waits for review.

    Returns
    -------
    RefreshOutcome or None
        None when nothing was due, and the run had not refreshed before it was stopped.
    """
    registry = workspace.registry
    champion = registry.routers.aliases().champion
    if champion is None:
        return None
    found = refresh_today(registry, load_to_judge(workspace, champion), on)
    _close_outdated(workspace, found, actor, clock)
    if not found.is_due:
        return _finished(workspace, champion, run_id, clock)
    if found.router is None:
        return RefreshOutcome(found.reason, "refused", problem="none of its LLMs is left to serve")
    from flows.gate.verdict import failed_text

    measured = measure_refresh(workspace, found, on, answers)
    gate = gate_of(found, measured, workspace)
    if not gate.passed:
        return RefreshOutcome(
            found.reason, "refused", problem=f"check failed: {failed_text(json.loads(gate.details_json))}"
        )
    _keep(workspace, found, measured, actor, clock)
    crash_points.reach("refresh registered")
    review = write_report(workspace, found.router.digest, champion, gate)
    decision: dict[str, Any] = {"actor": actor, "reason": found.reason, "now": clock(), "run_id": run_id}
    decision["report_digest"] = review.digest
    # What the gate or a person turned down never serves again by a refresh: a person has to say so.
    is_refused = registry.promotions.is_refused(found.router.digest)
    if not is_decided and (workspace.settings.gate.refresh_policy == "review" or is_refused):
        asked = registry.promotions.request(found.router.digest, champion, gate, **decision)
        problem = "the same router was turned down before" if is_refused else "it waits for review"
        status = "refused" if asked.status == "rejected" else asked.status
        return replace(_outcome(asked, ()), changed=found.reason, status=status, problem=problem)
    done = registry.promotions.refresh(found.router.digest, champion, gate, **decision)
    crash_points.reach("refreshed")
    log_event("promotion_decided", promotion=done.status, kind="refresh", id=done.id, router=done.router_digest[:12])
    return _outcome(done, judge_waiting_again(workspace, done, clock))


def refresh_at_once(workspace: Workspace, *, actor: str, clock: Clock) -> RefreshOutcome | None:
    """Refresh the champion after a person's decision on an LLM, and update MLflow; None when nothing was due.

    The decision on the LLM stands whatever becomes of the refresh, so an error of the refresh is part of its outcome.

    Parameters
    ----------
    workspace
        The opened parts.
    actor
        The person.
    clock
        Returns the time in UTC.
    """
    try:
        done = _refresh_while_others_decide(workspace, actor, clock)
    except UnirouteError as error:
        return RefreshOutcome("the champion", "refused", problem=error.message)
    if done is None or done.digest is None:
        return done
    # One that waits is published too: who reviews it finds it in MLflow.
    return replace(done, publish_error=follow(workspace, clock))


def _refresh_while_others_decide(workspace: Workspace, actor: str, clock: Clock) -> RefreshOutcome | None:
    """Refresh the champion; again when others have moved it in the same moment, because theirs may have the LLM too."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(StalePromotion):
            return refresh_champion(workspace, on=clock().date(), actor=actor, clock=clock)
    return refresh_champion(workspace, on=clock().date(), actor=actor, clock=clock)


def _finished(workspace: Workspace, champion: str, run_id: int | None, clock: Clock) -> RefreshOutcome | None:
    """Do what a killed refresh left undone; return the refresh that an attempt of this run applied.

    What a person's command or another night left undone is done as well, without a word: the ledger has it.
    """
    promotions = workspace.registry.promotions
    latest = next((one for one in promotions.list(status="applied", limit=1) if one.is_refresh), None)
    newer = [one for one in promotions.list(status="requested") if not one.is_refresh and one.gate.decision != REJECT]
    is_mine = latest is not None and run_id is not None and latest.run_id == run_id
    lines: tuple[str, ...] = ()
    if latest is not None and latest.router_digest == champion and (is_mine or not newer):
        lines = judge_waiting_again(workspace, latest, clock)
    mine = [one for one in promotions.list(status="applied", limit=5) if one.is_refresh and one.run_id == run_id]
    if run_id is None or not mine:
        return None
    return _outcome(mine[0], lines if is_mine else ())


def _close_outdated(workspace: Workspace, found: Refresh, actor: str, clock: Clock) -> None:
    """Close a refresh that waits and is no longer what the champion can serve: nobody could approve it."""
    promotions = workspace.registry.promotions
    now = None if found.router is None or not found.is_due else found.router.digest
    waiting = [one for one in promotions.list(status="requested") if one.is_refresh]
    if any((one.expected_champion, one.router_digest) != (found.champion.digest, now) for one in waiting):
        promotions.close_refreshes(actor=actor, now=clock(), reason="LLMs or prices have changed again")


def _outcome(done: Promotion, judged_again: tuple[str, ...]) -> RefreshOutcome:
    from flows.gate.worth import Worth

    return RefreshOutcome(
        changed=done.reason or "",
        status=done.status,
        promotion_id=done.id,
        digest=done.router_digest,
        judged_again=judged_again,
        worth=Worth.of_data(json.loads(done.gate.details_json).get("worth")),
    )


def judge_waiting_again(workspace: Workspace, refresh: Promotion, clock: Clock) -> tuple[str, ...]:
    """Put the challengers that waited for a decision to the gate again, against the refreshed champion.

    They keep their requester, so that under ``[gate] two_person`` nobody approves what they requested themselves.

    Parameters
    ----------
    workspace
        The opened parts.
    refresh
        The refresh, applied.
    clock
        Returns the time in UTC.

    Returns
    -------
    tuple of str
        One line per challenger.
    """
    promotions, champion = workspace.registry.promotions, refresh.router_digest
    lines = []
    for waiting in promotions.to_judge_again(champion, refresh.expected_champion or ""):
        name = f"promotion {waiting.id} of router {waiting.router_digest[:12]}"
        try:
            gate = judge_again(workspace, load_to_judge(workspace, waiting.router_digest), champion, clock)
        except UnirouteError as error:
            lines.append(f"{name} cannot be judged against the refreshed champion: {error.message}")
            continue
        why = f"promotion {waiting.id} again, against the refreshed champion"
        asked = put_forward_again(workspace, waiting, champion, gate, why, run_id=waiting.run_id, clock=clock)
        by, against = refresh.requested_by, "the refreshed champion"
        lines += settled(workspace, name, asked, gate, actor=by, clock=clock, against=against)
    return tuple(lines)


def judge_refresh_again(workspace: Workspace, waiting: Promotion, on: date) -> GateRecord:
    """Check a refresh that waits for a person once more.

    Raises
    ------
    PromotionRefused
        LLMs or prices have changed since, so that it is no longer what the champion can serve.
    """
    champion = load_to_judge(workspace, waiting.expected_champion or "")
    found = refresh_today(workspace.registry, champion, on)
    if found.router is None or found.router.digest != waiting.router_digest:
        raise PromotionRefused(
            f"promotion {waiting.id} is no longer what the champion can serve: LLMs or prices have changed since",
            unchanged="No alias was moved.",
            hint="uniroute night run (puts forward what it can serve now)",
        )
    return gate_of(found, measure_refresh(workspace, found, on, None), workspace)


def measure_refresh(workspace: Workspace, found: Refresh, on: date, answers: Answers | None) -> GateResult | None:
    """Measure a refreshed router on the gate prompts; None where these have no answers to measure with."""
    from flows.gate.answers import Answers
    from flows.gate.evidence import gather
    from flows.gate.refresh_checks import judge_refresh
    from flows.gate.verdict import GateRules

    assert found.router is not None, "only what is left to serve is measured"
    rules = GateRules.of(workspace.settings)
    try:
        known = answers or Answers.of_version(workspace.registry, found.champion.digest, None)
        evidence = gather(known, found.router, found.champion, on=on, min_coverage=rules.min_coverage)
    except (NotFound, UnirouteError):
        return None
    if not len(evidence.outcomes.embeddings):
        return None
    return judge_refresh(found, evidence.outcomes, rules)


def gate_of(found: Refresh, measured: GateResult | None, workspace: Workspace) -> GateRecord:
    """Return the checks of a refresh and what it changes, as they are stored with its promotion."""
    from flows.gate.gate import gate_as_json
    from flows.gate.refresh_checks import refresh_checks
    from flows.gate.verdict import GateRules

    assert found.router is not None, "only what is left to serve is checked"
    if measured is not None:
        content = gate_as_json(measured)
    else:
        checks = refresh_checks(found)
        content = {
            "passed": all(check.passed for check in checks),
            "checks": [asdict(check) for check in checks],
            "metrics": {},
            "shares": [{"llm": key, "share": share} for key, share in found.traffic],
            "rules": asdict(GateRules.of(workspace.settings)),
        }
    content[REFRESH] = {
        "dropped": [asdict(one) for one in found.dropped],
        "repriced": [asdict(one) | {"before": list(one.before), "after": list(one.after)} for one in found.repriced],
        "dead_share": found.dead_share,
    }
    return gate_result(bool(content["passed"]), content)


def _keep(workspace: Workspace, found: Refresh, measured: GateResult | None, actor: str, clock: Clock) -> None:
    """Write the router's folder, the publication beside it, and the registry's row, as a night does."""
    from flows.promotion.publication import keep_publication

    router = found.router
    assert router is not None, "only what is left to serve is kept"
    parent = workspace.registry.routers.get(found.champion.digest)
    folder = router_folder(workspace, router.digest)
    remove_scratch_of_killed(folder)
    manifest = save_router(router, folder)
    keep_embedder(embedder_of(workspace, router, parent.digest), folder)
    publication = _publication(workspace, found, router, parent, measured)
    crash_points.reach("refresh written")
    keep_publication(workspace, router.digest, publication, measured)
    figure = figure_path(workspace, router.digest)
    figures = {figure.name: figure} if measured is not None and figure.exists() else {}
    workspace.registry.routers.save(
        RouterRecord(
            digest=router.digest,
            publish_key=router.digest,
            parent_digest=parent.digest,
            cluster_map_digest=parent.cluster_map_digest,
            prompt_set_digest=parent.prompt_set_digest,
            embedder_key=parent.embedder_key,
            # The run whose settings and prompts shaped it: a refresh shapes nothing.
            run_id=parent.run_id,
            llm_keys=router.keys,
            metrics=publication.metrics,
            files_json=json.dumps(dict(manifest.files), sort_keys=True),
            created_at=clock(),
        ),
        evidence=refreshed_provenance(workspace.registry, parent, router.keys, publication, figures),
        actor=actor,
    )


def _publication(
    workspace: Workspace, found: Refresh, router: Router, parent: RouterRecord, measured: GateResult | None
) -> Publication:
    from flows.gate.gate import version_metrics
    from flows.reports.worth import worth_lines

    run = workspace.registry.runs.get(parent.run_id)
    prompts = workspace.registry.prompts.get(parent.prompt_set_digest)
    lines = [
        f"Refresh of router {parent.digest[:12]}: the same map and vectors over {counted(len(router.keys), 'LLM')}, "
        "without LLMs that cannot serve, at the prices in force.",
        "",
        f"- LLMs left out: {len(found.dropped)}, which got {found.dead_share:.1%} of the representative prompts.",
        f"- LLMs at another price: {len(found.repriced)}; expected cost of the champion's own choices "
        f"{found.cost_text}.",
        *(f"- {line}" for line in worth_lines(None if measured is None else measured.worth)),
        "- No statistical gate: nothing new is claimed of any LLM.",
        f"- Digest {router.digest}, parent {parent.digest}.",
    ]
    return Publication(
        run_name=f"refresh {router.digest[:12]}",
        tags={
            "digest": router.digest,
            "prompt_set": parent.prompt_set_digest,
            "embedder": router.embedder.key,
            "cluster_map": parent.cluster_map_digest,
            "parent": parent.digest,
            "n_llms": str(len(router.keys)),
            "gate": "refresh",
        },
        description="\n".join(lines),
        params={
            "as_of": run.as_of.isoformat(),
            "run_key": run.key,
            "settings": run.settings_hash,
            "prompt_set": parent.prompt_set_digest,
            "embedder": router.embedder.key,
            "cluster_map": parent.cluster_map_digest,
            "n_clusters": router.cluster_map.n_clusters,
            "n_llms": len(router.keys),
            "cost_weight": router.cost_weight,
            "representative_prompts": len(prompts.with_role("representative")),
        },
        metrics={} if measured is None else version_metrics(measured),
    )
