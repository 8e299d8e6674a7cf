"""Graders: how a completion becomes a score. Each has a name and a version, which are part of the outcome key.

`grader` returns one by name; `check_grader` is the self-check that it must pass before any LLM is asked. `Judge` asks
an LLM, so it works within a night only (flows/profiling/judging.py) and has a check of its own (judge_check.py).
"""

from __future__ import annotations

import difflib

from flows.errors import PrerequisiteError
from flows.graders.base import Grade, Grader, Labelled, Referenced
from flows.graders.choice import ChoiceGrader
from flows.graders.judge import Judge
from flows.graders.numeric import NumericGrader
from flows.graders.self_check import GraderCheck, check_grader
from flows.graders.wording import ContainsGrader, ExactGrader

__all__ = [
    "GRADERS",
    "ChoiceGrader",
    "Grade",
    "Grader",
    "GraderCheck",
    "Judge",
    "Labelled",
    "Referenced",
    "check_grader",
    "grader",
    "grader_name",
    "is_quick",
]

GRADERS: dict[str, Grader] = {
    entry.name: entry for entry in (ChoiceGrader(), ContainsGrader(), ExactGrader(), NumericGrader())
}
_QUICK_CHARACTERS = 20_000
_ALIASES = {"letter-match": "choice"}


def grader(name: str) -> Grader:
    """Return a grader.

    Parameters
    ----------
    name
        ``choice`` (also ``letter-match``), ``exact``, ``numeric`` or ``contains``.

    Raises
    ------
    PrerequisiteError
        There is no grader of that name.
    """
    found = GRADERS.get(_ALIASES.get(name, name))
    if found is not None:
        return found
    known = [*GRADERS, Judge.name]
    nearest = difflib.get_close_matches(name, [*known, *_ALIASES], n=1)
    raise PrerequisiteError(
        f"There is no grader {name[:60]!r}.",
        unchanged="Nothing was asked or spent.",
        hint=(f"did you mean {nearest[0]}? " if nearest else "") + f"known graders: {', '.join(known)}",
    )


def grader_name(name: str) -> str:
    """Return the name under which a grader is stored.

    Parameters
    ----------
    name
        As in a prompt file: one that `grader` knows, or ``judge``.

    Raises
    ------
    PrerequisiteError
        There is no grader of that name.
    """
    return name if name == Judge.name else grader(name).name


def is_quick(grader: Grader, completion: str) -> bool:
    """Whether grading takes less than some milliseconds, so that a night does it between two calls.

    Parameters
    ----------
    grader
        One of `GRADERS`; ``numeric`` waits for the process that works expressions out.
    completion
        What the LLM said.
    """
    return grader.name != NumericGrader.name and len(completion) <= _QUICK_CHARACTERS
