"""``uniroute completion``: commands, options and the registry's names on the Tab key."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flows.cli.options import json_option
from flows.cli.screen import show
from flows.config.environment import COMPLETE_VARIABLE, home_folder
from registry.publishing.markdown import is_active

_SHELLS = ("bash", "zsh", "fish")
# LLM keys hold a colon, at which bash would cut words.
_BASH_HEAD = 'COMP_WORDBREAKS="${COMP_WORDBREAKS//:/}"\n'


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script that completes commands, LLMs and routers in SHELL; load it with eval or a file of the shell.

    bash: eval "$(uniroute completion bash)"; zsh: eval "$(uniroute completion zsh)"; fish: uniroute completion fish |
    source.
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    found = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    script = found(context.find_root().command, {}, "uniroute", COMPLETE_VARIABLE)
    source = found.source_template % script.source_vars()
    source = (_BASH_HEAD if shell == "bash" else "") + source
    show("completion", {"shell": shell, "script": source}, as_json=as_json, text=lambda: source)


Completer = Callable[[click.Context, click.Parameter, str], list[Any]]


_CONFIG_NAME = "uniroute.toml"


def registry_url(config: str | None) -> str:
    """Give the registry's URL as `flows.config.settings` does, without its checks and the time that they take.

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


_OF_SHELL = frozenset("\"'`$\\")


def _completer(kind: str) -> Completer:
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        from registry.completion_names import names

        found = names(registry_url(context.params.get("config")), kind)
        starting = [name for name in found if name.startswith(incomplete)]
        # Whoever types the id of an LLM without its endpoint is helped too.
        chosen = starting or [name for name in found if incomplete in name]
        # What comes from a catalog must not act in the shell that shows it.
        return [
            CompletionItem(name) for name in chosen if not any(is_active(sign) or sign in _OF_SHELL for sign in name)
        ]

    return complete


complete_llms = _completer("llm")


complete_routers = _completer("router")


complete_runs = _completer("run")


complete_promotions = _completer("promotion")
