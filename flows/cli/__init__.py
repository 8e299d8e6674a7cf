"""The `uniroute` command: noun groups, each imported only when it is asked for.

Importing Prefect, MLflow or scikit-learn takes seconds, so this module imports click and nothing else of weight.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from flows.cli.outcome import report_bug, report_error
from routing.errors import UnirouteError

_COMMANDS = {
    "bench": ("flows.cli.bench", "Measure routing methods over a folder of recorded outcomes."),
    "db": ("flows.cli.db", "Look after the registry's database."),
    "demo": ("flows.cli.demo", "Watch two nights on recorded answers of real LLMs."),
    "doctor": ("flows.cli.doctor", "Check that everything is whole and in step, and repair it."),
    "init": ("flows.cli.init", "Write a commented settings file."),
    "llm": ("flows.cli.llm", "List and show the LLMs the registry knows."),
    "night": ("flows.cli.night", "Run, schedule and look back at nights."),
    "route": ("flows.cli.route", "Route a prompt and say why."),
    "router": ("flows.cli.router", "List and show router versions."),
    "sandbox": ("flows.cli.sandbox", "Serve the recorded answers as an OpenAI-compatible endpoint."),
}


class _LazyGroup(click.Group):
    """A group that lists its commands from a table and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[name]
        return getattr(importlib.import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="uniroute")
def cli() -> None:
    """Keep LLM routers current: profile new LLMs every night, publish and promote router versions."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the codes of the README's table."""
    try:
        code: Any = cli.main(args=arguments, prog_name="uniroute", standalone_mode=False)
    except UnirouteError as error:
        sys.exit(report_error(error, as_json="--json" in (arguments or sys.argv)))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        sys.exit(report_bug(error))
    sys.exit(code if isinstance(code, int) else 0)
