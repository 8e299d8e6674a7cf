"""JSON that means one thing only: how documents of others are read, and how content is written before it is digested.

Python's own reader accepts more than JSON: ``NaN`` and infinities, and an object with the same key twice, of which it
keeps the last. Two readers of such a document may understand it differently.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

_LONGEST_KEY_SHOWN = 60


class InvalidJson(ValueError):
    """The text is not JSON, or is ambiguous; the message is in our own words."""


class DuplicateKey(InvalidJson):
    """One object has the same key twice; the message quotes the key."""


def parse_json(text: str | bytes, *, parse_float: Callable[[str], float | Decimal] = float) -> Any:
    """Parse a JSON document strictly.

    Parameters
    ----------
    text
        The document; bytes are UTF-8.
    parse_float
        Converts a number with a point or an exponent, for example `Decimal`.

    Returns
    -------
    Any
        The document.

    Raises
    ------
    InvalidJson
        For anything but JSON in UTF-8, for NaN and infinities, for a key that occurs twice in one object, for numbers
        with more digits than Python converts, and for nesting deeper than the parser goes.
    """
    decoder = json.JSONDecoder(
        parse_float=parse_float, parse_constant=_refuse_constant, object_pairs_hook=_with_unique_keys
    )
    try:
        return decoder.decode(text.decode("utf-8") if isinstance(text, bytes) else text)
    except InvalidJson:
        raise
    except UnicodeDecodeError:
        raise InvalidJson("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"it is not JSON (character {error.pos} of {len(error.doc)})") from None
    except RecursionError:
        raise InvalidJson("it is nested too deeply") from None
    except (ValueError, ArithmeticError):
        # The limit of Python's integers, or of the exponents of `Decimal`.
        raise InvalidJson("a number has too many digits") from None


def canonical_json(content: Any) -> str:
    """Write JSON in the one form that digests are taken over: sorted keys, no spaces, ASCII, finite numbers.

    Raises
    ------
    ValueError
        For NaN and infinities.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _refuse_constant(name: str) -> Any:
    raise InvalidJson(f"{name} is not a number in JSON")


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise DuplicateKey(f"the key {name[:_LONGEST_KEY_SHOWN]!r} occurs twice in one object")
            seen.add(name)
    return members
