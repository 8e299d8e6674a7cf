"""Words that announce an answer."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ANSWER: Final = (
    r"(?:(?<!wrong )(?<!incorrect )\b(?:answers?|ans\b\.?|antwort|lösung|respuesta|risposta|réponse|resposta"
    r"|jawaban(?:nya)?|jibu|cevap|yanıt|odpowiedź|odpověď|svar(?:et)?|antwoord|vastaus|válasz|ответ|відповідь"
    r"|απάντηση|đáp án)"
    r"|\b(?:correct|right|best|final|remaining) (?:option|choice|statement)"
    # A colon at the end of its line starts a list of all of them.
    r"|\b(?:choice|option|selection|letter)(?=[\"'*_]{0,3} ?[:：=][ \"'*_(\[]{0,6}[A-Za-z]))"
)
_IS: Final = (
    r"[\s*_\"']{0,4}(?:(?:choice|option|letter)\b)?(?: (?:to|for|of) [^.:\n]{1,80}?| [a-zà-ÿ]{4,12})?[\s*_]{0,4}"
    r"(?:\b(?:is|are|was|(?:would|should|must|will|could|has to) be|(?:seems|appears) to be|lautet|ist|es|è|est|é"
    r"|adalah|là|είναι)\b|[:：=>]|[-–—](?= ))"
)
# Of languages whose sentences need no verb or no space here.
_SIGN: Final = (
    r"(?:\bans\.|\bodpowiedź to\b|\bodpověď je\b|\bvastaus on\b|\bsvaret (?:är|er)\b"
    r"|答案|正解|解答|答え|回答|答[复曰]?|[应故]?[选選](?![项項])[择擇]?|정답|답변?"
    r"|الإجابة|الجواب|إجابة|پاسخ|התשובה|উত্তর|उत्तर|คำตอบ)"
    r"\s?(?:النهائية|النهائي|الصحيحة|الصحيح)?\s?(?:应该|應該)?\s?[是为為はが은는选選]?(?:هي|هو|היא|ঃ|คือ)?"
)

ANSWER_IS = re.compile(unicodedata.normalize("NFKC", rf"{_ANSWER}{_IS}|{_SIGN}"), re.IGNORECASE)
"""Ends where the answer may begin; for texts in NFKC."""

BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
DECLARING = re.compile(rf"{ANSWER_IS.pattern}|{BOX.pattern}", re.IGNORECASE)
"""The same, and the box that mathematical prompts ask for."""
