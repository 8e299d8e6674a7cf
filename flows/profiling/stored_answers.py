"""Stored answers: their texts, and a judge's verdicts on them, which are paid for within the budget of the night."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from flows.profiling.judging import Judgement, worst_judgement_usd
from registry.outcomes import JUDGING, StoredAnswer

if TYPE_CHECKING:
    from flows.night.context import Night
    from flows.profiling.asking import BudgetedCaller
    from registry.prompts import Prompt

_AT_ONCE = 500


def with_texts(night: Night, answers: Sequence[StoredAnswer]) -> Iterator[list[tuple[StoredAnswer, str | None]]]:
    """Read the texts of answers, some hundred at a time; None where it is gone."""
    alike: dict[tuple[str, str], list[StoredAnswer]] = defaultdict(list)
    for answer in answers:
        alike[answer.sampling, answer.former_grader].append(answer)
    for (sampling, former), found in alike.items():
        for start in range(0, len(found), _AT_ONCE):
            part = found[start : start + _AT_ONCE]
            name = former.partition("/")[0]
            wanted = [answer.prompt for answer in part if answer.has_text]
            texts = night.registry.outcomes.completions(part[0].llm_key, wanted, {name: former}, sampling)
            yield [(answer, texts.get(answer.prompt.digest)) for answer in part]


def worst_judging_usd(night: Night, prompts: Sequence[Prompt]) -> Decimal:
    """Bound what judging stored answers to some prompts costs, in USD."""
    if not prompts or night.judge is None:
        return Decimal(0)
    judge = next((llm for llm in night.registry.llms.all() if night.is_judge(llm)), None)
    # The night that asks it reads the catalogs first, and refuses a judge that is unknown or has no price.
    if judge is None or judge.price is None:
        return Decimal(0)
    longest = {entry.name: entry.max_tokens for entry in night.workspace.endpoint_settings()}[judge.endpoint]
    worst = (worst_judgement_usd(one.text, one.reference, judge.price, max_tokens=longest) for one in prompts)
    return sum(worst, Decimal(0))


async def judge_answers(
    night: Night,
    caller: BudgetedCaller,
    answers: Mapping[str, Sequence[StoredAnswer]],
    keep: Callable[[StoredAnswer, str, Judgement], Awaitable[object]],
) -> None:
    """Have stored answers judged within the budget; a call that brought no verdict is booked all the same.

    Parameters
    ----------
    night, caller
        The night, and its caller with a judge.
    answers
        The answers, by LLM key.
    keep
        Stores the verdict on an answer, given with its text, and books its cost; returns once it is committed.
    """

    async def judge(answer: StoredAnswer, text: str) -> None:
        async def end(judgement: Judgement) -> None:
            if judgement.score is not None:
                await keep(answer, text, judgement)
            elif judgement.cost is not None:
                cost = judgement.cost
                await asyncio.to_thread(
                    night.registry.charges.book,
                    night.run,
                    cost.llm_key,
                    cost.cost_usd,
                    calls=cost.calls,
                    reserved=Decimal(0),
                    purpose=JUDGING,
                )

        await caller.judge_stored(answer.llm_key, answer.prompt, text, end)

    for found in answers.values():
        for part in with_texts(night, found):
            await asyncio.gather(*(judge(answer, text) for answer, text in part if text is not None))
