"""Every setting in force, with where its value comes from, and without what must stay secret."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_settings import EnvSettingsSource

from flows.config.loading import find_config, load_settings
from flows.config.settings import Settings

_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]*@")
_SECRET_PARAMETER = re.compile(r"(?i)([?&][^=&#\s]*(?:key|token|secret|password|signature|sig)[^=&#\s]*=)[^&#\s]*")


@dataclass(frozen=True)
class SettingInForce:
    """One setting: its dotted key, its value as JSON knows it, and ``default``, the file or the variable behind it."""

    key: str
    value: Any
    origin: str


def masked(text: str) -> str:
    """Hide passwords and access keys in a URL; everything else stays as it is."""
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def settings_in_force(config: str | None) -> tuple[SettingInForce, ...]:
    """Give every setting that a night would run under, in the order of the settings file.

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
    path = find_config(config)
    in_file = tomllib.loads(path.read_text(encoding="utf-8")) if path is not None else {}
    in_environment = EnvSettingsSource(Settings)()
    found = []
    for place, value in _leaves(settings.model_dump(mode="json"), ()):
        origin = "default"
        if _holds(in_environment, place):
            origin = "environment"
        elif _holds(in_file, place):
            origin = str(path)
        shown = masked(value) if isinstance(value, str) else value
        found.append(SettingInForce(_key(place), shown, origin))
    return tuple(found)


def _leaves(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Walk down to the single settings; a list of names is one of them."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _leaves(entry, (*place, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, entry in enumerate(value):
            yield from _leaves(entry, (*place, number))
    else:
        yield place, value


def _holds(content: Any, place: tuple[str | int, ...]) -> bool:
    for part in place:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _key(place: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
