"""One demo, run as a newcomer runs it, that all end-to-end tests look at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.config.settings import Settings
from flows.workspace import Workspace

UNIROUTE = Path(sys.executable).with_name("uniroute")


@dataclass(frozen=True)
class Demo:
    """A finished demo: where its state is, what it printed, and the environment to go on in."""

    home: Path
    output: str
    environment: dict[str, str]

    def uniroute(self, *arguments: str, expect: int = 0) -> str:
        """Run a command on the demo's state and give what it printed on standard output."""
        done = subprocess.run(
            [UNIROUTE, *arguments],
            env=self.environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run ``uniroute demo`` with the quick embedder, so that the suite stays short; `make demo` uses the default."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
    environment |= {"UNIROUTE_HOME": str(folder / "home"), "UNIROUTE_EMBEDDER__NAME": "hashing-256"}
    done = subprocess.run([UNIROUTE, "demo"], env=environment, cwd=folder, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Demo(folder / "home", done.stdout, environment)


@pytest.fixture
def workspace(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Open the state that the demo left."""
    monkeypatch.setenv("UNIROUTE_HOME", str(demo.home))
    monkeypatch.setenv("UNIROUTE_EMBEDDER__NAME", "hashing-256")
    with Workspace(Settings()) as opened:
        yield opened
