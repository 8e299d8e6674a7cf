"""Which of several declared answers counts: what corrects the first, and what merely runs on after it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol, TypeVar

_HEADS: Final = (
    "Question|Q|Problem|Exercise|Example|Human|User|Input|Instruction|Student"
    "|Frage|Aufgabe|Pregunta|Pergunta|Domanda|Pertanyaan|Вопрос|Задача|السؤال|سؤال|प्रश्न|প্রশ্ন|问题|题目|問題|質問|질문|문제"
)
_NEXT_QUESTION = re.compile(
    rf"(?:^|\n|[.!?。)\]}}*]\s)[ \t#*>]{{0,6}}(?:{_HEADS})[ \t]?[0-9]{{0,4}}[ \t]?[*_]{{0,2}}[:：]"
    rf"|\n[ \t]{{0,4}}#{{1,4}} ?(?:{_HEADS})\b"
    r"|<\|[a-z_]{2,24}\|>|</s>|\[/?INST\]|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)
_OPENING_CHARACTERS: Final = 40
"""How much of a prompt must come again to be recognised; shorter prompts are not looked for."""

_OF_ANSWER: Final = r"of (?:your|the) (?:answer|response|reply|output)\b"
_ASKS_FOR_LAST_LINE = re.compile(
    rf"\b(?:last|final) (?:line|sentence) {_OF_ANSWER}|\bon the last line\b", re.IGNORECASE
)
_ASKS_TO_BEGIN = re.compile(
    r"\b(?:start|begin)\b[^.\n]{0,20}\b(?:answer|response|reply)\b[^.\n]{0,20}\bwith\b"
    rf"|\bfirst (?:line|word|character|token) {_OF_ANSWER}",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correction|corrected|mistake|mistaken|however|but|instead|sorry|apologi[sz]e|oops|hmm|wrong"
    r"|second thought|re-?check|re-?consider|re-?examin\w{1,4}|re-?evaluat\w{1,4}|double[- ]check)\b|\bno[,:.!]",
    re.IGNORECASE,
)
_ENDS_SENTENCE = re.compile(r"[\s)\]}*_`$\"']{0,8}(?:[.!。\n]|$)")


class Declaration(Protocol):
    """Where an answer is declared."""

    @property
    def start(self) -> int:
        """Index of the first character."""
        ...

    @property
    def end(self) -> int:
        """Index after the last character."""
        ...


Declared = TypeVar("Declared", bound=Declaration)


def without_run_on(answer: str, settled_at: int, question: str) -> str:
    """Cut what follows when an LLM has given its answer and then asks itself the next question.

    Parameters
    ----------
    answer
        What the LLM said after its reasoning.
    settled_at
        Where it has said its answer first: no question before this ends it.
    question
        The text of the prompt: its beginning, said again, also starts a new question.
    """
    found = _NEXT_QUESTION.search(answer, settled_at)
    end = len(answer) if found is None else found.start() + 1
    opening = question.strip()[:_OPENING_CHARACTERS]
    again = answer.find(opening, settled_at, end) if len(opening) == _OPENING_CHARACTERS else -1
    return answer[: end if again < 0 else again]


@lru_cache(maxsize=4096)
def asks_to_begin(question: str) -> bool:
    """Whether a prompt wants answers that begin with what counts."""
    return _ASKS_TO_BEGIN.search(question) is not None


@lru_cache(maxsize=4096)
def _asks_for_last_line(question: str) -> bool:
    return _ASKS_FOR_LAST_LINE.search(question) is not None


def valid_declaration(declared: Sequence[Declared], answer: str, question: str) -> Declared | None:
    """Return the declaration that counts.

    An answer is finished by the first that ends a sentence: LLMs that declare another one without a word in between
    are answering other questions. One that words such as "wait" or "however" lead to is a correction and counts
    instead; so does the last where none ends a sentence, or where the prompt asks for the answer in the last line.

    Parameters
    ----------
    declared
        The declarations of an answer, in any order.
    answer
        What the LLM said after its reasoning, without what runs on.
    question
        The text of the prompt.
    """
    in_order = sorted(declared, key=lambda one: one.start)
    finishing = [one for one in in_order if _ENDS_SENTENCE.match(answer, one.end)]
    if not finishing or _asks_for_last_line(question):
        return in_order[-1] if in_order else None
    valid = finishing[0]
    for before, one in itertools.pairwise(finishing):
        if _CORRECTION.search(answer, before.end, one.start):
            valid = one
    return valid
