"""Putting a challenger to the gate: its recorded answers are gathered, judged, and the test is charged to the champion.

Answers are read from the registry each time; no LLM is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.gate.alpha_spending import REGRADED, spend
from flows.gate.checks import NewcomerGap
from flows.gate.gate import GateResult, judge
from flows.gate.measure import GateOutcomes
from flows.gate.refresh import refresh_today
from flows.gate.verdict import GateRules
from flows.graders import GRADERS, ChoiceGrader
from flows.night.epochs import Drifts, in_epoch
from flows.profiling.contamination import contamination_p_value
from flows.versions.provenance import known_provenance
from registry.errors import NotFound
from registry.outcomes import Readability
from registry.promotion_records import GateTest
from registry.store import Registry
from routing.embedders import load_embedder_for
from routing.router import Router
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from flows.config.settings import Settings
    from flows.night.context import Night
    from registry.outcomes import OutcomeTable
    from registry.prompts import Prompt, PromptSet
    from routing.baselines import ZeroRouter


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

    def readability(self, keys: Sequence[str], prompts: Sequence[Prompt]) -> Mapping[str, Readability]:
        """Return, by LLM key, how many of the answers to some prompts could be read."""
        sampling = {key: self.sampling.get(key, "") for key in keys}
        return self.registry.outcomes.readability(keys, prompts, self.graders, sampling, until=self.until)


@dataclass(frozen=True, eq=False)
class GateEvidence:
    """The evidence a challenger is judged on.

    Attributes
    ----------
    outcomes
        Outcomes of the LLMs of both routers on gate prompts.
    newcomers
        The LLMs that only the challenger has.
    unavailable
        LLMs of the challenger that may not be routed to.
    """

    outcomes: GateOutcomes
    newcomers: tuple[NewcomerGap, ...]
    unavailable: tuple[str, ...]


def put_to_gate(
    answers: Answers,
    challenger: Router,
    champion: Router | None,
    settings: Settings,
    *,
    on: date,
    zero_router: ZeroRouter | None = None,
) -> GateResult:
    """Judge a challenger against a champion on the recorded answers, at the error level that is left for the test.

    Nights call this when they publish, people when they request or approve a promotion: the same answers, routers and
    settings give the same verdict. The champion is judged as it can serve on that day, without LLMs that cannot and at
    the prices in force; when nothing of it is left to serve, the challenger only has to be sound in itself.

    Parameters
    ----------
    answers
        The answers that count.
    challenger, champion
        The routers; no champion before the first promotion.
    settings
        The thresholds, and the chance of a wrong promotion per champion.
    on
        The day on which the challenger's LLMs must be routable.
    zero_router
        The prompt-blind baseline over the challenger's LLMs, when its curve is wanted.

    Raises
    ------
    PromotionRefused
        There is nothing to measure, or the challenger expects something that is not a finite number.
    """
    rules = GateRules.of(settings)
    serving = None if champion is None else refresh_today(answers.registry, champion, on).router
    evidence = gather(answers, challenger, serving, on=on, min_coverage=rules.min_coverage)
    tested = answers.registry.promotions.tested_against(champion.digest) if champion is not None else ()
    test = GateTest(challenger.digest, evidence_digest(challenger, evidence.outcomes))
    # A test of an earlier release does not say on which evidence it was made, and is taken to be on this one.
    unknown = GateTest(challenger.digest)
    spending = spend(settings.gate.false_promotion_rate, unknown if unknown in tested else test, tested)
    if champion is not None and is_regraded_champion(answers, challenger, champion):
        spending = REGRADED
    found = judge(
        challenger,
        serving,
        evidence.outcomes,
        rules,
        spending=spending,
        zero_router=zero_router,
        newcomers=evidence.newcomers,
        unavailable=evidence.unavailable,
    )
    return replace(found, against=None if champion is None else champion.digest, evidence=test.evidence)


def evidence_digest(challenger: Router, outcomes: GateOutcomes) -> str:
    """Return the digest of what a challenger is tested on: the recorded scores of its LLMs on the gate prompts.

    Prices and costs are left out: they move every day without telling anything new about how well an LLM answers.
    """
    keys = outcomes.known(challenger)
    scores = np.ascontiguousarray(outcomes.scores[:, outcomes.columns(keys)], dtype="<f8")
    named = "\n".join((*keys, *map(str, scores.shape)))
    return hashlib.sha256(named.encode() + b"\0" + scores.tobytes()).hexdigest()


def is_regraded_champion(answers: Answers, challenger: Router, champion: Router) -> bool:
    """Whether a challenger differs from the champion only in vectors of LLMs whose answers have other grades since.

    Parameters
    ----------
    answers
        The answers that count.
    challenger, champion
        The routers.
    """
    made_at = vectors_made_at(answers.registry, champion.digest)
    moved = {
        one.llm_key
        for one in answers.registry.outcomes.score_moves(made_at)
        if one.sampling == answers.sampling.get(one.llm_key)
    }
    judged = answers.registry.outcomes.judged_since(made_at)
    moved |= {key for key, sampling in judged if sampling == answers.sampling.get(key)}
    before = {llm.key: llm for llm in champion.llms}
    if challenger.digest == champion.digest or before.keys() != set(challenger.keys):
        return False
    former = [replace(llm, vector=before[llm.key].vector) if llm.key in moved else llm for llm in challenger.llms]
    return replace(challenger, llms=tuple(former)).digest == champion.digest


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


def gather(
    answers: Answers, challenger: Router, champion: Router | None, *, on: date, min_coverage: float
) -> GateEvidence:
    """Gather the evidence a challenger is judged on.

    Parameters
    ----------
    answers
        The answers that count.
    challenger, champion
        The routers.
    on
        The day on which its LLMs must be routable.
    min_coverage
        An LLM that only the champion has is left out when it answered a smaller share of the gate prompts: the
        champion is then measured without it.
    """
    known = champion.keys if champion is not None else ()
    keys = tuple(sorted({*challenger.keys, *known}))
    prompts = answers.prompt_set.with_role("gate")
    table = answers.table(keys, prompts)
    is_answered = np.isfinite(table.scores) & np.isfinite(table.cost_usd)
    coverage = is_answered.mean(axis=0) if len(prompts) else np.zeros(len(keys))
    kept = [place for place, key in enumerate(keys) if key in challenger.keys or coverage[place] >= min_coverage]
    complete = is_answered[:, kept].all(axis=1)
    costs_usd = at_prices_in_force(answers.registry, table, on)
    others = [champion] if champion is not None and champion.embedder != challenger.embedder else []
    llms = [answers.registry.llms.get(key) for key in challenger.keys]
    return GateEvidence(
        outcomes=GateOutcomes(
            keys=tuple(keys[place] for place in kept),
            embeddings=embeddings_of(answers.registry, prompts, challenger)[complete],
            scores=table.scores[complete][:, kept],
            costs_usd=costs_usd[complete][:, kept],
            n_dropped=int((~complete).sum()),
            other_embeddings={
                other.embedder.key: embeddings_of(answers.registry, prompts, other)[complete] for other in others
            },
            input_tokens=estimated_input_tokens([prompt.text for prompt in prompts])[complete],
            chance=chance_of(prompts)[complete],
            letters=named_options([prompt for prompt, kept in zip(prompts, complete, strict=True) if kept]),
        ),
        newcomers=tuple(_gap(answers, key) for key in challenger.keys if key not in known),
        unavailable=tuple(llm.key for llm in llms if not llm.is_routable_on(on)),
    )


def chance_of(prompts: Sequence[Prompt]) -> NDArray[np.float64]:
    """Return the score that a blind guess may expect of each prompt, ``(n,)``; NaN where its grader does not know."""
    known = (GRADERS[prompt.grader].chance(prompt.text) if prompt.grader in GRADERS else None for prompt in prompts)
    return np.array([np.nan if chance is None else chance for chance in known], dtype=np.float64)


def named_options(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """Return the accepted option of each prompt; nothing when some prompt is no multiple choice."""
    if any(prompt.grader != ChoiceGrader.name for prompt in prompts):
        return ()
    return tuple(prompt.reference.strip(" ().").upper() for prompt in prompts)


def embeddings_of(registry: Registry, prompts: Sequence[Prompt], router: Router) -> NDArray[np.float32]:
    """Return the embeddings ``(n, dim)`` that a router needs; they are computed when not all of them are stored."""
    stored = registry.prompts.embeddings(prompts, router.embedder.key)
    if len(stored.prompt_digests) == len(prompts):
        return stored.matrix
    return load_embedder_for(router.embedder).embed([prompt.text for prompt in prompts])


def _gap(answers: Answers, key: str) -> NewcomerGap:
    known, hidden = (
        answers.table([key], answers.prompt_set.with_role(role)).scores[:, 0] for role in ("representative", "hidden")
    )
    llm = answers.registry.llms.get(key)
    is_accepted = llm.status == "available" and llm.status_reason is not None
    if not np.isfinite(known).any() or not np.isfinite(hidden).any():
        return NewcomerGap(key, None, 1.0, is_accepted)
    gap = float(np.nanmean(known) - np.nanmean(hidden))
    return NewcomerGap(key, gap, contamination_p_value(known, hidden), is_accepted)
