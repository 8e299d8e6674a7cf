"""The Prefect deployment ``profile-llm``: workers of a work pool make the profile of one LLM with it."""

from __future__ import annotations

from flows.config import environment

environment.prepare()

import json
from dataclasses import asdict

from prefect import flow
from prefect.states import Completed, State

from flows.masking import mask, masked_failures
from flows.profiling.assignment import Assignment, carry_out


@flow(name="profile-llm", flow_run_name="{assignment.llm_key}", retries=0, persist_result=False)
async def profile_llm(assignment: Assignment) -> State:
    """Profile one LLM for a night that waits for it.

    Parameters
    ----------
    assignment
        What the night handed out; it names the lease of the night, so that nothing else can make one.

    Returns
    -------
    State
        Completed, with how it ended as its message, in JSON. Answers are in the registry.

    Raises
    ------
    UnirouteError
        It cannot be carried out on this worker; answers that arrived are kept.
    """
    with masked_failures():
        return Completed(message=mask(json.dumps(asdict(await carry_out(assignment)))))
