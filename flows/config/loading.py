"""Find and load the settings."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from flows.config.refusal import refusal
from flows.config.renamed import given_by, warn_of_old_names
from flows.config.sections import EndpointSettings
from flows.config.settings import Settings
from flows.config.sources import CONFIG_NAME, OTHER_VARIABLES, PREFIX, GivenValues, is_of_settings, read_variables
from flows.errors import CredentialsMissing, PrerequisiteError

SANDBOX_COST_WEIGHT: Final = 8.0
"""Cost weight of the demo, in errors per USD: with it, the second router expects to cost about half of what the best
single LLM costs, on map prompts; no figure of the demo is measured on these."""


@dataclass(frozen=True)
class SettingsSource:
    """How the settings of a night were given.

    Attributes
    ----------
    config
        Path of the settings file; found as `flows.config.loading.find_config` says when None.
    sandbox
        Whether the night runs on the sandbox, even where there is a settings file, with the demo's cost weight unless a
        variable gives another one.
    budget_usd, max_new
        As for `Settings.overridden`.
    """

    config: str | None = None
    sandbox: bool = False
    budget_usd: float | None = None
    max_new: int | None = None

    def load(self) -> Settings:
        """Read the settings; raises as `load_settings` and `Settings.overridden` do."""
        if self.sandbox:
            settings = Settings(routing={"cost_weight": SANDBOX_COST_WEIGHT})
        else:
            settings = load_settings(self.config)
        return settings.overridden(budget_usd=self.budget_usd, max_new=self.max_new)


def find_config(config: str | Path | None) -> Path | None:
    """Find the settings file: the one named, else ``$UNIROUTE_CONFIG``, else ``uniroute.toml`` in this folder.

    A name may hold variables, so that a deployment can leave it to each worker where its file is.
    """
    if config is not None:
        return Path(os.path.expandvars(config))
    if named := os.environ.get("UNIROUTE_CONFIG"):
        return Path(named)
    here = Path(CONFIG_NAME)
    return here if here.is_file() else None


def load_settings(config: str | Path | None = None) -> Settings:
    """Read the settings file and the environment.

    Parameters
    ----------
    config
        The file; searched as `find_config` says when omitted.

    Raises
    ------
    PrerequisiteError
        The file is missing, is not TOML, or holds an unknown key or a value out of range.
    """
    sources = read_sources(config)
    content = dict(sources.in_file)
    if sources.path is not None:
        _resolve_paths(content, sources.path.resolve().parent)
    _refuse_unknown_variables()
    try:
        settings = Settings(**content)
    except ValidationError as error:
        raise refusal(error, Settings, lambda place: given_by(sources, place) or sources.nearest(place)) from None
    except (SettingsError, RecursionError):
        raise _undecodable(sources) from None
    warn_of_old_names(sources)
    return settings


def read_sources(config: str | Path | None = None) -> GivenValues:
    """Read what the settings file and the environment give, unchecked.

    Parameters
    ----------
    config
        The file; searched as `find_config` says when omitted.

    Raises
    ------
    PrerequisiteError
        The file is missing or is not TOML.
    """
    path = find_config(config)
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PrerequisiteError(
                f"The settings file {path} cannot be read: {error.strerror}.",
                hint="Write one with: uniroute init",
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PrerequisiteError(
                f"The settings file {path} is not valid TOML: {error}.", hint=f"Correct {path}."
            ) from None
    return GivenValues(path, content, read_variables())


def _refuse_unknown_variables() -> None:
    """Refuse a misspelt ``UNIROUTE_...`` variable: a budget that is silently not read costs money."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in sorted(filter(is_of_settings, os.environ)):
        section = variable.upper().split("__")[0]
        if section in known:
            continue
        nearest = difflib.get_close_matches(section, [*known, *OTHER_VARIABLES], n=1, cutoff=0.5)
        suggestion = f" Did you mean {nearest[0]}?" if nearest else ""
        raise PrerequisiteError(
            f"There is no setting for the environment variable {variable}.{suggestion}", hint=f"unset {variable}"
        )


def _undecodable(sources: GivenValues) -> PrerequisiteError:
    """Name the variables that should hold a whole section as JSON, and do not."""
    broken = [one.name for one in sources.variables if len(one.place) == 1 and isinstance(one.content, str)]
    name = next((name for name in broken if name.upper() != f"{PREFIX}HOME"), "")
    return PrerequisiteError(
        f"The environment variable {name} sets a whole section, and its value is not valid JSON.",
        hint=f"""Correct it, or set one key: {name}__KEY=VALUE""",
    )


def _resolve_paths(content: dict[str, Any], folder: Path) -> None:
    """Read the paths of a settings file as relative to that file, so that a schedule may start anywhere."""
    places = [(content.get("prompts"), "file"), (content, "home"), (content.get("signing"), "private_key")]
    for name, key in (("catalog", "location"), ("endpoint", "api_key_file"), ("signing_key", "file")):
        places += [(entry, key) for entry in entries] if isinstance(entries := content.get(name), list) else []
    for section, key in places:
        if isinstance(section, dict) and isinstance(value := section.get(key), str) and "://" not in value:
            section[key] = str(folder / Path(value).expanduser())
    _resolve_embedder(content.get("embedder"), folder)


def _resolve_embedder(section: Any, folder: Path) -> None:
    """Read the name of an embedder as a path when it is one: names of embedders may have a slash, too."""
    if isinstance(section, dict) and isinstance(name := section.get("name"), str) and "/" in name:
        place = folder / os.path.expanduser(name)  # noqa: PTH111 - Path raises for an unknown user
        if name.startswith((".", "/", "~")) or place.is_dir():
            section["name"] = str(place)


def read_key(endpoint: EndpointSettings) -> SecretStr | None:
    """Read the key that an endpoint's settings refer to.

    Raises
    ------
    CredentialsMissing
        The variable is not set, the file is unreadable or empty, or what they hold cannot be sent as a key.
    """
    if endpoint.api_key_env:
        value = os.environ.get(endpoint.api_key_env, "").strip()
        if not value:
            raise CredentialsMissing(
                f"The endpoint {endpoint.name} needs its key in the environment variable {endpoint.api_key_env}, "
                "which is not set.",
                unchanged="Nothing was called.",
                hint=f"export {endpoint.api_key_env}=...",
            )
        return _sendable(value, endpoint.name, f"the environment variable {endpoint.api_key_env}")
    if endpoint.api_key_file is not None:
        try:
            value = endpoint.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            value = ""
        if not value:
            raise CredentialsMissing(
                f"The endpoint {endpoint.name} needs its key in the file {endpoint.api_key_file}, "
                "which is missing, unreadable or empty.",
                unchanged="Nothing was called.",
                hint=f"Write the key into {endpoint.api_key_file}.",
            )
        return _sendable(value, endpoint.name, f"the file {endpoint.api_key_file}")
    return None


def _sendable(value: str, endpoint_name: str, place: str) -> SecretStr:
    """Refuse a key that no header can carry; the message says what is wrong with it and nothing of what it holds."""
    if value.isascii() and value.isprintable():
        return SecretStr(value)
    lines = len(value.splitlines())
    found = f"has {lines} lines" if lines > 1 else "holds characters that are not printable ASCII"
    raise CredentialsMissing(
        f"The key of the endpoint {endpoint_name} in {place} cannot be sent: it {found}.",
        unchanged="Nothing was called.",
        hint=f"Put the key alone, as its provider shows it, into {place}.",
    )
