"""Words that announce an answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

# Every alternative starts with a letter of its own, and texts are folded to lower case before: so the search skips
# what no alternative starts with, which makes it five times as fast.
_ANSWER: Final = (
    r"(?:answers?(?<!wrong answer)(?<!incorrect answer)|ans(?<=\bans)\.?|antwort|lösung|respuesta|risposta|réponse"
    r"|resposta|jawaban(?:nya)?|jibu(?<=\bjibu)|cevap|yanıt|odpowiedź|odpověď|svar(?<=\bsvar)(?:et)?|antwoord|vastaus"
    r"|válasz|ответ(?<=\bответ)|відповідь|απάντηση|đáp án"
    r"|(?:correct|right|best|final|remaining) (?:option|choice|statement)"
    # A colon at the end of its line starts a list of all of them.
    r"|(?:choice|option|selection|letter)(?=[\"'*_]{0,3} ?[:：=][ \"'*_(\[]{0,6}[a-z]))"
)
_IS: Final = (
    r"[\s*_\"']{0,4}(?:(?:choice|option|letter)\b)?(?: (?:to|for|of) [^.:\n]{1,80}?| [a-zà-ÿ]{4,12})?[\s*_]{0,4}"
    r"(?:\b(?:is|are|was|(?:would|should|must|will|could|has to) be|(?:seems|appears) to be|lautet|ist|es|è|est|é"
    r"|adalah|là|είναι)\b|[:：=>]|[-–—](?= ))"
)
# Of languages whose sentences need no verb or no space here.
_SIGN: Final = (
    r"(?:ans\.(?<=\bans\.)|odpowiedź to\b|odpověď je\b|vastaus on\b|svaret (?:är|er)\b"
    r"|答案|正解|解答|答え|回答|答[复曰]?|应选|應選|故选|故選|选择?(?!项)|選擇?(?![项項])|정답|답변?"
    r"|الإجابة|الجواب|إجابة|پاسخ|התשובה|উত্তর|उत्तर|คำตอบ)"
    r"\s?(?:النهائية|النهائي|الصحيحة|الصحيح)?\s?(?:应该|應該)?\s?[是为為はが은는选選]?(?:هي|هو|היא|ঃ|คือ)?"
)
_ANNOUNCING = re.compile(unicodedata.normalize("NFKC", rf"(?:{_ANSWER}{_IS}|{_SIGN})"))
_CHOOSING = re.compile(r"(?:choose|pick|select|go with|going with|opt for|opting for)\b")
BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
r"""Starts a box of LaTeX, which mathematical prompts ask for."""


def announcements(text: str) -> Iterator[tuple[int, int]]:
    """Yield where "answer is", "Answer:" and the like start and end in a text in NFKC, boxes left out."""
    return _spans(_ANNOUNCING, text)


def choices(text: str) -> Iterator[tuple[int, int]]:
    """Yield where "choose", "go with" and the like start and end in a text."""
    return _spans(_CHOOSING, text)


def _spans(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    # The one letter that becomes two in lower case.
    return (found.span() for found in pattern.finditer(text.replace("İ", "I").lower()))
