"""Judging within a night: the judge is asked through the same bounded client, within the same budget, and booked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from flows.endpoints import BoundedEndpoint, Budget, worst_case_usd
from flows.endpoints.kinds import is_futile
from flows.endpoints.usage import Usage, bounded_usage
from flows.errors import EndpointError, GradingError, PrerequisiteError
from flows.graders.judge import MOST_ANSWER_BYTES, Judge, judgement_prompt, says_nothing, verdict
from flows.graders.judge_check import JudgeTrial, judge_trials, refuse_bad_judge
from flows.profiling.plan import cost_usd
from registry.outcomes import GradingCost

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM, Price
    from registry.prompts import Prompt

_NONCE_BYTES = 8


@dataclass(frozen=True)
class Judgement:
    """How judging one answer ended.

    Attributes
    ----------
    score
        1 for right, 0 for wrong; None without a verdict, which says nothing about the answer.
    cost
        What judging cost; None when the judge was not asked.
    error
        Why there is no verdict: the judge did not answer, or its reply holds no verdict.
    is_unreadable
        Whether no answer could be read; None without a score.
    """

    score: float | None
    cost: GradingCost | None = None
    error: EndpointError | GradingError | None = None
    is_unreadable: bool | None = None

    @property
    def is_futile(self) -> bool:
        """Whether further answers would not be judged either."""
        return isinstance(self.error, EndpointError) and is_futile(self.error)


def worst_judgement_usd(question: str, reference: str, price: Price, *, max_tokens: int) -> Decimal:
    """Return an upper bound on the cost of judging one answer to a prompt, in USD.

    Parameters
    ----------
    question, reference
        The prompt's text and its reference.
    price
        The judge's price.
    max_tokens
        The longest reply of the judge, in tokens.
    """
    longest = judgement_prompt(question, reference, "", "0" * 2 * _NONCE_BYTES)
    worst = worst_case_usd(
        longest + "x" * MOST_ANSWER_BYTES,
        max_tokens=max_tokens,
        input_usd_per_mtok=price.input_usd_per_mtok,
        output_usd_per_mtok=price.output_usd_per_mtok,
    )
    assert worst is not None, "a judge has a price"
    return worst


class JudgeClient:
    """Have answers judged.

    Parameters
    ----------
    judge
        The judge.
    llm
        The same LLM, as the registry knows it.
    endpoint
        Its entered client.

    Raises
    ------
    PrerequisiteError
        The judge has no price, so that nothing limits what judging costs.
    """

    def __init__(self, judge: Judge, llm: LLM, endpoint: BoundedEndpoint) -> None:
        if llm.price is None:
            raise PrerequisiteError(
                f"The judge {llm.key} has no price: {llm.refusal or 'its catalogs give none'}.",
                unchanged="Nothing was asked or spent.",
                hint="Set its price in a TOML catalog, or name another LLM in [judge] llm.",
            )
        self.judge = judge
        self._llm = llm
        self._price: Price = llm.price
        self._endpoint = endpoint

    @property
    def price(self) -> Price:
        """The price of the judge."""
        return self._price

    def worst_usd(self, question: str, reference: str) -> Decimal:
        """Return an upper bound on the cost of judging one answer to a prompt, in USD."""
        return worst_judgement_usd(question, reference, self._price, max_tokens=self._endpoint.settings.max_tokens)

    async def score(
        self,
        question: str,
        reference: str,
        completion: str,
        before_sending: Callable[[Usage], None] = lambda lost: None,
    ) -> Judgement:
        """Have one answer judged; anything that goes wrong is no verdict, never a wrong answer.

        `before_sending` is called right before every attempt, and what it raises is raised.
        """
        if says_nothing(completion, reference):
            return Judgement(0.0, is_unreadable=True)
        nonce = secrets.token_hex(_NONCE_BYTES)
        asked = judgement_prompt(question, reference, completion, nonce)
        try:
            reply = await self._endpoint.complete(self._llm.llm_id, asked, before_sending=before_sending)
        except EndpointError as error:
            spent_usd = cost_usd(self._price, error.input_tokens, error.output_tokens)
            return Judgement(None, GradingCost(self._llm.key, error.attempts, spent_usd), error)
        usage = bounded_usage(reply.usage, asked, reply.text, max_tokens=self._endpoint.settings.max_tokens)
        lost = reply.lost
        input_tokens, output_tokens = usage.input_tokens + lost.input_tokens, usage.output_tokens + lost.output_tokens
        usd = cost_usd(self._price, input_tokens, output_tokens)
        cost = GradingCost(self._llm.key, reply.attempts, usd)
        try:
            return Judgement(verdict(reply.text, nonce), cost, is_unreadable=False)
        except GradingError as error:
            return Judgement(None, cost, error)

    async def check(self, night: Night, prompts: Sequence[Prompt], budget: Budget) -> Decimal:
        """Check the judge before any answer is paid for; return what that cost in USD.

        Parameters
        ----------
        night
            The night whose registry books the cost.
        prompts
            The prompts whose answers will be judged.
        budget
            The budget of the night.

        Raises
        ------
        GradingError
            It misjudges, or follows an injection.
        BudgetExceeded
            The check alone would cost more than is left.
        EndpointError
            It leaves most trials unanswered.
        """
        tried = judge_trials(prompts)
        worst = sum((self.worst_usd(trial.question, trial.reference) for trial in tried), Decimal(0))
        night.registry.charges.reserve(night.run, self._llm.key, worst, purpose=Judge.name)
        ended = await asyncio.gather(*(self._try(trial, budget) for trial in tried), return_exceptions=True)
        found = [judgement for judgement in ended if isinstance(judgement, Judgement)]
        costs = [judgement.cost for judgement in found if judgement.cost is not None]
        spent = sum((cost.cost_usd for cost in costs), Decimal(0))
        calls = sum(cost.calls for cost in costs)
        night.registry.charges.book(night.run, self._llm.key, spent, calls=calls, reserved=worst, purpose=Judge.name)
        for error in ended:
            if isinstance(error, BaseException):
                raise error
        unanswered = [judgement.error for judgement in found if isinstance(judgement.error, EndpointError)]
        if len(unanswered) > len(tried) // 2:
            raise unanswered[0]
        refuse_bad_judge(self.judge.label, tried, [judgement.score for judgement in found])
        return spent

    async def _try(self, trial: JudgeTrial, budget: Budget) -> Judgement:
        reservation = await budget.reserve(self._llm.key, self.worst_usd(trial.question, trial.reference))
        try:
            judgement = await self.score(trial.question, trial.reference, trial.answer)
        except BaseException:
            budget.release(reservation)
            raise
        budget.settle(reservation, judgement.cost.cost_usd if judgement.cost is not None else Decimal(0))
        return judgement
