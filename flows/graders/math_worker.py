"""The process that works out mathematical expressions: ``python -m flows.graders.math_worker``.

It reads one JSON string per line and answers each with one line: the value as a JSON string, a ratio such as ``"3/4"``
or a decimal, or ``null``. It ends with its input, or when an expression takes too much time.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from typing import Final, TextIO

CPU_S: Final = 1.0
"""Processor time for one expression, in seconds."""

MOST_BYTES: Final = 1 << 30
"""Address space of the process."""

_MOST_DIGITS: Final = 400
_DIGITS: Final = 30


def main() -> None:
    """Answer expressions until the input ends."""
    from math_verify import parse
    from sympy import Basic

    with contextlib.suppress(ValueError, OSError):  # not every system can limit it
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    answers, sys.stdout = sys.stdout, sys.stderr  # a line that a library prints is no answer
    parse("$1+1$", parsing_timeout=None)  # loads its tables
    _say("ready", answers)
    for line in sys.stdin:
        # Ends the process, wherever it is: the parser's own limit is an exception that it may swallow.
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            found = parse(f"${json.loads(line)}$", parsing_timeout=None)
            value = next((_number(entry) for entry in found if isinstance(entry, Basic)), None)
        except Exception:
            # Whatever the parser stumbles over has no value; MemoryError and RecursionError are among it.
            value = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(json.dumps(value), answers)


def _number(expression: object) -> str | None:
    from sympy import Expr, Float, Rational, simplify

    if not isinstance(expression, Expr) or expression.free_symbols:
        return None
    value = expression.doit()
    if not isinstance(value, (Rational, Float)):
        value = simplify(value)
    if isinstance(value, Rational) and value.is_finite:
        ratio = f"{value.p}/{value.q}"
        return ratio if len(ratio) <= _MOST_DIGITS else None
    value = value.evalf(_DIGITS)
    return str(value) if isinstance(value, Float) and value.is_finite else None


def _say(line: str, answers: TextIO) -> None:
    answers.write(f"{line}\n")
    answers.flush()


if __name__ == "__main__":
    main()
