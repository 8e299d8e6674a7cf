"""How long an endpoint is waited for: back-off, circuits, and concurrency that gives way."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType

from flows.endpoints.kinds import FAILURE_RULES

_PLACES_OF_A_REFUSAL = 1 / 2
_PLACES_OF_AN_ANSWER = 1 / 16


@dataclass(frozen=True)
class Patience:
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
        How long an open circuit refuses calls before one is let through to try; doubled after each failed try.
    rests_waited_for
        How many rests in a row calls wait for instead of failing, when there were answers before.
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_retry_after_s: float = 60.0
    failures_to_open: int = 8
    first_rest_s: float = 1.0
    longest_rest_s: float = 60.0
    rests_waited_for: int = 6

    def wait_s(self, attempts: int, retry_after_s: float | None, rng: random.Random) -> float | None:
        """Tell how long to wait before asking again.

        Parameters
        ----------
        attempts
            How often the endpoint was asked.
        retry_after_s
            What it asked us to wait.
        rng
            Spreads the retries of many calls (full jitter).

        Returns
        -------
        float or None
            Seconds; None when the endpoint asks for more than we have.
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
    is_tried: bool = False
    patient_until_s: float = 0.0
    has_answered: bool = False
    stopped_by: str | None = None


@dataclass(frozen=True)
class Refusal:
    """Why a call may not be sent now.

    Parameters
    ----------
    kind
        With which it fails, a key of `FAILURE_RULES`.
    wait_s
        When positive, it shall ask again after so many seconds instead of failing.
    """

    kind: str
    wait_s: float = 0.0


@dataclass
class Circuits:
    """Remember what keeps failing, so that later calls are not sent.

    Each LLM has a circuit, and so has the endpoint. One opens after several failures in a row and rests, longer each
    time; after a rest one call is let through, and when that is answered the circuit closes. Calls wait for the first
    few rests of something that has answered before, because outages pass and what is not asked tonight is missing;
    otherwise they fail at once. A kind that cannot be mended stops the circuit for good. Calls of an LLM for which the
    endpoint asked to wait (``Retry-After``) wait so long; those of its other LLMs do not.

    Parameters
    ----------
    patience
        The figures.
    """

    patience: Patience
    _endpoint: _Circuit = field(default_factory=_Circuit)
    _llms: defaultdict[str, _Circuit] = field(default_factory=lambda: defaultdict(_Circuit))

    def refusal(self, llm_id: str, now_s: float) -> Refusal | None:
        """Say why a call may not be sent now, None when it may; after a rest, asking takes the one try."""
        circuits = (self._endpoint, self._llms[llm_id])
        for circuit in circuits:
            if circuit.stopped_by is not None:
                return Refusal(circuit.stopped_by)
            if self._is_open(circuit) and now_s < circuit.rests_until_s:
                is_worth_waiting = circuit.has_answered and circuit.rests < self.patience.rests_waited_for
                # Short naps, because the call that tries may be answered long before its rest would end.
                nap_s = min(circuit.rests_until_s - now_s, self.patience.first_rest_s / 4)
                return Refusal("circuit_open", nap_s if is_worth_waiting else 0.0)
            if now_s < circuit.patient_until_s:
                return Refusal("rate_limited", circuit.patient_until_s - now_s)
        for circuit in circuits:
            if self._is_open(circuit):
                circuit.is_tried = True
                circuit.rests_until_s = now_s + self._rest_s(circuit)
        return None

    @property
    def is_stopped(self) -> bool:
        """Whether the whole endpoint is asked nothing more, because asking again cannot mend it."""
        return self._endpoint.stopped_by is not None

    def answered(self, llm_id: str) -> None:
        """Note an answer."""
        for circuit in (self._endpoint, self._llms[llm_id]):
            self._close(circuit)
            circuit.has_answered = True

    def failed(self, llm_id: str, kind: str, now_s: float, retry_after_s: float | None = None) -> None:
        """Note a failure, and how long the endpoint asked to wait."""
        rule = FAILURE_RULES[kind]
        if retry_after_s is not None and retry_after_s <= self.patience.longest_retry_after_s:
            of_llm = self._llms[llm_id]
            of_llm.patient_until_s = max(of_llm.patient_until_s, now_s + retry_after_s)
        scope = rule.stops or rule.counts_against
        if scope != "endpoint":
            self._close(self._endpoint)
        if scope is None:
            self._close(self._llms[llm_id])
            return
        circuit = self._endpoint if scope == "endpoint" else self._llms[llm_id]
        if rule.stops is not None:
            circuit.stopped_by = kind
            return
        was_open = self._is_open(circuit)
        circuit.failures += 1
        if was_open and circuit.is_tried:
            circuit.is_tried = False
            circuit.rests += 1
            circuit.rests_until_s = now_s + self._rest_s(circuit)
        elif not was_open:
            circuit.rests_until_s = now_s + self._rest_s(circuit)

    def _is_open(self, circuit: _Circuit) -> bool:
        return circuit.failures >= self.patience.failures_to_open

    def _rest_s(self, circuit: _Circuit) -> float:
        return min(self.patience.longest_rest_s, self.patience.first_rest_s * 2 ** min(circuit.rests, 20))

    @staticmethod
    def _close(circuit: _Circuit) -> None:
        circuit.failures = 0
        circuit.rests = 0
        circuit.is_tried = False


class Gate:
    """Let a number of calls through at a time, fewer while the endpoint asks for patience.

    A refused call takes half a place: a round trip in which every call is refused halves the calls at a time, and one
    refusal among many costs next to nothing. An answer gives a sixteenth of a place back, and the more of one the fewer
    places there are. So a wide gate stays wide while fewer than one call in nine is refused.

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
        """Calls let through at a time now."""
        return int(self._limit)

    def narrow(self) -> None:
        """Count a refused call."""
        before = self.limit
        self._limit = max(1.0, self._limit - _PLACES_OF_A_REFUSAL)
        # Whoever is inside leaves in peace: a place is taken away when it becomes free.
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
