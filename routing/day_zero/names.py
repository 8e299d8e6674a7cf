"""What the id of an LLM gives away: its size, and whether it reasons before it answers.

Ids are untrusted text of catalogs. They are read by fixed patterns and never evaluated; what no pattern recognises is
unknown.
"""

from __future__ import annotations

import re

# Longer ids are read up to here.
_MOST_CHARACTERS = 300
# Sizes beyond these are typing errors or numbers of something else, in billions.
_SMALLEST_B, _LARGEST_B = 0.01, 20_000.0
_NUMBER = r"(\d{1,4}(?:[.p]\d{1,3})?)"
# 70b, 1.5b, 2.4t, 270m, 8x7b. Not the size: the active one of a22b and of 17b-128e, the effective one of e4b.
_SIZE = re.compile(rf"(?<![a-z0-9.])(?:(\d{{1,3}})x)?{_NUMBER}([btm])(?![a-z0-9])(?!-\d{{1,3}}e(?![a-z0-9]))")
# gemma-3n-e4b names no other size than the effective one.
_EFFECTIVE = re.compile(rf"(?<![a-z0-9.])e{_NUMBER}b(?![a-z0-9])")
# Families whose every LLM reasons, and words by which a variant says that it does.
_REASONING = re.compile(
    r"(?<![a-z0-9])(?:o[134]|r1|qwq|qvq|magistral|think|thinking|reasoner|reasoning|deep-research)(?![a-z])(?!\.?\d)"
)
_NOT_REASONING = re.compile(r"(?<![a-z0-9])(?:non|no|without)[-_ ]?(?:reasoning|thinking)(?![a-z])")
_BILLIONS = {"b": 1.0, "t": 1000.0, "m": 0.001}


def parameters_in_name(llm_id: str) -> float | None:
    """Return the parameters in billions that an id names, all experts counted; None when it names none.

    Of several sizes the largest counts, as in `qwen3-235b-a22b`. A mixture such as `8x7b` has the product, which is
    somewhat more than the truth, since experts share layers.

    Parameters
    ----------
    llm_id
        Id of an LLM as a catalog lists it.

    Examples
    --------
    >>> from routing.day_zero.names import parameters_in_name
    >>> parameters_in_name("meta-llama/llama-3.1-70b-instruct"), parameters_in_name("openai/gpt-4o")
    (70.0, None)
    """
    name = _name(llm_id)
    found = [
        float(experts or 1) * float(number.replace("p", ".")) * _BILLIONS[unit]
        for experts, number, unit in _SIZE.findall(name)
    ]
    found = found or [float(number.replace("p", ".")) for number in _EFFECTIVE.findall(name)]
    credible = [size for size in found if _SMALLEST_B <= size <= _LARGEST_B]
    return max(credible, default=None)


def reasons_by_name(llm_id: str) -> bool:
    """Whether an id says that the LLM reasons before it answers.

    Many LLMs reason without saying so in their id; to a regression they are LLMs that do not.

    Parameters
    ----------
    llm_id
        Id of an LLM as a catalog lists it.

    Examples
    --------
    >>> from routing.day_zero.names import reasons_by_name
    >>> reasons_by_name("openai/o3-mini"), reasons_by_name("x-ai/grok-4-fast-non-reasoning")
    (True, False)
    """
    name = _name(llm_id)
    return _NOT_REASONING.search(name) is None and _REASONING.search(name) is not None


def _name(llm_id: str) -> str:
    """Return the id without the path before it: `accounts/fireworks/models/x` names x."""
    return llm_id[-_MOST_CHARACTERS:].lower().rstrip("/").rpartition("/")[2]
