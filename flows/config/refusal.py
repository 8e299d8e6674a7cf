"""Why settings are refused: each wrong key with the file or the variable that gave it, and the nearest known key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from types import UnionType
from typing import Any, Union, get_origin

from pydantic import BaseModel, ValidationError

from flows.config.sections import GIVEN_TWICE
from flows.config.sources import Place, dotted
from flows.errors import PrerequisiteError

_MOST_ERRORS = 3


def refusal(
    error: ValidationError, settings: type[BaseModel], given_by: Callable[[Place], tuple[str, ...]], top: Place = ()
) -> PrerequisiteError:
    """Turn validation errors into one line.

    Parameters
    ----------
    error
        What pydantic found.
    settings
        The class that was validated.
    given_by
        Returns who gave the value at a place, in words.
    top
        The place of `settings` itself.
    """
    found = _by_setting(error.errors(include_url=False, include_input=False), settings)
    sentences, sources = [], []
    for one in found[:_MOST_ERRORS]:
        place = (*top, *one["loc"])
        givers = _givers(one, place, given_by)
        sources += [giver for giver in givers if giver not in sources]
        sentences.append(_sentence(one, settings, place, listed(givers)))
    if len(found) > _MOST_ERRORS:
        sentences.append(f"{len(found) - _MOST_ERRORS} more errors follow.")
    hint = f"Correct {listed(sources) or 'the settings'}, then: uniroute config validate"
    return PrerequisiteError(" ".join(sentences), hint=hint)


def _by_setting(errors: Iterable[Any], settings: type[BaseModel]) -> list[dict[str, Any]]:
    """Make one error of those that alternatives of one setting raise, such as ``"auto"`` or a number."""
    found: dict[Place, dict[str, Any]] = {}
    for one in errors:
        place = _without_alternative(one["loc"], settings)
        if place == one["loc"] or place not in found:
            found[(*place, len(found)) if place in found else place] = {**one, "loc": place}
        else:
            found[place]["msg"] += f", or {one['msg'].removeprefix('Input should be ')}"
    return list(found.values())


def _without_alternative(location: Place, settings: type[BaseModel]) -> Place:
    """Cut off the part of a location that names one alternative of a union of plain values."""
    section: Any = settings
    for at, part in enumerate(location):
        annotation = getattr(section, "model_fields", {}).get(part)
        if annotation is None:
            return location
        if get_origin(annotation.annotation) in (Union, UnionType) and not hasattr(
            section_class(annotation.annotation), "model_fields"
        ):
            return location[: at + 1]
        section = section_class(annotation.annotation)
    return location


def listed(names: Iterable[str]) -> str:
    """Write names as a list in a sentence."""
    *others, last = names or ("",)
    return f"{', '.join(others)} and {last}" if others else last


def _givers(one: Any, place: Place, given_by: Callable[[Place], tuple[str, ...]]) -> tuple[str, ...]:
    if one["type"] != GIVEN_TWICE:
        return given_by(place)
    names = one["ctx"]
    return tuple(dict.fromkeys([*given_by((*place, names["old"])), *given_by((*place, names["new"]))]))


def _sentence(one: Any, settings: type[BaseModel], place: Place, source: str) -> str:
    where = f"{dotted(place) or 'the settings'}{f' (in {source})' if source else ''}"
    if one["type"] == "extra_forbidden":
        nearest = _nearest_key(settings, one["loc"])
        return f"There is no setting {where}.{f' Did you mean {nearest!r}?' if nearest else ''}"
    reason = one["msg"].removeprefix("Value error, ")
    subject = f"The setting {where} is" if place else f"{where[0].upper()}{where[1:]} are"
    return f"{subject} refused: {reason}."


def _nearest_key(settings: type[BaseModel], location: Place) -> str | None:
    """Find where the unknown key exists, in one other section, or else the known key that looks most like it."""
    section: Any = settings
    for part in location[:-1]:
        if isinstance(part, str):
            section = section_class(section.model_fields[part].annotation)
    elsewhere = [
        f"{name}.{location[-1]}"
        for name, field in settings.model_fields.items()
        if location[-1] in getattr(section_class(field.annotation), "model_fields", {})
    ]
    if len(elsewhere) == 1:
        return elsewhere[0]
    matches = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1, cutoff=0.5)
    return matches[0] if matches else None


def section_class(annotation: Any) -> Any:
    """Return the section behind an annotation such as ``tuple[EndpointSettings, ...]``."""
    arguments = getattr(annotation, "__args__", ())
    return arguments[0] if arguments else annotation
