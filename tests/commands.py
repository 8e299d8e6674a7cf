"""Commands of ``uniroute``, run in the process of the test."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)["data"]


Uniroute = Callable[..., Ended]


@pytest.fixture
def uniroute(capsys: pytest.CaptureFixture[str]) -> Uniroute:
    """Run a command line in this process and return how it ended."""
    from flows.cli import main

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        said = capsys.readouterr()
        return Ended(int(stopped.value.code), said.out, said.err)

    return run
