"""``make stack``: prove that the topology works, step by step; with ``--keep`` it stays until Ctrl-C."""

import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import click

from flows.config.environment import prepare
from tests.postgres import a_server
from tests.stack.processes import Memory
from tests.stack.proof import prove
from tests.stack.topology import Stack, a_stack


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running, with a worker, until Ctrl-C.")
def main(keep: bool) -> None:
    """Start PostgreSQL, MLflow and Prefect as processes, kill a worker in the middle of a night, and compare."""
    # SIGTERM leaves nothing behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as entered:
        folder = Path(entered.enter_context(tempfile.TemporaryDirectory(prefix="uniroute-stack-")))
        prepare(folder)
        postgres = entered.enter_context(a_server(f"stack-{os.getpid()}"))
        stack = entered.enter_context(a_stack(postgres, folder))
        proof = prove(stack, click.echo)
        click.echo(memory_table(proof.memory))
        if keep:
            stay(stack)
    sys.exit(1 if proof.differences else 0)


def memory_table(memory: Mapping[str, Memory]) -> str:
    """Lay out what each server takes."""
    lines = [f"{'':<22}{'processes':>10}{'resident MB':>13}{'shared counted once':>21}"]
    for name, found in memory.items():
        resident, proportional = found.resident_bytes / 1e6, found.proportional_bytes / 1e6
        lines.append(f"{name:<22}{found.processes:>10}{resident:>13.0f}{proportional:>21.0f}")
    return "\n".join(lines)


def stay(stack: Stack) -> None:
    """Start a worker, and say how to look around."""
    variables = stack.folder / "environment.sh"
    wanted = {name: value for name, value in stack.environment.items() if os.environ.get(name) != value}
    variables.touch(mode=0o600)
    variables.write_text("".join(f"export {name}='{value}'\n" for name, value in wanted.items()))
    with stack.worker("third"):
        click.echo(f"MLflow:  {stack.environment['UNIROUTE_MLFLOW__TRACKING_URL']}")
        click.echo(f"Prefect: {stack.environment['PREFECT_API_URL'].removesuffix('/api')}")
        click.echo(f"Users and passwords, and the environment of a client: . {variables}\nCtrl-C stops everything.")
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
