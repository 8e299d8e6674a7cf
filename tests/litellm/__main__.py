"""``make litellm``: nights against LiteLLM's real proxy, whose providers go wrong, each in a way of its own."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from tests.litellm.night import FIRST, SECOND, Asked, ProxyNights, deviations, later_deviations, recover
from tests.litellm.providers import LLMS, providers
from tests.litellm.proxy import a_proxy, version


@click.command()
def main() -> None:
    """Run two nights against the proxy, print their tables, and fail where something does not hold."""
    with tempfile.TemporaryDirectory(prefix="uniroute-litellm-") as name, providers() as fake:
        folder = Path(name)
        with a_proxy(folder, fake.port) as url:
            nights = ProxyNights(folder, url)
            click.echo(f"A night against LiteLLM {version()} in front of {len(LLMS)} LLMs:\n")
            first = nights.run(FIRST)
            stored, calls = nights.stored(), dict(fake.calls)
            click.echo(f"{first.out}\nWhat it stored:\n{stored_table(stored)}\n")
            click.echo("The next night, in which the provider of limited answers:\n")
            recover(fake)
            click.echo(nights.run(SECOND).out)
            wrong = [*deviations(first, stored), *later_deviations(calls, fake, nights.stored()["limited"])]
    click.echo("\n".join(f"WRONG: {line}" for line in wrong) or "Everything holds.")
    sys.exit(1 if wrong else 0)


def stored_table(stored: Mapping[str, Asked]) -> str:
    """Lay out what the registry holds of each LLM."""
    lines = [f"{'LLM':<12}{'SCORES':>7}{'RIGHT':>7}{'FLAGGED':>9}{'USD':>10}  FAILURES"]
    for llm_id, asked in stored.items():
        failures = ", ".join(f"{number} {kind}" for kind, number in asked.failures.items())
        usd = asked.cost_picousd / 1e12
        lines.append(
            f"{llm_id:<12}{asked.scores:>7}{asked.right:>7}{asked.flagged:>9}{usd:>10.6f}  {failures}".rstrip()
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
