"""Assignments: the profile of one LLM, which a night hands to another process, and how that process makes it."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from io import StringIO

from flows.config.loading import SettingsSource
from flows.config.settings import Settings
from flows.errors import PrerequisiteError
from flows.night.context import Night
from flows.night.lease import is_gone, kept_alive
from flows.profiling.batches import profile_part
from flows.profiling.plan import NightPlan, PlannedProfile
from flows.profiling.progress import Progress
from flows.profiling.results import WorkerResult
from flows.workspace import Workspace
from registry.clock import utc_now
from registry.errors import PartAlreadyHeld
from registry.llms import LLM
from registry.runs import Run

LONGEST_LEASE_S = 30.0
"""How long a process that vanished blocks its LLM for others, in seconds; less when ``[night] lease_s`` is less."""
_RETRY_EVERY_S = 2.0


@dataclass(frozen=True)
class Assignment:
    """The profile of one LLM, as handed to another process: names and numbers, and nothing secret.

    Attributes
    ----------
    run_key, lease_number
        The run, and the lease under which it hands out the profile.
    as_of
        The day of the night, ``YYYY-MM-DD``.
    llm_key
        The LLM.
    given
        How the settings were given; their digest must equal `settings_hash`.
    settings_hash, grader_versions, sampling
        What answers are stored under: a process of another version, or with other settings, would store them elsewhere.
    llms_at_once
        How many such processes share the limits of the endpoints.
    ends_at
        When the night stops asking, in ISO format.
    """

    run_key: str
    lease_number: int
    as_of: str
    llm_key: str
    given: SettingsSource
    settings_hash: str
    grader_versions: dict[str, str]
    sampling: str
    llms_at_once: int
    ends_at: str

    @classmethod
    def of(cls, night: Night, llm: LLM, llms_at_once: int) -> Assignment:
        """Return what another process needs to profile an LLM for the night."""
        return cls(
            run_key=night.run.key,
            lease_number=night.run.lease_number,
            as_of=night.as_of.isoformat(),
            llm_key=llm.key,
            given=night.given,
            settings_hash=night.settings.digest,
            grader_versions=dict(night.grader_versions),
            sampling=night.asked_sampling(llm),
            llms_at_once=llms_at_once,
            ends_at=night.ends_at.isoformat(),
        )


async def carry_out(assignment: Assignment) -> WorkerResult:
    """Profile the LLM of an assignment; called in a flow run or a task of its own, on any machine.

    Raises
    ------
    UnirouteError
        It cannot be carried out here; answers that arrived are kept.
    """
    settings = assignment.given.load()
    _refuse_other_settings(settings, assignment)
    with Workspace(settings.shared_by(assignment.llms_at_once), migrate=False) as workspace:
        registry = workspace.registry
        run = await _take_part(workspace, assignment)
        try:
            prompt_set = registry.prompts.get(run.prompt_set_digest or "")
            night = Night(
                workspace,
                date.fromisoformat(assignment.as_of),
                given=assignment.given,
                prompt_set=prompt_set,
                ends_at=datetime.fromisoformat(assignment.ends_at),
            )
            night.run = run
            llm = registry.llms.get(assignment.llm_key)
            _refuse_other_protocol(night, llm, assignment)
            async with kept_alive(night), night.interruption:
                return await _profile(night, llm)
        finally:
            registry.parts.leave(run)


async def _profile(night: Night, llm: LLM) -> WorkerResult:
    wanted = night.prompts_for(llm)
    missing = night.registry.outcomes.missing(llm.key, wanted, night.grader_versions, night.asked_sampling(llm))
    zero = Decimal(0)
    planned = PlannedProfile(llm, missing, len(wanted) - len(missing), expected_usd=zero, worst_usd=zero)
    plan = NightPlan(profiles=(planned,), deferred=(), unroutable=(), complete=0)
    # The night that handed this out shows the progress of all its parts.
    unseen = Progress(plan, night.settings.budget.night_usd, stream=StringIO())
    result = await profile_part(night, plan, unseen)
    night.interruption.raise_if_requested()
    (found,) = result.profiles
    return WorkerResult(found.stopped_by, found.stopped_for, found.cut_share, found.downgrades, found.saved_calls)


async def _take_part(workspace: Workspace, assignment: Assignment) -> Run:
    """Take the part; a former holder that vanished may count as alive for as long as its lease lasts."""
    lease_s = min(LONGEST_LEASE_S, workspace.settings.night.lease_s)
    deadline_s = asyncio.get_running_loop().time() + 2 * lease_s
    while True:
        try:
            return workspace.registry.parts.take(
                assignment.run_key,
                assignment.lease_number,
                assignment.llm_key,
                host=socket.gethostname(),
                pid=os.getpid(),
                now=utc_now(),
                lease_s=lease_s,
                holder_is_gone=is_gone,
            )
        except PartAlreadyHeld:
            if asyncio.get_running_loop().time() > deadline_s:
                raise
        await asyncio.sleep(_RETRY_EVERY_S)


def _refuse_other_settings(settings: Settings, assignment: Assignment) -> None:
    if settings.digest != assignment.settings_hash:
        raise PrerequisiteError(
            f"This worker's settings (hash {settings.digest[:12]}) are not those of the night "
            f"({assignment.settings_hash[:12]}): its answers would not belong to it.",
            unchanged="Nothing was asked.",
            hint="Give the worker the night's settings file and environment: uniroute config show --origin on both.",
        )


def _refuse_other_protocol(night: Night, llm: LLM, assignment: Assignment) -> None:
    here = (dict(night.grader_versions), night.asked_sampling(llm))
    if here != (assignment.grader_versions, assignment.sampling):
        raise PrerequisiteError(
            f"This worker runs another version of uniroute than the night: it would store answers under {here}, "
            f"the night under {(assignment.grader_versions, assignment.sampling)}.",
            unchanged="Nothing was asked.",
            hint="Install the same version of uniroute on all workers.",
        )
