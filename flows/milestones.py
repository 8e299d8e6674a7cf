"""What a night leaves for those who watch it: how much it planned in the registry, and its milestones in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.logs import log_event
from registry.errors import RegistryBusy, RunAlreadyActive

if TYPE_CHECKING:
    from flows.night import Night, ProfileOutcome, RouterOutcome
    from flows.plan import NightPlan
    from registry.llms import LLM
    from registry.outcomes import Outcome

_TAKEN_OVER = "run:lease:taken_over"


def note_plan(night: Night, plan: NightPlan) -> None:
    """Let anybody see how many calls this attempt is about to make."""
    calls = plan.calls + plan.canary_calls
    night.registry.vitals.note_plan(night.run, calls)
    log_event("planned", run=night.run_key, llms=len(plan.profiles), calls=calls, cost_usd=plan.expected_usd)


def log_take_over(night: Night) -> None:
    """Log when this attempt took the lease from a holder that had vanished."""
    for event in night.registry.ledger.events(subject=night.run_key, event=_TAKEN_OVER, limit=1):
        facts = json.loads(event.payload_json)
        if facts["lease"] == night.run.lease_number:
            former = {"former_run": facts["former_run"], "former_host": facts["former_host"]}
            log_event("lease_taken_over", level=logging.WARNING, run=night.run_key, **former)


@contextmanager
def logged_loss(night: Night) -> Iterator[None]:
    """Log why a sign of life could not be given; a lost lease is passed on, a busy registry is asked again later."""
    try:
        yield
    except RunAlreadyActive as error:
        log_event("lease_lost", level=logging.ERROR, run=night.run_key, reason=error.message)
        raise
    except RegistryBusy as error:
        log_event("heartbeat_missed", level=logging.WARNING, run=night.run_key, reason=error.message)


def log_answer(run_key: str, llm: LLM, outcome: Outcome) -> None:
    """Log one answer, or why there is none, at the level `logging.DEBUG`: never what was asked or answered."""
    log_event(
        "answered" if outcome.failure is None else "failed",
        level=logging.DEBUG,
        run=run_key,
        llm=llm.key,
        endpoint=llm.endpoint,
        prompt_id=outcome.prompt_digest,
        attempt=outcome.attempts,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        kind=outcome.failure,
    )


def log_endings(night: Night, profiles: Iterable[ProfileOutcome]) -> None:
    """Log how asking each LLM ended."""
    for found in profiles:
        log_event(
            "llm_stopped" if found.stopped_by else "llm_profiled",
            run=night.run_key,
            llm=found.llm_key,
            calls=found.asked,
            failed=found.failed,
            coverage=found.coverage,
            cost_usd=found.spent_usd,
            reason=found.stopped_by or None,
        )


def log_router(night: Night, router: RouterOutcome) -> None:
    """Log what became of the night's router, and whether MLflow has yet to hear of it."""
    facts = {"run": night.run_key, "router": router.digest[:12], "version": router.version}
    log_event("promotion_decided", promotion=router.promotion, **facts)
    if router.publish_error:
        log_event("publication_pending", level=logging.WARNING, reason=router.publish_error, **facts)
