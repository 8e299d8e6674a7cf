"""Nights as plain functions in the process at hand: everything real but Prefect's engine."""

import sys
from collections.abc import Callable

from prefect import Task

from flows import nightly


async def _create_nothing(_report: object) -> None:
    pass


def without_prefect(replace: Callable[[object, str, object], None] = setattr) -> None:
    """Replace Prefect's tasks and the night's flow by the functions that they wrap."""
    for name, module in list(sys.modules.items()):
        if name.startswith("flows."):
            for attribute, value in list(vars(module).items()):
                if isinstance(value, Task):
                    replace(module, attribute, value.fn)
    replace(nightly, "_create_artifacts", _create_nothing)
    replace(nightly, "night", getattr(nightly.night, "fn", nightly.night))
