"""How an endpoint that fails is treated: back-off between retries, circuits, and concurrency that adapts."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType

from flows.endpoints.kinds import FAILURE_RULES

_FORBIDDEN = "forbidden"
_LIMITED = "rate_limited"
_FEWEST_FORBIDDEN = 3
_PLACES_OF_A_REFUSAL = 1 / 2
_PLACES_OF_AN_ANSWER = 1 / 16


@dataclass(frozen=True)
class RetryPolicy:
    """The figures behind retries and circuits.

    Parameters
    ----------
    first_backoff_s, longest_backoff_s
        The n-th retry waits a random time between 0 and ``first * 2**(n - 1)``, at most `longest_backoff_s`.
    longest_retry_after_s
        A call is given up when the endpoint asks to wait longer than this.
    failures_to_open
        How many failures in a row open a circuit.
    first_rest_s, longest_rest_s
        How long an open circuit refuses calls before one is let through as a test; doubled after each failed test.
    rests_waited_for
        How many rests in a row calls sit out instead of failing, when there were answers before.
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_retry_after_s: float = 60.0
    failures_to_open: int = 8
    first_rest_s: float = 1.0
    longest_rest_s: float = 60.0
    rests_waited_for: int = 6

    def wait_s(self, attempts: int, retry_after_s: float | None, rng: random.Random) -> float | None:
        """Return how long to wait before asking again.

        Parameters
        ----------
        attempts
            How often the endpoint was asked.
        retry_after_s
            What it asked us to wait.
        rng
            Spreads the retries of many calls apart (full jitter).

        Returns
        -------
        float or None
            Seconds; None when the endpoint asks for more than is allowed.
        """
        jitter_s = rng.uniform(0, min(self.longest_backoff_s, self.first_backoff_s * 2 ** min(attempts - 1, 20)))
        if retry_after_s is None:
            return jitter_s
        return retry_after_s + jitter_s if retry_after_s <= self.longest_retry_after_s else None


@dataclass
class _Circuit:
    failures: int = 0
    rests: int = 0
    rests_until_s: float = 0.0
    is_testing: bool = False
    paused_until_s: float = 0.0
    has_answered: bool = False
    limited_since_s: float | None = None
    limited_last_s: float = 0.0
    limits: int = 0
    stopped_by: str | None = None


@dataclass(frozen=True)
class CallRefusal:
    """Why a call must not be sent now.

    Parameters
    ----------
    kind
        The failure it would be, a key of `FAILURE_RULES`.
    wait_s
        When positive, the call is to ask again after that many seconds instead of failing.
    """

    kind: str
    wait_s: float = 0.0


