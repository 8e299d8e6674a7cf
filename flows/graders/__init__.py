"""Graders: how a completion becomes a score. Each has a name and a version, which are part of the outcome key.

`grader` opens one by name; `check_grader` is the gate it must pass before any LLM is asked.
"""

from __future__ import annotations

import difflib

from flows.errors import PrerequisiteError

from .choice import ChoiceGrader
from .contract import Grader
from .gate import GraderCheck, check_grader
from .numeric import NumericGrader
from .wording import ContainsGrader, ExactGrader

__all__ = ["GRADERS", "Grader", "GraderCheck", "check_grader", "grader"]

GRADERS: dict[str, Grader] = {
    entry.name: entry for entry in (ChoiceGrader(), ContainsGrader(), ExactGrader(), NumericGrader())
}
_ALIASES = {"letter-match": "choice"}


def grader(name: str) -> Grader:
    """Open a grader.

    Parameters
    ----------
    name
        ``choice`` (also ``letter-match``), ``exact``, ``numeric`` or ``contains``.

    Raises
    ------
    PrerequisiteError
        There is none of that name.
    """
    found = GRADERS.get(_ALIASES.get(name, name))
    if found is not None:
        return found
    nearest = difflib.get_close_matches(name, [*GRADERS, *_ALIASES], n=1)
    raise PrerequisiteError(
        f"there is no grader {name[:60]!r}",
        unchanged="nothing was asked or spent",
        hint=(f"did you mean {nearest[0]}? " if nearest else "") + f"known graders: {', '.join(GRADERS)}",
    )
