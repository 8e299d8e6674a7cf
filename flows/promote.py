"""The Prefect deployment ``promote``: a form that decides a promotion through the functions of the command line."""

from __future__ import annotations

from flows.config import environment

environment.prepare()

import getpass
from typing import Literal

from prefect import flow
from prefect.states import Completed, State

from flows.config.loading import load_settings
from flows.masking import masked_failures
from flows.promotion.decisions import Person, decide
from flows.workspace import Workspace
from registry.clock import utc_now


@flow(name="promote", flow_run_name="promote-{promotion_id}-{decision}", retries=0, persist_result=False)
def promote(
    promotion_id: int, decision: Literal["approve", "reject"], reason: str, actor: str, config: str | None = None
) -> State:
    """Decide a promotion that awaits review.

    Parameters
    ----------
    promotion_id
        Its number, as ``uniroute promotion list`` shows it.
    decision
        Whether its router is to serve.
    reason
        Why; kept in the ledger.
    actor
        Who decides; Prefect does not know who filled in the form.
    config
        Path of the settings file; found as ``uniroute night run`` finds it when omitted.

    Returns
    -------
    State
        Completed, with the resulting status as its message.

    Raises
    ------
    UnirouteError
        The decision is refused; the champion stays as it is.
    """
    with masked_failures(), Workspace(load_settings(config)) as workspace:
        by = Person(actor, getpass.getuser())
        done = decide(workspace, promotion_id, decision, by=by, reason=reason, clock=utc_now)
    outcome = f"promotion {promotion_id} is {done.promotion.status}"
    return Completed(message=f"{outcome}; MLflow is pending: {done.pending}" if done.pending else outcome)
