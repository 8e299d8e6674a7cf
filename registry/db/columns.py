"""Column types that keep what Python means on SQLite and on PostgreSQL alike.

SQLite drops time zones, turns NaN into NULL and has no exact decimals; PostgreSQL refuses NUL bytes and lone surrogates
in text. Each type below refuses or encodes before the database can lose something.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, DateTime, LargeBinary, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from registry.errors import RegistryCorrupt
from routing.errors import InvalidInput

_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)  # the thread's own context may be narrower
_LARGEST_PICO_USD = 2**63 - 1
_ARRAY_KINDS = {b"f": np.dtype("<f4"), b"d": np.dtype("<f8"), b"q": np.dtype("<i8"), b"i": np.dtype("<i4")}
_ARRAY_CODES = {kind: code for code, kind in _ARRAY_KINDS.items()}


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: timezone-aware in, timezone-aware UTC out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without time zone; store the others in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidInput(f"the time {value.isoformat()} has no time zone", hint="use datetime.now(UTC)")
        return value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: Any) -> Callable[[Any], datetime | None] | None:
        """Read a moment; text that is none was not written by the registry."""
        read = super().result_processor(dialect, coltype)

        def process(value: Any) -> datetime | None:
            try:
                return value if read is None else read(value)
            except (ValueError, TypeError):
                raise RegistryCorrupt("a stored time is none", hint="uniroute doctor") from None

        return process

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Restore the time zone that SQLite dropped."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ExactDecimal(TypeDecorator[Decimal]):
    """A finite, non-negative decimal number stored as its digits."""

    impl = String(64)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        """Write plain digits, so that equal prices are equal text."""
        if value is None:
            return None
        if not isinstance(value, Decimal) or not value.is_finite() or value < 0:
            raise InvalidInput(f"{value!r} is not a finite, non-negative decimal number")
        digits = format(value.normalize(), "f")
        if len(digits) > 64:
            raise InvalidInput(f"{value!r} has more than 64 digits")
        return digits

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        """Read the digits back."""
        return None if value is None else Decimal(value)


class Usd(TypeDecorator[Decimal]):
    """An amount of money, stored as an integer of 1e-12 USD so that SUM is exact."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """Round to 1e-12 USD; refuse what is not a finite, non-negative amount."""
        return None if value is None else to_pico_usd(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """Return the amount in USD."""
        return None if value is None else from_pico_usd(value)


class ExactText(TypeDecorator[str]):
    """Text kept to the byte: NUL, lone surrogates and every normalisation form survive (stored as bytes)."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Encode reversibly."""
        return None if value is None else text_bytes(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Decode what `process_bind_param` wrote."""
        try:
            return None if value is None else bytes(value).decode("utf-8", "surrogatepass")
        except (UnicodeDecodeError, TypeError):
            raise RegistryCorrupt("a stored text is none", hint="uniroute doctor") from None


class PlainText(TypeDecorator[str]):
    """Foreign text that people and SQL tools read: what a text column cannot hold everywhere is escaped."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape NUL and lone surrogates, and cut to the length of the column."""
        return None if value is None else plain_text(value, self.impl.length)


class ArrayBlob(TypeDecorator[NDArray[Any]]):
    """A finite numeric array: one byte of kind, one of rank, the shape, then little-endian values."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: NDArray[Any] | None, dialect: Dialect) -> bytes | None:
        """Encode an array of float32, float64, int64 or int32."""
        return None if value is None else array_bytes(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> NDArray[Any] | None:
        """Decode an array; it is read-only."""
        return None if value is None else array_from_bytes(bytes(value))


def text_bytes(text: str) -> bytes:
    """Encode text reversibly, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def plain_text(text: str, at_most: int) -> str:
    """Escape what a text column cannot hold everywhere (NUL, lone surrogates) and cut to `at_most` characters."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")[:at_most]


def to_pico_usd(amount: Decimal) -> int:
    """Convert USD to whole 1e-12 USD.

    Raises
    ------
    InvalidInput
        For an amount that is negative, not finite or above nine million USD.
    """
    if not isinstance(amount, Decimal) or not amount.is_finite() or amount < 0:
        raise InvalidInput(f"{amount!r} USD is not a finite, non-negative amount")
    pico = int(_WIDE.to_integral_value(_WIDE.scaleb(amount, 12)))
    if pico > _LARGEST_PICO_USD:
        raise InvalidInput(f"{amount} USD is larger than any amount the registry books")
    return pico


def from_pico_usd(pico: int | Decimal) -> Decimal:
    """Convert whole 1e-12 USD, as the database sums them, to USD."""
    return _WIDE.scaleb(Decimal(int(pico)), -12)


def array_bytes(array: NDArray[Any]) -> bytes:
    """Encode a finite array; the same values give the same bytes on every machine.

    Raises
    ------
    InvalidInput
        For non-finite values or a kind of number that is not stored.
    """
    kind = array.dtype.newbyteorder("<")
    if kind not in _ARRAY_CODES:
        raise InvalidInput(f"arrays of {array.dtype} are not stored", hint="use float32, float64, int64 or int32")
    if kind.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput("an array with NaN or infinite values cannot be stored")
    values = np.ascontiguousarray(array, dtype=kind)
    head = struct.pack(f"<cB{array.ndim}I", _ARRAY_CODES[kind], array.ndim, *array.shape)
    return head + values.tobytes()


def array_from_bytes(data: bytes) -> NDArray[Any]:
    """Decode what `array_bytes` wrote.

    Raises
    ------
    RegistryCorrupt
        When the bytes do not hold an array of the announced shape.
    """
    if len(data) < 2 or data[:1] not in _ARRAY_KINDS:
        raise RegistryCorrupt("a stored array has no valid head", hint="uniroute doctor")
    kind, rank = _ARRAY_KINDS[data[:1]], data[1]
    start = 2 + 4 * rank
    if len(data) < start:
        raise RegistryCorrupt("a stored array ends before its shape", hint="uniroute doctor")
    shape = struct.unpack_from(f"<{rank}I", data, 2)
    if len(data) - start != kind.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise RegistryCorrupt(f"a stored array does not fill its shape {shape}", hint="uniroute doctor")
    return np.frombuffer(data, dtype=kind, offset=start).reshape(shape)
