"""Multiple choice: find the letter that an answer settles on.

The order of the rules is that of MMLU-Pro's own evaluation: a declared answer before any other letter. Every pattern
starts at a fixed word and has only bounded repeats, so that a hostile answer costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from flows.graders.base import RuleGrader

# Marks that people and LLMs put around a letter: bold, mathematics, parentheses.
_MARKS = r"[\s*_`$:]{0,6}(?:\\boxed\{|\\text\{|\\mathbf\{|\\mathrm\{){0,2}[(\[]?"
_ONLY = re.compile(r"[\s*_`$(\[]{0,8}(?:\\boxed\{|\\text\{){0,2}\(?([A-Ja-j])[\s*_`$)\]}.:]{0,8}")
_ALONE = r"(?<![^\W_])([A-J])(?![^\W_]|['’][a-z])"
_ANSWER_IS = re.compile(r"answer is" + _MARKS + _ALONE, re.IGNORECASE)
_ANSWER_COLON = re.compile(r"answer:" + _MARKS + _ALONE, re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{|\\mathrm\{)?\(?" + _ALONE)
_BOLD = re.compile(r"\*\*\(?" + _ALONE)
_LONE = re.compile(_ALONE)
_REFERENCE = re.compile(r"\s*\(?([A-Ja-j])\)?\.?\s*")


class ChoiceGrader(RuleGrader):
    r"""Compare the letter (A to J) that an answer settles on with that of the reference.

    The letter is the first of these that is found in an answer without its reasoning:

    1. the whole answer is one letter, in either case: ``c``, ``(C).``, ``**C**``, ``\boxed{C}``;
    2. the *first* "answer is X" (base LLMs run on into questions of their own invention, so later ones do not count);
    3. the last "Answer: X";
    4. the last ``\boxed{X}``;
    5. the last letter in bold, ``**X**``;
    6. the last capital letter that stands alone.

    The words "answer is" and "answer:" are read in either case; except in rule 1, only capital letters count. An answer
    without a letter is wrong.

    On 24,000 recorded answers to MMLU-Pro it agrees with the recorded scores on 98.6 %. In most of the rest the
    answer names the right letter without saying "answer is", which that evaluation counted as wrong; in some, rule 6
    takes a letter of a formula or a unit.
    """

    name = "choice"
    version = "1"

    def _is_right(self, answer: str, reference: str) -> bool:
        wanted = _REFERENCE.fullmatch(reference)
        if wanted is None:
            raise self._unusable(reference, "a letter from A to J")
        return chosen_letter(answer) == wanted[1].upper()


def chosen_letter(answer: str) -> str | None:
    """Return the letter that an answer settles on, by the rules of `ChoiceGrader`.

    Parameters
    ----------
    answer
        What the LLM said after its reasoning.

    Returns
    -------
    str or None
        A capital letter from A to J; None when there is none.
    """
    only = _ONLY.fullmatch(answer.strip())
    if only is not None:
        return only[1].upper()
    declared = next(_capitals(_ANSWER_IS, answer), None)
    if declared is not None:
        return declared
    for pattern in (_ANSWER_COLON, _BOXED, _BOLD, _LONE):
        letters = list(_capitals(pattern, answer))
        if letters:
            return letters[-1]
    return None


def _capitals(pattern: re.Pattern[str], answer: str) -> Iterable[str]:
    return (found[1] for found in pattern.finditer(answer) if found[1].isupper())
