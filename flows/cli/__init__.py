"""The `uniroute` command: noun groups, each imported only when it is used.

Importing Prefect, MLflow or scikit-learn takes seconds, so this module imports click and nothing else of weight.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

import click

from flows.cli.endings import ExitCode, report_bug, report_error, report_interruption, report_usage
from flows.cli.options import LazyGroup, OutputOptions
from flows.cli.screen import settings_warnings
from flows.config.environment import COMPLETE_VARIABLE
from routing.errors import UnirouteError

_COMMANDS = {
    "audit": ("flows.cli.audit", "Read, verify and export the ledger."),
    "bench": ("flows.cli.bench", "Measure routing methods over a folder of recorded outcomes."),
    "client": ("flows.cli.client", "Write the client that services load routers with."),
    "completion": ("flows.cli.completion", "Print the script that completes commands and names."),
    "config": ("flows.cli.config", "Show, validate and describe settings."),
    "db": ("flows.cli.db", "Migrate, back up, copy and prune the registry's database."),
    "demo": ("flows.cli.demo", "Watch two nights on recorded answers of real LLMs."),
    "deploy": ("flows.cli.deploy", "Set up a Prefect server so that its workers run nights."),
    "doctor": ("flows.cli.doctor", "Check that everything is intact and agrees, and repair it."),
    "init": ("flows.cli.init", "Write a commented settings file, or a price file."),
    "llm": ("flows.cli.llm", "List, show and decide about LLMs."),
    "metrics": ("flows.cli.metrics", "Print or serve figures for Prometheus."),
    "night": ("flows.cli.night", "Run, schedule, review and cancel nights."),
    "outcome": ("flows.cli.outcome", "Grade stored answers again, without calling LLMs."),
    "promotion": ("flows.cli.promotion", "Request, review, decide and undo promotions."),
    "prompt": ("flows.cli.prompt", "List, check and add the prompts that LLMs are profiled on."),
    "report": ("flows.cli.report", "Write reports on nights, promotions and LLMs."),
    "route": ("flows.cli.route", "Route a prompt, with reasons, or a file of prompts."),
    "router": ("flows.cli.router", "List, show, explain, compare and verify router versions."),
    "sandbox": ("flows.cli.sandbox", "Serve recorded answers as an OpenAI-compatible endpoint."),
}


@click.group(cls=LazyGroup, table=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="uniroute")
def cli() -> None:
    """Keep LLM routers current: profile new LLMs every night, publish and promote router versions."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the codes that flows/README.md lists."""
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "uniroute", COMPLETE_VARIABLE, instruction))
    given = sys.argv[1:] if arguments is None else list(arguments)
    output = OutputOptions()
    code = _run(given, output)
    sys.exit(ExitCode.DONE if output.is_zero_on_attention and code == ExitCode.ATTENTION else code)


def _refuse_odd_bytes(given: list[str]) -> None:
    """Refuse arguments that are not UTF-8: no name contains them, and databases and JSON do not accept them."""
    for number, argument in enumerate(given, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise click.UsageError(f"Argument {number} is not valid UTF-8.") from None


def _run(given: list[str], output: OutputOptions) -> int:
    """Run a command, report whatever it raises, and return its exit code."""
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        _refuse_odd_bytes(given)
        # What --quiet does to standard error ends here: errors are always printed.
        with (
            contextlib.redirect_stderr(sys.stderr),
            settings_warnings(),
            cli.make_context("uniroute", list(given), obj=output) as context,
        ):
            code = cli.invoke(context)
        return code if isinstance(code, int) else ExitCode.DONE
    except UnirouteError as error:
        return report_error(error, as_json=as_json, verbose=output.is_verbose)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return report_usage(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return report_interruption(as_json=as_json)
    except BrokenPipeError:
        # The reader of the output is gone; nothing more can be written, not even when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except Exception as error:
        return report_bug(error, as_json=as_json)
