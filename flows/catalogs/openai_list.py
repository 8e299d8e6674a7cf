"""The list that every OpenAI-compatible endpoint serves at ``/v1/models``: ids, and no prices."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from flows.catalogs.claims import ruled_out
from flows.catalogs.documents import Row, rows_of_list
from flows.catalogs.facts import (
    Facts,
    RowRefused,
    day_moment,
    display_name,
    identifier,
    mapping,
    release_moment,
    token_count,
)
from flows.catalogs.prices import ListedPrice, listed_price
from registry.listings import PRICE_MISSING

_RELEASE_KEYS = ("released_at", "release_date", "released", "created_at", "created")
_CONTEXT_KEYS = ("context_length", "context_window", "max_context_length", "max_model_len", "max_input_tokens")
_DEPRECATION_KEYS = ("deprecation_date", "deprecated_at", "deprecation", "retirement_date", "shutdown_date")
_LITELLM_CREATED = datetime.fromtimestamp(1_677_610_602, UTC)
"""What LiteLLM's proxy says of every LLM."""
_FEWEST_ALIKE = 3
_FLOATING = re.compile(r"[-:@/](latest|stable|default|current|preview-latest)$", re.IGNORECASE)
_DATED = re.compile(r"\d{4,8}$|\d{4}-\d{2}-\d{2}$")


class OpenAIFormat:
    """Read an OpenAI-compatible list.

    It has no prices, so nothing is routable by it alone: another catalog of the same endpoint (a price map or a TOML
    file) must supply them. An id allow-listed as free costs zero. `created` is the day of release at OpenAI and the
    start of the server elsewhere: a moment that most rows share is the server's own, and impossible dates are left out.
    """

    def rows(self, text: str) -> Iterator[Row]:
        """Split the document into rows; a bare list, as some servers send it, is accepted."""
        return rows_of_list(text, "data", "models")

    def read(self, row: Row, is_free: Callable[[str], bool]) -> Facts:
        """Read one row; `is_free` says which ids the user allow-listed at price zero."""
        value = mapping(row.value, "the row")
        llm_id = identifier(value.get("id"))
        return Facts(
            llm_id=llm_id,
            name=display_name(value.get("display_name") or value.get("name"), llm_id),
            released_at=next(filter(None, (release_moment(value.get(key)) for key in _RELEASE_KEYS)), None),
            context_tokens=next(filter(None, (token_count(value.get(key)) for key in _CONTEXT_KEYS)), None),
            deprecated_at=next(filter(None, (_day(value.get(key)) for key in _DEPRECATION_KEYS)), None),
            price=_price(is_free_allowed=is_free(llm_id)),
            refusal=ruled_out(value),
        )

    def compare(self, read: Sequence[tuple[Row, Facts]]) -> list[Facts]:
        """Correct what only shows when rows are compared: other names of one LLM, and dates of the server's own."""
        aliases = _aliases([(facts.llm_id, row.value) for row, facts in read])
        server_dates = _dates_of_server([facts.released_at for _, facts in read])
        corrected = []
        for _, facts in read:
            if facts.released_at in server_dates:
                facts = replace(facts, released_at=None)
            if facts.llm_id in aliases and facts.refusal is None:
                facts = replace(facts, refusal=f"alias of {aliases[facts.llm_id]}")
            corrected.append(facts)
        return corrected


def _day(value: Any) -> datetime | None:
    try:
        return day_moment(value, "the day of deprecation")
    except RowRefused:
        return None


def _price(*, is_free_allowed: bool) -> ListedPrice:
    if is_free_allowed:
        return listed_price(0, 0, is_free_allowed=True)
    return ListedPrice(None, None, f"{PRICE_MISSING}: no catalog of this endpoint has it")


def _dates_of_server(moments: Sequence[datetime | None]) -> set[datetime]:
    """Return the moments that are no dates of release: those that too many rows share."""
    counts = Counter(moment for moment in moments if moment is not None)
    n_dated = sum(counts.values())
    found = {_LITELLM_CREATED}
    for moment, count in counts.items():
        if count == n_dated > 1 or (count >= _FEWEST_ALIKE and 2 * count >= n_dated):
            found.add(moment)
    return found


def _aliases(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, str]:
    """Return the ids that are other names of a listed LLM, and the id of each that counts.

    Some servers list one LLM once for each of its names: every row then names the others under `aliases`, or all rows
    have the same `root` and no `parent`.
    """
    listed = {llm_id for llm_id, _ in rows}
    names: defaultdict[str, set[str]] = defaultdict(set)
    by_root: dict[str, str] = {}
    own_names = set()
    for llm_id, value in rows:
        others = value.get("aliases")
        for other in others if isinstance(others, list) else ():
            if isinstance(other, str) and other in listed and other != llm_id:
                names[llm_id].add(other)
                names[other].add(llm_id)
        root = value.get("root")
        if isinstance(root, str) and root and value.get("parent", "") is None:
            first = by_root.setdefault(root, llm_id)
            if first != llm_id:
                names[first].add(llm_id)
                names[llm_id].add(first)
        if value.get("name") == llm_id:
            own_names.add(llm_id)
    found: dict[str, str] = {}
    order = {llm_id: place for place, (llm_id, _) in enumerate(rows)}
    for llm_id in order:
        if llm_id in names and llm_id not in found:
            group = _connected(llm_id, names)
            counting = min(
                group,
                key=lambda name: (
                    bool(_FLOATING.search(name)),
                    name not in own_names,
                    not _DATED.search(name),
                    order[name],
                ),
            )
            found |= dict.fromkeys(group, counting)
    return {name: counting for name, counting in found.items() if name != counting}


def _connected(start: str, names: Mapping[str, set[str]]) -> set[str]:
    group, waiting = {start}, [start]
    while waiting:
        fresh = names[waiting.pop()] - group
        group |= fresh
        waiting += fresh
    return group
