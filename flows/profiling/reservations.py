"""What calls in flight may cost, booked in the registry, so that a killed night does not forget it."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

_AHEAD = 16
"""How many further calls are booked at once where every answer uses up what is booked."""


class NotGranted(Exception):
    """The ceiling that several processes share leaves no room for this call at the moment."""


class Reservations:
    """Keep at least the worst case of all calls in flight booked in the registry, LLM by LLM.

    A commit for every call would halve the night's speed. So what is booked only grows, up to the most that was ever in
    flight at once, and is released when the profile ends: a call waits for a commit only when more is in flight than
    ever before.

    Processes that share a ceiling need more: what is spent must have been booked. There every answer uses up what it
    cost (`used`), and more is booked for several calls at a time.

    Parameters
    ----------
    reserve, settle
        Book an amount for an LLM key, and release it; each is one transaction, called in a worker thread. `reserve`
        returns whether the amount was booked.
    is_shared
        Whether other processes book under the same ceiling.
    """

    def __init__(
        self,
        reserve: Callable[[str, Decimal], bool],
        settle: Callable[[str, Decimal], None],
        *,
        is_shared: bool = False,
    ) -> None:
        self._reserve = reserve
        self._settle = settle
        self._is_shared = is_shared
        self._under_way: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._booked: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # Answers are committed, and use up what is booked, in worker threads.
        self._counting = threading.Lock()

    @property
    def booked_usd(self) -> Decimal:
        """What is booked in the registry for calls of this process, in USD."""
        with self._counting:
            return sum(self._booked.values(), Decimal(0))

    @asynccontextmanager
    async def hold(self, llm_key: str, usd: Decimal) -> AsyncIterator[Callable[[Decimal], None]]:
        """Keep the worst case of one call booked until its outcome is committed, which is when the block ends.

        The function that is yielded lowers the worst case to the cost once that is known. A block that ends in an error
        leaves its share booked for good, because it is unknown what that call cost.

        Raises
        ------
        NotGranted
            The worst case could not be booked.
        """
        share = usd
        self._under_way[llm_key] += usd

        def lower_to(cost_usd: Decimal) -> None:
            nonlocal share
            self._under_way[llm_key] += cost_usd - share
            share = cost_usd

        async with self._locks[llm_key]:
            more = self._under_way[llm_key] - self._booked[llm_key]
            if more > 0 and not await self._book(llm_key, more, usd):
                self._under_way[llm_key] -= usd
                raise NotGranted
        yield lower_to
        self._under_way[llm_key] -= share

    async def _book(self, llm_key: str, more: Decimal, usd: Decimal) -> bool:
        for amount in (more + _AHEAD * usd, more) if self._is_shared else (more,):
            if await asyncio.to_thread(self._reserve, llm_key, amount):
                with self._counting:
                    self._booked[llm_key] += amount
                return True
        return False

    def used(self, llm_key: str, usd: Decimal) -> Decimal:
        """Deduct the cost of answers from what is booked; return what was deducted, to be settled with the answers."""
        with self._counting:
            taken = min(usd, self._booked[llm_key])
            self._booked[llm_key] -= taken
        return taken

    async def give_back(self) -> None:
        """Release what is booked for no call; what calls without an outcome may have cost stays booked."""
        for llm_key in list(self._booked):
            async with self._locks[llm_key]:
                with self._counting:
                    unused = max(self._booked[llm_key] - self._under_way[llm_key], Decimal(0))
                    self._booked[llm_key] -= unused
                if unused:
                    await asyncio.to_thread(self._settle, llm_key, unused)
