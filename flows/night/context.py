"""What the stages of one night share: its day, run, prompts, graders, sampling, and what is known about drift."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.config.loading import SettingsSource
from flows.graders import Grader, Judge, Labelled, check_grader, grader
from flows.night.asked_prompts import AskedPrompts, uniform_representative
from flows.night.epochs import Drifts, in_epoch
from flows.night.interruption import Interruption
from flows.workspace import Workspace
from registry.clock import utc_now
from registry.cluster_maps import FitSettings
from registry.prompts import Prompt, PromptSet

if TYPE_CHECKING:
    from registry.cluster_maps import FittedMap
    from registry.llms import LLM
    from registry.outcomes import OutcomeTable
    from registry.runs import Run

PROFILED_ROLES = ("representative", "gate", "hidden")
_MOST_OF_MAP = 0.5


class Night:
    """What the stages of one night share; what they find is in their results, which it does not know.

    Deliberately not a dataclass: Prefect traverses every dataclass that it is passed, and this one leads to everything.

    Parameters
    ----------
    workspace
        The opened parts.
    as_of
        The day of the night: listings after that day are ignored.
    clock
        Returns the time, in UTC.
    given
        How the settings were given, for the processes that take over parts of the night.
    prompt_set
        The frozen prompt set; frozen from the configured prompts when omitted.
    ends_at
        When it stops asking; ``[night] max_hours`` from now when omitted.
    """

    def __init__(
        self,
        workspace: Workspace,
        as_of: date,
        clock: Callable[[], datetime] = utc_now,
        *,
        given: SettingsSource | None = None,
        prompt_set: PromptSet | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        self.workspace = workspace
        self.settings = workspace.settings
        self.registry = workspace.registry
        self.as_of = as_of
        self.clock = clock
        self.given = given or SettingsSource()
        self._prompt_set = prompt_set
        self.ends_at = ends_at or clock() + timedelta(hours=self.settings.night.max_hours)
        self.interruption = Interruption(self.settings.night.stop_grace_s)
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The run that holds the lease; RuntimeError when the night has not started."""
        if self._run is None:
            raise RuntimeError("the night has not started")
        return self._run

    @run.setter
    def run(self, run: Run) -> None:
        self._run = run

    @property
    def run_key(self) -> str:
        """The key that identifies this night however often it is started."""
        return f"night:{self.as_of.isoformat()}:{self.settings.digest[:12]}"

    @property
    def is_handed_out(self) -> bool:
        """Whether other processes make the profiles; a process that has a part of the run makes that itself."""
        return self.settings.fan_out.runner != "threads" and not self.run.part

    @property
    def is_over(self) -> bool:
        """Whether it has lasted as long as it may ask."""
        return self.clock() >= self.ends_at

    @cached_property
    def prompt_set(self) -> PromptSet:
        """The frozen prompt set."""
        return self._prompt_set or self.workspace.prompt_set

    @property
    def fitted_map(self) -> FittedMap | None:
        """The map that matches prompt set, embedder and settings; None when it has yet to be fitted.

        While fewer map prompts changed than ``[routing.refit] changed_prompts``, it is that of the earlier prompts.
        """
        rules, routers = self.settings.routing, self.registry.routers
        asked = None if rules.method == "posterior" else rules.clusters
        wanted = FitSettings(self.workspace.embedder.id.key, rules.method, rules.seed, asked)
        found = routers.fitted_map(wanted, self.prompt_set.digest)
        if found is not None or not rules.refit.changed_prompts:
            return found
        found = routers.fitted_map(wanted)
        if found is None or self._changed_share(found.record.prompt_set_digest) > rules.refit.changed_prompts:
            return None
        return found

    def _changed_share(self, earlier_digest: str) -> float:
        """Return the share of the map prompts of an earlier prompt set that were added, dropped or changed since."""
        earlier = self.registry.prompts.get(earlier_digest)
        before, now = ({one.digest for one in held.with_role("map")} for held in (earlier, self.prompt_set))
        return max(len(before - now), len(now - before)) / max(len(before), 1)

    @cached_property
    def asked(self) -> AskedPrompts:
        """Which representative and map prompts each LLM is asked, and in which order."""
        return AskedPrompts(self)

    @cached_property
    def profiled_prompts(self) -> tuple[Prompt, ...]:
        """All prompts that any LLM may be asked tonight, representative ones first.

        In the night in which the map is fitted LLMs are asked map prompts too, because the posterior and the learned
        map learn from them how LLMs differ.
        """
        return (*self.prompt_set.with_role("representative"), *self._judging_prompts, *self._map_prompts)

    def prompts_for(self, llm: LLM) -> tuple[Prompt, ...]:
        """Return the prompts that an LLM is asked tonight, in the order in which it is asked them.

        The LLMs of the night in which the map is fitted are asked all representative prompts, and map prompts: the
        choice of what others are asked, and what is expected of them, rests on these answers. When a later night fits a
        map again, because prompts were added, dropped or changed, that is for the LLMs that answered most of the map
        prompts before: they are enough to learn from. If none did, it is for all LLMs.
        """
        if self.is_founding(llm):
            return self.profiled_prompts
        return (*self.asked.representative(llm), *self._judging_prompts)

    def is_founding(self, llm: LLM) -> bool:
        """Whether the map that is fitted tonight learns from an LLM."""
        return bool(self._map_prompts) and (not self._map_llms or llm.key in self._map_llms)

    def mean_prompts(self, llm: LLM) -> tuple[Prompt, ...]:
        """Return the prompts over which a mean score of an LLM may be taken: none of them was chosen for anything."""
        sampling = {llm.key: self.asked_sampling(llm)}
        drawn = uniform_representative(self.registry, self.prompt_set, sampling)
        return (*drawn[llm.key], *self._judging_prompts)

    @cached_property
    def _judging_prompts(self) -> tuple[Prompt, ...]:
        return tuple(prompt for role in PROFILED_ROLES[1:] for prompt in self.prompt_set.with_role(role))

    @cached_property
    def fits_map(self) -> bool:
        """Whether tonight's router needs a cluster map that has yet to be fitted, with a prior learnt from LLMs."""
        return self.fitted_map is None and self.settings.routing.method != "kmeans"

    @cached_property
    def _map_prompts(self) -> tuple[Prompt, ...]:
        return self.asked.map if self.fits_map else ()

    @cached_property
    def _map_llms(self) -> frozenset[str]:
        """Keys of the LLMs that answered most of the map prompts; none before the first router."""
        if not self.registry.routers.exist():
            return frozenset()
        llms = [llm for llm in self.registry.llms.all() if llm.endpoint in self.sampling]
        share = np.isfinite(self.outcome_table(llms, self._map_prompts).scores).mean(axis=0)
        return frozenset(llm.key for llm, answered in zip(llms, share, strict=True) if answered >= _MOST_OF_MAP)

    def embeddings_of(self, prompts: tuple[Prompt, ...]) -> NDArray[np.float32]:
        """Return the stored embeddings of prompts, ``(n, dim)``, in their order."""
        return self.registry.prompts.embeddings(prompts, self.workspace.embedder.id.key).matrix

    def outcome_table(self, llms: list[LLM], prompts: tuple[Prompt, ...]) -> OutcomeTable:
        """Return what these LLMs scored on these prompts, under tonight's graders and the sampling that counts."""
        sampling = {llm.key: self.counted_sampling(llm) for llm in llms}
        return self.registry.outcomes.table([llm.key for llm in llms], prompts, self.grader_versions, sampling)

    @cached_property
    def graders(self) -> dict[str, Grader]:
        """The graders that the prompts name, except the judge."""
        names = {prompt.grader for prompt in self._gradable_prompts} - {Judge.name}
        return {name: grader(name) for name in sorted(names)}

    @cached_property
    def judge(self) -> Judge | None:
        """The judge; None when no prompt needs one and unreadable answers are left as they are."""
        llm_key = self.settings.judge.llm
        if not (self.settings.judge.unreadable or self._has_judged_prompts):
            return None
        return Judge(llm_key, self.sampling[llm_key.partition(":")[0]])

    @cached_property
    def labels(self) -> dict[str, Labelled]:
        """By name, everything that turns completions into scores: the graders, and the judge if prompts name it."""
        is_grader = self.judge is not None and self._has_judged_prompts
        return {**self.graders, **({Judge.name: self.judge} if is_grader else {})}

    @property
    def _has_judged_prompts(self) -> bool:
        return any(prompt.grader == Judge.name for prompt in self._gradable_prompts)

    @cached_property
    def _gradable_prompts(self) -> tuple[Prompt, ...]:
        """All prompts among which those that are asked tonight are chosen: by graded answers, so graders come first."""
        roles = (*PROFILED_ROLES, "map") if self.fits_map else PROFILED_ROLES
        return tuple(prompt for role in roles for prompt in self.prompt_set.with_role(role))

    @property
    def grader_versions(self) -> dict[str, str]:
        """By grader name, the name with version that is part of the outcome key."""
        return {name: entry.label for name, entry in self.labels.items()}

    def is_judge(self, llm: LLM) -> bool:
        """Whether an LLM judges the others: none judges itself, so the judge has no profile and is asked no prompts."""
        return self.judge is not None and llm.key == self.judge.llm_key

    @cached_property
    def sampling(self) -> dict[str, str]:
        """By endpoint, the sampling settings that are part of the outcome key."""
        return {
            entry.name: self.workspace.open_endpoint(entry).sampling for entry in self.workspace.endpoint_settings()
        }

    @cached_property
    def drifts(self) -> Drifts:
        """What is known about the drift of LLMs."""
        return Drifts(self.registry)

    def asked_sampling(self, llm: LLM) -> str:
        """Return the sampling settings under which an LLM is asked tonight: those of the epoch that is due."""
        drift = self.drifts.of(llm.key)
        if drift is not None and drift.is_due(self.as_of):
            return in_epoch(self.sampling[llm.endpoint], drift.asked_epoch)
        return self.counted_sampling(llm)

    def counted_sampling(self, llm: LLM) -> str:
        """Return the sampling settings of the answers that routers are built on."""
        drift = self.drifts.of(llm.key)
        return in_epoch(self.sampling[llm.endpoint], drift.counted_epoch if drift is not None else None)

    def check_graders(self) -> None:
        """Put every grader through its self-check before money is spent on answers for it.

        Raises
        ------
        GradingError
            A grader does not score its references at about 1, or scores wrong answers above chance.
        """
        for name, entry in self.graders.items():
            check_grader(entry, [prompt for prompt in self._gradable_prompts if prompt.grader == name])
