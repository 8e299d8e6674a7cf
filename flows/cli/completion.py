"""``uniroute completion``: commands, options and the registry's names on the Tab key."""

from __future__ import annotations

import click

from flows.cli.options import json_option
from flows.cli.screen import show
from flows.environment import COMPLETE_VARIABLE

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
