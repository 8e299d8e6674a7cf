"""The representative prompts as further evidence: what `flows.gate.cross_fit` needs, read from the registry.

Everything is read as it was when a router's vectors were made, so a person who judges it again, on another day, divides
and estimates as the night did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.fitting.estimation import Estimation
from flows.fitting.folds import folds_of
from flows.fitting.labels import Labels
from flows.gate.answers import Answers, at_prices_in_force, embeddings_of
from flows.gate.cross_fit import CrossFit, Remaking, cross_fit
from flows.gate.measure import GateOutcomes
from flows.night.asked_prompts import enters_means, fitted_prompts
from flows.profiling.contamination import LEAST_GAP, SIGNIFICANCE, contamination_p_value
from flows.versions.provenance import known_provenance
from registry.errors import NotFound
from routing.errors import InvalidProfile
from routing.router import Router
from routing.stored_estimator import read_estimator
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from datetime import datetime

    from registry.outcomes import OutcomeTable
    from registry.prompts import Prompt, PromptSet


@dataclass(frozen=True, eq=False)
class Representative:
    """The evidence of the representative prompts, read when it is asked for.

    Attributes
    ----------
    answers
        The answers that count.
    challenger, champion
        The routers as they are compared: the champion as it can serve today.
    published
        Digest of the champion as it was published.
    on
        The day of the prices.
    gate
        The outcomes on gate prompts.
    """

    answers: Answers
    challenger: Router
    champion: Router
    published: str
    on: date
    gate: GateOutcomes

    def cross_fit(self) -> CrossFit | str:
        """Return what both procedures score on representative prompts, or why that cannot be known."""
        try:
            challenger = self._read(self.challenger, self.challenger.digest)
            champion = self._read(self.champion, self.published)
            fitted_on = challenger.map_texts | champion.map_texts
            texts = [prompt.text for prompt in self._prompts]
            # Prompts that some LLM was asked for what they are, or for what it had answered, speak for no others.
            is_uniform = self._is_uniform.all(axis=1)
            rows = np.array(
                [row for row, text in enumerate(texts) if text not in fitted_on and is_uniform[row]], dtype=np.int64
            )
            if not len(rows):
                return "no representative prompt is left to judge"
            barred = self._barred()
            for one in (challenger.remaking, champion.remaking):
                barred |= dict.fromkeys(one.not_remade, "its vector does not come from the answers that count now")
            of_prompts = self.outcomes.rows(rows), folds_of(texts)[rows]
            return cross_fit(challenger.remaking, champion.remaking, *of_prompts, self.gate, barred)
        except NotFound as error:
            return f"what the vectors were made from is not known: {error.message}"
        except InvalidProfile as error:
            return f"vectors cannot be made from the first folds alone: {error.message}"

    def _read(self, router: Router, published: str) -> _Read:
        taking_part = replace(router, llms=tuple(llm for llm in router.llms if llm.key in self.gate.keys))
        return _Read.of(self.answers, taking_part, _Origin.of(self.answers, published))

    @cached_property
    def _is_uniform(self) -> NDArray[np.bool_]:
        return self.answers.is_uniform(self.gate.keys)

    @cached_property
    def _prompts(self) -> tuple[Prompt, ...]:
        return self.answers.prompt_set.with_role("representative")

    @cached_property
    def outcomes(self) -> GateOutcomes:
        """The recorded outcomes of the LLMs on the representative prompts; NaN where an answer is missing."""
        prompts, registry = self._prompts, self.answers.registry
        table = self.answers.table(self.gate.keys, prompts)
        others = [self.champion] if self.champion.embedder != self.challenger.embedder else []
        return GateOutcomes(
            keys=self.gate.keys,
            embeddings=embeddings_of(registry, prompts, self.challenger),
            scores=table.scores,
            costs_usd=at_prices_in_force(registry, table, self.on),
            n_dropped=0,
            other_embeddings={other.embedder.key: embeddings_of(registry, prompts, other) for other in others},
            input_tokens=estimated_input_tokens([prompt.text for prompt in prompts]),
        )

    def _barred(self) -> dict[str, str]:
        """Return, by LLM key, why it does not pass the test for contamination; whatever a person has accepted."""
        known, hidden = (
            self.answers.table(self.gate.keys, self.answers.prompt_set.with_role(role)).scores
            for role in ("representative", "hidden")
        )
        known = np.where(self._is_uniform, known, np.nan)
        found = {}
        for column, key in enumerate(self.gate.keys):
            if not np.isfinite(known[:, column]).any() or not np.isfinite(hidden[:, column]).any():
                found[key] = "it has no scores to test whether it knows the representative prompts"
                continue
            gap = float(np.nanmean(known[:, column]) - np.nanmean(hidden[:, column]))
            if gap >= LEAST_GAP and contamination_p_value(known[:, column], hidden[:, column]) <= SIGNIFICANCE:
                found[key] = f"it seems to know the representative prompts ({gap:+.3f})"
        return found


@dataclass(frozen=True, eq=False)
class _Origin:
    """Which answers the vectors of a router were made from, and when."""

    prompt_set: PromptSet
    graders: dict[str, str]
    sampling: dict[str, str]
    until: datetime | None
    until_run: int | None = None

    @classmethod
    def of(cls, answers: Answers, published: str) -> _Origin:
        """Read it; a challenger that is not kept yet was made from the answers that count now."""
        registry = answers.registry
        graders, sampling = dict(answers.graders), dict(answers.sampling)
        made_by = registry.promotions.refreshed_from(published)
        try:
            record = registry.routers.get(made_by)
        except NotFound:
            return cls(answers.prompt_set, graders, sampling, answers.until)
        provenance = known_provenance(registry, made_by)
        if provenance is not None:
            graders |= provenance.graders
            sampling |= {key: used.sampling for key, used in provenance.answers.items()}
        prompt_set = registry.prompts.get(record.prompt_set_digest)
        return cls(prompt_set, graders, sampling, record.created_at, record.run_id)


@dataclass(frozen=True, eq=False)
class _Read:
    """A router with what makes it again, and the texts of the prompts that its map was fitted on."""

    remaking: Remaking
    map_texts: frozenset[str]

    @classmethod
    def of(cls, answers: Answers, router: Router, origin: _Origin) -> _Read:
        digest = str(router.provenance.get("cluster_map", ""))
        stored = answers.registry.routers.cluster_map(digest)
        fitted_on = answers.registry.prompts.get(stored.prompt_set_digest)
        by_role = {role: origin.prompt_set.with_role(role) for role in ("representative", "map")}
        labels = {role: _labels(answers, router, origin, prompts) for role, prompts in by_role.items()}
        sampling = {key: origin.sampling.get(key, "") for key in router.keys}
        estimation = Estimation(
            read_estimator(stored.kind, stored.arrays),
            digest,
            False,
            labels["representative"],
            labels["map"],
            answers.registry.routers.levels(digest),
            fitted_prompts=fitted_prompts(answers.registry, stored),
            enters=enters_means(answers.registry, origin.prompt_set, sampling, until_run=origin.until_run),
        )
        folds = folds_of([prompt.text for prompt in by_role["representative"]])
        texts = {one.text for prompts in (origin.prompt_set, fitted_on) for one in prompts.with_role("map")}
        return cls(Remaking(router, estimation, folds), frozenset(texts))


def _labels(answers: Answers, router: Router, origin: _Origin, prompts: Sequence[Prompt]) -> Labels:
    sampling = {key: origin.sampling.get(key, "") for key in router.keys}
    table: OutcomeTable = answers.registry.outcomes.table(
        router.keys, prompts, origin.graders, sampling, until=origin.until
    )
    texts = [prompt.text for prompt in prompts]
    return Labels(embeddings_of(answers.registry, prompts, router), estimated_input_tokens(texts), table)
