"""Commit outcomes in groups: no call waits for a commit of its own, and none continues before it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from flows import crash_points

Recorded = TypeVar("Recorded")


class OutcomeRecorder(Generic[Recorded]):
    """Commit outcomes as they arrive; those that arrive during a commit share the next one.

    Parameters
    ----------
    record
        Writes outcomes in one transaction; called in a worker thread, never twice at once.
    linger_s
        How long the first of a group waits for others, in seconds: a transaction costs as much as about twenty rows.
    """

    def __init__(self, record: Callable[[Sequence[Recorded]], object], linger_s: float = 0.1) -> None:
        self._record = record
        self._linger_s = linger_s
        self._waiting: list[tuple[Recorded, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, outcome: Recorded) -> None:
        """Return once the outcome is committed; raise the error of the registry if it could not be."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((outcome, committed))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await committed

    async def _write(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._linger_s)
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            crash_points.reach("graded")
            try:
                await asyncio.to_thread(self._record, [outcome for outcome, _ in batch])
            except Exception as caught:
                error = caught
            crash_points.reach("committed")
            for _, committed in batch:
                if committed.cancelled():
                    continue
                if error is None:
                    committed.set_result(None)
                else:
                    committed.set_exception(error)
