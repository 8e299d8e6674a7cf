"""Values of mathematical expressions, worked out by Math-Verify in a process of its own.

Its parser evaluates what it reads, and `9**9**9**9` takes all time and memory there is. So answers never reach it in
the night's own process: a worker with limits of time and memory reads one expression per line. It starts when the first
expression comes, serves all threads of its process in turn, and is replaced after it hits a limit.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from flows.errors import GradingError

MOST_CHARACTERS: Final = 120
"""Longer expressions are not worked out."""

_MOST_LIMITS_HIT: Final = 20
"""After so many expressions that hit a limit, this process works out only what cannot take long."""

_MOST_FAILED_STARTS: Final = 3
"""After so many in a row, this process does not try again: each may take minutes, and every answer would wait."""

_DEEPEST: Final = 6
"""Expressions with brackets nested deeper are not worked out: the parser takes exponential time for them."""

_MOST_DIGITS_OF_EXPONENT: Final = 4

_START_S: Final = 120.0
_ANSWER_S: Final = 20.0
"""Far above the processor time that the worker allows itself, because the machine may be busy."""

_READY: Final = b"ready\n"
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "LANG")
_MATHEMATICS = re.compile(
    r"(?:[0-9.+*/^(){}!\s-]"
    r"|\\log_\{?[0-9]{1,4}\}?|\\(?:frac|sqrt|pi|cdot|times|div|left|right|log|ln|sin|cos|tan|exp|binom)(?![A-Za-z])"
    r"|(?:sqrt|pi|e)(?![A-Za-z])|[π√×÷·])++"
)
# Towers of powers, and powers and factorials that nobody writes as an answer: refused before they cost anything.
_TOO_LARGE = re.compile(r"\^\s?\{?[^{}^]{0,40}\^|\^\s?\{?\s?[-+]?[0-9]{4}|[0-9]{4}\s?!|!\s?!")
_UNFINISHED: Final = "+-*/^×÷·"
_GROWING = re.compile(r"[\^!]|\\(?:exp|binom|log|ln|sin|cos|tan)")
# Powers and factorials of numerals, which take no time: one LLM's towers are no reason to refuse them to others.
_SMALL = re.compile(
    r"(?<![0-9.])[0-9]{1,4}\s?(?:\^\s?(?:[0-9](?![0-9])|\{\s?[-+]?[0-9]{1,2}\s?\})(?!\s?[\^!])|(?<![0-9]{3})!(?!\s?[\^!]))"
)
_PLAIN = {"**": "^", "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "÷": r"\div "}
# Square roots in plain text; braces are what LaTeX wants.
_ROOT = re.compile(r"(?<!\\)(?:sqrt|√)\s?(?:\(([0-9.]{1,20})\)|([0-9.]{1,20}))")


class _Worker:
    """One process, and what is said to it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.graders.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # It needs no key, and what it reads comes from LLMs.
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            bufsize=0,
            # Ctrl-C ends the night in its own way; an answer in work is not to look unreadable because of it.
            start_new_session=True,
        )
        if self._read(_START_S) != _READY:
            self.end()
            raise GradingError(
                "the process that works out mathematical expressions did not start",
                unchanged="the answer is not counted as wrong",
                hint=f"see what this prints: {sys.executable} -m flows.graders.math_worker",
            )

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, for whatever reason."""
        return self._process.poll() is not None

    def value(self, expression: str) -> Fraction | Decimal | None:
        """Return a value; None where there is none.

        Raises
        ------
        TimeoutError
            A limit was hit; the process is not to be used again.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(expression).encode() + b"\n")
        except BrokenPipeError as error:
            raise TimeoutError from error
        line = self._read(_ANSWER_S)
        if line is None:
            raise TimeoutError
        found = json.loads(line)
        if found is None:
            return None
        if "/" in found:
            return Fraction(found)
        # No arithmetic goes on with what is larger or smaller than any number that is written as an answer.
        return Decimal(found) if len(found.lower().partition("e")[2].lstrip("+-")) <= _MOST_DIGITS_OF_EXPONENT else None

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self, within_s: float) -> bytes | None:
        """Return one line; None when the process ends or says nothing in time."""
        assert self._process.stdout is not None
        deadline_s, line = time.monotonic() + within_s, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))
            read = os.read(self._process.stdout.fileno(), 4096) if ready else b""
            if not read:
                return None
            line += read
        return line


class _Workers:
    """The worker of this process: at most one at a time, for all its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._limits_hit = 0
        self._failed_starts: list[GradingError] = []
        atexit.register(self.end)
        os.register_at_fork(after_in_child=self._forget)

    def value(self, expression: str) -> Fraction | Decimal | None:
        with self._lock:
            if self._limits_hit >= _MOST_LIMITS_HIT and _GROWING.search(_SMALL.sub("1", expression)):
                return None
            if self._worker is not None and self._worker.is_gone:
                self._end()
            if self._worker is None:
                self._worker = self._started()
            try:
                return self._worker.value(expression)
            except TimeoutError:
                self._limits_hit += 1
                self._end()
                return None
            except BaseException:
                # Its answer, if it still comes, must not be read as that to the next expression.
                self._end()
                raise

    def _started(self) -> _Worker:
        if len(self._failed_starts) >= _MOST_FAILED_STARTS:
            raise self._failed_starts[-1]
        try:
            worker = _Worker()
        except GradingError as error:
            self._failed_starts.append(error)
            raise
        self._failed_starts.clear()
        return worker

    def end(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _forget(self) -> None:
        """Leave the parent's worker to the parent, in a process that was forked from it."""
        self._lock = threading.Lock()
        self._worker = None


_WORKERS = _Workers()


def mathematics(text: str) -> str:
    """Return how much of a text, from its start on, can be a mathematical expression without variables."""
    found = _MATHEMATICS.match(text)
    return "" if found is None else found[0].strip()


@lru_cache(maxsize=4096)
def value_of(expression: str) -> Fraction | Decimal | None:
    """Return the value of a mathematical expression.

    Parameters
    ----------
    expression
        In LaTeX or plain text, as `mathematics` returns it.

    Returns
    -------
    Fraction, Decimal or None
        Exact where it is rational; None where it has no finite real value, is longer than `MOST_CHARACTERS`, or cannot
        be worked out within the limits.

    Raises
    ------
    GradingError
        The process that works it out does not start.
    """
    if not expression or len(expression) > MOST_CHARACTERS or expression[-1] in _UNFINISHED:
        return None
    if any(expression.count(opening) != expression.count(closing) for opening, closing in ("()", "{}")):
        return None
    if _depth(expression) > _DEEPEST:
        return None
    latex = _ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2]}}}", expression)
    for plain, command in _PLAIN.items():
        latex = latex.replace(plain, command)
    if _TOO_LARGE.search(latex):
        return None
    return _WORKERS.value(latex)


def _depth(expression: str) -> int:
    """Return how deep brackets are nested, whichever they are."""
    depth = deepest = 0
    for bracket in re.findall(r"[(){}]", expression):
        depth += 1 if bracket in "({" else -1
        deepest = max(deepest, depth)
    return deepest
