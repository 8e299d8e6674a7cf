"""Money that calls under way may cost, kept in the registry, so that a killed night does not forget it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal


class Reservations:
    """Keep booked in the registry, LLM by LLM, at least the worst case of all calls under way.

    A commit for every call would halve the night's speed. So what is booked only grows, up to the most that was ever
    under way at once, and is given back when the profile ends: a call waits for a commit only when more is under way
    than ever before.

    Parameters
    ----------
    reserve, settle
        Book an amount for an LLM key, and take it back; each is one transaction, called in a worker thread.
    """

    def __init__(self, reserve: Callable[[str, Decimal], None], settle: Callable[[str, Decimal], None]) -> None:
        self._reserve = reserve
        self._settle = settle
        self._under_way: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._booked: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def booked_usd(self) -> Decimal:
        """What is booked in the registry for calls of this process, in USD."""
        return sum(self._booked.values(), Decimal(0))

    @asynccontextmanager
    async def hold(self, llm_key: str, usd: Decimal) -> AsyncIterator[Callable[[Decimal], None]]:
        """Have the worst case of one call booked until its outcome is committed, which is when the block ends.

        What is yielded lowers the worst case to the cost once that is known. A block that ends by an error leaves its
        share booked for good: nobody knows what that call cost.
        """
        share = usd
        self._under_way[llm_key] += usd

        def lower_to(cost_usd: Decimal) -> None:
            nonlocal share
            self._under_way[llm_key] += cost_usd - share
            share = cost_usd

        async with self._locks[llm_key]:
            more = self._under_way[llm_key] - self._booked[llm_key]
            if more > 0:
                await asyncio.to_thread(self._reserve, llm_key, more)
                self._booked[llm_key] += more
        yield lower_to
        self._under_way[llm_key] -= share

    async def give_back(self) -> None:
        """Take back what is booked for no call; what calls without an outcome may have cost stays."""
        for llm_key in list(self._booked):
            async with self._locks[llm_key]:
                unused = self._booked[llm_key] - self._under_way[llm_key]
                if unused > 0:
                    await asyncio.to_thread(self._settle, llm_key, unused)
                    self._booked[llm_key] -= unused
