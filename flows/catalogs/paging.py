"""Lists in pages: how a document says that more rows follow, and how the next page is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_PAGES: Final = 100
"""Pages that one fetch reads at most; a list with more is not complete."""

_HAS_MORE = ("has_more", "hasMore", "has_next", "hasNext", "has_next_page", "hasNextPage")
_LAST_ID = ("last_id", "lastId")
_TOKENS = {
    "nextPageToken": "pageToken",
    "next_page_token": "page_token",
    "next_cursor": "cursor",
    "nextCursor": "cursor",
    "next_page": "page",
    "nextPage": "page",
    "next_token": "next_token",
    "nextToken": "nextToken",
}
"""How a document names the next page, and the parameter that asks for it."""

_LAST = ("is_last", "isLast", "is_last_page", "isLastPage", "last_page_reached")
_PAGE = ("page", "current_page", "currentPage", "page_number", "pageNumber")
_PAGES = ("total_pages", "totalPages", "page_count", "pageCount", "last_page", "lastPage", "pages")
_TOTALS = ("totalSize", "total_size", "total_count", "totalCount", "total")
_FRAMES = ("meta", "metadata", "pagination", "paging", "page_info", "pageInfo", "links", "_links")
_LONGEST_TOKEN = 2000


@dataclass(frozen=True)
class NextPage:
    """More rows follow.

    Attributes
    ----------
    queries
        Parameters that may ask for them, the likeliest first: servers agree on none. Empty when none is known.
    url
        Where they are, as the document says; empty when it does not.
    """

    queries: tuple[Mapping[str, str], ...] = ()
    url: str = ""


def next_page(facts: Mapping[str, Any], n_rows: int, last_id: str | None) -> NextPage | None:
    """Return how the next page is asked for; None when the document says nothing of one.

    Parameters
    ----------
    facts
        What the document says beside its rows.
    n_rows
        How many rows have been read, this page included.
    last_id
        The id of its last row.
    """
    said = dict(facts)
    for frame in _FRAMES:
        if isinstance(facts.get(frame), dict):
            said = facts[frame] | said
    for name, parameter in _TOKENS.items():
        token = _token(said.get(name))
        if token:
            return NextPage(queries=({parameter: token},))
    if any(_is_too_long(said.get(name)) for name in (*_TOKENS, *_FRAMES, "next")):
        return NextPage()  # what it says may be that more rows follow
    following = said.get("next")
    following = following.get("href", following.get("url")) if isinstance(following, dict) else following
    if isinstance(following, str) and following.strip():
        is_place = following.startswith(("http://", "https://", "/", "?"))
        return NextPage(url=following) if is_place else NextPage(queries=({"cursor": following}, {"page": following}))
    if any(_is_true(said.get(name)) for name in _HAS_MORE):
        last = next((token for name in _LAST_ID if (token := _token(said.get(name)))), last_id)
        return NextPage(queries=({"after_id": last}, {"after": last}) if last else ())
    page, pages = (next((said[name] for name in names if _is_count(said.get(name))), None) for names in (_PAGE, _PAGES))
    if page is not None and pages is not None and int(page) < int(pages):
        return NextPage(queries=({"page": str(int(page) + 1)},))
    if any(_is_false(said.get(name)) for name in _LAST):
        return NextPage()
    totals = [int(said[name]) for name in _TOTALS if _is_count(said.get(name))]
    return NextPage() if totals and max(totals) > n_rows else None


def _token(value: Any) -> str:
    is_usable = isinstance(value, str) and 0 < len(value) <= _LONGEST_TOKEN and value.lower() not in ("null", "none")
    return value if is_usable else ""


def _is_too_long(value: Any) -> bool:
    return value is ... or (isinstance(value, str) and len(value) > _LONGEST_TOKEN)


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "1", "yes"))


def _is_false(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def _is_count(value: Any) -> bool:
    # The lenient reader leaves numbers as their digits.
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10
