"""Every setting in force, with where its value comes from, and without what must stay secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.config.loading import load_settings, read_sources
from flows.config.renamed import given_by
from flows.config.sources import dotted, leaves
from flows.masking import mask_urls


@dataclass(frozen=True)
class EffectiveSetting:
    """One setting.

    Attributes
    ----------
    key
        Its dotted key, ``endpoint[0].base_url``.
    value
        Its value as JSON knows it.
    origin
        ``default``, ``environment``, or the path of the settings file.
    """

    key: str
    value: Any
    origin: str


def settings_in_force(config: str | None) -> tuple[EffectiveSetting, ...]:
    """Return every setting that a night would run under, in the order of the settings file.

    Parameters
    ----------
    config
        The settings file; found as by `load_settings` when omitted.

    Raises
    ------
    PrerequisiteError
        The settings are refused.
    """
    settings = load_settings(config)
    sources = read_sources(config)
    found = []
    for place, value in leaves(settings.model_dump(mode="json")):
        origin = next(iter(given_by(sources, place)), "default")
        if origin not in ("default", str(sources.path)):
            origin = "environment"
        shown = mask_urls(value) if isinstance(value, str) else value
        found.append(EffectiveSetting(dotted(place), shown, origin))
    return tuple(found)
