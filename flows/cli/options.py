"""What commands share: their options, sorted and limited lists, groups, and how they open the workspace."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flows.workspace import Workspace


@dataclass
class OutputOptions:
    """What a command prints besides its result, and the notes that it has collected.

    Attributes
    ----------
    is_quiet
        Whether only results and errors are printed.
    is_verbose
        Whether Prefect's log lines and tracebacks of errors are printed too.
    is_zero_on_attention
        Whether the exit code 3 becomes 0.
    notes
        The warnings of the JSON envelope.
    """

    is_quiet: bool = False
    is_verbose: bool = False
    is_zero_on_attention: bool = False
    notes: list[str] = field(default_factory=list)


def output_options() -> OutputOptions:
    """Return the output options of the running command; the defaults outside a command."""
    context = click.get_current_context(silent=True)
    found = context.find_object(OutputOptions) if context is not None else None
    return found if found is not None else OutputOptions()


@contextmanager
def opened(config: str | None) -> Iterator[Workspace]:
    """Open the workspace that the settings describe, and close it at the end."""
    from flows.config.loading import load_settings
    from flows.workspace import Workspace

    with Workspace(load_settings(config)) as workspace:
        yield workspace


def acting_person() -> str:
    """Return the name under which the ledger records decisions of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        return f"uid {os.getuid()}"


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=str),
    help="Settings file (default: $UNIROUTE_CONFIG, then ./uniroute.toml, then the sandbox).",
)


def _must_not_be_blank(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("a decision needs a reason; it must not be empty")
    return value


reason_option = click.option(
    "--reason", required=True, callback=_must_not_be_blank, help="Why; recorded in the ledger."
)
dry_run_option = click.option(
    "--dry-run", "is_dry_run", is_flag=True, help="Report what would change, and change nothing."
)

all_option = click.option("--all", "is_all", is_flag=True, help="Show LLMs that include and exclude leave out, too.")


def list_options(*fields: str, limit: int | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds ``--limit`` and ``--sort`` to a list; `arranged` applies them.

    Parameters
    ----------
    fields
        The fields of its rows by which it can be sorted.
    limit
        How many rows are shown by default; all when None.
    """
    directions = [*fields, *(f"-{name}" for name in fields)]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--sort",
            type=click.Choice(directions),
            metavar="[-]FIELD",
            help=f"Sort by a field, in descending order with '-': {', '.join(fields)}.",
        )(command)
        return click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            show_default=limit is not None,
            help="Show at most this many.",
        )(command)

    return decorate


def arranged(rows: Sequence[dict[str, Any]], sort: str | None, limit: int | None) -> list[dict[str, Any]]:
    """Sort rows by a field, unknown values last, and limit their number."""
    found = list(rows)
    if sort is not None:
        name = sort.removeprefix("-")
        known = sorted((row for row in found if row[name] is not None), key=lambda row: row[name])
        known = known[::-1] if sort.startswith("-") else known
        found = known + [row for row in found if row[name] is None]
    return found[:limit]


class LazyGroup(click.Group):
    """A group that lists its commands from a table and imports a command only to run it.

    Parameters
    ----------
    table
        By name, the module of the command with that name, and what it does in a line.
    """

    def __init__(self, *arguments: Any, table: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import a command and add the options that all commands share."""
        if name not in self._table:
            return None
        module, _ = self._table[name]
        return _with_shared_options(getattr(importlib.import_module(module), name))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete names without importing the commands."""
        from click.shell_completion import CompletionItem

        fitting = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = [] if fitting else click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=self._table[name][1]) for name in fitting), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._table[name][1]) for name in self.list_commands(ctx)])


class NounGroup(click.Group):
    """A noun with verbs; without a verb it runs one of them, ``list`` unless another is named.

    Parameters
    ----------
    bare
        The verb that the bare noun runs.
    """

    def __init__(self, *arguments: Any, bare: str = "list", **options: Any) -> None:
        super().__init__(*arguments, **{**options, "no_args_is_help": False})
        self.bare = bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the verb that was left out."""
        is_option = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if not ctx.resilient_parsing and (not args or is_option):
            args = [self.bare, *args]
        return super().parse_args(ctx, args)


def _be_quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(OutputOptions).is_quiet = True
        nowhere = context.with_resource(Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - the context does
        context.with_resource(contextlib.redirect_stderr(nowhere))


def _be_verbose(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.ensure_object(OutputOptions).is_verbose |= value


def _forgive(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    context.ensure_object(OutputOptions).is_zero_on_attention |= value is not None


def _shared() -> list[click.Option]:
    hidden = {"expose_value": False}
    return [
        click.Option(
            ["-q", "--quiet"], is_flag=True, callback=_be_quiet, help="Print only results and errors.", **hidden
        ),
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            callback=_be_verbose,
            help="Print Prefect's log and tracebacks, too.",
            **hidden,
        ),
        click.Option(
            ["--exit-zero-on"],
            type=click.Choice(["attention"]),
            callback=_forgive,
            help="Exit with 0 instead of 3 when something needs attention.",
            **hidden,
        ),
    ]


def _with_shared_options(command: click.Command) -> click.Command:
    """Add the options that all commands share to a command, or to every verb of a noun."""
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            _with_shared_options(verb)
    elif not any("--quiet" in option.opts for option in command.params):
        command.params.extend(_shared())
    return command
