"""Settings that were renamed: the old key works for one release, and is warned of."""

from __future__ import annotations

import warnings

from flows.config.refusal import listed, section_class
from flows.config.sections import Section
from flows.config.settings import Settings
from flows.config.sources import GivenValues, Place, dotted
from flows.errors import RenamedSetting


def given_by(sources: GivenValues, place: Place) -> tuple[str, ...]:
    """Return who gave a setting, under its present name or the old one; empty for a default."""
    section = _section_of(place)
    old = [former for former, new in section.old_names.items() if place[-1:] == (new,)] if section else []
    return next((found for name in [*place[-1:], *old] if (found := sources.of((*place[:-1], name)))), ())


def warn_of_old_names(sources: GivenValues) -> None:
    """Warn of every key that is given under its old name, with the new one."""
    for place in dict.fromkeys(sources.leaves()):
        section = _section_of(place)
        new = section.old_names.get(str(place[-1])) if section else None
        if new is not None:
            subject = f"The setting {dotted(place)} (in {listed(sources.of(place))})"
            text = f"{subject} is now called {new}; the old name works in this release only."
            # One place for all callers, so that a process says it once.
            warnings.warn(text, RenamedSetting, stacklevel=1)


def _section_of(place: Place) -> type[Section] | None:
    field = Settings.model_fields.get(str(place[0])) if len(place) > 1 else None
    found = section_class(field.annotation) if field is not None else None
    return found if isinstance(found, type) and issubclass(found, Section) else None
