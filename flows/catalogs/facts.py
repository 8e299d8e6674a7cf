"""Facts of a row, read from untrusted values: accepted when they are valid, refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from flows.catalogs.prices import ListedPrice
from registry.db.characters import is_active

MAX_ID_CHARACTERS: Final = 200
_MAX_NAME_CHARACTERS = 200
_MAX_CONTEXT_TOKENS = 10**12
_EARLIEST_S = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
_CLOCK_SKEW = timedelta(days=1)
_LATEST_S = datetime(2200, 1, 1, tzinfo=UTC).timestamp()


class RowRefused(ValueError):
    """A row that cannot be understood: it is quarantined, the others are used. The message quotes little of it."""


@dataclass(frozen=True)
class Facts:
    """The content of a row, in one form for all kinds of catalogs.

    Attributes
    ----------
    llm_id
        Its id at the endpoint.
    name, canonical_id, released_at, context_tokens, deprecated_at
        As in `registry.llms.Listing`.
    price
        In USD per million tokens, or why there is none.
    refusal
        Why the LLM must not be routed to, whatever its price; None when there is no reason.
    """

    llm_id: str
    name: str
    price: ListedPrice
    canonical_id: str | None = None
    released_at: datetime | None = None
    context_tokens: int | None = None
    deprecated_at: datetime | None = None
    refusal: str | None = None


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return an object; a missing one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowRefused(f"{what} is not an object")
    return value


def identifier(value: Any, what: str = "the id") -> str:
    """Return an id: text of at most `MAX_ID_CHARACTERS`, without spaces, control or invisible characters."""
    if not isinstance(value, str) or not value:
        raise RowRefused(f"{what} is missing or not text")
    if len(value) > MAX_ID_CHARACTERS:
        raise RowRefused(f"{what} has {len(value)} characters, at most {MAX_ID_CHARACTERS} are allowed")
    if any(_is_hidden(character) for character in value):
        raise RowRefused(f"{what} holds spaces, control or invisible characters")
    return value


def _is_hidden(character: str) -> bool:
    return is_active(character) or character.isspace()


def optional_identifier(value: Any, what: str) -> str | None:
    """Return an id that may be missing."""
    return None if value is None or value == "" else identifier(value, what)


def display_name(value: Any, llm_id: str) -> str:
    """Return a name for people, shortened and without control or invisible characters; the id where there is none."""
    if not isinstance(value, str):
        return llm_id
    visible = "".join(character for character in value[:2000] if character == " " or not _is_hidden(character))
    return visible.strip()[:_MAX_NAME_CHARACTERS] or llm_id


def token_count(value: Any) -> int | None:
    """Return a number of tokens; None for anything else, because nothing depends on it."""
    if isinstance(value, Decimal):
        # Not by `abs`, which rounds, and overflows for an exponent that comparing takes.
        value = int(value) if value.is_finite() and 0 < value < _MAX_CONTEXT_TOKENS else None
    is_count = type(value) is int and 0 < value < _MAX_CONTEXT_TOKENS
    return value if is_count else None


def release_moment(value: Any) -> datetime | None:
    """Return when an LLM appeared: seconds since 1970, or a date as text.

    None for anything else, as for a moment that is still to come: such a `created` says nothing of the LLM, which is
    used without a date.
    """
    moment = None
    if isinstance(value, str):
        try:
            moment = day_moment(value, "created")
        except RowRefused:
            return None
    elif not isinstance(value, bool) and isinstance(value, (int, Decimal)) and _EARLIEST_S <= value <= _LATEST_S:
        moment = datetime.fromtimestamp(int(value), UTC)
    if moment is None or moment.timestamp() < _EARLIEST_S or moment > datetime.now(UTC) + _CLOCK_SKEW:
        return None
    return moment


def day_moment(value: Any, what: str) -> datetime | None:
    """Return a day or a moment, given as text or as a TOML date, in UTC; None when missing."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and len(value) <= 40:
            value = _from_text(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise RowRefused(f"{what} is not a date") from None
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise RowRefused(f"{what} is not a date")


def _from_text(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)  # also 2025-1-6, as one price map writes it


def lacks_text(modalities: Any) -> bool:
    """Whether a list of modalities is given and does not include text."""
    return isinstance(modalities, Sequence) and not isinstance(modalities, str) and "text" not in modalities
