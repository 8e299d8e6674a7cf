"""How far a measurement is: a line on standard error that a terminal redraws; elsewhere new lines, ever more rarely."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

import click

from flows.text import sanitize

_REDRAWN_EVERY_S = 0.2
_FIRST_LINE_AFTER_S, _LONGEST_PAUSE_S = 1.0, 60.0


class Progress:
    """Show what is done of one thing, from its beginning to its end.

    Parameters
    ----------
    what
        What is done, ``embed mmlu_pro``; may be foreign text.
    unit
        What is counted, ``prompts``.
    of
        How many there are.
    stream
        Where to write; standard error when omitted.
    clock
        Returns seconds.
    """

    def __init__(
        self,
        what: str,
        unit: str,
        of: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._unit, self._of = sanitize(what), unit, of
        self._stream = stream or click.get_text_stream("stderr")
        self._clock = clock
        self._is_redrawn = self._stream.isatty()
        self._began_s = self._shown_s = clock()
        self._pause_s = _REDRAWN_EVERY_S if self._is_redrawn else _FIRST_LINE_AFTER_S
        self._width, self._done = 0, 0

    def __enter__(self) -> Self:
        self._write(f"{self._what}  0/{self._of:,} {self._unit}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._done == self._of:
            taken_s = self._clock() - self._began_s
            self._write(f"{self._what}  {self._of:,} {self._unit} in {_minutes(taken_s)}{self._rate(taken_s)}")
        if self._is_redrawn:
            click.echo(file=self._stream)

    def show(self, done: int, share: float | None = None) -> None:
        """Show how much is done, if it is time to.

        Parameters
        ----------
        done
            Number done.
        share
            Share of the whole work, in [0, 1], where one takes longer than another; of the number when omitted.
        """
        self._done = done
        now_s = self._clock()
        if now_s - self._shown_s < self._pause_s or done == self._of:
            return
        self._shown_s = now_s
        if not self._is_redrawn:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        passed_s = now_s - self._began_s
        share = done / self._of if share is None else share
        left = f"  ETA {_minutes(passed_s * (1 - share) / share)}" if share > 0 else ""
        self._write(f"{self._what}  {done:,}/{self._of:,} {self._unit}{self._rate(passed_s)}{left}")

    def _rate(self, passed_s: float) -> str:
        rate = self._done / passed_s if passed_s > 0 else math.inf
        if rate >= 1:
            return f"  {rate:,.0f}/s" if math.isfinite(rate) else ""
        return f"  {60 * rate:,.1f}/min"

    def _write(self, line: str) -> None:
        if not self._is_redrawn:
            click.echo(line, file=self._stream)
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        click.echo(f"\r{line:<{self._width}}", file=self._stream, nl=False)
        self._width = len(line)


def _minutes(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole // 60:02d}:{whole % 60:02d}"
