"""Progress of the calls: one line that is redrawn on a terminal, otherwise a new line for every tenth of the calls."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from flows.logs import is_json, say
from flows.profiling.plan import NightPlan
from registry.outcomes import Outcome

if TYPE_CHECKING:
    from rich.live import Live

_LINE_EVERY_S = 60.0
_REFRESH_S = 0.2
_WATCH_EVERY_S = 1.0


@dataclass(frozen=True)
class Outlook:
    """What will not be asked any more, or only perhaps.

    Attributes
    ----------
    stopped
        Keys of the LLMs that are not asked again tonight.
    limited_s
        By key of an LLM whose endpoint only answers that its calls are limited: for how many seconds it is still asked.
    """

    stopped: frozenset[str] = frozenset()
    limited_s: Mapping[str, float] = field(default_factory=dict)


class Progress:
    """Show LLMs, calls, USD against the ceiling, rate, failures and the time left.

    Parameters
    ----------
    plan
        What is going to be asked.
    ceiling_usd
        The night's budget.
    stream
        Where to write, standard error when omitted; the line is redrawn in place when it is a terminal.
    """

    def __init__(self, plan: NightPlan, ceiling_usd: Decimal, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._planned = {profile.llm.key: len(profile.prompts) for profile in plan.profiles}
        self._left = dict(self._planned)
        self._llms = len(plan.profiles)
        self._calls = plan.calls
        self._ceiling_usd = ceiling_usd
        self._answered = 0
        self._spent_usd = Decimal(0)
        self._failures: dict[str, int] = defaultdict(int)
        self._started_s = self._drawn_s = self._answered_s = time.monotonic()
        self._drawn_tenth = 0
        self._live: Live | None = None
        self._outlook: Callable[[], Outlook] = Outlook
        self._left_alone: set[str] = set()

    def __enter__(self) -> Self:
        self._started_s = self._drawn_s = self._answered_s = time.monotonic()
        screen = self._stream or sys.stderr
        if screen.isatty() and not is_json():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=screen), refresh_per_second=5, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._calls:
            self._write()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first call."""
        return time.monotonic() - self._started_s

    def answered(self, llm_key: str, outcome: Outcome) -> None:
        """Count an outcome, and show the line if it is due."""
        self._left[llm_key] -= 1
        self._answered += 1
        self._answered_s = time.monotonic()
        self._spent_usd += outcome.whole_cost_usd
        if outcome.failure is not None:
            self._failures[outcome.failure] += 1
        self._show()

    def seen(self, answered: Mapping[str, int], spent_usd: Decimal) -> None:
        """Take over what other processes have done by now, and show the line if it is due.

        Parameters
        ----------
        answered
            Outcomes so far by LLM key.
        spent_usd
            What the night has spent so far, in USD.
        """
        self._left = {key: self._planned[key] - count for key, count in answered.items()}
        before, self._answered, self._spent_usd = self._answered, sum(answered.values()), spent_usd
        if self._answered > before:
            self._answered_s = time.monotonic()
        self._show()

    def skip(self, llm_key: str, calls: int) -> None:
        """Count so many calls of an LLM less, because they are not needed."""
        self._planned[llm_key] -= calls
        self._left[llm_key] -= calls
        self._calls -= calls

    def leave(self, llm_key: str) -> None:
        """Count no more calls of an LLM whose profile ended early."""
        self._left_alone.add(llm_key)

    async def watch(self, outlook: Callable[[], Outlook]) -> None:
        """Show the line when it is due, even if nothing is answered, until cancelled; `outlook` says what is left."""
        self._outlook = outlook
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            self._show()

    def _show(self) -> None:
        now_s = time.monotonic()
        if self._live is not None:
            if now_s - self._drawn_s >= _REFRESH_S:
                from rich.text import Text

                self._live.update(Text(f"  {self.line()}"))
                self._drawn_s = now_s
            return
        tenth = 10 * self._answered // max(self._calls, 1)
        if (tenth > self._drawn_tenth or now_s - self._drawn_s >= _LINE_EVERY_S) and self._answered < self._calls:
            self._drawn_tenth, self._drawn_s = tenth, now_s
            self._write()

    def _write(self) -> None:
        if self._stream is None:
            say(f"  {self.line()}")
        else:
            self._stream.write(f"  {self.line()}\n")
            self._stream.flush()

    def line(self) -> str:
        """Return the line."""
        done = sum(left <= 0 for left in self._left.values())
        rate = self._answered / max(self.elapsed_s, 1e-9)
        left_s = math.ceil(self._left_s(rate))
        failures = "".join(f"  {kind}×{count}" for kind, count in sorted(self._failures.items()))
        return (
            f"{done}/{self._llms} LLMs  {self._answered:,}/{self._calls:,} calls  "
            f"${self._spent_usd:.2f}/${self._ceiling_usd:.2f}  {rate:.0f}/s{failures}  "
            f"ETA {left_s // 60:02d}:{left_s % 60:02d}"
        )

    def _left_s(self, rate: float) -> float:
        """Return the seconds left: LLMs that are not asked again have none, and limited ones what patience is left.

        Calls that are open take at least as long again as the last answer has been waited for: at the end of a profile,
        a slow LLM is all that is left, and the rate of the whole night says nothing about it.
        """
        outlook = self._outlook()
        waiting_s = max(outlook.limited_s.values(), default=0.0)
        out = self._left_alone | outlook.stopped | outlook.limited_s.keys()
        calls = sum(left for key, left in self._left.items() if key not in out)
        if not calls or not rate:
            return waiting_s
        return max(calls / rate, time.monotonic() - self._answered_s, waiting_s)
