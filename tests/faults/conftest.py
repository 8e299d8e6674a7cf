"""What the fault tests share: a real registry, a real MLflow, catalogs from bytes, and a process to be cruel to."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.catalogs.conftest import catalog_of, server
from tests.registry.conftest import backend, night, registry, url
from tests.registry.publishing.conftest import store

__all__ = [
    "backend",
    "catalog_of",
    "night",
    "registry",
    "server",
    "store",
    "url",
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def in_child() -> Callable[..., "subprocess.Popen[str]"]:
    """Run Python code in a process of its own, with pipes for all three streams; none of them outlives the test."""
    children: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()
