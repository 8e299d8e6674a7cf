"""Numbers as people, LLMs and LaTeX write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException
from functools import lru_cache
from typing import Final

CONTEXT: Final = Context(prec=1000, Emax=99_999, Emin=-99_999)
"""Arithmetic with as many digits as a number may have here."""

_MAX_DIGITS = 400
_MAX_EXPONENT_DIGITS = 4

# --- one way of writing -----------------------------------------------------------------------------------------------

_SIGNS: Final = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–−﹣－", "-"),
        "٫": ".",
        "٬": ",",
        "٪": "%",
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u061c°", ""),
        **dict.fromkeys("≈≃≅", "="),
    }
)
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]++")
_VULGAR = re.compile("([0-9]?)([¼-¾⅐-⅞])")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_LATEX: Final = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        # Delimiters of mathematics, and dollars: neither changes a number.
        (r"\\?\$|\\[()\[\]]", ""),
        (r"\\!\s?", ""),
        (r"\{,\}", ","),
        (r"(?<=[0-9])(?:\\[,;: ]|~)(?=[0-9])", " "),
        (r"(?<=[0-9])['’_](?=[0-9]{3}(?![0-9]))", ","),
        (r"\\(?:left|right|displaystyle|,|;|:)(?![A-Za-z])", ""),
        (
            r"\\(?:text(?:bf|it|rm|tt)?|math(?:rm|bf|sf|it)|mbox|operatorname|underline|boldsymbol|bm|emph)\s?\{([^{}]{0,80})\}",
            r" \1 ",
        ),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s?([0-9])\s?([0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac\s?([0-9])\s?\{", r"\\frac{\1}{"),
        (r"\\%", "%"),
        (r"\\(?:approx|simeq|equiv)(?![A-Za-z])", "="),
        (r"\^\{?\\circ\}?", ""),
        (r"(?<=[0-9)])\*\*(?=-?[0-9(])", "^"),
        (r"(?<![0-9)}] )\b(?:[Mm]inus|[Nn]egative) (?=[0-9.\\])", "-"),
    )
)


def normalised(text: str) -> str:
    r"""Return a text whose numbers are written with ASCII digits, signs and points, and without delimiters of LaTeX.

    Minus signs of all kinds, digits of all scripts and full-width characters become plain ones; ``10³`` becomes
    ``10^{3}``, ``2½`` becomes ``2 1/2``, ``\tfrac34`` becomes ``\frac{3}{4}``.
    """
    text = _RAISED.sub(lambda raised: f"^{{{unicodedata.normalize('NFKC', raised[0])}}}", text)
    text = _VULGAR.sub(lambda found: f"{found[1]} {unicodedata.normalize('NFKC', found[2])}".lstrip(), text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).replace("⁄", "/").translate(_SIGNS)
    text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text


# --- numbers in words -----------------------------------------------------------------------------------------------

_UNITS: Final = re.findall(
    r"[a-z]+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen",
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS: Final = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_POWERS: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_WORD: Final = "|".join(sorted([*_WORDS, "hundred", *_POWERS], key=len, reverse=True))
_IN_WORDS = re.compile(rf"\b(?:{_WORD})\b(?:(?: and|-| )? ?(?:{_WORD})\b){{0,12}}", re.IGNORECASE)
# A pronoun more often than a number.
_ONE = re.compile(
    r"\b(?:no|the|this|that|which|any|each|every|another) one\b|\bone\b(?= (?!hundred|thousand|million|billion)\w)",
    re.IGNORECASE,
)


def with_digits(text: str) -> str:
    """Return a text in which English number words are written in digits; "one" only where it can be no pronoun."""
    masked = _ONE.sub(lambda found: "_" * len(found[0]), text)
    return "".join(_with_digits(text, masked))


def _with_digits(text: str, masked: str) -> Iterator[str]:
    end = 0
    for found in _IN_WORDS.finditer(masked):
        yield text[end : found.start()]
        yield str(_in_digits(re.findall(r"[a-z]+", found[0].lower())))
        end = found.end()
    yield text[end:]


def _in_digits(words: list[str]) -> int:
    whole, part = 0, 0
    for word in words:
        if word in _POWERS:
            whole, part = whole + (part or 1) * _POWERS[word], 0
        elif word == "hundred":
            part = (part or 1) * 100
        else:
            part += _WORDS.get(word, 0)
    return whole + part


# --- the grammar ------------------------------------------------------------------------------------------------------

# Quantifiers are possessive (`++`): nothing is scanned twice, whatever the answer.
_START = r"(?<![A-Za-z_^0-9])(?<!\^\{)(?<!\^[-+])(?<!\^\{[-+])"
_SIGN = r"(?:(?<![\w)\]}.%])[-+])?"
_CURRENCY = r"(?:[€£¥₹₩₽](?: |\b)?)?"
_NUMERAL = r"(?:(?:[0-9]{1,3}(?: [0-9]{3})++(?![0-9])|[0-9]++)(?:[.,][0-9]++)*+|(?<![0-9.])\.[0-9]++)"
_POWER = r"10\^(?:\{([-+]?[0-9]++)\}|([-+]?[0-9]++))"
_TIMES = r"\s{0,3}(?:\\times|\\cdot|[*x×·])\s{0,3}"
_SUFFIX = r"(?:\s?(%|percent\b|per cent\b)|\s(thousand|million|billion|trillion)\b)?"
NUMBER: Final = re.compile(
    rf"{_START}({_SIGN}){_CURRENCY}"
    rf"(?:([0-9]{{1,6}})?\s?\\frac\{{([-+]?[0-9]++)\}}\{{([-+]?[0-9]++)\}}"
    rf"|([0-9]{{1,6}}) ([0-9]{{1,6}})/([0-9]{{1,6}})(?![0-9/])"
    rf"|{_POWER}"
    rf"|({_NUMERAL})(?:[eE]([-+]?[0-9]++)|{_TIMES}{_POWER}|\s?/\s?([0-9]++(?:\.[0-9]++)?))?)"
    rf"{_SUFFIX}"
)
"""Matches one number; `read` returns its value."""

_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}\.[0-9]{3}")
_FACTORS: Final = {
    "%": Decimal("0.01"),
    "percent": Decimal("0.01"),
    "per cent": Decimal("0.01"),
    "thousand": Decimal(10**3),
    "million": Decimal(10**6),
    "billion": Decimal(10**9),
    "trillion": Decimal(10**12),
}


@dataclass(frozen=True)
class WrittenNumber:
    """A number as it was written.

    Attributes
    ----------
    value
        The numeral, without the word that follows it.
    suffix
        "%" or "million", for example; empty where there is none.
    other_value
        What the numeral is where the point in it separates decimals after all.
    """

    value: Decimal
    suffix: str = ""
    other_value: Decimal | None = None

    def values(self) -> tuple[Decimal, ...]:
        """Return what the numeral may be, without the word that follows it."""
        return (self.value,) if self.other_value is None else (self.value, self.other_value)

    def readings(self, question: str) -> tuple[Decimal, ...]:
        """Return what it may mean.

        50 % is 50 to some and 0.5 to others; 2 million is 2 only where the question asks for millions.
        """
        if not self.suffix:
            return self.values()
        factor = _FACTORS[self.suffix]
        whole = tuple(CONTEXT.multiply(value, factor) for value in self.values())
        return (*self.values(), *whole) if factor < 1 or self.suffix in question.casefold() else whole


def read(found: re.Match[str], *, is_decimal_comma: bool = False) -> WrittenNumber | None:
    """Return the number that `NUMBER` matched.

    Parameters
    ----------
    found
        The match.
    is_decimal_comma
        Whether the comma in ``1,234`` separates decimals. The point in ``1.234`` may then do either.

    Returns
    -------
    WrittenNumber or None
        None where it has no finite value, is too long, or is no number, such as 1.2.3.
    """
    (
        sign,
        whole,
        above,
        below,
        mixed,
        part,
        parts,
        braced,
        bare,
        numeral,
        exponent,
        times_braced,
        times_bare,
        divisor,
    ) = found.groups()[:14]
    other = None
    try:
        if above is not None:
            value = _mixed(whole, above, below)
        elif mixed is not None:
            value = _mixed(mixed, part, parts)
        elif numeral is None:
            value = _scaled(Decimal(1), braced or bare)
        else:
            value = _decimal(numeral, is_decimal_comma=is_decimal_comma)
            if value is not None and divisor is not None:
                value = _quotient(value, Decimal(divisor)) if len(divisor) <= _MAX_DIGITS else None
            elif value is not None:
                value = _scaled(value, exponent or times_braced or times_bare or "0")
                if is_decimal_comma and _AMBIGUOUS.fullmatch(numeral):
                    other = Decimal(numeral)
    except DecimalException:
        return None
    if value is None or not value.is_finite():
        return None
    if sign == "-":
        value, other = value.copy_negate(), None if other is None else other.copy_negate()
    return WrittenNumber(value, found[15] or found[16] or "", other)


def _decimal(numeral: str, *, is_decimal_comma: bool) -> Decimal | None:
    """Return the value of digits with separators: the last kind of separator separates decimals if it occurs once."""
    if len(numeral) > _MAX_DIGITS:
        return None
    digits = numeral.replace(" ", "")
    points, commas = digits.count("."), digits.count(",")
    if points and commas:
        last = max(".,", key=digits.rindex)
        other = "," if last == "." else "."
        return Decimal(digits.replace(other, "").replace(last, ".")) if digits.count(last) == 1 else None
    separator = "." if points else ","
    groups = digits.split(separator)
    is_decimal = len(groups) == 2 and (is_decimal_comma == (separator == ",") or not _is_grouped(groups))
    if len(groups) == 1 or is_decimal:
        return Decimal(".".join(groups))
    return Decimal("".join(groups)) if _is_grouped(groups) else None


def _is_grouped(groups: list[str]) -> bool:
    """Whether digits are grouped by three, or by two before the last three as in India."""
    first, *middle, last = groups
    sizes = {len(group) for group in middle}
    return 1 <= len(first) <= 3 and first[0] != "0" and len(last) == 3 and sizes in (set(), {3}, {2})


def _scaled(value: Decimal, exponent: str) -> Decimal | None:
    if len(exponent.lstrip("+-")) > _MAX_EXPONENT_DIGITS:
        return None
    return CONTEXT.scaleb(value, int(exponent))


def _quotient(above: Decimal, below: Decimal) -> Decimal | None:
    return CONTEXT.divide(above, below) if below else None


def _mixed(whole: str | None, above: str, below: str) -> Decimal | None:
    if max(len(above), len(below)) > _MAX_DIGITS:
        return None
    part = _quotient(Decimal(above), Decimal(below))
    return part if part is None or whole is None else CONTEXT.add(Decimal(whole), part)


# --- decimal commas ---------------------------------------------------------------------------------------------------

_WITH_COMMA = re.compile(r"(?<![\w.,(\[{])[0-9]{1,6},(?:[0-9]{1,2}|[0-9]{4,8})(?![\w,)\]}]|\.[0-9])")
_WITH_POINT = re.compile(r"(?<![\w.,])[0-9]{1,6}\.[0-9]{1,8}(?!\w|\.[0-9])")
_SAYS_COMMA = re.compile(r"decimal comma|comma as (?:the |a )?decimal|dezimalkomma|virgule décimale", re.IGNORECASE)


@lru_cache(maxsize=4096)
def writes_decimal_commas(question: str) -> bool:
    """Whether a prompt separates decimals by commas: it says so, or does so and never by a point."""
    if _SAYS_COMMA.search(question):
        return True
    return _WITH_COMMA.search(question) is not None and _WITH_POINT.search(question) is None
