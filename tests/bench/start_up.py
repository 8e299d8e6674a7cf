"""Measure how long the command line takes to start, against a bare interpreter: ``make bench-cli``.

The commands take turns with the bare interpreter, because the speed of a machine changes; beside wall time, the CPU
time of the process is measured, which other processes disturb less.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from flows.config.environment import COMPLETE_VARIABLE

_LLMS = 2000
_ROUNDS = 15


@dataclass(frozen=True)
class Started:
    """One start: wall and CPU time of the process, in seconds."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class StartUp:
    """How long one command takes to start.

    Attributes
    ----------
    name
        Command that is started.
    wall_ms, cpu_ms
        Medians, in milliseconds.
    over_bare_ms, over_bare_cpu_ms
        Medians of the difference from the bare interpreter of the same round, in milliseconds.
    """

    name: str
    wall_ms: float
    cpu_ms: float
    over_bare_ms: float
    over_bare_cpu_ms: float


def measure(home: Path, *, rounds: int = _ROUNDS, llms: int = _LLMS) -> tuple[StartUp, ...]:
    """Start each command once per round, in turns.

    Parameters
    ----------
    home
        An empty folder, in which a registry of `llms` LLMs is created.
    rounds
        How often each command is started, after one start to warm up.
    llms
        Number of LLMs in the registry whose names are completed.
    """
    _fill(home, llms)
    uniroute = str(Path(sys.executable).with_name("uniroute"))
    asked = {COMPLETE_VARIABLE: "zsh_complete", "COMP_WORDS": "uniroute llm show many:llm-1", "COMP_CWORD": "3"}
    commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
        "python -c pass": ((sys.executable, "-c", "pass"), {}),
        "uniroute --help": ((uniroute, "--help"), {}),
        "uniroute llm --help": ((uniroute, "llm", "--help"), {}),
        f"completion among {llms:,} LLMs": ((uniroute,), asked),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIROUTE_")}
    environment |= {"UNIROUTE_HOME": str(home)}
    found: dict[str, list[Started]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, (command, variables) in commands.items():
            started = _start(command, {**environment, **variables}, home)
            if number:
                found[name].append(started)
    bare = found["python -c pass"]
    return tuple(_summary(name, starts, bare) for name, starts in found.items())


def _start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Started:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.perf_counter()
    subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)  # noqa: S603
    wall_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Started(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _summary(name: str, starts: Sequence[Started], bare: Sequence[Started]) -> StartUp:
    pairs = list(zip(starts, bare, strict=True))
    return StartUp(
        name,
        1000 * median(one.wall_s for one in starts),
        1000 * median(one.cpu_s for one in starts),
        1000 * median(one.wall_s - base.wall_s for one, base in pairs),
        1000 * median(one.cpu_s - base.cpu_s for one, base in pairs),
    )


def _fill(home: Path, llms: int) -> None:
    """Create a registry with this many LLMs."""
    from datetime import UTC, datetime
    from decimal import Decimal

    from registry.llms import CatalogFetch, Listing
    from registry.store import Registry

    now = datetime.now(UTC)
    facts = {"catalog": "many", "endpoint": "many", "canonical_id": None, "released_at": None, "context_tokens": None}
    price = {
        "input_usd_per_mtok": Decimal(1),
        "output_usd_per_mtok": Decimal(1),
        "refusal": None,
        "deprecated_at": None,
    }
    rows = [Listing(llm_id=f"llm-{n}", name=f"LLM {n}", raw="{}", **facts, **price) for n in range(llms)]
    with Registry.open(f"sqlite:///{home / 'registry.db'}") as registry:
        rules = {"settings_hash": "x", "settings_json": "{}", "host": "here", "pid": os.getpid()}
        run = registry.runs.start("bench", as_of=now.date(), now=now, lease_s=600.0, **rules)
        registry.llms.record_fetches(run, [CatalogFetch("many", tuple(rows), (), True, "x")], now.date())
        registry.runs.finish(run, "completed", "", "{}", now)


def main() -> None:
    """Measure every command and print a table."""
    from flows.text import table

    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    rows = [
        [one.name, *(f"{value:.0f}" for value in (one.wall_ms, one.over_bare_ms, one.cpu_ms, one.over_bare_cpu_ms))]
        for one in found
    ]
    click.echo(f"Medians of {_ROUNDS} starts in turns, in milliseconds:")
    click.echo(table(["", "WALL", "OVER BARE", "CPU", "OVER BARE"], rows, right=(1, 2, 3, 4)))


if __name__ == "__main__":
    main()