@dataclass
class Circuits:
    """Remember what keeps failing, so that later calls are not sent.

    Each LLM has a circuit, and so has the endpoint. A circuit opens after several failures in a row and rests, longer
    each time; after a rest one call is let through, and if that is answered the circuit closes. Calls sit out the first
    few rests of an LLM or endpoint that has answered before, because outages pass and a prompt not asked tonight is
    missing; otherwise they fail at once. A failure that a retry cannot fix stops the circuit for good. When the
    endpoint asks to wait (``Retry-After``), only calls to the same LLM wait. An LLM whose calls are only limited, or
    will be, for longer than the patience is stopped too, until a call in flight is answered after all. An endpoint that
    forbids most of its LLMs, three at least, before any of them has answered is stopped as a whole: then it is the key
    that it means.

    Parameters
    ----------
    retry_policy
        The figures.
    llm_patience_s
        How long an LLM is asked again while the endpoint limits its calls and answers none, in seconds.
    n_llms
        How many LLMs will be asked; 0 when only those count that have been asked so far.
    """

    retry_policy: RetryPolicy
    llm_patience_s: float = math.inf
    n_llms: int = 0
    _endpoint: _Circuit = field(default_factory=_Circuit)
    _llms: defaultdict[str, _Circuit] = field(default_factory=lambda: defaultdict(_Circuit))

    def refusal(self, llm_id: str, now_s: float) -> CallRefusal | None:
        """Return why a call must not be sent now, or None; the first None after a rest makes that call the test."""
        circuits = (self._endpoint, self._llms[llm_id])
        for circuit in circuits:
            if circuit.stopped_by is not None:
                return CallRefusal(circuit.stopped_by)
            if self._is_open(circuit) and now_s < circuit.rests_until_s:
                is_worth_waiting = circuit.has_answered and circuit.rests < self.retry_policy.rests_waited_for
                # Short naps, because the test call may be answered long before its rest would end.
                nap_s = min(circuit.rests_until_s - now_s, self.retry_policy.first_rest_s / 4)
                return CallRefusal("circuit_open", nap_s if is_worth_waiting else 0.0)
            if now_s < circuit.paused_until_s:
                return CallRefusal("rate_limited", circuit.paused_until_s - now_s)
        for circuit in circuits:
            if self._is_open(circuit):
                circuit.is_testing = True
                circuit.rests_until_s = now_s + self._rest_s(circuit)
        return None

    @property
    def is_stopped(self) -> bool:
        """Whether the endpoint is not called again, because a retry cannot succeed."""
        return self._endpoint.stopped_by is not None

    def answered(self, llm_id: str) -> None:
        """Note an answer."""
        for circuit in (self._endpoint, self._llms[llm_id]):
            self._close(circuit)
            circuit.has_answered = True
        of_llm = self._llms[llm_id]
        of_llm.limited_since_s = None
        if of_llm.stopped_by == _LIMITED:
            of_llm.stopped_by = None

    def patience_left_s(self, llm_id: str, now_s: float) -> float | None:
        """Return for how long an LLM whose calls are limited will still be asked; None when they are not."""
        since_s = self._llms[llm_id].limited_since_s
        return None if since_s is None else max(0.0, since_s + self.llm_patience_s - now_s)

    def failed(self, llm_id: str, kind: str, now_s: float, retry_after_s: float | None = None) -> None:
        """Note a failure, and how long the endpoint asked to wait."""
        rule = FAILURE_RULES[kind]
        if retry_after_s is not None and retry_after_s <= self.retry_policy.longest_retry_after_s:
            of_llm = self._llms[llm_id]
            of_llm.paused_until_s = max(of_llm.paused_until_s, now_s + retry_after_s)
        if kind == _LIMITED:
            self._limited(self._llms[llm_id], now_s + (retry_after_s or 0.0), now_s)
        scope = rule.stops or rule.counts_against
        if scope != "endpoint":
            self._close(self._endpoint)
        if scope is None:
            self._close(self._llms[llm_id])
            return
        circuit = self._endpoint if scope == "endpoint" else self._llms[llm_id]
        if rule.stops is not None:
            circuit.stopped_by = kind
            if kind == _FORBIDDEN:
                self._stop_if_most_are_forbidden()
            return
        was_open = self._is_open(circuit)
        circuit.failures += 1
        if was_open and circuit.is_testing:
            circuit.is_testing = False
            circuit.rests += 1
            circuit.rests_until_s = now_s + self._rest_s(circuit)
        elif not was_open:
            circuit.rests_until_s = now_s + self._rest_s(circuit)

    def _limited(self, of_llm: _Circuit, until_s: float, now_s: float) -> None:
        # Refusals long ago, before a time in which the LLM was not asked, say nothing about now.
        asked_meanwhile_s = 2 * (self.retry_policy.longest_retry_after_s + self.retry_policy.longest_backoff_s)
        if of_llm.limited_since_s is None or now_s - of_llm.limited_last_s > asked_meanwhile_s:
            of_llm.limited_since_s, of_llm.limits = now_s, 0
        of_llm.limits += 1
        of_llm.limited_last_s = now_s
        # What one refusal announces may be meant for a burst; several in a row are believed.
        is_announced = of_llm.limits >= self.retry_policy.failures_to_open
        if (until_s if is_announced else now_s) - of_llm.limited_since_s > self.llm_patience_s:
            of_llm.stopped_by = _LIMITED

    def _stop_if_most_are_forbidden(self) -> None:
        forbidden = sum(of_llm.stopped_by == _FORBIDDEN for of_llm in self._llms.values())
        is_most = 2 * forbidden > max(self.n_llms, len(self._llms))
        if forbidden >= _FEWEST_FORBIDDEN and is_most and not self._endpoint.has_answered:
            self._endpoint.stopped_by = _FORBIDDEN

    def _is_open(self, circuit: _Circuit) -> bool:
        return circuit.failures >= self.retry_policy.failures_to_open

    def _rest_s(self, circuit: _Circuit) -> float:
        return min(self.retry_policy.longest_rest_s, self.retry_policy.first_rest_s * 2 ** min(circuit.rests, 20))

    @staticmethod
    def _close(circuit: _Circuit) -> None:
        circuit.failures = 0
        circuit.rests = 0
        circuit.is_testing = False


class ConcurrencyLimiter:
    """Let a number of calls through at a time, fewer while the endpoint limits the rate of calls.

    A refused call takes away half a place: a round trip in which every call is refused halves the concurrency, and one
    refusal among many costs next to nothing. An answer gives back a sixteenth of a place, and more where few places are
    left. So a wide limiter stays wide while fewer than one call in nine is refused.

    Parameters
    ----------
    width
        Calls at a time at most.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._limit = float(width)
        self._owed = 0
        self._permits = asyncio.Semaphore(width)

    @property
    def limit(self) -> int:
        """Calls that are let through at a time now."""
        return int(self._limit)

    def narrow(self) -> None:
        """Count a refused call."""
        before = self.limit
        self._limit = max(1.0, self._limit - _PLACES_OF_A_REFUSAL)
        # Calls in flight are left alone: a place is taken away when it becomes free.
        self._owed += before - self.limit

    def widen(self) -> None:
        """Count an answer."""
        before = self.limit
        self._limit = min(float(self.width), self._limit + max(_PLACES_OF_AN_ANSWER, 1 / self._limit))
        for _ in range(self.limit - before):
            self._give_place()

    def _give_place(self) -> None:
        if self._owed:
            self._owed -= 1
        else:
            self._permits.release()

    async def __aenter__(self) -> None:
        await self._permits.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_place()
