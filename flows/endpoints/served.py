"""Whether the LLM that an endpoint says it used is the one that was asked for."""

from __future__ import annotations

import re

# A dated or numbered release of the same LLM, and the price variants of routers: "-2024-08-06", "@v2", ":free".
_REVISION = re.compile(r"(?:[-@.:](?:\d[\d.-]*|v\d[\d.]*|latest|free|preview))*\Z")


def is_the_llm_asked_for(served: str, *asked: str | None) -> bool:
    """Compare names; a maker in front (``openai/``) and a revision behind (``-2024-08-06``) make no difference.

    Parameters
    ----------
    served
        What the endpoint says it used.
    asked
        The names under which the LLM is known; None among them is skipped.
    """
    given = _plain(served)
    for name in filter(None, asked):
        wanted = _plain(name)
        if given == wanted:
            return True
        longer, shorter = (given, wanted) if len(given) > len(wanted) else (wanted, given)
        if shorter and longer.startswith(shorter) and _REVISION.match(longer[len(shorter) :]):
            return True
    return False


def _plain(name: str) -> str:
    return name.strip().lower().rstrip("/").rpartition("/")[2]
