"""Where settings are given: the settings file, and the environment variables that win over it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG_NAME = "uniroute.toml"
PREFIX = "UNIROUTE_"
TEST_PREFIX = "UNIROUTE_TEST_"
OTHER_VARIABLES = ("UNIROUTE_CONFIG", "UNIROUTE_DATA")
_CHECKED_TOGETHER = ("catalog", "endpoint", "judge", "prompts")
"""Sections that are checked against each other; an error between them has no place of its own."""

_NOTHING = object()

Place = tuple[str | int, ...]
"""The way from the top of the settings to a value: names of tables and keys, and positions in lists."""


def dotted(place: Place) -> str:
    """Write a place as people type it: ``endpoint[0].base_url``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield the single settings below a value with their places; a list of names is one of them."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from leaves(entry, (*place, name))
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for number, entry in enumerate(value):
            yield from leaves(entry, (*place, number))
    else:
        yield place, value


@dataclass(frozen=True)
class Variable:
    """An environment variable that gives a setting, or as JSON several.

    Attributes
    ----------
    name
        Its name, ``UNIROUTE_BUDGET__NIGHT_USD`` or ``UNIROUTE_BUDGET``.
    place
        What it sets.
    content
        Its value; that of a JSON object or array is decoded.
    """

    name: str
    place: Place
    content: Any

    def value_at(self, place: Place) -> Any:
        """Return what it sets at a place, or `_NOTHING`."""
        return _at(self.content, place[len(self.place) :]) if _is_below(place, self.place) else _NOTHING


@dataclass(frozen=True)
class GivenValues:
    """The values that a settings file and the environment give.

    Attributes
    ----------
    path
        The settings file; None when there is none.
    in_file
        Its content.
    variables
        The environment variables that give settings, by name.
    """

    path: Path | None
    in_file: Mapping[str, Any]
    variables: tuple[Variable, ...]

    def of(self, place: Place) -> tuple[str, ...]:
        """Return who gave the value at a place, in words; empty for a default.

        A single value has one source. A table may have several, and so has the whole, for which the sections count that
        are checked against each other.
        """
        if not place:
            variables = [one.name for one in self.variables if one.place[0] in _CHECKED_TOGETHER]
            return self._named(variables, is_in_file=self.path is not None)
        given = [(one.name, one.value_at(place)) for one in self.variables]
        single = [name for name, value in given if value is not _NOTHING and not isinstance(value, Mapping)]
        if single:
            return self._named(single[-1:], is_in_file=False)
        parts = [
            one.name
            for one, (_, value) in zip(self.variables, given, strict=True)
            if value is not _NOTHING or _is_below(one.place, place)
        ]
        return self._named(parts, is_in_file=self._is_from_file(place))

    def nearest(self, place: Place) -> tuple[str, ...]:
        """Return who gave the value at a place or, where there is none, the closest table around it."""
        for depth in range(len(place), 0, -1):
            if found := self.of(place[:depth]):
                return found
        return self.of(())

    def leaves(self) -> Iterator[Place]:
        """Yield the place of every single setting that is given, in the file first."""
        for place, _ in leaves(self.in_file):
            yield place
        for variable in self.variables:
            for place, _ in leaves(variable.content, variable.place):
                yield place

    def _is_from_file(self, place: Place) -> bool:
        # The environment adds to a table of the file, but replaces a list.
        replaced = any(
            value is not _NOTHING and not isinstance(value, Mapping)
            for one in self.variables
            for value in (one.value_at(place[:depth]) for depth in range(len(place)))
        )
        return not replaced and _at(self.in_file, place) is not _NOTHING

    def _named(self, variables: list[str], *, is_in_file: bool) -> tuple[str, ...]:
        file = (str(self.path),) if is_in_file else ()
        return (*file, *(f"the environment variable {name}" for name in variables))


def read_variables() -> tuple[Variable, ...]:
    """Read the environment variables that give settings, in the order of their names."""
    found = []
    for name in sorted(os.environ):
        if not is_of_settings(name):
            continue
        value: Any = os.environ[name]
        if value.lstrip().startswith(("{", "[")):
            with contextlib.suppress(ValueError, RecursionError):  # what cannot be decoded is refused by the settings
                value = json.loads(value)
        found.append(Variable(name, tuple(name.lower().removeprefix(PREFIX.lower()).split("__")), value))
    return tuple(found)


def is_of_settings(variable: str) -> bool:
    """Whether an environment variable is meant as a setting; letter case does not count."""
    name = variable.upper()
    return name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in OTHER_VARIABLES


def _at(content: Any, place: Place) -> Any:
    for part in place:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return _NOTHING
    return content


def _is_below(place: Place, other: Place) -> bool:
    return place[: len(other)] == other
