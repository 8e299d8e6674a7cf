"""How long an endpoint is waited for: back-off, circuits, and concurrency that gives way."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from types import TracebackType

from .kinds import FAILURE_RULES


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
    rest_s
        How long an open circuit refuses calls before one is let through to try.
    """

    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    longest_retry_after_s: float = 60.0
    failures_to_open: int = 8
    rest_s: float = 30.0

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
    closed_until_s: float = 0.0
    """Until when calls are refused, while `failures` says that it is open."""
    stopped_by: str | None = None


@dataclass
class Circuits:
    """Remember what keeps failing, so that later calls fail at once without being sent.

    Each LLM has a circuit, and so has the endpoint. One opens after several failures in a row, lets a single call
    through after a rest, and closes when that succeeds; or it is stopped for good by a kind that cannot be mended.

    Parameters
    ----------
    patience
        The figures.
    """

    patience: Patience
    _endpoint: _Circuit = field(default_factory=_Circuit)
    _llms: dict[str, _Circuit] = field(default_factory=dict)

    def refusal(self, llm_id: str, now_s: float) -> str | None:
        """Give the kind with which a call must fail instead of being sent, None when it may be sent."""
        for circuit in (self._endpoint, self._llms.get(llm_id)):
            if circuit is None:
                continue
            if circuit.stopped_by is not None:
                return circuit.stopped_by
            if circuit.failures >= self.patience.failures_to_open:
                if now_s < circuit.closed_until_s:
                    return "circuit_open"
                circuit.closed_until_s = now_s + self.patience.rest_s
        return None

    def answered(self, llm_id: str) -> None:
        """Note an answer."""
        self._endpoint.failures = 0
        if llm_id in self._llms:
            self._llms[llm_id].failures = 0

    def failed(self, llm_id: str, kind: str, now_s: float) -> None:
        """Note a failure."""
        rule = FAILURE_RULES[kind]
        if rule.counts_against != "endpoint" and rule.stops != "endpoint":
            self._endpoint.failures = 0
        scope = rule.stops or rule.counts_against
        if scope is None:
            if llm_id in self._llms:
                self._llms[llm_id].failures = 0
            return
        circuit = self._endpoint if scope == "endpoint" else self._llms.setdefault(llm_id, _Circuit())
        if rule.stops is not None:
            circuit.stopped_by = kind
            return
        circuit.failures += 1
        circuit.closed_until_s = now_s + self.patience.rest_s


class Gate:
    """Let a number of calls through at a time, fewer after the endpoint has asked for patience.

    Parameters
    ----------
    width
        Calls at a time at most.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._limit = width
        self._owed = 0
        self._answers = 0
        self._permits = asyncio.Semaphore(width)

    @property
    def limit(self) -> int:
        """Calls let through at a time now."""
        return self._limit

    def narrow(self) -> None:
        """Halve the number of calls at a time, at least to one."""
        # A burst of refusals is one sign, not many: wait for the calls it concerns to leave.
        if self._owed == 0:
            self._owed = self._limit - max(1, self._limit // 2)
            self._limit -= self._owed
        self._answers = 0

    def widen(self) -> None:
        """Count an answer; as many as the gate is wide let one more call through at a time."""
        if self._limit == self.width:
            return
        self._answers += 1
        if self._answers >= self._limit:
            self._answers = 0
            self._limit += 1
            if self._owed:
                self._owed -= 1
            else:
                self._permits.release()

    async def __aenter__(self) -> None:
        await self._permits.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owed:
            self._owed -= 1
        else:
            self._permits.release()
