"""One demo, run as a newcomer runs it, that all end-to-end tests look at."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli.demo import WEIGHT
from flows.config.loading import SANDBOX_COST_WEIGHT
from flows.config.settings import Settings
from flows.workspace import Workspace
from tests.commands import Uniroute
from tests.fakes.plain import without_prefect
from tests.stack.topology import write_prompts

UNIROUTE = Path(sys.executable).with_name("uniroute")
PROMPTS = 800
SHARES = {"map": 0.2, "representative": 0.2, "gate": 0.5, "hidden": 0.1}


@dataclass(frozen=True)
class Demo:
    """A finished demo: where its state is, what it printed, and the settings to continue with."""

    home: Path
    output: str
    variables: dict[str, str]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run ``uniroute demo`` with the quick embedder and fewer prompts, so that the suite stays short.

    `make demo` uses the defaults. A wider epsilon makes up for the fewer gate prompts, and keeps the decision away from
    the last digits of its bound.
    """
    folder = tmp_path_factory.mktemp("demo")
    write_prompts(folder / "prompts.jsonl", PROMPTS)
    variables = {
        "UNIROUTE_HOME": str(folder / "home"),
        "UNIROUTE_EMBEDDER__NAME": "hashing-256",
        "UNIROUTE_GATE__EPSILON": "0.05",
        "UNIROUTE_PROMPTS__FILE": str(folder / "prompts.jsonl"),
        **{f"UNIROUTE_PROMPTS__{role.upper()}": str(share) for role, share in SHARES.items()},
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
    command = [UNIROUTE, "demo"]
    done = subprocess.run(command, env=clean | variables, cwd=folder, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    # The command line continues with the demo's cost weight, as the demo says how to.
    return Demo(folder / "home", done.stdout, variables | {WEIGHT: str(SANDBOX_COST_WEIGHT)})


@pytest.fixture
def workspace(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Open the state that the demo left."""
    for name, value in demo.variables.items():
        monkeypatch.setenv(name, value)
    with Workspace(Settings()) as opened:
        yield opened


@pytest.fixture
def at_demo(demo: Demo, uniroute: Uniroute, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command on the demo's state in this process and return what it printed on standard output."""
    for name, value in demo.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(demo.home.parent)
    without_prefect(monkeypatch.setattr)

    def run(*arguments: str, expect: int = 0) -> str:
        ended = uniroute(*arguments)
        assert ended.code == expect, f"exit {ended.code}\n{ended.out}\n{ended.err}"
        return ended.out

    return run
