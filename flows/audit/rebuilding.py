"""A router version computed once more from the registry, by the code of the night and from what the night had.

Scores are final and carry the moment at which they were asked, so the answers of an earlier night are those asked by
the moment its version was kept.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from flows.config.settings import RoutingSettings
from flows.errors import PrerequisiteError
from flows.fitting.estimation import Estimation, assemble, fit_estimator, labels_of
from flows.night.context import Night
from flows.versions.provenance import ROLES, Evidence, routed_llms
from routing.router import RoutedLLM, Router
from routing.stored_estimator import arrays_digest, estimator_arrays, read_estimator

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.llms import LLM
    from registry.outcomes import OutcomeTable
    from registry.prompts import Prompt, PromptSet
    from registry.routers import RouterRecord


class PastNight(Night):
    """The night that made a version, as far as the version depends on it: its rules, its prompts, its answers.

    Parameters
    ----------
    workspace
        The opened parts.
    record
        The version.
    evidence
        What it was made from.
    """

    def __init__(self, workspace: Workspace, record: RouterRecord, evidence: Evidence) -> None:
        run = workspace.registry.runs.get(record.run_id)
        super().__init__(workspace, run.as_of)
        self.settings = workspace.settings.model_copy(update={"routing": _rules(run.settings_json, run.key)})
        self._record = record
        self._evidence = evidence

    @cached_property
    def prompt_set(self) -> PromptSet:
        """Give the prompts of the version."""
        return self.registry.prompts.get(self._record.prompt_set_digest)

    @cached_property
    def prompts_of_all_roles(self) -> tuple[Prompt, ...]:
        """Give every prompt, in the order in which answers are digested."""
        return tuple(prompt for role in ROLES for prompt in self.prompt_set.with_role(role))

    @cached_property
    def grader_versions(self) -> dict[str, str]:
        """Give the graders of that night."""
        return dict(self._evidence.graders)

    def counted_sampling(self, llm: LLM) -> str:
        """Give the sampling settings under which the answers of an LLM counted that night."""
        return self._evidence.answers[llm.key].sampling

    def embeddings_of(self, prompts: tuple[Prompt, ...]) -> NDArray[np.float32]:
        """Give the stored embeddings of prompts by the version's embedder, ``(n, dim)``."""
        return self.registry.prompts.embeddings(prompts, self._record.embedder_key).matrix

    def outcome_table(self, llms: list[LLM], prompts: tuple[Prompt, ...]) -> OutcomeTable:
        """Give what these LLMs had answered when the version was kept."""
        return self.registry.outcomes.table(
            [llm.key for llm in llms],
            prompts,
            self.grader_versions,
            {llm.key: self.counted_sampling(llm) for llm in llms},
            until=self._record.created_at,
        )


def rebuild(night: PastNight, evidence: Evidence, original: Router, cluster_map_digest: str) -> Router:
    """Compute a version once more.

    Cluster map and prior are fitted again when that night fitted them, else they are read. Prices are the original's;
    so are vectors that the night itself carried over from an earlier one.

    Parameters
    ----------
    night
        The night that made it.
    evidence
        What it was made from.
    original
        The version as it was published.
    cluster_map_digest
        Its cluster map.
    """
    llms = routed_llms(night.registry, evidence)
    representative, of_map = (
        labels_of(night, llms, night.prompt_set.with_role(role)) for role in ("representative", "map")
    )
    if evidence.map_was_fitted:
        estimator = fit_estimator(night, representative, of_map)
        digest = arrays_digest(night.settings.routing.method, estimator_arrays(estimator))
    else:
        stored = night.registry.routers.cluster_map(cluster_map_digest)
        estimator, digest = read_estimator(stored.kind, stored.arrays), stored.digest
    found = Estimation(estimator, digest, evidence.map_was_fitted, representative, of_map)
    published = {llm.key: llm for llm in original.llms}
    routed = []
    for column, llm in enumerate(llms):
        use = evidence.answers[llm.key].use
        if use == "left out":
            continue
        before = published[llm.key]
        vector = found.vector(column) if use == "routed" else before.vector
        routed.append(RoutedLLM(llm.key, before.input_usd_per_mtok, before.output_usd_per_mtok, vector))
    return assemble(night, found, routed, original.embedder)


def differences(original: Router, rebuilt: Router, gate_embeddings: NDArray[np.float32]) -> tuple[str, ...]:
    """Say how a rebuilt router decides differently on gate prompts; empty when all decisions agree."""
    before = original.route(gate_embeddings).llms
    after = rebuilt.route(gate_embeddings).llms
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    if not changed:
        return ()
    lines = [f"{changed} of {len(before)} gate prompts go to another LLM"]
    vectors = {llm.key: llm.vector.errors for llm in rebuilt.llms}
    for llm in original.llms:
        if llm.key in vectors and llm.vector.errors.shape == vectors[llm.key].shape:
            largest = float(np.abs(llm.vector.errors - vectors[llm.key]).max())
            if largest > 0:
                lines.append(f"errors of {llm.key} differ by up to {largest:.3g}")
    return tuple(lines)


def _rules(settings_json: str, run_key: str) -> RoutingSettings:
    """Read the rules that shape a router from the settings that a run kept."""
    try:
        return RoutingSettings(**json.loads(settings_json)["routing"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise PrerequisiteError(
            f"The settings that run {run_key} kept cannot be read: {type(error).__name__}.",
            hint="They are in the column settings_json of the registry's table run.",
        ) from None
