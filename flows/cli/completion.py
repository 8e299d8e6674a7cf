"""``uniroute completion``: commands, options and the registry's names on the Tab key.

Names are completed while a person waits for a keystroke, so nothing here imports SQLAlchemy or pydantic.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.options import json_option
from flows.cli.screen import show
from flows.config.environment import COMPLETE_VARIABLE, home_folder

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[Any]]

_SHELLS = ("bash", "zsh", "fish")
# LLM keys hold a colon, at which bash would split words.
_BASH_HEAD = 'COMP_WORDBREAKS="${COMP_WORDBREAKS//:/}"\n'
_CONFIG_NAME = "uniroute.toml"
# What no shell interprets, in the first place and after it.
_PLAIN = re.compile(r"[\w.:/@%][\w.:/@+%=,-]*")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Print the script with which SHELL completes commands, options, LLMs, routers, nights and promotions.

    bash: eval "$(uniroute completion bash)"; zsh: eval "$(uniroute completion zsh)"; fish: uniroute completion fish |
    source.
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    found = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}[shell]
    script = found(context.find_root().command, {}, "uniroute", COMPLETE_VARIABLE)
    source = found.source_template % script.source_vars()
    source = (_BASH_HEAD if shell == "bash" else "") + source
    show("completion", {"shell": shell, "script": source}, as_json=as_json, text=lambda: source)


def _names(context: click.Context, kinds: Iterable[str]) -> list[str]:
    """Return the registry's names of some kinds; names from a catalog that would act in a shell are left out."""
    from registry.db.completion_names import names

    url = registry_url(context.params.get("config"))
    found = [name for kind in kinds for name in names(url, kind)]
    return [name for name in found if _PLAIN.fullmatch(name)]


def _fitting(found: list[str], incomplete: str) -> list[str]:
    """Return the names that start with what was typed or, if none does, contain it: an LLM's id without endpoint."""
    starting = [name for name in found if name.startswith(incomplete)]
    return starting or [name for name in found if incomplete in name]


def _items(names: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in names]


def _completer(*kinds: str) -> Completer:
    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _items(_fitting(_names(context, kinds), incomplete))

    return complete


def complete_llm_list(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Complete the last of several LLMs that are separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    chosen = set(before.split(","))
    rest = [name for name in _names(context, ("llm",)) if name not in chosen]
    return _items(f"{before}{comma}{name}" for name in _fitting(rest, last))


complete_llms = _completer("llm")
complete_routers = _completer("router")
complete_runs = _completer("run")
complete_promotions = _completer("promotion")
complete_waiting_promotions = _completer("waiting promotion")
complete_subjects = _completer("router", "run", "llm")


def registry_url(config: str | None) -> str:
    """Return the registry's URL as `flows.config.settings` does, without its checks and the time that they take.

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
