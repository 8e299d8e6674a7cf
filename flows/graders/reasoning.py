"""The declared rule that separates an answer from the reasoning before it."""

from __future__ import annotations

import re

_OPENING = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_CLOSING = re.compile(r"</think(?:ing)?>", re.IGNORECASE)


def without_reasoning(completion: str) -> str:
    """Give the answer that follows the reasoning of an LLM.

    Everything up to the last ``</think>`` is reasoning, whether or not it was opened (chat templates open it for the
    LLM). Reasoning that is opened and never closed reaches to the end. ``<thinking>`` means the same; case is ignored.

    Parameters
    ----------
    completion
        What the LLM said.

    Returns
    -------
    str
        The rest, possibly empty; the completion itself when it holds no reasoning.
    """
    end = 0
    for closing in _CLOSING.finditer(completion):
        end = closing.end()
    answer = completion[end:]
    opening = _OPENING.search(answer)
    return answer if opening is None else answer[: opening.start()]
