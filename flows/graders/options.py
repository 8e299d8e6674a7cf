"""The options of a multiple-choice prompt, as its text lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from flows.text import normalized

LETTERS: Final = "ABCDEFGHIJ"
"""What options are taken to be where a prompt lists none that can be recognised."""

_LINES = re.compile(r"^[ \t*>-]{0,8}\(?([A-Za-z])(?:[.):]|\*\*)", re.MULTILINE)
_INLINE = re.compile(r"(?<![^\s(\[,;:])\(?([A-Za-z])[.):](?=\s|$)")


@dataclass(frozen=True)
class Options:
    """The letters that an answer may name.

    Attributes
    ----------
    letters
        Capital letters.
    is_lower_case
        Whether the prompt lists them as lower-case letters.
    """

    letters: frozenset[str]
    is_lower_case: bool = False


UNKNOWN: Final = Options(frozenset(LETTERS))


@lru_cache(maxsize=4096)
def options_of(question: str) -> Options:
    """Return the options that a prompt lists.

    They are the last run of ``A.``, ``(B)``, ``C)`` or ``D:`` from A on, at the starts of lines or, where there is
    none, within them; examples before the question have options of their own.

    Parameters
    ----------
    question
        The text of the prompt.

    Returns
    -------
    Options
        The listed letters; A to J when no two options are recognised.
    """
    text = normalized("NFKC", question)
    for pattern in (_LINES, _INLINE):
        for first in "Aa":
            run = _last_run(first, pattern.findall(text))
            if len(run) > 1:
                return Options(frozenset(run.upper()), is_lower_case=first == "a")
    return UNKNOWN


def _last_run(first: str, letters: list[str]) -> str:
    """Return the last of the runs of letters that follow each other in the alphabet."""
    found, run = "", ""
    for letter in letters:
        if letter == first:
            run = letter
        elif run and ord(letter) == ord(run[-1]) + 1:
            run += letter
        if len(run) > 1:
            found = run
    return found
