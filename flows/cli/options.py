"""What commands share: their options, lists that are sorted and cut, and nouns that stand for their list."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from flows.config.loading import load_settings
from flows.workspace import Workspace


@dataclass
class Wishes:
    """How the caller wants to be told, and what was noted for him on the way.

    Attributes
    ----------
    is_quiet
        Whether only results and errors are printed.
    is_verbose
        Whether Prefect's log lines and the tracebacks of errors are printed too.
    is_zero_on_attention
        Whether the exit code 3 becomes 0.
    notes
        What the JSON envelope carries as warnings.
    """

    is_quiet: bool = False
    is_verbose: bool = False
    is_zero_on_attention: bool = False
    notes: list[str] = field(default_factory=list)


def acting_person() -> str:
    """Give the name under which a decision of this process is kept in the ledger."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"uid {os.getuid()}"


def wishes() -> Wishes:
    """Give the wishes of the command under way; the defaults outside of any."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Wishes) if context is not None else None
    return found if found is not None else Wishes()


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=str),
    help="Settings file (default: $UNIROUTE_CONFIG, then ./uniroute.toml, then the sandbox).",
)


def _must_say_something(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("a decision needs a reason; it must not be empty")
    return value


reason_option = click.option("--reason", required=True, callback=_must_say_something, help="Why; kept in the ledger.")
dry_run_option = click.option("--dry-run", "is_dry_run", is_flag=True, help="Say what would change; change nothing.")


def list_options(*fields: str, limit: int | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a list its ``--limit`` and ``--sort``; `arranged` does what they say.

    Parameters
    ----------
    fields
        The fields of its rows that it can be sorted by.
    limit
        How many rows at most by default; all without it.
    """
    directions = [*fields, *(f"-{name}" for name in fields)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--sort",
            type=click.Choice(directions),
            metavar="[-]FIELD",
            help=f"Sort by a field, downwards with '-': {', '.join(fields)}.",
        )(command)
        return click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            show_default=limit is not None,
            help="How many at most.",
        )(command)

    return decorate


def arranged(rows: Sequence[dict[str, Any]], sort: str | None, limit: int | None) -> list[dict[str, Any]]:
    """Sort rows by a field, unknown values last, and cut them to a number."""
    found = list(rows)
    if sort is not None:
        name = sort.removeprefix("-")
        known = sorted((row for row in found if row[name] is not None), key=lambda row: row[name])
        known = known[::-1] if sort.startswith("-") else known
        found = known + [row for row in found if row[name] is None]
    return found[:limit]


class LazyGroup(click.Group):
    """A group that lists its commands from a table and imports one only to run it.

    Parameters
    ----------
    table
        By name, the module that holds a command of that name, and what it does in a line.
    """

    def __init__(self, *arguments: Any, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names, sorted."""
        return sorted(self._table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command, and give it the options that all commands have."""
        if name not in self._table:
            return None
        module, _ = self._table[name]
        return _with_shared_options(getattr(importlib.import_module(module), name))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete names without importing what they stand for."""
        from click.shell_completion import CompletionItem

        fitting = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = [] if fitting else click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=self._table[name][1]) for name in fitting), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._table[name][1]) for name in self.list_commands(ctx)])


class NounGroup(click.Group):
    """A noun with verbs: without a verb it stands for one of them, ``list`` unless another is named.

    Parameters
    ----------
    bare
        The verb that the bare noun stands for.
    """

    def __init__(self, *arguments: Any, bare: str = "list", **options: Any) -> None:
        super().__init__(*arguments, **{**options, "no_args_is_help": False})
        self.bare = bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the verb that was left out."""
        is_option = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if not ctx.resilient_parsing and (not args or is_option):
            args = [self.bare, *args]
        return super().parse_args(ctx, args)


def _be_quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Wishes).is_quiet = True
        nowhere = context.with_resource(Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - the context does
        context.with_resource(contextlib.redirect_stderr(nowhere))


def _be_verbose(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.ensure_object(Wishes).is_verbose |= value


def _forgive(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    context.ensure_object(Wishes).is_zero_on_attention |= value is not None


def _shared() -> list[click.Option]:
    told = {"expose_value": False}
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, callback=_be_quiet, help="Print only results and errors.", **told
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            callback=_be_verbose,
            help="Print Prefect's log and tracebacks too.",
            **told,
        ),
        click.Option(
            ["--exit-zero-on"],
            type=click.Choice(["attention"]),
            callback=_forgive,
            help="End with 0 instead of 3 when something needs attention.",
            **told,
        ),
    ]


def _with_shared_options(command: click.Command) -> click.Command:
    """Give a command, or every verb of a noun, the options that all commands have."""
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _with_shared_options(verb)
    elif not any("--quiet" in option.opts for option in command.params):
        command.params.extend(_shared())
    return command


@contextmanager
def opened(config: str | None) -> Iterator[Workspace]:
    """Open the workspace that the settings describe, and close it again."""
    with Workspace(load_settings(config)) as workspace:
        yield workspace
