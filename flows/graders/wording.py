"""Graders that compare words: the whole answer, or a phrase in it."""

from __future__ import annotations

import unicodedata

from flows.graders.base import RuleGrader


def plain_wording(text: str) -> str:
    """Return a text with composed characters, case folded, and with single spaces between words.

    Punctuation and accents stay: they are part of an answer.
    """
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


class ExactGrader(RuleGrader):
    """Compare the whole answer with the reference, ignoring only case, spacing and the composition of characters."""

    name = "exact"
    version = "1"

    def _is_right(self, answer: str, reference: str) -> bool:
        wanted = plain_wording(reference)
        if not wanted:
            raise self._unusable(reference, "a text")
        return plain_wording(answer) == wanted


class ContainsGrader(RuleGrader):
    """Look for the reference in the answer as whole words, ignoring case and spacing as `ExactGrader` does.

    "no" is not contained in "know", and "10" not in "2100".
    """

    name = "contains"
    version = "1"

    def _is_right(self, answer: str, reference: str) -> bool:
        wanted = plain_wording(reference)
        if not wanted:
            raise self._unusable(reference, "a text")
        text = plain_wording(answer)
        start = text.find(wanted)
        while start >= 0:
            end = start + len(wanted)
            if not _joins(text[start - 1 : start], wanted[0]) and not _joins(wanted[-1], text[end : end + 1]):
                return True
            start = text.find(wanted, start + 1)
        return False


def _joins(before: str, after: str) -> bool:
    return before.isalnum() and after.isalnum()
