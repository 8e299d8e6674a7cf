"""Putting a challenger to the gate: its recorded answers are gathered, judged, and the test is charged to the champion.

Answers are read from the registry each time; no LLM is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.gate.alpha_spending import REGRADED, spend
from flows.gate.answers import Answers, at_prices_in_force, embeddings_of, vectors_made_at
from flows.gate.checks import NewcomerGap
from flows.gate.gate import GateResult, judge
from flows.gate.measure import GateOutcomes
from flows.gate.refresh import refresh_today
from flows.gate.representative import Representative
from flows.gate.verdict import GateRules
from flows.graders import GRADERS, ChoiceGrader
from flows.profiling.contamination import contamination_p_value
from registry.promotion_records import GateTest
from routing.router import Router
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from flows.config.settings import Settings
    from registry.prompts import Prompt
    from routing.baselines import ZeroRouter


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
    judging, read = {}, [evidence.outcomes]
    if settings.gate.cross_fit and champion is not None and serving is not None:
        representative = Representative(answers, challenger, serving, champion.digest, on, evidence.outcomes)
        judging["representative"] = representative.cross_fit
        read.append(representative.outcomes)
    test = GateTest(challenger.digest, evidence_digest(challenger, *read))
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
        **judging,
    )
    return replace(found, against=None if champion is None else champion.digest, evidence=test.evidence)


def evidence_digest(challenger: Router, *outcomes: GateOutcomes) -> str:
    """Return the digest of what a challenger is tested on: the recorded scores of its LLMs on the prompts that judge.

    Prices and costs are left out: they move every day without telling anything new about how well an LLM answers.
    """
    digest = hashlib.sha256()
    for one in outcomes:
        keys = one.known(challenger)
        scores = np.ascontiguousarray(one.scores[:, one.columns(keys)], dtype="<f8")
        named = "\n".join((*keys, *map(str, scores.shape)))
        digest.update(named.encode() + b"\0" + scores.tobytes())
    return digest.hexdigest()


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


def _gap(answers: Answers, key: str) -> NewcomerGap:
    known, hidden = (
        answers.table([key], prompts).scores[:, 0]
        for prompts in (answers.uniform([key])[key], answers.prompt_set.with_role("hidden"))
    )
    llm = answers.registry.llms.get(key)
    is_accepted = llm.status == "available" and llm.status_reason is not None
    if not np.isfinite(known).any() or not np.isfinite(hidden).any():
        return NewcomerGap(key, None, 1.0, is_accepted)
    gap = float(np.nanmean(known) - np.nanmean(hidden))
    return NewcomerGap(key, gap, contamination_p_value(known, hidden), is_accepted)
