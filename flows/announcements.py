"""What a night tells machines while it runs: that it holds the lease, and each stage it has reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flows.logs import log_event

Listener = Callable[[str, dict[str, Any]], None]
_listeners: list[Listener] = []


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Tell a listener every event of the nights that run meanwhile in this process.

    Parameters
    ----------
    listener
        Called with the name of the event and its facts.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(event: str, **facts: Any) -> None:
    """Log an event, and tell it to whoever listens."""
    log_event(event, **facts)
    for listener in tuple(_listeners):
        listener(event, facts)
