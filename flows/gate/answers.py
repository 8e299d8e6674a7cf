"""The answers that count for a night or for a kept version, and what is read with them: embeddings and prices.

Answers are read from the registry each time; no LLM is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.night.asked_prompts import is_uniform, uniform_representative
from flows.night.epochs import Drifts, in_epoch
from flows.versions.provenance import known_provenance
from registry.errors import NotFound
from registry.outcomes import Readability
from registry.store import Registry
from routing.embedders import load_embedder_for
from routing.router import Router

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.outcomes import OutcomeTable
    from registry.prompts import Prompt, PromptSet


@dataclass(frozen=True, eq=False)
class Answers:
    """Selects the answers that count.

    Attributes
    ----------
    registry
        The registry that holds them.
    prompt_set
        The prompts that were asked.
    graders
        Grader name to ``name/version``.
    sampling
        By LLM key, the sampling settings under which its answers count.
    until
        Only answers up to this moment count; None counts all.
    """

    registry: Registry
    prompt_set: PromptSet
    graders: Mapping[str, str]
    sampling: Mapping[str, str]
    until: datetime | None = None

    @classmethod
    def of_night(cls, night: Night, keys: Sequence[str]) -> Answers:
        """Return the answers that count tonight; an LLM whose endpoint is no longer configured has none."""
        llms = [llm for key in keys if (llm := night.registry.llms.get(key)).endpoint in night.sampling]
        sampling = {llm.key: night.counted_sampling(llm) for llm in llms}
        return cls(night.registry, night.prompt_set, night.grader_versions, sampling)

    @classmethod
    def of_version(
        cls, registry: Registry, digest: str, champion: str | None, *, until: datetime | None = None
    ) -> Answers:
        """Return the answers that count for a kept version, and for the champion it is compared with, at a moment.

        Raises
        ------
        NotFound
            The ledger does not say what the version was made from.
        """
        prompt_set = registry.prompts.get(registry.routers.get(digest).prompt_set_digest)
        drifts, sampling, graders = Drifts(registry, until=until), {}, {}
        versions = {digest} if champion is None else {champion, digest}
        # The later one last: the newest graders have graded the answers of both. A refresh graded nothing.
        for version in sorted(versions, key=lambda one: vectors_made_at(registry, one)):
            made_from = known_provenance(registry, version)
            if made_from is not None:
                sampling |= {key: used.sampling for key, used in made_from.answers.items()}
                graders |= made_from.graders
            elif version == digest:
                raise NotFound(
                    f"the ledger does not say which answers router {digest[:12]} was made from",
                    unchanged="Nothing was requested.",
                    hint="uniroute night run (makes a version whose evidence is kept)",
                )
        for key in sampling:
            drift = drifts.of(key)
            sampling[key] = in_epoch(sampling[key], drift.counted_epoch if drift is not None else None)
        return cls(registry, prompt_set, graders, sampling, until)

    def table(self, keys: Sequence[str], prompts: Sequence[Prompt]) -> OutcomeTable:
        """Return the scores, tokens and costs of these LLMs on these prompts."""
        sampling = {key: self.sampling.get(key, "") for key in keys}
        return self.registry.outcomes.table(keys, prompts, self.graders, sampling, until=self.until)

    def uniform(self, keys: Sequence[str]) -> dict[str, tuple[Prompt, ...]]:
        """Return, by LLM key, the representative prompts over which its means are taken."""
        sampling = {key: self.sampling.get(key, "") for key in keys}
        return uniform_representative(self.registry, self.prompt_set, sampling)

    def is_uniform(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Return for which representative prompts means of these LLMs may be taken, ``(n, m)``."""
        return is_uniform(self.registry, self.prompt_set, {key: self.sampling.get(key, "") for key in keys})

    def readability(self, keys: Sequence[str], prompts: Sequence[Prompt]) -> Mapping[str, Readability]:
        """Return, by LLM key, how many of the answers to some prompts could be read."""
        sampling = {key: self.sampling.get(key, "") for key in keys}
        return self.registry.outcomes.readability(keys, prompts, self.graders, sampling, until=self.until)


def vectors_made_at(registry: Registry, digest: str) -> datetime:
    """Return when the vectors of a version were estimated: a refreshed one has those of the version it refreshes."""
    return registry.routers.get(registry.promotions.refreshed_from(digest)).created_at


def at_prices_in_force(registry: Registry, table: OutcomeTable, on: date) -> NDArray[np.float64]:
    """Return the recorded costs, for LLMs that were repriced since by the prices in force, ``(n, m)`` in USD.

    Parameters
    ----------
    registry
        Knows the prices.
    table
        Recorded tokens and costs.
    on
        The day of the prices.
    """
    costs_usd = table.cost_usd.copy()
    for column, key in enumerate(table.llm_keys):
        prices = [price for price in registry.llms.price_history(key) if price.since <= on]
        if len(prices) < 2:
            continue
        now = prices[-1]
        tokens = table.input_tokens[:, column], table.output_tokens[:, column]
        by_tokens = (tokens[0] * float(now.input_usd_per_mtok) + tokens[1] * float(now.output_usd_per_mtok)) / 1e6
        # Only what has a cost is given another one: unknown costs stay unknown.
        is_known = np.isfinite(by_tokens) & np.isfinite(costs_usd[:, column])
        costs_usd[is_known, column] = by_tokens[is_known]
    return costs_usd


def embeddings_of(registry: Registry, prompts: Sequence[Prompt], router: Router) -> NDArray[np.float32]:
    """Return the embeddings ``(n, dim)`` that a router needs; they are computed when not all of them are stored."""
    stored = registry.prompts.embeddings(prompts, router.embedder.key)
    if len(stored.prompt_digests) == len(prompts):
        return stored.matrix
    return load_embedder_for(router.embedder).embed([prompt.text for prompt in prompts])
