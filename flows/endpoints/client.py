"""The only way to call an LLM: one OpenAI-compatible endpoint, behind limits that hold whatever it does."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flows.endpoints.completion import Answer, Completion, NotACompletion, parse_body, read_answer
from flows.endpoints.failures import Failure, RefusedParameter, classify_exception, classify_reply
from flows.endpoints.kinds import FAILURE_RULES
from flows.endpoints.retry_policy import Circuits, ConcurrencyLimiter, RetryPolicy
from flows.endpoints.usage import Usage, bounded_usage
from flows.errors import EndpointError, PrerequisiteError
from flows.logs import log_event
from flows.urls import http_url, is_in_clear
from registry.clock import machine_time
from registry.db.redaction import KEY, REDACTION

if TYPE_CHECKING:
    from pydantic import SecretStr

    from flows.config.settings import EndpointSettings
    from flows.endpoints.wire import Reply, Wire

_Parameters = tuple[RefusedParameter, ...]


class BoundedEndpoint:
    """Ask one OpenAI-compatible endpoint, within limits of time, size, concurrency and retries.

    Use it as an asynchronous context manager, in one event loop. Retries happen here and nowhere else, and only for
    failures of the infrastructure: a wrong answer is an answer.

    Parameters
    ----------
    settings
        Name, address and limits of the endpoint, and what it asks of its LLMs.
    api_key
        Sent only to the host of ``base_url``; None sends none.
    retry_policy
        The figures behind retries and circuits.
    llm_patience_s
        How long an LLM is asked again while the endpoint limits its calls and answers none, in seconds.
    sleep, rng, clock, now
        How to wait, what spreads retries, monotonic seconds, and the present for ``Retry-After`` dates.

    Raises
    ------
    PrerequisiteError
        When ``base_url`` is not one that a key may be sent to.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        api_key: SecretStr | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
        llm_patience_s: float = math.inf,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = machine_time,
    ) -> None:
        _check_base_url(settings.name, settings.base_url, allow_insecure=settings.allow_insecure)
        self.settings = settings
        self.sampling = json.dumps(
            {"max_tokens": settings.max_tokens, "temperature": settings.temperature}, separators=(",", ":")
        )
        self._api_key = api_key
        if api_key is not None:
            REDACTION.learn([api_key.get_secret_value()])
        self._interval_s = 1 / settings.requests_per_second if settings.requests_per_second else 0.0
        self._retry_policy = retry_policy or RetryPolicy()
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._clock = clock
        self._now = now
        self._wire: Wire | None = None
        self._limiter = ConcurrencyLimiter(settings.concurrency)
        self._circuits = Circuits(self._retry_policy, llm_patience_s)
        self._not_before_s = 0.0
        self._state = "open"
        self._given_up: dict[str, _Parameters] = {}
        self._futile: defaultdict[str, set[RefusedParameter]] = defaultdict(set)

    async def __aenter__(self) -> Self:
        from flows.endpoints.wire import Wire

        self._wire = Wire(self.settings, self._api_key)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.aclose()

    def patience_left_s(self, llm_id: str) -> float | None:
        """Return for how many seconds an LLM whose calls are limited will still be asked; None when they are not."""
        return self._circuits.patience_left_s(llm_id, self._clock())

    def expect_llms(self, number: int) -> None:
        """Note how many LLMs will be asked: an endpoint that refuses most of them is not asked any more."""
        self._circuits.n_llms = number

    async def complete(
        self, llm_id: str, prompt: str, *, before_sending: Callable[[Usage], None] = lambda lost: None
    ) -> Completion:
        """Ask the LLM one prompt.

        Parameters
        ----------
        llm_id
            Its name at the endpoint.
        prompt
            The user message, exactly.
        before_sending
            Called right before every attempt, after all waiting, with what the earlier attempts are billed for although
            they brought no answer; what it raises ends the call.

        Returns
        -------
        Completion
            The answer, whatever it says.

        Raises
        ------
        RateLimited, TransientEndpointError, FatalEndpointError, MalformedCompletion
            There is no answer; ``kind`` is a key of `FAILURE_RULES`. ``attempts`` is 0 when nothing was sent, because
            the circuit is open (kind ``circuit_open``) or was stopped for good (by the kind reported).
        Exception
            What `before_sending` raises before the first attempt; later, the failure of the last attempt is raised.
        """
        attempts = 0
        seen: Counter[str] = Counter()
        failures: list[Failure] = []
        left_out: _Parameters = ()
        while True:
            async with self._limiter:
                await self._keep_pace()
                try:
                    before_sending(_lost(failures))
                except Exception:
                    if not failures:
                        raise
                    raise self._error(llm_id, failures[-1], attempts, failures) from None
                refusal = self._circuits.refusal(llm_id, self._clock())
                if refusal is None:
                    attempts += 1
                    left_out = _united(left_out, self._given_up.get(llm_id, ()))
                    outcome = await self._attempt(llm_id, prompt, left_out, attempts)
            if refusal is not None:
                if not refusal.wait_s:
                    raise self._error(llm_id, self._not_sent(refusal.kind, failures), attempts, failures)
                await self._sleep(refusal.wait_s)
                continue
            if isinstance(outcome, Completion):
                # Only now is it known that the parameter was the reason, and not a word that happened to be its name.
                self._given_up[llm_id] = _united(left_out, self._given_up.get(llm_id, ()))
                return replace(outcome, lost=_lost(failures))
            failures.append(outcome)
            refused = self._refused_parameter(llm_id, outcome, left_out)
            if refused is not None:
                left_out = _united(left_out, (refused,))
                continue
            seen[outcome.kind] += 1
            wait_s = self._wait_s(outcome, seen)
            if wait_s is None:
                raise self._error(llm_id, outcome, attempts, failures)
            await self._sleep(wait_s)

    def _not_sent(self, kind: str, failures: Sequence[Failure]) -> Failure:
        if kind == "rate_limited":
            patience = f"only refusals for {self._circuits.llm_patience_s:g} s ([night] llm_patience_s)"
            return Failure(kind, f"{patience}, so it is left for the next night")
        return failures[-1] if failures else Failure(kind, "nothing was sent")

    async def _attempt(self, llm_id: str, prompt: str, left_out: _Parameters, attempts: int) -> Completion | Failure:
        started_s = self._clock()
        outcome = await self._exchange(llm_id, prompt, left_out)
        ended_s = self._clock()
        if isinstance(outcome, Failure):
            self._circuits.failed(llm_id, outcome.kind, ended_s, outcome.retry_after_s)
            if outcome.kind == "rate_limited":
                self._limiter.narrow()
            self._log_state(outcome.kind)
            return outcome
        self._circuits.answered(llm_id)
        self._limiter.widen()
        self._log_state()
        return Completion(
            **vars(outcome),
            latency_s=max(0.0, ended_s - started_s),
            attempts=attempts,
            downgrades=left_out,
        )

    def _log_state(self, kind: str | None = None) -> None:
        """Log when the endpoint as a whole starts to be asked less, or as much as before."""
        is_throttled = self._limiter.limit < self._limiter.width
        state = "stopped" if self._circuits.is_stopped else "throttled" if is_throttled else "open"
        if state != self._state:
            self._state = state
            level = logging.WARNING if state == "stopped" else logging.INFO
            log_event(
                f"endpoint_{state}", level=level, endpoint=self.settings.name, reason=kind, at_once=self._limiter.limit
            )

    async def _exchange(self, llm_id: str, prompt: str, left_out: _Parameters) -> Answer | Failure:
        if self._wire is None:
            raise RuntimeError(f"endpoint {self.settings.name} is not open: use it in an `async with` block")
        try:
            reply = await self._wire.post(self._request(llm_id, prompt, left_out))
        except Exception as error:
            failure = classify_exception(error)
            if failure is None:
                raise
            return failure
        return self._read(reply, prompt)

    def _read(self, reply: Reply, prompt: str) -> Answer | Failure:
        # The body decides, not the content type: servers and proxies send completions as text/plain or text/html.
        try:
            document = parse_body(reply.body)
        except NotACompletion as error:
            if reply.status < 400:
                return Failure(error.kind, f"HTTP {reply.status}, {error}")
            document = reply.body.decode("utf-8", "replace")
        # A server may repeat the key, in an answer even, and answers are kept.
        document = REDACTION.clean(document, KEY)
        failure = classify_reply(reply.status, document, reply.retry_after, self._now())
        if failure is not None:
            return failure
        try:
            return read_answer(document, prompt)
        except NotACompletion as error:
            usage = error.usage and bounded_usage(error.usage, prompt, "", max_tokens=self.settings.max_tokens)
            return Failure(error.kind, f"HTTP {reply.status}, {error}", usage=usage)

    def _request(self, llm_id: str, prompt: str, left_out: _Parameters) -> bytes:
        request: dict[str, Any] = {"model": llm_id, "messages": [{"role": "user", "content": prompt}]}
        request["max_completion_tokens" if "max_tokens" in left_out else "max_tokens"] = self.settings.max_tokens
        if "temperature" not in left_out:
            request["temperature"] = self.settings.temperature
        if "stream" not in left_out:
            # Some servers stream unless they are told not to.
            request["stream"] = False
        return json.dumps(request, separators=(",", ":")).encode()

    def _refused_parameter(self, llm_id: str, failure: Failure, left_out: _Parameters) -> RefusedParameter | None:
        """Return what else to leave out of the next attempt, None when that would be no use."""
        futile = self._futile[llm_id]
        for parameter in failure.refused_parameters:
            if parameter not in left_out and parameter not in futile:
                return parameter
        if failure.kind in ("unsupported", "bad_request"):
            futile.update(set(left_out) - set(self._given_up.get(llm_id, ())))
        return None

    def _wait_s(self, failure: Failure, seen: Counter[str]) -> float | None:
        failures = seen.total()
        allowed = FAILURE_RULES[failure.kind].max_retries
        if failures >= self.settings.max_attempts or (allowed is not None and seen[failure.kind] > allowed):
            return None
        return self._retry_policy.wait_s(failures, failure.retry_after_s, self._rng)

    async def _keep_pace(self) -> None:
        now_s = self._clock()
        start_s = max(now_s, self._not_before_s)
        if self._interval_s:
            self._not_before_s = start_s + self._interval_s
        if start_s > now_s:
            await self._sleep(start_s - now_s)

    def _error(self, llm_id: str, failure: Failure, attempts: int, failures: Sequence[Failure]) -> EndpointError:
        rule = FAILURE_RULES[failure.kind]
        lost = _lost(failures)
        return rule.error(
            f"endpoint {self.settings.name} {rule.means}: LLM {llm_id!r}, {failure.detail}{_times(attempts)}",
            kind=failure.kind,
            attempts=attempts,
            retry_after_s=failure.retry_after_s,
            input_tokens=lost.input_tokens,
            output_tokens=lost.output_tokens,
            is_endpoint_wide=rule.stops == "endpoint" or self._circuits.is_stopped,
            unchanged="the prompt counts as unanswered, not as answered wrongly",
            hint=rule.hint,
        )


def _lost(failures: Sequence[Failure]) -> Usage:
    """Return what attempts without an answer are billed for."""
    billed = [one.usage for one in failures if one.usage is not None]
    return Usage(sum(usage.input_tokens for usage in billed), sum(usage.output_tokens for usage in billed))


def _united(some: _Parameters, others: _Parameters) -> _Parameters:
    return tuple(sorted({*some, *others}))


def _times(attempts: int) -> str:
    return f", asked {attempts} {'time' if attempts == 1 else 'times'}" if attempts else ""


def _check_base_url(name: str, base_url: str, *, allow_insecure: bool) -> None:
    url, problem = http_url(base_url), ""
    if url is None:
        problem = "is not an http(s) address"
    elif url.userinfo or url.query or url.fragment:
        problem = "must not carry credentials, a query or a fragment"
    elif is_in_clear(url) and not allow_insecure:
        problem = "would send prompts and the key unencrypted to another machine"
    if problem:
        raise PrerequisiteError(
            f"the address of endpoint {name} {problem}",
            unchanged="nothing was called",
            hint="set base_url to https://HOST/v1, or allow http for this host in the settings",
        )
