"""Which ids of a catalog the user wants, as the settings say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

from registry.listings import EXCLUDED, NOT_INCLUDED

_WILDCARDS = re.compile(r"[*?\[]")


class Patterns:
    """Shell patterns, case-sensitive; thousands of them take no longer than one.

    Parameters
    ----------
    patterns
        Such as ``mistralai/*``; ids without wildcards match themselves.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        given = tuple(patterns)
        self._ids = {pattern for pattern in given if not _WILDCARDS.search(pattern)}
        wild = [translate(pattern) for pattern in given if _WILDCARDS.search(pattern)]
        self._wild = re.compile("|".join(wild)) if wild else None

    def __bool__(self) -> bool:
        return bool(self._ids) or self._wild is not None

    def match(self, llm_id: str) -> bool:
        """Whether any of them matches the whole id."""
        return llm_id in self._ids or (self._wild is not None and self._wild.match(llm_id) is not None)


@dataclass(frozen=True)
class Selection:
    """Which ids the user wants.

    Attributes
    ----------
    include
        Wanted ids, as shell patterns; all when empty.
    exclude
        Unwanted ones among them.
    free
        Ids that may cost nothing.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    @cached_property
    def _included(self) -> Patterns:
        return Patterns(self.include)

    @cached_property
    def _excluded(self) -> Patterns:
        return Patterns(self.exclude)

    @cached_property
    def _free(self) -> Patterns:
        return Patterns(self.free)

    def leaves_out(self, llm_id: str) -> str | None:
        """Return why an id is not wanted; None when it is."""
        if self._included and not self._included.match(llm_id):
            return NOT_INCLUDED
        return EXCLUDED if self._excluded.match(llm_id) else None

    def is_free(self, llm_id: str) -> bool:
        """Whether an id may cost nothing."""
        return self._free.match(llm_id)
