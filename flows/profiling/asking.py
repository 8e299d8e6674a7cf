"""Ask LLMs within the budget, one prompt at a time, without one LLM starving the others."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase

from flows import crash_points
from flows.endpoints import BoundedEndpoint, Budget, Completion, Reservation, kinds, worst_case_usd
from flows.endpoints.completion import is_the_llm_asked_for
from flows.endpoints.usage import Usage, bounded_usage
from flows.errors import BudgetExceeded, EndpointError, GradingError
from flows.graders import Judge
from flows.logs import log_event
from flows.night.context import Night
from flows.profiling.judging import JudgeClient, Judgement
from flows.profiling.plan import cost_usd
from flows.profiling.progress import Outlook
from flows.profiling.reservations import NotGranted, Reservations
from flows.profiling.results import OVER
from flows.profiling.tally import MOST_EMPTY_IN_A_ROW, Tally
from registry.llms import LLM, Price
from registry.outcomes import Outcome
from registry.prompts import Prompt

_ASK_AGAIN_S = 0.1


@dataclass(frozen=True)
class _Granted:
    """Money set aside for one call, and how to lower it to what the call cost."""

    reservation: Reservation
    lower_to: Callable[[Decimal], None]


class _NotSent(Exception):
    """What held when money was set aside for a call does not hold any more now that it would be sent."""


class BudgetedCaller:
    """Ask LLMs within the budget; a call ends in an outcome, or stops its LLM for tonight.

    Parameters
    ----------
    night
        The night under way.
    endpoints
        The entered clients, by endpoint name.
    llms
        The LLMs that are going to be asked.
    judge_client
        Has answers judged; None when nothing is to be judged.
    """

    def __init__(
        self,
        night: Night,
        endpoints: Mapping[str, BoundedEndpoint],
        llms: Iterable[LLM],
        judge_client: JudgeClient | None = None,
    ) -> None:
        budget = night.settings.budget
        charges = night.registry.charges
        self._night = night
        self._llms = {llm.key: llm for llm in llms}
        self._endpoints = endpoints
        self._judge_client = judge_client
        spend = night.registry.outcomes.spend(night.run)
        # A process that has a part of the run counts its own LLMs itself, and all others as spent elsewhere.
        mine = set(self._llms) if night.run.part else set(spend.by_llm)
        self._before = spend.of(mine)
        self._kept_usd = Decimal(0)
        self._budget = Budget(
            call_usd=budget.call_usd,
            llm_usd=budget.llm_usd,
            night_usd=budget.night_usd,
            already_spent={key: usd for key, usd in spend.worst_by_llm.items() if key in mine},
        )
        ceiling_usd = budget.night_usd if night.run.part else None
        self._reservations = Reservations(
            reserve=lambda llm_key, usd: charges.reserve(night.run, llm_key, usd, ceiling_usd=ceiling_usd),
            settle=lambda llm_key, usd: charges.settle(night.run, llm_key, usd),
            is_shared=bool(night.run.part),
        )
        # Money is reserved for calls that are about to be made, not for all that are planned.
        self._about_to_call = {
            name: asyncio.Semaphore(2 * entry.settings.concurrency) for name, entry in endpoints.items()
        }
        neighbours = Counter(llm.endpoint for llm in self._llms.values())
        self._of_one_llm = {
            llm.key: asyncio.Semaphore(_share(endpoints[llm.endpoint].settings.concurrency, neighbours[llm.endpoint]))
            for llm in self._llms.values()
        }
        for name, number in neighbours.items():
            endpoints[name].expect_llms(number)
        self._accepted_names = {entry.name: entry.accepted_names for entry in night.workspace.endpoint_settings()}
        self._spent: dict[str, Decimal] = defaultdict(Decimal)
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.stopped: dict[str, tuple[str, str]] = {}

    @property
    def spent_usd(self) -> Decimal:
        """What tonight's calls have cost so far, in USD."""
        return sum(self._spent.values(), Decimal(0))

    @property
    def has_judge(self) -> bool:
        """Whether it has answers judged."""
        return self._judge_client is not None

    def outlook(self) -> Outlook:
        """Return which LLMs are not asked any more, and for how long limited ones still are."""
        left_s = {key: self._endpoints[llm.endpoint].patience_left_s(llm.llm_id) for key, llm in self._llms.items()}
        limited = {key: s for key, s in left_s.items() if s is not None and key not in self.stopped}
        return Outlook(frozenset(self.stopped), limited)

    async def check_judge(self, judged: Sequence[Prompt]) -> None:
        """Check the judge, if there is one, within the budget on some of the prompts whose answers it will judge."""
        if self._judge_client is not None:
            spent = await self._judge_client.check(self._night, judged, self._budget)
            self._spent[self._judge_client.judge.llm_key] += spent

    async def give_back(self) -> None:
        """Release what is reserved but needed for no call in flight."""
        await self._reservations.give_back()

    def stop(self, llm_key: str, reason: str, kind: str) -> None:
        """Do not ask this LLM again tonight, for a reason in words and its kind; the first reason counts."""
        if llm_key not in self.stopped:
            log_event("llm_left_alone", run=self._night.run_key, llm=llm_key, reason=reason, kind=kind)
            self.stopped[llm_key] = (reason, kind)

    async def ask(
        self, llm: LLM, prompt: Prompt, sampling: str, keep: Callable[[Outcome], Awaitable[object]]
    ) -> Outcome | None:
        """Ask one prompt, and have the outcome stored if there is one.

        Parameters
        ----------
        llm, prompt
            The LLM, and what it is asked.
        sampling
            Sampling settings under which the outcome is stored.
        keep
            Returns once the outcome is committed.
        """
        async with AsyncExitStack() as until_kept:
            async with self._of_one_llm[llm.key], self._about_to_call[llm.endpoint]:
                number = self.tallies[llm.key].begin()
                outcome = await self._call(llm, prompt, sampling, until_kept)
                self.tallies[llm.key].end(number, outcome)
                if self.tallies[llm.key].empty_in_a_row >= MOST_EMPTY_IN_A_ROW:
                    self.stop(llm.key, f"it gave {MOST_EMPTY_IN_A_ROW} empty answers in a row", kinds.EMPTY)
            if outcome is not None:
                self._spent[llm.key] += outcome.whole_cost_usd
                await keep(outcome)
                self._kept_usd += outcome.whole_cost_usd
                log_answer(self._night.run_key, llm, outcome)
        return outcome

    async def judge_stored(
        self, llm_key: str, prompt: Prompt, text: str, keep: Callable[[Judgement], Awaitable[object]]
    ) -> None:
        """Have a stored answer judged within the ceilings of the LLM that gave it, and have the judgement stored.

        Parameters
        ----------
        llm_key
            The LLM; once its ceiling is reached, or the judge is gone, nothing more of it is judged tonight.
        prompt, text
            What it was asked, and its answer.
        keep
            Returns once the judgement is committed.
        """
        assert self._judge_client is not None, "stored answers are not judged without a judge"
        about_to_call = self._about_to_call[self._judge_client.judge.llm_key.partition(":")[0]]
        async with AsyncExitStack() as until_kept:
            async with about_to_call:
                if llm_key in self.stopped:
                    return
                worst_usd = self._judge_client.worst_usd(prompt.text, prompt.reference)
                granted = await self._granted(llm_key, worst_usd, until_kept)
                if granted is None:
                    return
                try:
                    of_judge = self._check_of(llm_key, granted, self._judge_client.price)
                    judgement = await self._judged(llm_key, prompt, text, of_judge)
                except BaseException as error:
                    self._budget.release(granted.reservation)
                    if not isinstance(error, _NotSent):
                        raise
                    granted.lower_to(Decimal(0))
                    return
            cost_usd = judgement.cost.cost_usd if judgement.cost is not None else Decimal(0)
            self._budget.settle(granted.reservation, cost_usd)
            granted.lower_to(cost_usd)
            self._spent[llm_key] += cost_usd
            await keep(judgement)
            self._kept_usd += cost_usd

    def record(self, outcomes: Sequence[Outcome]) -> int:
        """Commit outcomes; in a process that has a part of the run they use up what is reserved for them."""
        run, settled = self._night.run, {}
        if run.part:
            spent: defaultdict[str, Decimal] = defaultdict(Decimal)
            for outcome in outcomes:
                spent[outcome.llm_key] += outcome.whole_cost_usd
            settled = {llm_key: self._reservations.used(llm_key, usd) for llm_key, usd in spent.items()}
        return self._night.registry.outcomes.record(run, outcomes, settled=settled)

    async def look_elsewhere(self) -> None:
        """Count what other processes of the run have spent and reserved by now against the night's ceiling."""
        if self._budget.is_waited_for:
            # Near the ceiling, two processes would wait for what the other one has booked but does not use.
            await self._reservations.give_back()
        # What this process books meanwhile is counted twice until the next look, but never missed.
        mine_usd = self._before.settled_usd + self._kept_usd
        reserved_usd = self._before.reserved_usd + self._reservations.booked_usd
        spend = await asyncio.to_thread(self._night.registry.outcomes.spend, self._night.run)
        self._budget.note_elsewhere(
            settled_usd=max(spend.total_usd - mine_usd, Decimal(0)),
            reserved_usd=max(spend.reserved_usd - reserved_usd, Decimal(0)),
        )

    async def _call(self, llm: LLM, prompt: Prompt, sampling: str, until_kept: AsyncExitStack) -> Outcome | None:
        price = llm.price
        self._stop_at_the_end(llm.key)
        if price is None or llm.key in self.stopped:
            return None
        endpoint = self._endpoints[llm.endpoint]
        granted = await self._granted(llm.key, self._worst_usd(endpoint, prompt, price), until_kept)
        if granted is None:
            return None
        try:
            completion = await self._completion(endpoint, llm, prompt, price, granted)
            outcome = await self._outcome(llm, prompt, sampling, price, completion)
        except _NotSent:
            granted.lower_to(Decimal(0))
            self._budget.release(granted.reservation)
            return await self._call(llm, prompt, sampling, until_kept)
        except EndpointError as error:
            # Attempts without an answer may be billed, those that only reasoned for example.
            spent_usd = cost_usd(price, error.input_tokens, error.output_tokens)
            self._budget.settle(granted.reservation, spent_usd)
            granted.lower_to(spent_usd)
            if kinds.is_futile(error):
                self.stop(llm.key, error.message, error.kind)
            return self._failure(llm, prompt, sampling, spent_usd, error) if error.attempts else None
        except BaseException:
            self._budget.release(granted.reservation)
            raise
        self._settle(llm, granted, outcome.whole_cost_usd)
        return outcome

    async def _completion(
        self, endpoint: BoundedEndpoint, llm: LLM, prompt: Prompt, price: Price, granted: _Granted
    ) -> Completion:
        """Make one call; raise `_NotSent` when it is not to be sent after all."""
        crash_points.reach("call")
        check = self._check_of(llm.key, granted, price)
        completion = await endpoint.complete(llm.llm_id, prompt.text, before_sending=check)
        crash_points.reach("answered")
        usage = bounded_usage(completion.usage, prompt.text, completion.text, max_tokens=endpoint.settings.max_tokens)
        return replace(completion, usage=usage)

    def _check_of(self, llm_key: str, granted: _Granted, price: Price) -> Callable[[Usage], None]:
        """Return what raises `_NotSent` if a call for an LLM, for which money was set aside, must not be sent now."""

        def check(lost: Usage) -> None:
            self._stop_at_the_end(llm_key)
            lost_usd = cost_usd(price, lost.input_tokens, lost.output_tokens)
            if llm_key in self.stopped or not self._budget.may_send(granted.reservation, lost_usd):
                raise _NotSent

        return check

    def _settle(self, llm: LLM, granted: _Granted, cost_usd: Decimal) -> None:
        """Book what a call cost; an LLM that can cost more than a call may is not asked again."""
        self._budget.settle(granted.reservation, cost_usd)
        granted.lower_to(cost_usd)
        ceiling_usd = self._budget.call_usd
        if ceiling_usd is not None and cost_usd > ceiling_usd:
            self.stop(
                llm.key,
                f"one answer cost {cost_usd:.6f} USD, above the ceiling of {ceiling_usd} USD per call: "
                f"endpoint {llm.endpoint} does not keep to max_tokens",
                "budget of the call",
            )

    def _stop_at_the_end(self, llm_key: str) -> None:
        """Ask nothing more once the night has lasted as long as it may."""
        if self._night.is_over:
            hours = self._night.settings.night.max_hours
            self.stop(llm_key, f"the night has lasted {hours:g} h, as long as [night] max_hours allows", OVER)

    async def _granted(self, llm_key: str, worst_usd: Decimal | None, until_kept: AsyncExitStack) -> _Granted | None:
        """Set aside the worst case of a call, here and in the registry; None when the LLM is not to be asked again."""
        while not self._night.interruption.is_requested:
            try:
                reservation = await self._budget.reserve(llm_key, worst_usd)
            except BudgetExceeded as error:
                self.stop(llm_key, error.message, f"budget of the {error.scope}")
                return None
            if self._night.interruption.is_requested:
                self._budget.release(reservation)
                return None
            try:
                lower_to = await until_kept.enter_async_context(self._reservations.hold(llm_key, reservation.usd))
            except BaseException as error:
                self._budget.release(reservation)
                if not isinstance(error, NotGranted):
                    raise
            else:
                return _Granted(reservation, lower_to)
            # Other processes have booked what seemed to be left; the next look counts that.
            await self.look_elsewhere()
            await asyncio.sleep(_ASK_AGAIN_S)
        return None

    def _worst_usd(self, endpoint: BoundedEndpoint, prompt: Prompt, price: Price) -> Decimal | None:
        """Bound what an answer and its judgement can cost; both count against the ceilings of the LLM that is asked."""
        worst = worst_case_usd(
            prompt.text,
            max_tokens=endpoint.settings.max_tokens,
            input_usd_per_mtok=price.input_usd_per_mtok,
            output_usd_per_mtok=price.output_usd_per_mtok,
        )
        if worst is None or self._judge_client is None or prompt.grader != Judge.name:
            return worst
        return worst + self._judge_client.worst_usd(prompt.text, prompt.reference)

    async def _outcome(self, llm: LLM, prompt: Prompt, sampling: str, price: Price, completion: Completion) -> Outcome:
        """Grade a completion; the answer of another LLM, or a grader that fails, is a failure, not a wrong answer."""
        judgement = Judgement(None)
        failure: str | None = kinds.SUBSTITUTED
        if not self._is_substituted(llm, completion):
            self.tallies[llm.key].count(completion)
            judgement = await self._graded(llm, prompt, completion)
            failure = None if judgement.score is not None else "judging" if judgement.cost else "grading"
        lost = completion.lost
        return Outcome(
            llm_key=llm.key,
            prompt_digest=prompt.digest,
            grader=self._night.grader_versions[prompt.grader],
            sampling=sampling,
            score=judgement.score,
            is_unreadable=judgement.is_unreadable,
            failure=failure,
            grading=judgement.cost,
            input_tokens=completion.input_tokens,
            output_tokens=completion.output_tokens,
            cost_usd=cost_usd(
                price, completion.input_tokens + lost.input_tokens, completion.output_tokens + lost.output_tokens
            ),
            latency_s=completion.latency_s,
            finish_reason=completion.finish_reason,
            attempts=completion.attempts,
            completion=completion.text,
            usage_estimated=completion.usage_estimated,
            usage_flags=completion.usage_flags,
            served_llm=completion.served_llm,
            downgrades=completion.downgrades,
            asked_at=self._night.clock(),
        )

    async def _graded(self, llm: LLM, prompt: Prompt, completion: Completion) -> Judgement:
        """Return the score, at once or from the judge; a judge that is gone stops the LLMs that need it."""
        if prompt.grader != Judge.name:
            try:
                # Not here: an expression may take the numeric grader a second, and every call would wait for it.
                grade = await asyncio.to_thread(
                    self._night.graders[prompt.grader].grade, completion.text, prompt.reference, prompt.text
                )
                return Judgement(grade.score, is_unreadable=grade.is_unreadable)
            except GradingError as error:
                return Judgement(None, error=error)
        return await self._judged(llm.key, prompt, completion.text)

    async def _judged(
        self, llm_key: str, prompt: Prompt, text: str, before_sending: Callable[[Usage], None] = lambda lost: None
    ) -> Judgement:
        """Ask the judge; one that is gone stops the LLMs that need it."""
        assert self._judge_client is not None, "prompts to be judged are not asked without a judge"
        judgement = await self._judge_client.score(prompt.text, prompt.reference, text, before_sending)
        if judgement.is_futile and isinstance(judgement.error, EndpointError):
            self.stop(llm_key, f"its answers cannot be judged: {judgement.error.message}", judgement.error.kind)
        return judgement

    def _is_substituted(self, llm: LLM, completion: Completion) -> bool:
        """Whether another LLM answered; if so, this one is not asked again tonight."""
        served = completion.served_llm
        if served is None or is_the_llm_asked_for(served, llm.llm_id, llm.canonical_id):
            return False
        if any(fnmatchcase(served, pattern) for pattern in self._accepted_names[llm.endpoint]):
            return False
        self.stop(
            llm.key,
            f"endpoint {llm.endpoint} answered with another LLM, {served[:80]!r}, instead of {llm.llm_id!r}; if "
            f"that is the same one, add its name to accepted_names of [[endpoint]] {llm.endpoint}",
            kinds.SUBSTITUTED,
        )
        return True

    def _failure(self, llm: LLM, prompt: Prompt, sampling: str, spent_usd: Decimal, error: EndpointError) -> Outcome:
        is_billed = bool(error.input_tokens or error.output_tokens)
        return Outcome(
            llm_key=llm.key,
            prompt_digest=prompt.digest,
            grader=self._night.grader_versions[prompt.grader],
            sampling=sampling,
            score=None,
            failure=error.kind,
            input_tokens=error.input_tokens if is_billed else None,
            output_tokens=error.output_tokens if is_billed else None,
            cost_usd=spent_usd if is_billed else None,
            latency_s=None,
            finish_reason=None,
            attempts=error.attempts,
            completion=None,
            usage_estimated=False,
            asked_at=self._night.clock(),
        )


def _share(concurrency: int, neighbours: int) -> int:
    """Return how many calls one LLM may have in flight, so that one that hangs leaves room for the others."""
    return 2 * concurrency if neighbours == 1 else max(1, concurrency // 2)


def log_answer(run_key: str, llm: LLM, outcome: Outcome) -> None:
    """Log one answer, or why there is none, at level `logging.DEBUG`: never what was asked or answered."""
    log_event(
        "answered" if outcome.failure is None else "failed",
        level=logging.DEBUG,
        run=run_key,
        llm=llm.key,
        endpoint=llm.endpoint,
        prompt_id=outcome.prompt_digest,
        attempt=outcome.attempts,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        kind=outcome.failure,
    )
