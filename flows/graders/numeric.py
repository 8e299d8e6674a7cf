"""Numbers: find the one that an answer settles on, and compare it exactly, or within a tolerance if it is not whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final, TypeVar

from flows.graders.base import UNREADABLE, Grade, RuleGrader, both_ends
from flows.graders.cues import BOX, announcements
from flows.graders.expressions import mathematics, value_of
from flows.graders.numbers import CONTEXT, NUMBER, WrittenNumber, normalised, read, with_digits, writes_decimal_commas
from flows.graders.order import valid_declaration, without_run_on

RELATIVE_TOLERANCE = Decimal("1e-4")
"""How far an answer may be from a reference that is not a whole number, relative to it."""

_Found = TypeVar("_Found")

_LONGEST_BARE: Final = 80
_LONGEST_PHRASE: Final = 200
_MOST_DECLARED: Final = 50
# Numbers that count nothing: sources, labels, and how sure an LLM says it is.
_SOURCE = re.compile(r"\[[0-9]{1,3}(?:[,-] ?[0-9]{1,3}){0,5}\]")
_LABEL = re.compile(
    r"\b(?:steps?|sections?|chapters?|equations?|eq|figures?|fig|tables?|notes?|pages?|lines?|parts?|methods?|cases?"
    r"|options?|examples?|version|problem|question|exercise)\.? ?#?(?:[0-9]{1,4}(?:\.[0-9]{1,4}){0,3})\b(?![%,.][0-9])",
    re.IGNORECASE,
)
_CONFIDENCE = re.compile(
    r"^\W{0,8}(?:confidence|certainty|probability of being)\b[^\n]{0,80}$", re.IGNORECASE | re.MULTILINE
)
_REMARK = re.compile(r"(?<=[^\s(])\s{1,4}\((?=[^()\n]{0,120}[A-Za-z]{3})[^()\n]{1,120}\)")
_HOW = re.compile(r"(?<=[0-9])\s{1,4}\([^()\n]{0,60}[0-9] ?[x×*+/=÷-] ?[0-9][^()\n]{0,60}\)(?=[.\s]{0,4}(?:\n|$))")
_TOLERANCE = re.compile(r"(?<=[0-9])\s?(?:±|\\pm|\+/-)\s?[0-9.]++%?")
_DIGIT = re.compile("[0-9]")
_HASHES = re.compile(r"(?:^|\n)\s{0,4}####")
_BOLD = re.compile(r"\*\*\s?(?:[A-Za-z]\w{0,20} ?= ?)?(?=[-+€£¥.\\]{0,2}[0-9\\(])(?![0-9]{1,3}[.)] )([^*\n]{1,60})\*\*")
_FIRST = re.compile(
    r"(?:[-+] ?)?(?:[€£¥₹₩₽] ?)?[(√\\]{0,2}(?:[0-9]|\.[0-9]|frac|sqrt|pi\b)"
    r"|\\(?:binom|ln|log|exp|sin|cos|tan)(?![A-Za-z])|e\s?\^"
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|。|\n|\*\*(?![0-9(])")
_OPERATOR = re.compile(
    r"\s?(?:[*/+×÷·-]|\*\*|\\(?:cdot|times|div)\b)\s?[0-9(.\\√π]|\s?\^|\s?(?:π|√|\\sqrt|\\pi\b|sqrt)|!"
    r"|\.?\\(?:overline|bar|dot)\b"
)
_VARIABLE = re.compile(r"[A-Za-z](?![A-Za-z])(?=\s?[-+*/^=]|[xyzn]\b)|[xyzn]\b(?!\w)")
_SPACED_SIGN = re.compile(r"^([-+]) (?=[0-9.\\(])")
_RANGE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})? ?- ?[0-9]{1,9}(?:\.[0-9]{1,9})?(?![0-9]| ?[-+*/^=(])")
_IN_LIST = re.compile(r",\s(?=[-+]?[0-9])")
_OR = re.compile(r"\s?(?:[a-z%]{1,12} )?(?:or|oder|ou|o|或|または) ?")
_OTHER_AS_WELL = re.compile(r"\s{0,3}(?:[a-z%]{1,12} ){0,2}(?:or|to|oder|ou|o|或|または)\s{0,3}[-+]?[€£¥]?[0-9]")
_GOES_ON = re.compile(r"\s{0,4}[*_(#>]{0,4}[^\W\d_]{2}")
_EXPLAINS = re.compile(
    r"\s{0,4}[*_(#>\s]{0,4}(?:explanation|reason|because|calculation|working|solution|note|source|here)", re.IGNORECASE
)


class NumericGrader(RuleGrader):
    r"""Compare the number that an answer settles on with the reference.

    The number is the first of these that is found in an answer without its reasoning:

    1. the whole answer, where it is one short line that starts with a number;
    2. the last ``\boxed{...}``;
    3. what follows the first ``####``;
    4. a declared one: "answer is ...", "Answer: ...", also in other languages; see `valid_declaration`;
    5. the first line, where it is a number alone and what follows explains it in words;
    6. the last that is set in bold;
    7. the last in the answer.

    After an equals sign, what stands to its right counts. Sources ``[1]``, labels ("step 2"), remarks in parentheses
    and confidences are no answers, and what follows when an LLM asks itself the next question does not count. "5 or 6"
    is no choice and wrong. Where an answer has no digits, English number words count as the whole answer or declared.
    An answer without a number, or with an expression that has no value, is unreadable.

    A number may have a sign, a currency and a unit, and be written as ``1,234.5``, ``1 234.5``, ``1.234,5``, ``.5``,
    ``3/4``, ``1 3/4``, ``\frac{3}{4}``, ``1.5e-3`` or ``1.5 x 10^{-3}``, in the digits of any script. A comma before
    exactly three digits groups them, any other separates decimals; where the prompt writes decimal commas, each comma
    does, and the point may group. Other expressions are worked out by Math-Verify. 50 % equals 50 and 0.5 where only
    one of the two has a percent sign; "2 million" is 2,000,000, and 2 where the prompt speaks of millions.

    A whole reference must be matched exactly; any other within `RELATIVE_TOLERANCE`, a ten-thousandth of it.
    """

    name = "numeric"
    version = "2"

    def _graded(self, answer: str, reference: str, question: str) -> Grade:
        reader = _Reader(question)
        wanted = reader.only(normalised(reference))
        if wanted is None:
            raise self._unusable(reference, "one number")
        given = reader.settled(both_ends(answer))
        if not given:
            return UNREADABLE
        return Grade(float(len(given) == 1 and _agree(given[0], wanted, question)))


def final_numbers(answer: str, question: str = "") -> tuple[WrittenNumber, ...]:
    """Return the number that an answer settles on, by the rules of `NumericGrader`.

    Parameters
    ----------
    answer
        What the LLM said after its reasoning.
    question
        The text of the prompt.

    Returns
    -------
    tuple of WrittenNumber
        One; two where the answer names both; none when it holds none.
    """
    return _Reader(question).settled(answer)


def _agree(given: WrittenNumber, wanted: WrittenNumber, question: str) -> bool:
    is_same_kind = given.suffix == wanted.suffix
    pairs = itertools.product(
        *(number.values() if is_same_kind else number.readings(question) for number in (given, wanted))
    )
    return any(_is_close(one, other) for one, other in pairs)


def _is_close(given: Decimal, wanted: Decimal) -> bool:
    if wanted == wanted.to_integral_value(context=CONTEXT):
        return given == wanted
    return abs(CONTEXT.subtract(given, wanted)) <= CONTEXT.multiply(RELATIVE_TOLERANCE, abs(wanted))


@dataclass(frozen=True)
class _Declaration:
    """Where an answer declares a number, and what it says there."""

    start: int
    end: int
    phrase: str


class _Reader:
    """Finds the numbers of answers to one prompt."""

    def __init__(self, question: str) -> None:
        self._question = question
        self._is_decimal_comma = writes_decimal_commas(question)

    def settled(self, answer: str) -> tuple[WrittenNumber, ...]:
        text = _without_asides(normalised(answer)).strip()
        is_in_words = not _DIGIT.search(text) and "\\" not in text
        text = with_digits(text) if is_in_words else text
        declared = list(_declared(text))
        settled_at = min((one.end for one in declared), default=_end_of_first_line(text))
        text = without_run_on(text, settled_at, self._question).rstrip()
        if _is_bare(text.strip("*_` ")):
            return self._at(text.strip("*_` "))
        for phrase in self._phrases(text):
            if _DIGIT.search(phrase) or "\\" in phrase:
                return self._numbers(phrase)
        return () if is_in_words else self._last(text)

    def only(self, text: str) -> WrittenNumber | None:
        """Return the number that a reference is; None when it is anything else."""
        found = NUMBER.fullmatch(text.strip())
        if found is not None:
            return read(found, is_decimal_comma=self._is_decimal_comma)
        return self._worked_out(text.strip()) if mathematics(text.strip()) == text.strip() else None

    def _phrases(self, text: str) -> Iterator[str]:
        """Yield what an answer declares, the strongest declaration first."""
        boxes = list(_boxes(text))
        yield from (box.phrase for box in reversed(boxes))
        hashes = _HASHES.search(text)
        if hashes is not None:
            yield _phrase(text, hashes.end())
        declared = [one for one in _declared_in_words(text) if _FIRST.search(one.phrase)]
        valid = valid_declaration(declared, text, self._question)
        if valid is not None:
            yield valid.phrase
        yield _leading(text)
        yield from (found[1] for found in reversed(list(_BOLD.finditer(text))))

    def _numbers(self, phrase: str) -> tuple[WrittenNumber, ...]:
        """Return the number of a phrase: right of its last equals sign, the first that is not part of a word."""
        right = phrase.rpartition("=")[2] if "=" in phrase.rstrip("=") else phrase
        for side in (right, phrase):
            for first in _FIRST.finditer(side):
                if first.start() and (side[first.start() - 1].isalnum() or side[first.start() - 1] in "_^{"):
                    continue
                return self._at(side[first.start() :])
        return ()

    def _at(self, text: str) -> tuple[WrittenNumber, ...]:
        """Return the number or the value of the expression that a text starts with; both ends of a range."""
        text = _SPACED_SIGN.sub(r"\1", text)
        if text.startswith("(") and text.endswith(")") and NUMBER.fullmatch(text[1:-1]):
            text = text[1:-1]
        found = NUMBER.match(text)
        rest = text if found is None else text[found.end() :]
        is_exclaimed = rest.strip() == "!"
        is_expression = not is_exclaimed and _OPERATOR.match(rest) and not _RANGE.match(text)
        if found is None or _VARIABLE.match(rest) or is_expression:
            expression = mathematics(text)
            if _VARIABLE.match(rest) or text[len(expression) :].lstrip().startswith("\\"):
                return ()
            worked_out = self._worked_out(expression)
            return () if worked_out is None else (worked_out,)
        number = read(found, is_decimal_comma=self._is_decimal_comma)
        if number is None:
            return ()
        if is_exclaimed and (factorial := self._worked_out(mathematics(text))) is not None:
            # A factorial, or an exclamation.
            return (replace(factorial, other_value=number.value),)
        second = NUMBER.search(rest.lstrip(" -")) if _OTHER_AS_WELL.match(rest) or _RANGE.match(text) else None
        other = None if second is None else read(second, is_decimal_comma=self._is_decimal_comma)
        return (number,) if other is None or other == number else (number, other)

    def _last(self, text: str) -> tuple[WrittenNumber, ...]:
        numbers = [found for found in NUMBER.finditer(text) if read(found) is not None][-2:]
        if not numbers:
            return ()
        is_hedge = len(numbers) == 2 and _OR.fullmatch(text[numbers[0].end() : numbers[1].start()])
        last = numbers[0] if is_hedge else numbers[-1]
        return self._at(text[last.start() : last.end() + _LONGEST_PHRASE])

    def _worked_out(self, expression: str) -> WrittenNumber | None:
        if self._is_decimal_comma:
            expression = expression.replace(",", ".")
        value = value_of(expression.rstrip(".,;: "))
        if value is None:
            return None
        if isinstance(value, Fraction):
            value = CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))
        return WrittenNumber(value)


def _is_bare(text: str) -> bool:
    """Whether a whole answer is a number or an expression, perhaps with a unit."""
    if len(text) > _LONGEST_BARE or "\n" in text or not _FIRST.match(text):
        return False
    number = NUMBER.match(text)
    if number is not None and _OTHER_AS_WELL.match(text, number.end()):
        return True
    ends = (0 if number is None else number.end(), len(mathematics(text)))
    return any(end and not _DIGIT.search(text, end) for end in ends)


def _without_asides(text: str) -> str:
    """Return a text without the numbers that are no answers; the text itself where they are all it has."""
    for pattern in (_SOURCE, _CONFIDENCE, _REMARK, _HOW, _LABEL, _TOLERANCE):
        rest = pattern.sub("", text)
        if rest != text and _DIGIT.search(rest):
            text = rest
    return text


def _leading(text: str) -> str:
    """Return the number that is the first line of an answer which explains it afterwards; empty without one."""
    first, _, rest = text.partition("\n")
    first = first.strip("*_`. ")
    is_alone = NUMBER.fullmatch(first) is not None and _GOES_ON.match(rest) is not None
    return first if is_alone or (_is_bare(first) and _EXPLAINS.match(rest)) else ""


def _end_of_first_line(text: str) -> int:
    end = text.find("\n")
    return len(text) if end < 0 else end


def _declared(text: str) -> Iterator[_Declaration]:
    yield from _boxes(text)
    yield from (_Declaration(found.start(), found.end(), "") for found in _HASHES.finditer(text))
    yield from _declared_in_words(text)


def _declared_in_words(text: str) -> Iterator[_Declaration]:
    for start, announced_at in _ends(list(announcements(text))):
        phrase = _phrase(text, announced_at)
        if not BOX.search(phrase):
            number = NUMBER.search(text, announced_at, announced_at + _LONGEST_PHRASE)
            yield _Declaration(start, announced_at if number is None else number.end(), phrase)


def _ends(found: list[_Found]) -> list[_Found]:
    """Return the first and the last of what is found: nobody declares more, and these are what matters."""
    return found[:_MOST_DECLARED] + found[_MOST_DECLARED:][-_MOST_DECLARED:]


def _phrase(text: str, start: int) -> str:
    """Return the rest of a sentence from an index on, past marks and empty lines."""
    marks = re.compile(r"[\s*_:`]{0,10}").match(text, start)
    start = start if marks is None else marks.end()
    end = _SENTENCE_END.search(text, start, start + _LONGEST_PHRASE)
    return text[start : start + _LONGEST_PHRASE if end is None else end.start()]


def _boxes(text: str) -> Iterator[_Declaration]:
    r"""Yield what stands in ``\boxed{...}``, up to the brace that closes it."""
    for found in _ends(list(BOX.finditer(text))):
        depth, end = 1, found.end()
        for character in text[end : end + _LONGEST_PHRASE]:
            depth += (character == "{") - (character == "}")
            if depth == 0:
                break
            end += 1
        # Several numbers in one box are no choice.
        inner = text[found.end() : end].strip()
        while inner.startswith("{") and inner.endswith("}"):
            inner = inner[1:-1].strip()
        yield _Declaration(found.start(), end, _IN_LIST.sub(" or ", inner))
