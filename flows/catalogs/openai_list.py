"""The list that every OpenAI-compatible endpoint serves at ``/v1/models``: ids, and no prices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from flows.catalogs.documents import Row, rows_of_list
from flows.catalogs.facts import Facts, RowRefused, display_name, epoch_moment, identifier, mapping
from flows.catalogs.prices import ListedPrice, listed_price


class OpenAIFormat:
    """Read an OpenAI-compatible list.

    It has no prices, so nothing is routable by it alone: a catalog before it (a price map or a TOML file for the same
    endpoint) must supply them. An id allow-listed as free costs zero. `created` is the day of release at OpenAI
    and the start of the server elsewhere; impossible dates are left out.
    """

    def rows(self, text: str) -> Iterator[Row]:
        """Split the document into rows; a bare list, as some servers send it, is accepted."""
        return rows_of_list(text, "data")

    def read(self, row: Row, is_free: Callable[[str], bool]) -> Facts:
        """Read one row; `is_free` says which ids the user allow-listed at price zero."""
        value = mapping(row.value, "the row")
        llm_id = identifier(value.get("id"))
        return Facts(
            llm_id=llm_id,
            name=display_name(value.get("name"), llm_id),
            released_at=_released_at(value.get("created")),
            price=_price(is_free_allowed=is_free(llm_id)),
        )


def _released_at(created: object) -> datetime | None:
    try:
        return epoch_moment(created, "created")
    except RowRefused:
        return None


def _price(*, is_free_allowed: bool) -> ListedPrice:
    if is_free_allowed:
        return listed_price(0, 0, is_free_allowed=True)
    return ListedPrice(None, None, "price missing: name a catalog that tells it before this one")
