"""Graders that compare words: the whole answer, or a phrase in it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from flows.graders.base import UNREADABLE, Grade, RuleGrader

_SAME_SIGNS: Final = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛ʼ′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        "…": "...",
        # Zero width, or a place where a word may be broken.
        **dict.fromkeys(
            "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", ""
        ),
        # Full-width forms of ASCII.
        **{chr(0xFF01 + place): chr(0x21 + place) for place in range(0x5E)},
    }
)
_GROUPING = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
# Scripts that write no spaces between words, and Korean, whose particles follow a word without one.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
# What makes the digits next to it part of a longer number: decimals, a sign, a fraction (a date has two slashes).
_NUMBER_BEFORE = re.compile(r"(?:[0-9][.,]|(?<![\w.)])\.|(?<![\w)])-|(?<![0-9/])[0-9]{1,6}/)$")
_NUMBER_AFTER = re.compile(r"[.,][0-9]|/[0-9]{1,6}(?![0-9/])")
_CONTEXT: Final = 12


def plain_wording(text: str) -> str:
    """Return a text with composed characters, case folded, plain quotes and hyphens, and single spaces between words.

    Other punctuation and accents stay: they are part of an answer. Characters without width go.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_SAME_SIGNS).casefold())
    return " ".join(folded.split())


class ExactGrader(RuleGrader):
    """Compare the whole answer with the reference by their `plain_wording`.

    Case, spacing, the form of quotes and hyphens, characters without width and the composition of characters make no
    difference. An answer without any text is unreadable.
    """

    name = "exact"
    version = "2"

    def _graded(self, answer: str, reference: str, question: str) -> Grade:
        wanted, given = plain_wording(reference), plain_wording(answer)
        if not wanted:
            raise self._unusable(reference, "a text")
        return Grade(float(given == wanted)) if given else UNREADABLE


class ContainsGrader(RuleGrader):
    """Look for the reference in the answer as whole words and numbers, by the `plain_wording` of both.

    "no" is not contained in "know". A number is contained as a whole only: 42 neither in 142 nor in -42, 42.5 or 1/42;
    commas between groups of three digits make no difference. Scripts without spaces between words have no boundaries.
    An answer without any text is unreadable.
    """

    name = "contains"
    version = "2"

    def _graded(self, answer: str, reference: str, question: str) -> Grade:
        wanted, text = (_GROUPING.sub("", plain_wording(one)) for one in (reference, answer))
        if not wanted:
            raise self._unusable(reference, "a text")
        start = text.find(wanted)
        while start >= 0:
            end = start + len(wanted)
            if _begins(text[max(0, start - _CONTEXT) : start], wanted) and _ends(wanted, text[end : end + _CONTEXT]):
                return Grade(1.0)
            start = text.find(wanted, start + 1)
        return Grade(0.0) if text else UNREADABLE


def _begins(before: str, wanted: str) -> bool:
    """Whether words or a number begin after what stands before them."""
    if wanted[0].isdigit() and _NUMBER_BEFORE.search(before):
        return False
    is_negative = wanted[0] == "-" and wanted[1:2].isdigit()
    return not _joins(before[-1:], "0" if is_negative else wanted[0])


def _ends(wanted: str, after: str) -> bool:
    """Whether words or a number end before what follows them."""
    if wanted[-1].isdigit() and _NUMBER_AFTER.match(after):
        return False
    return not _joins(wanted[-1], after[:1])


def _joins(before: str, after: str) -> bool:
    """Whether two characters belong to one word."""
    if not before or not after or _WITHOUT_SPACES.match(before) or _WITHOUT_SPACES.match(after):
        return False
    # Accents and vowel signs belong to the letter before them.
    return _is_word(before) and (after.isalnum() or unicodedata.category(after).startswith("M"))


def _is_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")
