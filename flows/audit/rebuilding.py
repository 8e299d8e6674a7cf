"""A router version computed again from the registry, by the code of the night and from the answers the night had.

Scores are final and carry the moment at which they were asked, so the answers of an earlier night are those asked
before its version was kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.config.settings import RoutingSettings
from flows.errors import PrerequisiteError
from flows.fitting.estimation import Estimation, assemble, fit_estimator
from flows.fitting.labels import labels_by_role
from flows.fitting.making import made_as
from flows.night.asked_prompts import AskedPrompts, enters_means, fitted_prompts
from flows.night.context import Night
from flows.versions.provenance import ROLES, Provenance, routed_llms
from routing.router import RoutedLLM, Router
from routing.stored_estimator import arrays_digest, estimator_arrays, kind_of, read_estimator

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.llms import LLM
    from registry.outcomes import OutcomeTable
    from registry.prompts import Prompt, PromptSet
    from registry.routers import RouterRecord


class OriginalNight(Night):
    """The night that made a version, as far as the version depends on it: rules, prompts and answers.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The version.
    provenance
        What it was made from.
    """

    def __init__(self, workspace: Workspace, record: RouterRecord, provenance: Provenance) -> None:
        run = workspace.registry.runs.get(record.run_id)
        super().__init__(workspace, run.as_of)
        self.settings = workspace.settings.model_copy(update={"routing": _rules(run.settings_json, run.key)})
        self._record = record
        self._provenance = provenance

    @cached_property
    def asked(self) -> AskedPrompts:
        """What LLMs had been asked by that night."""
        return AskedPrompts(self, until_run=self.run_id)

    @property
    def run_id(self) -> int:
        """The run that made the version."""
        return self._record.run_id

    @cached_property
    def prompt_set(self) -> PromptSet:
        """The prompts of the version."""
        return self.registry.prompts.get(self._record.prompt_set_digest)

    @cached_property
    def prompts_of_all_roles(self) -> tuple[Prompt, ...]:
        """Every prompt, in the order in which answers are digested."""
        return tuple(prompt for role in ROLES for prompt in self.prompt_set.with_role(role))

    @cached_property
    def grader_versions(self) -> dict[str, str]:
        """The graders of that night, by name."""
        return dict(self._provenance.graders)

    def counted_sampling(self, llm: LLM) -> str:
        """Return the sampling settings under which the answers of an LLM counted that night."""
        return self._provenance.answers[llm.key].sampling

    def embeddings_of(self, prompts: tuple[Prompt, ...]) -> NDArray[np.float32]:
        """Return the stored embeddings of prompts by the version's embedder, ``(n, dim)``."""
        return self.registry.prompts.embeddings(prompts, self._record.embedder_key).matrix

    def outcome_table(self, llms: list[LLM], prompts: tuple[Prompt, ...]) -> OutcomeTable:
        """Return the outcomes of these LLMs at the time the version was kept."""
        return self.registry.outcomes.table(
            [llm.key for llm in llms],
            prompts,
            self.grader_versions,
            {llm.key: self.counted_sampling(llm) for llm in llms},
            until=self._record.created_at,
        )


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A version computed again, and whether the cluster map in it was fitted again and came out with other bytes."""

    router: Router
    has_other_map: bool


def rebuild(night: OriginalNight, provenance: Provenance, original: Router, cluster_map_digest: str) -> Rebuilt:
    """Compute a version again.

    Cluster map and prior are fitted again when that night fitted them, and read otherwise. Prices are the original's,
    and so are vectors that the night itself carried over from an earlier one.

    Parameters
    ----------
    night
        The night that made it.
    provenance
        What it was made from.
    original
        The version as it was published.
    cluster_map_digest
        Its cluster map.
    """
    llms = routed_llms(night.registry, provenance)
    representative, of_map = labels_by_role(night, llms)
    stored = night.registry.routers.cluster_map(cluster_map_digest)
    if provenance.map_was_fitted:
        # Catalogs may have corrected facts of LLMs since: what is kept with the map is what it was fitted with.
        estimator = fit_estimator(night, representative, of_map, made_as(stored.arrays))
        digest = arrays_digest(kind_of(estimator), estimator_arrays(estimator))
    else:
        estimator, digest = read_estimator(stored.kind, stored.arrays), stored.digest
    levels = night.registry.routers.levels(cluster_map_digest)
    n_asked = [night.asked.n_counted(llm) for llm in llms]
    of_prompts = representative, of_map, levels, n_asked, fitted_prompts(night.registry, stored)
    sampling = {llm.key: night.counted_sampling(llm) for llm in llms}
    enters = enters_means(night.registry, night.prompt_set, sampling, until_run=night.run_id)
    found = Estimation(estimator, digest, provenance.map_was_fitted, *of_prompts, enters=enters)
    published = {llm.key: llm for llm in original.llms}
    routed = []
    for column, llm in enumerate(llms):
        use = provenance.answers[llm.key].use
        if use == "left out":
            continue
        before = published[llm.key]
        vector = found.vector(column) if use == "routed" else before.vector
        routed.append(RoutedLLM(llm.key, before.input_usd_per_mtok, before.output_usd_per_mtok, vector))
    return Rebuilt(assemble(night, found, routed, original.embedder), digest != cluster_map_digest)


def _rules(settings_json: str, run_key: str) -> RoutingSettings:
    """Read the rules that shape a router from the settings kept with a run."""
    try:
        return RoutingSettings(**json.loads(settings_json)["routing"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise PrerequisiteError(
            f"The settings kept with run {run_key} cannot be read: {type(error).__name__}.",
            hint="They are in the column settings_json of the registry's table run.",
        ) from None
