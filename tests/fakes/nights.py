"""A home folder as real nights leave it, without endpoints: answers are recorded, the rest is the night's own code."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from flows.config.loading import load_settings
from flows.config.settings import Settings
from flows.config.sources import CONFIG_NAME
from flows.night.context import Night
from flows.reports.night_report import RouterOutcome
from flows.workspace import Workspace
from registry.llms import LLM
from registry.outcomes import Outcome
from tests.registry.samples import NOW, fetch, listing, record_fetch

FIRST, SECOND = date(2024, 9, 1), date(2024, 10, 1)
RIGHT_UNLESS = {"weak": 2, "fair": 3, "good": 6, "late": 7}
N_PROMPTS = 40
COST_USD = Decimal("0.0001")
SETTINGS = """
home = "home"
[embedder]
name = "hashing-256"
[prompts]
file = "home/prompts.jsonl"
map = 0.4
representative = 0.3
gate = 0.2
hidden = 0.1
[gate]
policy = "{policy}"
resamples = 200
epsilon = 1.0
max_cost_increase = 100.0
max_share = 1.0
[night]
canary_prompts = 0
[[catalog]]
name = "ours"
kind = "toml"
location = "llms.toml"
endpoint = "fake"
[[endpoint]]
name = "fake"
base_url = "http://127.0.0.1:9"
"""


class Clock:
    """Return a time that is later on every call."""

    def __init__(self, start: datetime = NOW) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@contextmanager
def answered_home(home: Path, registry_file: Path, mlflow_file: Path) -> Iterator[Workspace]:
    """Open an empty folder ``home`` with prompts, and settings beside it; copying empty databases is quick."""
    home.mkdir(parents=True)
    home.with_name(CONFIG_NAME).write_text(SETTINGS.format(policy="automatic"))
    shutil.copy(registry_file, home / "registry.db")
    shutil.copy(mlflow_file, home / "mlflow.db")
    topics = ("numbers and sums", "rivers and lakes", "lakes and rivers")
    rows = [
        {
            "prompt_id": f"p{number}",
            "text": f"Question {number} about {topics[number % 3]}: A, B, C or D?",
            "reference": "ABCD"[number % 4],
            "grader": "choice",
        }
        for number in range(N_PROMPTS)
    ]
    (home / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with Workspace(settings_of(home)) as workspace:
        yield workspace


def settings_of(home: Path) -> Settings:
    """Load the settings beside a home folder, under which nothing but recorded answers is needed."""
    return load_settings(home.with_name(CONFIG_NAME))


def run_night(
    workspace: Workspace,
    as_of: date,
    names: tuple[str, ...],
    clock: Clock,
    *,
    answering: tuple[str, ...] | None = None,
    endpoint: str = "fake",
    are_free: bool = False,
    unknown: tuple[str, ...] = (),
) -> RouterOutcome:
    """Run the stages of a night that follow the answers, with these LLMs listed; return what became of its router.

    The endpoint does not know the LLMs `unknown`, as a night's canaries find out.
    """
    from flows.fitting.refit import embed_prompts, refit
    from flows.profiling.availability import note_unavailable
    from flows.profiling.regrading import regrade_by_rule
    from flows.profiling.results import CanaryOutcome
    from flows.promotion.publish import keep_and_publish, measure_candidate, refresh

    night = Night(workspace, as_of, clock)
    registry = workspace.registry
    night.run = registry.runs.start(
        night.run_key,
        as_of=as_of,
        settings_hash=workspace.settings.digest,
        settings_json=workspace.settings.canonical(),
        prompt_set_digest=night.prompt_set.digest,
        host="host-a",
        pid=1,
        now=clock(),
        lease_s=3600,
    )
    listings = [
        listing(name, price="0" if are_free else str(1 + place), endpoint=endpoint) for place, name in enumerate(names)
    ]
    record_fetch(registry, night.run, fetch(listings, f"{as_of}", catalog=f"of {endpoint}"), as_of)
    regrade_by_rule(night, night.run)
    for llm in registry.llms.all():
        if llm.endpoint == endpoint and (answering is None or llm.llm_id in answering):
            answer(night, llm, cost_usd=Decimal(0) if are_free else COST_USD)
    canaries = [
        CanaryOutcome(f"{endpoint}:{name}", 1, 0, 0, 0, 1.0, Decimal(0), "404", "not_found") for name in unknown
    ]
    note_unavailable(night, (), canaries)
    refresh.fn(night)
    embed_prompts.fn(night)
    candidate = refit.fn(night)
    outcome = keep_and_publish.fn(night, candidate, measure_candidate.fn(night, candidate))
    registry.runs.finish(night.run, "completed", "fine", "{}", clock())
    return outcome


def answer(night: Night, llm: LLM, sampling: str | None = None, *, cost_usd: Decimal = COST_USD) -> None:
    """Record an LLM's answers to every prompt it is asked that night."""
    outcomes = []
    for prompt in night.profiled_prompts:
        number = int(prompt.text.split()[1])
        outcomes.append(
            Outcome(
                llm_key=llm.key,
                prompt_digest=prompt.digest,
                grader=night.grader_versions["choice"],
                sampling=sampling or night.counted_sampling(llm),
                score=float(number % RIGHT_UNLESS[llm.llm_id] != 0),
                failure=None,
                input_tokens=100 + number,
                output_tokens=20 + number % 5,
                cost_usd=cost_usd,
                latency_s=0.5,
                finish_reason="stop",
                attempts=1,
                completion="The answer is (A).",
                usage_estimated=False,
                asked_at=night.clock(),
            )
        )
    night.registry.outcomes.record(night.run, outcomes)
