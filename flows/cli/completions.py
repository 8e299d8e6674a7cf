"""Names that the shell completes: read from the registry in milliseconds, or left out when that is not possible."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flows.environment import home_folder

Completer = Callable[[click.Context, click.Parameter, str], list[Any]]
_CONFIG_NAME = "uniroute.toml"


def registry_url(config: str | None) -> str:
    """Give the registry's URL as `flows.settings` does, without its checks and the time that they take.

    Parameters
    ----------
    config
        The settings file, when the command line names one.
    """
    path = Path(config or os.environ.get("UNIROUTE_CONFIG") or _CONFIG_NAME)
    content: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    registry = content.get("registry")
    url = os.environ.get("UNIROUTE_REGISTRY__URL") or (registry.get("url") if isinstance(registry, dict) else "")
    if url:
        return str(url)
    home = content.get("home")
    if "UNIROUTE_HOME" in os.environ or not isinstance(home, str):
        return f"sqlite:///{home_folder() / 'registry.db'}"
    return f"sqlite:///{path.resolve().parent / Path(home).expanduser() / 'registry.db'}"


def _completer(kind: str) -> Completer:
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from registry.names import names

        found = names(registry_url(context.params.get("config")), kind)
        starting = [name for name in found if name.startswith(incomplete)]
        # Whoever types the id of an LLM without its endpoint is helped too.
        chosen = starting or [name for name in found if incomplete in name]
        # What comes from a catalog must not act in the shell that shows it.
        return [CompletionItem(name) for name in chosen if name.isprintable() and not set(name) & set("\"'`$\\\n")]

    return complete


complete_llms = _completer("llm")
complete_routers = _completer("router")
complete_runs = _completer("run")
complete_promotions = _completer("promotion")
