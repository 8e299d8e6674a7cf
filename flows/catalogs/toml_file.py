"""A TOML file that a person wrote: LLMs that no catalog lists, or prices that no catalog has."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal, DecimalException
from typing import Any

from flows.catalogs.documents import DocumentError, Row
from flows.catalogs.facts import (
    Facts,
    RowRefused,
    day_moment,
    display_name,
    identifier,
    mapping,
    optional_identifier,
    token_count,
)
from flows.catalogs.prices import listed_price

_TABLE = "llm"
# No table here has a dotted key, and the reader takes quadratic memory for long ones.
_ENDLESS_KEY = re.compile(r"(?<![\w-])(?:[\"']?[\w-]++[\"']?[ \t]*+\.[ \t]*+){32}")
KEYS = {
    "id": "what the endpoint calls the LLM; required",
    "name": "what people call it; the id when omitted",
    "canonical_id": "the same LLM in other catalogs",
    "released": "day of release; says what level to expect of a new LLM",
    "deprecated": "day from which it is no longer routed to",
    "context_tokens": "size of the context window, in tokens",
    "input_usd_per_mtok": "USD per million tokens of prompts; without both prices the LLM is never routed to",
    "output_usd_per_mtok": "USD per million tokens of answers",
    "free": "true allows prices of zero, and makes them zero where they are left out",
}
"""What a table may hold, and what it means to the person who writes it."""


class TomlFormat:
    """Read ``[[llm]]`` tables: `id`, prices in USD per million tokens, and what else is known of a listing.

    ``free = true`` allows prices of zero, and makes them zero where they are left out.
    """

    def rows(self, text: str) -> Iterator[Row]:
        """Return the tables in the order of the file."""
        if _ENDLESS_KEY.search(text):
            raise DocumentError("it is not TOML as it is written here: a key has dozens of parts")
        try:
            document = tomllib.loads(text, parse_float=_decimal)
        except tomllib.TOMLDecodeError as error:
            raise DocumentError(f"it is not TOML: {str(error)[:120]}") from None
        except (RecursionError, ValueError):
            raise DocumentError("it is not TOML") from None
        unknown = sorted(document.keys() - {_TABLE})
        if unknown:
            raise DocumentError(f"it holds {unknown[0][:60]!r} beside the [[{_TABLE}]] tables")
        tables = document.get(_TABLE, [])
        if not isinstance(tables, list):
            raise DocumentError(f"write [[{_TABLE}]] with two brackets, once for each LLM")
        for position, table in enumerate(tables):
            raw = json.dumps(table, ensure_ascii=False, default=str)
            yield Row(position=position, key=None, value=table, raw=raw, flaw=None)

    def read(self, row: Row, is_free: Callable[[str], bool]) -> Facts:
        """Read one table; `is_free` says which ids the user allow-listed at price zero."""
        value = mapping(row.value, "the table")
        _refuse_unknown_keys(value.keys())
        llm_id = identifier(value.get("id"))
        free = value.get("free", False)
        if not isinstance(free, bool):
            raise RowRefused("free is neither true nor false")
        default = 0 if free else None
        return Facts(
            llm_id=llm_id,
            canonical_id=optional_identifier(value.get("canonical_id"), "canonical_id"),
            name=display_name(value.get("name"), llm_id),
            released_at=day_moment(value.get("released"), "released"),
            context_tokens=token_count(value.get("context_tokens")),
            deprecated_at=day_moment(value.get("deprecated"), "deprecated"),
            price=listed_price(
                value.get("input_usd_per_mtok", default),
                value.get("output_usd_per_mtok", default),
                is_free_allowed=free or is_free(llm_id),
            ),
        )


def _decimal(numeral: str) -> Decimal:
    try:
        return Decimal(numeral)
    except DecimalException:
        return Decimal("NaN")


def _refuse_unknown_keys(keys: Any) -> None:
    for key in keys:
        if key not in KEYS:
            nearest = difflib.get_close_matches(key, KEYS, n=1)
            raise RowRefused(f"unknown key {key[:60]!r}" + (f", did you mean {nearest[0]}?" if nearest else ""))
