"""Two nights against LiteLLM's proxy, and what of them must hold."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.commands import Ended
from tests.fakes.endpoint import FakeEndpoint
from tests.fakes.settings import QUICK
from tests.litellm.providers import LETTERS, LLMS, good
from tests.litellm.proxy import KEY

FIRST, SECOND = "2024-09-01", "2024-09-02"
# LLMs of later nights are not asked the prompts that shape the cluster map.
N_PROMPTS, N_LATER, PATIENCE_S = 80, 64, 5
COMPLETE = ("good", "weak", "unmetered", "opus", "gpt-5-mini")
_NEEDS_ATTENTION = 3
_SETTINGS = (
    QUICK
    + """
[night]
llm_patience_s = {patience_s}
canary_prompts = 0
[[catalog]]
name = "proxy"
kind = "openai"
location = "{url}/v1/models"
endpoint = "litellm"
[[catalog]]
name = "prices"
kind = "toml"
location = "prices.toml"
endpoint = "litellm"
[[endpoint]]
name = "litellm"
base_url = "{url}/v1"
api_key_env = "LITELLM_KEY"
concurrency = 8
max_tokens = 64
"""
)


@dataclass(frozen=True)
class Asked:
    """What the registry holds of one LLM: scores, failures by kind, answers with flagged usage, and its cost."""

    scores: int
    right: int
    failures: dict[str, int]
    flagged: int
    cost_picousd: int


class ProxyNights:
    """Nights in a folder, against the proxy at an address."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        (folder / "uniroute.toml").write_text(_SETTINGS.format(url=url, patience_s=PATIENCE_S))
        prompts = (
            f'{{"prompt_id": "p{number}", "text": "Question {number} about {"rivers" if number % 3 else "numbers"}: '
            f'A, B, C or D?", "reference": "{LETTERS[number % 4]}", "grader": "choice"}}\n'
            for number in range(N_PROMPTS)
        )
        (folder / "prompts.jsonl").write_text("".join(prompts))
        prices = (f'[[llm]]\nid = "{llm_id}"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n' for llm_id in LLMS)
        (folder / "prices.toml").write_text("".join(prices))

    def uniroute(self, *arguments: str) -> Ended:
        """Run a command of uniroute as people do."""
        command = [Path(sys.executable).with_name("uniroute"), *arguments]
        own = {name: value for name, value in os.environ.items() if not name.startswith(("UNIROUTE_", "PREFECT_"))}
        done = subprocess.run(
            command, cwd=self._folder, env=own | {"LITELLM_KEY": KEY}, capture_output=True, text=True, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def run(self, as_of: str) -> Ended:
        return self.uniroute("night", "run", "--as-of", as_of)

    def stored(self) -> dict[str, Asked]:
        """Read the outcomes of all LLMs as the database holds them."""
        return {llm_id: self._asked(llm_id) for llm_id in LLMS}

    def _asked(self, llm_id: str) -> Asked:
        query = (
            "SELECT o.score, o.failure, o.usage_flags, o.cost_picousd FROM outcome o JOIN llm l ON l.id = o.llm_id "
            "WHERE l.llm_id = ?"
        )
        with closing(sqlite3.connect(self._folder / "home" / "registry.db")) as connection:
            rows = connection.execute(query, (llm_id,)).fetchall()
        kinds = [failure for _, failure, _, _ in rows if failure is not None]
        return Asked(
            scores=sum(score is not None for score, *_ in rows),
            right=sum(score == 1 for score, *_ in rows),
            failures={kind: kinds.count(kind) for kind in sorted(set(kinds))},
            flagged=sum(bool(flags) for _, _, flags, _ in rows),
            cost_picousd=sum(cost or 0 for *_, cost in rows),
        )


def deviations(first: Ended, found: dict[str, Asked]) -> Iterator[str]:
    """Yield what must hold of the first night and does not; `found` is what it stored, by LLM."""
    if first.code != _NEEDS_ATTENTION:
        yield f"the night ended with {first.code}, not with {_NEEDS_ATTENTION}: {first.err}"
    for llm_id in COMPLETE:
        if found[llm_id].scores != N_PROMPTS or found[llm_id].failures:
            yield f"{llm_id} is not complete: {found[llm_id]}"
    if found["limited"].scores or "next night" not in first.out + first.err:
        yield f"limited is not left for the next night: {found['limited']}"
    if "54 moderated" not in first.out:
        yield "the night does not say that answers of filtered were moderated"
    filtered = found["filtered"]
    # Two thirds are filtered, before or after the LLM answered.
    n_answered = sum(number % 3 == 2 for number in range(N_PROMPTS))
    expected = Asked(n_answered, n_answered, {"moderated": N_PROMPTS - n_answered}, 0, filtered.cost_picousd)
    if filtered != expected:
        yield f"filtered prompts and answers are not all moderated: {filtered}"
    unmetered = found["unmetered"]
    if unmetered.flagged != N_PROMPTS or not 0.3 < unmetered.cost_picousd / found["weak"].cost_picousd < 3:
        yield f"the usage of unmetered is not estimated and flagged: {unmetered}"
    if found["revoked"].scores:
        yield f"revoked has scores: {found['revoked']}"


def later_deviations(before: dict[str, int], fake: FakeEndpoint, limited: Asked) -> Iterator[str]:
    """Yield what must hold of the second night, in which `limited` answers, and does not.

    `before` counts the calls of the first night.
    """
    if limited.scores != N_LATER or limited.failures:
        yield f"limited did not become complete: {limited}"
    settled = set(before) & {LLMS[llm_id].name or llm_id for llm_id in COMPLETE}
    repeated = {name: fake.calls[name] - before[name] for name in settled if fake.calls[name] > before[name]}
    if repeated:
        yield f"complete LLMs were asked again: {repeated}"


def recover(fake: FakeEndpoint) -> None:
    """Limit the calls of `limited` no more."""
    fake.replies["limited"] = good
