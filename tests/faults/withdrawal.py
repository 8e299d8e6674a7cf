"""A champion that sends four prompts in ten to an LLM that is then withdrawn, while a price file still names it."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.settings import QUICK

FIRST, SECOND, THIRD = "2024-09-01", "2024-09-02", "2024-09-03"
FIRST_LLMS = ("fair", "rivers", "sums")
GONE, REPLACEMENT = "sums", "sums-2"
N_PROMPTS = 120
PRICES = {"fair": 0.8, "rivers": 1, GONE: 1, REPLACEMENT: 0.7}
_SETTINGS = (
    QUICK
    + """
[routing]
n_clusters = 2
[gate]
resamples = 200
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
{key}
concurrency = 8
max_tokens = 64
"""
)


def is_about_sums(number: int) -> bool:
    return number % 5 < 2


def prompt_of(number: int) -> str:
    topic = "the sums of numbers" if is_about_sums(number) else "rivers and lakes"
    return f"Question {number} about {topic}: A, B, C or D?"


def answer(llm_id: str, prompt: str) -> str:
    """Answer rightly: `rivers` and `sums` what they are named after, `fair` every second prompt."""
    number = int(prompt.split()[1])
    is_right = {"fair": number % 2 == 0, "rivers": not is_about_sums(number)}.get(llm_id, is_about_sums(number))
    return f"The answer is ({'ABCD'[(number + (not is_right)) % 4]})."


@dataclass(frozen=True)
class Withdrawal:
    """The folder in which the nights run."""

    folder: Path

    @classmethod
    def prepare(cls, folder: Path, url: str, key_variable: str = "") -> "Withdrawal":
        """Write settings, prompts and prices; `key_variable` names where the endpoint's key is."""
        folder.mkdir(parents=True, exist_ok=True)
        key = f'api_key_env = "{key_variable}"' if key_variable else ""
        (folder / "uniroute.toml").write_text(_SETTINGS.format(url=url, key=key))
        rows = (
            {"prompt_id": f"p{n}", "text": prompt_of(n), "reference": "ABCD"[n % 4], "grader": "choice"}
            for n in range(N_PROMPTS)
        )
        (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found = cls(folder)
        found.price(*FIRST_LLMS)
        return found

    def price(self, *llm_ids: str) -> None:
        """Write the price file, in which nobody deletes what is gone."""
        rows = (f'[[llm]]\nid = "{one}"\n' + _prices(PRICES[one]) for one in llm_ids)
        (self.folder / "prices.toml").write_text("\n".join(rows))

    @property
    def tracking_url(self) -> str:
        return f"sqlite:///{self.folder / 'home' / 'mlflow.db'}"


def _prices(usd: float) -> str:
    return f"input_usd_per_mtok = {usd}\noutput_usd_per_mtok = {usd}\n"
