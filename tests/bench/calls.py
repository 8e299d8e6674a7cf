"""Measure the night's calls per second against a bare loop of the same client on the same server: ``make bench-calls``.

The bare loop asks through the same bounded client with the same concurrency, and discards the answers. The night
grades every answer, books its cost, commits it to the registry and runs under Prefect. Both are measured in one run,
the bare loop before and after the night, because the speed of a machine changes between runs.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.config import environment

if TYPE_CHECKING:
    from flows.workspace import Workspace

_AS_OF = "2024-09-01"
_BARE_CALLS = 3000


@dataclass(frozen=True)
class CallRates:
    """Calls per second of the bare loop before and after, and of the night between them."""

    bare_before: float
    bare_after: float
    night: float
    night_calls: int

    @property
    def ratio(self) -> float:
        """The night's rate over the mean rate of the bare loop."""
        return 2 * self.night / (self.bare_before + self.bare_after)


async def bare_rate(workspace: Workspace, n_calls: int) -> float:
    """Ask recorded LLMs through the bounded client, discard the answers, and return calls per second."""
    from flows.sandbox import Sandbox

    (settings,) = workspace.endpoint_settings()
    texts = [prompt.text for prompt in Sandbox.prompts()[: n_calls // 4]]
    llm_ids = ["yi-6b-chat", "llama-3-8b-instruct", "gpt-4o-2024-05-13", "command-r-v01"]
    async with workspace.open_endpoint(settings) as endpoint:
        started_s = time.perf_counter()
        await asyncio.gather(*(endpoint.complete(llm_id, text) for llm_id in llm_ids for text in texts))
        return len(llm_ids) * len(texts) / (time.perf_counter() - started_s)


def measure(home: Path) -> CallRates:
    """Measure bare loop, night and bare loop again, in this order.

    Parameters
    ----------
    home
        An empty folder for the night's state.
    """
    os.environ |= {"UNIROUTE_HOME": str(home), "UNIROUTE_EMBEDDER__NAME": "hashing-256"}
    environment.prepare(home)
    from flows.config.settings import Settings
    from flows.nightly import night
    from flows.workspace import Workspace

    with Workspace(Settings()) as workspace:
        before = asyncio.run(bare_rate(workspace, _BARE_CALLS))
        report = asyncio.run(night(as_of=_AS_OF, sandbox=True))
        after = asyncio.run(bare_rate(workspace, _BARE_CALLS))
    return CallRates(before, after, report.calls / report.calling_s, report.calls)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="uniroute-bench-") as folder:
        rates = measure(Path(folder))
    click.echo(f"bare loop of the same client: {rates.bare_before:.0f}/s before, {rates.bare_after:.0f}/s after")
    click.echo(f"night of {rates.night_calls:,} calls:        {rates.night:.0f}/s")
    click.echo(f"ratio:                        {rates.ratio:.2f}")
