"""Named points of the night at which the fault suite kills the process; otherwise they do nothing.

``UNIROUTE_TEST_KILL_AT=refitted`` kills where that name is reached first, ``answered#3`` where it is reached the third
time, and ``#7`` at the seventh point of any name. Points are counted when it is set, whatever it says.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter

_VARIABLE = "UNIROUTE_TEST_KILL_AT"
_lock = threading.Lock()
_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Note that a point is reached; die there, without any chance to clean up, if the environment says so."""
    wanted = os.environ.get(_VARIABLE)
    if wanted is None:
        return
    with _lock:
        _reached.update((name, ""))
        if wanted in (f"#{_reached['']}", f"{name}#{_reached[name]}", name):
            os.kill(os.getpid(), signal.SIGKILL)


def reached() -> dict[str, int]:
    """Return how often each point was reached, in the order of their first time."""
    return {name: times for name, times in _reached.items() if name}
