"""Moments as people write them: a time with its zone, or a whole day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from routing.errors import InvalidInput

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HINT = "write 2026-03-14T09:00Z for a moment, or 2026-03-14 for the whole day in UTC"


@dataclass(frozen=True)
class Span:
    """A span of time in UTC; a moment is a span that ends where it begins."""

    since_at: datetime
    until_at: datetime
    text: str


def read_span(text: str) -> Span:
    """Read a moment with its time zone, or a day, which means all of it in UTC.

    Raises
    ------
    InvalidInput
        It is neither, or a moment without a time zone.
    """
    written = text.strip()
    try:
        if _DAY.fullmatch(written):
            start = datetime.combine(date.fromisoformat(written), time(), UTC)
            return Span(start, start + timedelta(days=1, microseconds=-1), written)
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            raise InvalidInput(f"{written!r} has no time zone.", hint=_HINT)
        at = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{written!r} is out of range.", hint=_HINT) from None
    except InvalidInput:
        raise
    except ValueError:
        raise InvalidInput(f"{written!r} is neither a date nor a moment.", hint=_HINT) from None
    return Span(at, at, written)
