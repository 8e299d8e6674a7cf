"""What the id of an LLM gives away: its size, whether it reasons before it answers, and its relatives.

Ids are untrusted text of catalogs. They are read by fixed patterns and never evaluated; what no pattern recognises is
unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
# The parts of a name by which relatives are told: words, and numbers with their decimals.
_PARTS = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
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


def alike_by_name(llm_id: str, others: Sequence[str]) -> tuple[int, ...]:
    """Return the places of the LLMs that an LLM is most like: those that reason if it does, and of them its relatives.

    Relatives are those whose names begin with the same words and numbers, as many of them as any other's do; without
    any, all that reason, or do not, like it. Leaving one LLM out, the mean output tokens of such LLMs miss its own by a
    factor of 1.5 on MMLU-Pro's 34 LLMs, and those of all others by 1.7.

    Parameters
    ----------
    llm_id
        Id of an LLM as a catalog lists it.
    others
        Ids of other LLMs.

    Returns
    -------
    tuple of int
        Empty when none of the others is of its kind.

    Examples
    --------
    >>> from routing.day_zero.names import alike_by_name
    >>> alike_by_name("openai/gpt-4o-2024-11-20", ["openai/gpt-4o-2024-05-13", "openai/o3-mini", "qwen/qwen3-32b"])
    (0,)
    """
    reasons, parts = reasons_by_name(llm_id), _PARTS.findall(_name(llm_id))
    shared = {
        place: _n_shared(parts, _PARTS.findall(_name(other)))
        for place, other in enumerate(others)
        if reasons_by_name(other) == reasons
    }
    most = max(shared.values(), default=0)
    return tuple(place for place, n in shared.items() if n == most)


def _n_shared(one: Sequence[str], other: Sequence[str]) -> int:
    for n, (part, of_other) in enumerate(zip(one, other, strict=False)):
        if part != of_other:
            return n
    return min(len(one), len(other))


def _name(llm_id: str) -> str:
    """Return the id without the path before it: `accounts/fireworks/models/x` names x."""
    return llm_id[-_MOST_CHARACTERS:].lower().rstrip("/").rpartition("/")[2]
