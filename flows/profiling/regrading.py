"""Regrading: when a grader or the judge changes, stored answers are graded again, and no LLM is asked or paid again.

Rules grade at once, before a night plans. A judge grades within the budget of the night, before anything is asked. An
answer whose whole text is not kept any more keeps its grade and is flagged; so does one that the newer grader cannot
grade. Where a judge decided because the former grader could read nothing, its verdict stays unless the newer grader
can read an answer. Grades are committed a few hundred at a time, so what was graded before an interruption is not
graded again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flows import crash_points
from flows.endpoints.usage import read_usage
from flows.errors import GradingError
from flows.graders import Judge
from flows.logs import log_event
from flows.profiling.canary_history import canary_sampling
from flows.profiling.judging import Judgement
from flows.profiling.plan import PlannedRegrades, cost_usd
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import NO_VERDICT, Unjudged
from flows.profiling.stored_answers import judge_answers, with_texts, worst_judging_usd
from flows.profiling.unreadable import undecided_answers
from registry.outcomes import Regrade, ScoreMove, StoredAnswer, UsageEstimate

if TYPE_CHECKING:
    from flows.night.context import Night
    from flows.profiling.asking import BudgetedCaller
    from registry.llms import Price
    from registry.runs import Run

_LOOKED_BACK = 90
_ENDED_WELL = ("completed", "attention")


def waiting_answers(night: Night) -> dict[str, tuple[StoredAnswer, ...]]:
    """Return, by LLM key, the stored answers that tonight's graders have yet to grade; LLMs without any are left out.

    Every LLM counts, also one that is not routable: the champion may have it, and it may return.
    """
    current = night.grader_versions
    stored = night.registry.outcomes.graders()
    if all(current.get(label.partition("/")[0], label) == label for label in stored):
        return {}
    prompts = [prompt for prompt in night.prompt_set.prompts if prompt.grader in current]
    found: dict[str, tuple[StoredAnswer, ...]] = {}
    for llm in night.registry.llms.all():
        if llm.endpoint not in night.sampling or night.is_judge(llm):
            continue
        samplings = (night.counted_sampling(llm), night.asked_sampling(llm), canary_sampling(night, llm))
        answers = [
            answer
            for sampling in dict.fromkeys(samplings)
            for answer in night.registry.outcomes.waiting(llm.key, prompts, current, sampling)
        ]
        if answers:
            found[llm.key] = tuple(answers)
    return found


def planned_regrades(night: Night) -> tuple[PlannedRegrades, ...]:
    """Return what a night would grade again or have judged, and what judging could cost."""
    waiting, undecided = waiting_answers(night), undecided_answers(night)
    planned = []
    for key in dict.fromkeys((*waiting, *undecided)):
        answers, unreadable = waiting.get(key, ()), undecided.get(key, ())
        judged = [answer.prompt for answer in (*filter(_is_by_judge, answers), *unreadable)]
        planned.append(
            PlannedRegrades(
                llm_key=key,
                by_rule=sum(map(_is_by_rule, answers)),
                by_judge=sum(map(_is_by_judge, answers)),
                kept=sum(not answer.has_text for answer in answers),
                worst_usd=worst_judging_usd(night, judged),
                unreadable=len(unreadable),
            )
        )
    return tuple(planned)


def _is_by_rule(answer: StoredAnswer) -> bool:
    return answer.has_text and answer.prompt.grader != Judge.name


def _is_by_judge(answer: StoredAnswer) -> bool:
    return answer.has_text and answer.prompt.grader == Judge.name


def regrade_by_rule(night: Night, run: Run | None, *, is_dry_run: bool = False) -> tuple[ScoreMove, ...]:
    """Grade again what rules can grade, and let the grades stay whose texts are gone; nothing is called.

    Parameters
    ----------
    night
        Prompts, graders and registry.
    run
        The night that regrades; None outside of nights.
    is_dry_run
        Whether to keep nothing.

    Returns
    -------
    tuple of ScoreMove
        How far each LLM moved, or would move.
    """
    regrades: list[Regrade] = []
    for llm_key, answers in waiting_answers(night).items():
        price = night.registry.llms.get(llm_key).price
        for part in with_texts(night, [answer for answer in answers if not _is_by_judge(answer)]):
            if night.interruption.is_requested:
                return _moves(regrades)
            made = [again for answer, text in part if (again := _graded(night, price, answer, text)) is not None]
            if made and not is_dry_run:
                night.registry.outcomes.regrade(run, made, now=night.clock())
                crash_points.reach("grades stored")
            regrades += made
    return _moves(regrades)


def _graded(night: Night, price: Price | None, answer: StoredAnswer, text: str | None) -> Regrade | None:
    """Grade one answer; one that cannot be graded keeps its grade, and goes on waiting where it has none."""
    prompt = answer.prompt
    label = night.grader_versions[prompt.grader]
    if text is not None:
        try:
            grade = night.graders[prompt.grader].grade(text, prompt.reference, prompt.text)
            # What the present grader cannot read either was decided by a judge that has been paid for it.
            is_decided = grade.is_unreadable and answer.is_judged
            score = answer.former_score if is_decided else grade.score
            estimate = _estimate(price, answer, text)
            return Regrade(answer, label, score, is_unreadable=grade.is_unreadable, estimate=estimate)
        except GradingError as error:
            log_event("regrade_failed", llm=answer.llm_key, prompt_id=prompt.digest, reason=error.message)
    return None if answer.former_score is None else Regrade(answer, label, None)


def _estimate(price: Price | None, answer: StoredAnswer, text: str) -> UsageEstimate:
    """Estimate the usage of an answer, for those whose endpoint reported 0 tokens to a release that believed it."""
    used = read_usage({"prompt_tokens": 0, "completion_tokens": 0}, answer.prompt.text, text)
    usd = None if price is None else cost_usd(price, used.input_tokens, used.output_tokens)
    return UsageEstimate(used.input_tokens, used.output_tokens, usd, used.flags)


def _moves(regrades: Sequence[Regrade]) -> tuple[ScoreMove, ...]:
    by_llm: dict[tuple[str, str], list[Regrade]] = defaultdict(list)
    for again in regrades:
        by_llm[again.answer.llm_key, again.answer.sampling].append(again)
    found = []
    for (llm_key, sampling), made in sorted(by_llm.items()):
        pairs = [
            (again.answer.former_score, again.score)
            for again in made
            if again.score is not None and again.answer.former_score is not None
        ]
        regraded = sum(again.score is not None for again in made)
        before, after = (float(np.mean(column)) for column in zip(*pairs, strict=True)) if pairs else (None, None)
        found.append(ScoreMove(llm_key, sampling, regraded, len(made) - regraded, len(pairs), before, after))
    return tuple(found)


async def regrade_by_judge(night: Night, caller: BudgetedCaller) -> tuple[Unjudged, ...]:
    """Have stored answers judged again that the present judge has not seen, within the budget of the night.

    What a judgement costs counts against the ceilings of the LLM that gave the answer. An answer without a verdict goes
    on waiting; what waits in the end is returned.
    """

    def store(made: Sequence[Regrade]) -> None:
        night.registry.outcomes.regrade(night.run, made, now=night.clock())

    recorder: OutcomeRecorder[Regrade] = OutcomeRecorder(store)

    answers = {key: [one for one in found if _is_by_judge(one)] for key, found in waiting_answers(night).items()}
    prices = {key: night.registry.llms.get(key).price for key in answers}

    async def keep(answer: StoredAnswer, text: str, judgement: Judgement) -> None:
        await recorder.add(
            Regrade(
                answer,
                night.grader_versions[Judge.name],
                judgement.score,
                is_unreadable=judgement.is_unreadable,
                grading=judgement.cost,
                estimate=_estimate(prices[answer.llm_key], answer, text),
            )
        )

    await judge_answers(night, caller, answers, keep)
    left = {key: sum(map(_is_by_judge, answers)) for key, answers in waiting_answers(night).items()}
    reasons = {key: caller.stopped.get(key, (NO_VERDICT,))[0] for key in left}
    return tuple(Unjudged(key, n, reasons[key]) for key, n in left.items() if n)


def score_moves(night: Night) -> tuple[ScoreMove, ...]:
    """Return how far newer graders moved LLMs since the last night that ended well, whoever regraded."""
    ended = [run.finished_at for run in night.registry.runs.list(limit=_LOOKED_BACK) if run.status in _ENDED_WELL]
    before = max((moment for moment in ended if moment is not None), default=None)
    counted = {
        llm.key: night.counted_sampling(llm) for llm in night.registry.llms.all() if llm.endpoint in night.sampling
    }
    moves = night.registry.outcomes.score_moves(before)
    return tuple(move for move in moves if move.sampling == counted.get(move.llm_key))
