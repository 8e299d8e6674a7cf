"""Unreadable answers: no answer could be read, so that their score of 0 is in doubt.

How many there are is a figure of every LLM. With ``[judge] unreadable`` a judge decides them once the night has asked
its LLMs, within the budget of the night: the answers of tonight and those of earlier nights. A verdict is final; an
answer without one keeps its score of 0 and waits for the next night. Canaries are not judged, and they are compared
with the scores as they were before any verdict: a verdict is no drift.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from flows.errors import BudgetExceeded, EndpointError, GradingError, PrerequisiteError
from flows.graders import Judge
from flows.profiling.asking import BudgetedCaller
from flows.profiling.judging import JudgeClient, Judgement
from flows.profiling.recorder import OutcomeRecorder
from flows.profiling.results import NO_VERDICT, Unjudged
from flows.profiling.stored_answers import judge_answers
from registry.errors import NotFound
from registry.outcomes import Readability, StoredAnswer, Verdict

if TYPE_CHECKING:
    from flows.night.context import Night


@dataclass(frozen=True)
class DecidedAnswers:
    """What the judge made of unreadable answers.

    Attributes
    ----------
    decided
        By LLM key, how many it decided tonight.
    unjudged
        What still waits, and why.
    spent_usd
        What that cost, in USD.
    """

    decided: Mapping[str, int]
    unjudged: tuple[Unjudged, ...] = ()
    spent_usd: Decimal = Decimal(0)


def undecided_answers(night: Night) -> dict[str, tuple[StoredAnswer, ...]]:
    """Return, by LLM key, the unreadable answers that the judge is to decide; none unless the settings ask for it."""
    if night.judge is None or not night.settings.judge.unreadable:
        return {}
    current = night.grader_versions
    prompts = [prompt for prompt in night.prompt_set.prompts if prompt.grader in current]
    found: dict[str, tuple[StoredAnswer, ...]] = {}
    for llm in night.registry.llms.all(status="available"):
        # Nobody is paid for the answers of an LLM that is not routed to.
        if llm.endpoint not in night.sampling or night.is_judge(llm) or not llm.is_routable_on(night.as_of):
            continue
        answers = [
            answer
            for sampling in dict.fromkeys((night.counted_sampling(llm), night.asked_sampling(llm)))
            for answer in night.registry.outcomes.undecided(llm.key, prompts, current, sampling)
        ]
        if answers:
            found[llm.key] = tuple(answers)
    return found


async def judge_unreadable(night: Night, *, is_checked: bool) -> DecidedAnswers:
    """Have unreadable answers judged; whatever is wrong with the judge, the answers wait and the night continues.

    Parameters
    ----------
    night
        The night, which has asked its LLMs.
    is_checked
        Whether the judge has passed its check tonight.
    """
    answers = undecided_answers(night)
    if not answers or night.interruption.is_requested:
        return DecidedAnswers({})
    before_usd = night.registry.outcomes.spend(night.run).total_usd
    try:
        stopped = await _judge(night, answers, is_checked=is_checked)
    except (BudgetExceeded, EndpointError, GradingError, NotFound, PrerequisiteError) as error:
        stopped = dict.fromkeys(answers, error.message)
    left = {key: len(found) for key, found in undecided_answers(night).items()}
    return DecidedAnswers(
        decided=Counter({key: len(found) for key, found in answers.items()}) - Counter(left),
        unjudged=tuple(Unjudged(key, n, stopped.get(key, NO_VERDICT), are_unreadable=True) for key, n in left.items()),
        spent_usd=night.registry.outcomes.spend(night.run).total_usd - before_usd,
    )


async def _judge(
    night: Night, answers: Mapping[str, tuple[StoredAnswer, ...]], *, is_checked: bool
) -> Mapping[str, str]:
    """Have answers judged; return, by LLM key, why not all of an LLM's answers were, where something stopped it."""
    assert night.judge is not None, "answers are undecided only with a judge"
    judge, label = night.registry.llms.get(night.judge.llm_key), night.judge.label

    def store(verdicts: Sequence[Verdict]) -> None:
        night.registry.outcomes.decide(night.run, verdicts, now=night.clock())

    recorder: OutcomeRecorder[Verdict] = OutcomeRecorder(store)

    async def keep(answer: StoredAnswer, text: str, judgement: Judgement) -> None:
        assert judgement.score is not None, "only verdicts are kept"
        await recorder.add(Verdict(answer, label, judgement.score, judgement.cost))

    async with AsyncExitStack() as entered:
        settings = next(one for one in night.workspace.endpoint_settings() if one.name == judge.endpoint)
        endpoint = await entered.enter_async_context(night.workspace.open_endpoint(settings))
        caller = BudgetedCaller(night, {settings.name: endpoint}, (), JudgeClient(night.judge, judge, endpoint))
        entered.push_async_callback(caller.give_back)
        if not is_checked:
            await caller.check_judge([one for one in night.profiled_prompts if one.grader != Judge.name])
        await judge_answers(night, caller, answers, keep)
    return {key: reason for key, (reason, _) in caller.stopped.items()}


def readability_of(night: Night, llm_keys: list[str]) -> Mapping[str, Readability]:
    """Return, by LLM key, how many answers of a profile could be read; LLMs that nothing is asked of are left out."""
    llms = [llm for llm in map(night.registry.llms.get, llm_keys) if llm.endpoint in night.sampling]
    sampling = {llm.key: night.asked_sampling(llm) for llm in llms}
    return night.registry.outcomes.readability(list(sampling), night.profiled_prompts, night.grader_versions, sampling)
