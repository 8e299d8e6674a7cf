"""Stage four: the candidate is measured, published to MLflow, and promoted when the gate passes."""

from __future__ import annotations

import json
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import crash_points
from flows.fitting.refit import Candidate
from flows.gate.answers import Answers
from flows.gate.evidence import put_to_gate
from flows.gate.gate import GateResult, gate_as_json, version_metrics
from flows.gate.refresh import refresh_today
from flows.masking import masked_failures
from flows.night.context import Night
from flows.profiling.availability import unavailable_tonight
from flows.promotion.judging import judge_undecided_again, refusal
from flows.promotion.publication import GATE_WORDS, keep_publication, version_description, version_params
from flows.promotion.refresh import refresh_champion
from flows.reports.night_report import UNDECIDED_WAITS, RefreshOutcome, RouterOutcome
from flows.reports.promotion.gathering import Subject
from flows.reports.promotion.reviews import attempt_review
from flows.versions.mlflow_sync import find_drift, note_drift, sync_mlflow
from flows.versions.provenance import provenance_of
from flows.versions.store import (
    Publication,
    figure_path,
    load_version,
    remove_scratch_of_killed,
    router_folder,
)
from registry.errors import PublishIncomplete, StalePromotion
from registry.promotion_records import REVIEW, gate_result
from registry.routers import RouterRecord
from routing.artifact import save_router
from routing.embedders import keep_embedder
from routing.router import Router

ACTOR = "night"


@task(name="refresh", cache_policy=NO_CACHE)
@masked_failures()
def refresh(night: Night) -> RefreshOutcome | None:
    """Replace the champion by itself as it can serve, when that is due; return how that ended."""
    champion = night.registry.routers.aliases().champion
    if champion is None:
        return None
    given = {"on": night.as_of, "actor": ACTOR, "clock": night.clock, "run_id": night.run.id}
    answers = Answers.of_night(night, night.registry.routers.get(champion).llm_keys)
    try:
        outcome = refresh_champion(night.workspace, answers=answers, **given)
    except StalePromotion:
        # A person decided in the same moment: what they let serve is refreshed, on the answers it was made from.
        outcome = refresh_champion(night.workspace, **given)
    crash_points.reach("refresh decided")
    if outcome is None or not outcome.is_applied:
        return outcome
    try:
        sync_mlflow(night.workspace, night.clock)
    except PublishIncomplete as error:
        return replace(outcome, publish_error=f"{error.message.rstrip('.')}. {error.hint}".rstrip())
    return outcome


@task(name="measure", cache_policy=NO_CACHE)
@masked_failures()
def measure_candidate(night: Night, candidate: Candidate) -> GateResult:
    """Judge the candidate against the champion on gate prompts."""
    router, champion = candidate.router, champion_router(night)
    keys = sorted({*router.keys, *(champion.keys if champion is not None else ())})
    return put_to_gate(
        Answers.of_night(night, keys),
        router,
        champion,
        night.settings,
        on=night.as_of,
        zero_router=candidate.zero_router,
    )


def champion_router(night: Night) -> Router | None:
    """Load the router that serves now; None before the first."""
    digest = night.registry.routers.aliases().champion
    return None if digest is None else load_version(night.workspace, digest)


@task(name="publish", cache_policy=NO_CACHE)
@masked_failures()
def keep_and_publish(night: Night, candidate: Candidate, gate: GateResult) -> RouterOutcome:
    """Keep the candidate in registry and home folder, apply the gate's verdict, and synchronize MLflow.

    MLflow being down does not fail the night: the registry is right, and the next night publishes what is pending.
    """
    aliases = night.registry.routers.aliases()
    router = _put_forward(night, candidate)
    if gate.against != aliases.champion:
        # Somebody decided meanwhile: what was measured against another champion decides nothing.
        gate = measure_candidate.fn(night, candidate)
    outcome = RouterOutcome(
        digest=router.digest,
        n_llms=len(router.keys),
        is_unchanged=router.digest == aliases.champion,
        map_was_fitted=candidate.map_was_fitted,
        gate=gate if router is candidate.router else None,
        left_out=candidate.left_out,
        refit=candidate.change,
    )
    if not outcome.is_unchanged:
        _keep(night, candidate, gate, aliases.champion)
        crash_points.reach("router registered")
        # Without a report the night continues: the gate is the authority, and the digest says that the page is missing.
        review = attempt_review(night.workspace, Subject(router.digest, aliases.champion, gate_as_json(gate)))
        crash_points.reach("report written")
        outcome = replace(
            outcome,
            promotion=_promote_by_policy(night, router, gate, aliases.champion, review.digest),
            review_path=str(review.path or ""),
            review_error=review.error,
        )
    else:
        # No other challenger takes the place of one that waits because the gate could not decide.
        again = judge_undecided_again(night.workspace, actor=ACTOR, clock=night.clock, run_id=night.run.id)
        outcome = replace(outcome, judged_again=again)
    crash_points.reach("promotion decided")
    try:
        sync_mlflow(night.workspace, night.clock)
        drifts = find_drift(night.workspace)
        note_drift(night.workspace, drifts, actor=ACTOR, now=night.clock())
        outcome = replace(outcome, alias_drifts=tuple(map(str, drifts)))
    except PublishIncomplete as error:
        outcome = replace(outcome, publish_error=f"{error.message.rstrip('.')}. {error.hint}".rstrip())
    return replace(outcome, version=night.registry.routers.get(router.digest).mlflow_version)


