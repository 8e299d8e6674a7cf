"""Numbers: find the one that an answer ends with, and compare it exactly, or within a tolerance if it is not whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException

from flows.graders.base import RuleGrader

RELATIVE_TOLERANCE = Decimal("1e-4")
"""How far an answer may be from a reference that is not a whole number, relative to it."""

_MAX_DIGITS = 400
_MAX_EXPONENT_DIGITS = 4
_CONTEXT = Context(prec=1000, Emax=99_999, Emin=-99_999)
# Quantifiers are possessive (`++`): nothing is scanned twice, whatever the answer.
_START = r"(?<![A-Za-z_^])(?<!\^\{)"
_SIGN = r"(?:(?<![\w)\]}.])[-+])?(?:\\?\$)?"
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?|(?<![0-9.])\.[0-9]++"
_POWER = r"10\^(?:\{([-+]?[0-9]++)\}|([-+]?[0-9]++))"
_TIMES = r"\s{0,3}(?:\\times|\\cdot|[*x×·])\s{0,3}"
_NUMBER = re.compile(
    rf"{_START}({_SIGN})"
    rf"(?:\\d?frac\{{([-+]?[0-9]++)\}}\{{([-+]?[0-9]++)\}}"
    rf"|{_POWER}"
    rf"|({_PLAIN})(?:[eE]([-+]?[0-9]++)|{_TIMES}{_POWER}|\s?/\s?([0-9]++(?:\.[0-9]++)?))?)"
    r"(\s?\\?%|\s?percent\b)?"
)
_BOX = "\\boxed{"


@dataclass(frozen=True)
class WrittenNumber:
    """A number as it was written.

    Attributes
    ----------
    value
        The numeral, without any percent sign.
    is_percent
        Whether a percent sign followed.
    """

    value: Decimal
    is_percent: bool

    def readings(self) -> tuple[Decimal, ...]:
        """Return what it may mean: 50 % is 50 to some and 0.5 to others."""
        return (self.value, _CONTEXT.divide(self.value, Decimal(100))) if self.is_percent else (self.value,)


class NumericGrader(RuleGrader):
    r"""Compare the number that an answer ends with to the reference.

    The number is the one that starts the last ``\boxed{...}``, otherwise the last in the answer. It may have a sign, a
    leading dollar and a trailing percent sign, and be written as ``1,234.5`` (the decimal sign is a point), ``.5``,
    ``3/4``, ``\frac{3}{4}``, ``1.5e-3`` or ``1.5 x 10^{-3}``. Digits that belong to a word or form an exponent
    (``CO2``, ``m/s^2``) are not numbers. When only one of the two has a percent sign, both readings are accepted: 50 %
    equals 50 and 0.5.

    A whole reference must be matched exactly; any other within `RELATIVE_TOLERANCE`, a ten-thousandth of it.
    """

    name = "numeric"
    version = "1"

    def _is_right(self, answer: str, reference: str) -> bool:
        wanted = _only_number(reference)
        if wanted is None:
            raise self._unusable(reference, "one number")
        given = final_number(answer)
        if given is None:
            return False
        if given.is_percent and wanted.is_percent:
            return _is_close(given.value, wanted.value)
        return any(_is_close(one, other) for one in given.readings() for other in wanted.readings())


def final_number(answer: str) -> WrittenNumber | None:
    """Return the number that an answer ends with, by the rules of `NumericGrader`; None when it holds none."""
    answer = answer.replace("\N{MINUS SIGN}", "-")
    box = answer.rfind(_BOX)
    if box >= 0:
        boxed = _NUMBER.match(answer, box + len(_BOX))
        if boxed is not None and (number := _read(boxed)) is not None:
            return number
    last: WrittenNumber | None = None
    for found in _NUMBER.finditer(answer):
        last = _read(found) or last
    return last


def _only_number(reference: str) -> WrittenNumber | None:
    found = _NUMBER.fullmatch(reference.strip().replace("\N{MINUS SIGN}", "-"))
    return None if found is None else _read(found)


def _read(found: re.Match[str]) -> WrittenNumber | None:
    sign, above, below, braced, bare, plain, exponent, times_braced, times_bare, divisor, percent = found.groups()
    try:
        if above is not None:
            value = _quotient(above, below)
        elif plain is None:
            value = _scaled("1", braced or bare)
        elif divisor is not None:
            value = _quotient(plain, divisor)
        else:
            value = _scaled(plain, exponent or times_braced or times_bare or "0")
    except DecimalException:
        return None
    if value is None or not value.is_finite():
        return None
    return WrittenNumber(value.copy_negate() if sign.startswith("-") else value, percent is not None)


def _decimal(numeral: str) -> Decimal | None:
    return Decimal(numeral.replace(",", "")) if len(numeral) <= _MAX_DIGITS else None


def _scaled(numeral: str, exponent: str) -> Decimal | None:
    value = _decimal(numeral)
    if value is None or len(exponent.lstrip("+-")) > _MAX_EXPONENT_DIGITS:
        return None
    return _CONTEXT.scaleb(value, int(exponent))


def _quotient(above: str, below: str) -> Decimal | None:
    dividend, divisor = _decimal(above), _decimal(below)
    return None if dividend is None or not divisor else _CONTEXT.divide(dividend, divisor)


def _is_close(given: Decimal, wanted: Decimal) -> bool:
    if wanted == wanted.to_integral_value(context=_CONTEXT):
        return given == wanted
    return abs(_CONTEXT.subtract(given, wanted)) <= _CONTEXT.multiply(RELATIVE_TOLERANCE, abs(wanted))
