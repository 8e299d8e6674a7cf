"""Words that announce an answer."""

from __future__ import annotations

import re
from typing import Final

_ANSWER: Final = (
    r"(?:(?<!wrong )(?<!incorrect )\b(?:answer|antwort|lösung|respuesta|risposta|réponse|resposta|jawaban|jibu|cevap"
    r"|yanıt|odpowiedź|odpověď|svar|antwoord|vastaus|válasz|ответ|відповідь|đáp án)"
    r"|\b(?:correct|right|best|final|remaining) (?:option|choice|statement))"
)
_IS: Final = (
    r"[\s*_]{0,4}(?:(?:choice|option|letter)\b)?(?: (?:to|for|of) [^.:\n]{1,80}?)?[\s*_]{0,4}"
    r"(?:\b(?:is|are|was|(?:would|should|must|will|could|has to) be|(?:seems|appears) to be|lautet|ist|es|è|est|é"
    r"|adalah)\b|[:：=])"
)
# Of languages whose sentences need no verb or no space here.
_SIGN: Final = (
    r"(?:答案|正解|解答|答え|回答|答[复曰]?|[应故]?[选選](?![项項])|정답|답변?|الإجابة|الجواب|إجابة|উত্তর|उत्तर|คำตอบ)"
    r"\s?(?:النهائية|النهائي|الصحيحة|الصحيح)?\s?(?:应该|應該)?\s?[是为為はが은는选選]?(?:هي|هو|ঃ)?"
)
ANSWER_IS = re.compile(rf"{_ANSWER}{_IS}|{_SIGN}", re.IGNORECASE)
"""Ends where the answer may begin."""

BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
DECLARING = re.compile(rf"{ANSWER_IS.pattern}|{BOX.pattern}", re.IGNORECASE)
"""The same, and the box that mathematical prompts ask for."""