def _put_forward(night: Night, candidate: Candidate) -> Router:
    """Return the candidate; the champion if the candidate is nothing but a refresh of it that is due.

    Such a router serves by a refresh once it is approved, once a second night confirms that an LLM is gone, or once an
    LLM whose price is held for review is taken out. Judged as a challenger it could be turned down, and what was turned
    down never serves by a refresh.
    """
    champion = champion_router(night)
    if champion is None:
        return candidate.router
    held = {key for key in champion.keys if night.registry.llms.held_price(key) is not None}
    found = refresh_today(night.registry, champion, night.as_of, without=unavailable_tonight(night) | held)
    is_refresh = found.is_due and found.router is not None and found.router.digest == candidate.router.digest
    return champion if is_refresh else candidate.router


def _keep(night: Night, candidate: Candidate, gate: GateResult, parent: str | None) -> None:
    """Write the router folder, then the publication beside it, then the registry's row."""
    router = candidate.router
    folder = router_folder(night.workspace, router.digest)
    remove_scratch_of_killed(folder)
    manifest = save_router(router, folder)
    keep_embedder(night.workspace.embedder, folder)
    tags = {
        "digest": router.digest,
        "prompt_set": night.prompt_set.digest,
        "embedder": router.embedder.key,
        "cluster_map": candidate.cluster_map_digest,
        "parent": parent or "none",
        "n_llms": str(len(router.keys)),
        "gate": GATE_WORDS[gate.verdict],
    }
    crash_points.reach("router written")
    publication = Publication(
        run_name=f"{night.run_key} {router.digest[:12]}",
        tags=tags,
        description=version_description(router, gate, parent, night.as_of),
        params=version_params(night, candidate),
        metrics=version_metrics(gate),
    )
    keep_publication(night.workspace, router.digest, publication, gate)
    figure = figure_path(night.workspace, router.digest)
    crash_points.reach("publication written")
    night.registry.routers.save(
        RouterRecord(
            digest=router.digest,
            publish_key=router.digest,
            parent_digest=parent,
            cluster_map_digest=candidate.cluster_map_digest,
            prompt_set_digest=night.prompt_set.digest,
            embedder_key=router.embedder.key,
            run_id=night.run.id,
            llm_keys=router.keys,
            metrics=version_metrics(gate),
            files_json=json.dumps(dict(manifest.files), sort_keys=True),
            created_at=night.clock(),
        ),
        evidence=provenance_of(night, candidate, publication, {figure.name: figure} if figure.exists() else {}),
        actor=ACTOR,
    )


def _promote_by_policy(
    night: Night, router: Router, gate: GateResult, champion: str | None, report_digest: str | None
) -> str:
    """Request the promotion, decide it by the policy, and return the result in words."""
    promotions = night.registry.promotions
    promotions.set_challenger(router.digest, actor=ACTOR, now=night.clock(), reason="put to the gate")
    found = gate_result(gate.passed, gate_as_json(gate))
    promotion = promotions.request(
        router.digest,
        champion,
        found,
        actor=ACTOR,
        now=night.clock(),
        report_digest=report_digest,
        run_id=night.run.id,
    )
    crash_points.reach("promotion requested")
    failure = refusal(found)
    if failure:
        promotions.reject(promotion.id, actor=ACTOR, reason=failure, now=night.clock())
        return "rejected"
    if promotion.status == "rejected":
        return "rejected"  # by a person, against the same champion on the same evidence
    waits = night.settings.gate.policy == "review" or promotions.is_vetoed(router.digest)
    if found.is_undecided and (waits or found.decision == REVIEW):
        return UNDECIDED_WAITS
    if waits:
        return "waiting for review"
    reason = "gate passed, policy automatic"
    if found.is_undecided:
        reason = 'gate undecided, cheaper: [gate] undecided = "promote_if_cheaper", policy automatic'
    promotions.apply(promotion.id, actor=ACTOR, reason=reason, now=night.clock())
    return "promoted"
