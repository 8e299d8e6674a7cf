"""``python -m tests.litellm.withdrawal``: a withdrawal behind LiteLLM's real proxy, step by step, as people see it."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

from registry.publishing.client import RouterClient
from tests.fakes.endpoint import FakeEndpoint
from tests.faults.withdrawal import (
    FIRST,
    FIRST_LLMS,
    GONE,
    N_PROMPTS,
    REPLACEMENT,
    SECOND,
    THIRD,
    Withdrawal,
    answer,
    prompt_of,
)
from tests.litellm.providers import Provided, good
from tests.litellm.proxy import KEY, a_proxy, version
from tests.stack.processes import free_port

_DONE = 0
SCRIPTS = dict.fromkeys((*FIRST_LLMS, REPLACEMENT), "ok")


class Replay:
    """Run commands and show them; remember what did not end as it should."""

    def __init__(self, made: Withdrawal) -> None:
        self._made = made
        self.wrong: list[str] = []

    def uniroute(self, *arguments: str) -> str:
        command = [Path(sys.executable).with_name("uniroute"), *arguments]
        own = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
        ended = subprocess.run(
            command, cwd=self._made.folder, env=own | {"LITELLM_KEY": KEY}, capture_output=True, text=True, check=False
        )
        click.echo(f"$ uniroute {' '.join(arguments)}\n{ended.stdout}{ended.stderr}exit {ended.returncode}\n")
        if ended.returncode != _DONE:
            self.wrong.append(f"uniroute {' '.join(arguments)} ended with {ended.returncode}")
        return ended.stdout

    def send(self, client: RouterClient, *, is_gone: bool) -> None:
        """Show to which LLMs a consumer sends its prompts now."""
        client.check()
        sent = Counter(client.predict([prompt_of(number) for number in range(N_PROMPTS)])["llm"])
        shares = ", ".join(f"{key} {count / N_PROMPTS:.0%}" for key, count in sent.most_common())
        click.echo(f"A consumer (RouterClient, version {client.status().version}) sends its prompts to: {shares}\n")
        if bool(sent[f"litellm:{GONE}"]) == is_gone:
            self.wrong.append(f"consumers send {sent[f'litellm:{GONE}']} prompts to {GONE}")

    def night(self, as_of: str) -> None:
        self.uniroute("night", "run", "--as-of", as_of)


def served(*llm_ids: str) -> dict[str, Provided]:
    return {llm_id: Provided("openai", good) for llm_id in llm_ids}


@click.command()
def main() -> None:
    """Withdraw an LLM with two fifths of the traffic and show three nights; fail where something does not hold."""
    with (
        tempfile.TemporaryDirectory(prefix="uniroute-withdrawal-") as name,
        FakeEndpoint(answer, scripts=SCRIPTS) as providers,
    ):
        folder, port = Path(name), free_port()
        made = Withdrawal.prepare(folder / "night", f"http://127.0.0.1:{port}", "LITELLM_KEY")
        replay = Replay(made)
        click.echo(f"Behind LiteLLM {version()}: {', '.join(FIRST_LLMS)}\n")
        with a_proxy(folder, providers.port, served(*FIRST_LLMS), port):
            replay.night(FIRST)
        with RouterClient(tracking_url=made.tracking_url, folder=folder, every_s=3600) as client:
            replay.send(client, is_gone=False)
            click.echo(f"The proxy drops {GONE} and gets {REPLACEMENT}; the price file still names {GONE}.\n")
            made.price(*FIRST_LLMS, REPLACEMENT)
            with a_proxy(folder, providers.port, served("fair", "rivers", REPLACEMENT), port):
                replay.night(SECOND)
                replay.send(client, is_gone=True)
                replay.uniroute("promotion", "list")
                replay.uniroute("audit", "log", "--since", "2024-01-01")
                replay.uniroute("doctor")
                click.echo("The night after, in which nothing happens:\n")
                replay.night(THIRD)
                replay.uniroute("llm", "list")
    click.echo("\n".join(f"WRONG: {line}" for line in replay.wrong) or "Everything holds.")
    sys.exit(1 if replay.wrong else 0)


if __name__ == "__main__":
    main()
