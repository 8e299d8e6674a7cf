"""SIGTERM and Ctrl-C in a night: calls in flight are finished and kept, then it ends and says how to resume."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from flows.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT_LIMIT_S = 10.0
"""How long the process may take to exit once the work has ended."""


class Interruption:
    """Turn the first signal into a request to stop, and cancel the work when it does not stop in time.

    An asynchronous context manager around the work. Outside the main thread, where Python allows no signal handlers,
    only `request` stops it.

    Parameters
    ----------
    grace_s
        How long calls in flight may take after the first signal, in seconds; a second signal ends them at once.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._signal: signal.Signals | None = None
        self._cause = ""
        self._was_signalled = False
        self._former: dict[signal.Signals, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[Any] | None = None

    @property
    def is_requested(self) -> bool:
        """Whether a signal asked the night to stop."""
        return self._signal is not None

    def raise_if_requested(self) -> None:
        """Stop here if a signal or `request` asked for it.

        Raises
        ------
        Interrupted
            The night was asked to stop.
        """
        if self._signal is not None:
            raise Interrupted(
                f"The night was stopped by {self._cause or self._signal.name}.",
                signal_number=int(self._signal),
                unchanged="Answers that had arrived are kept; the champion stays as it is.",
                hint="Resume where it stopped: uniroute night run",
            )

    def request(self, cause: str) -> None:
        """Ask the night to stop, as SIGTERM does, but from within the process; `cause` says on whose behalf."""
        if self._loop is not None and not self.is_requested:
            self._cause = cause
            self._ask(signal.SIGTERM)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.current_task()
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._was_signalled:
            # A signal to the whole process group, as service managers send it, also ends Prefect's embedded server,
            # and Prefect would then try to reach it for minutes. All that matters was committed long before.
            assert self._signal is not None, "a signal asks the night to stop"
            last_resort = threading.Timer(_EXIT_LIMIT_S, os._exit, (128 + self._signal,))
            last_resort.daemon = True
            last_resort.start()
        if isinstance(error, asyncio.CancelledError) and self._work is not None:
            self._work.uncancel()
            self.raise_if_requested()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._was_signalled = True
        self._ask(number)

    def _ask(self, number: int) -> None:
        assert self._loop is not None, "the handler is installed by a running loop"
        # A handler runs between any two steps of the main thread, so the loop is only changed by the loop itself.
        self._loop.call_soon_threadsafe(self._stop, 0.0 if self.is_requested else self._grace_s)
        self._signal = self._signal or signal.Signals(number)

    def _stop(self, after_s: float) -> None:
        assert self._loop is not None and self._work is not None
        self._loop.call_later(after_s, self._work.cancel)
