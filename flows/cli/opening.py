"""Opening the workspace for commands that only look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flows.settings import load_settings
from flows.workspace import Workspace


@contextmanager
def opened(config: str | None) -> Iterator[Workspace]:
    """Open the workspace that the settings describe, and close it again."""
    with Workspace(load_settings(config)) as workspace:
        yield workspace
