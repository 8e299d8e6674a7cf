"""The part of a night that asks: catalog, plan, canaries, profiles and what follows from them; no MLflow or Prefect."""

import asyncio
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pytest

from flows import nightly, stages
from flows.config.loading import load_settings
from flows.endpoints import RetryPolicy
from flows.fitting.refit import Candidate, embed_prompts, refit
from flows.night import lease
from flows.night.context import Night
from flows.profiling.availability import note_unavailable
from flows.profiling.profile import profile
from flows.profiling.progress import Progress
from flows.profiling.regrading import score_moves
from flows.reports import attention
from flows.reports.night_report import NightReport
from flows.stages import sync
from flows.workspace import Workspace
from registry.outcomes import OutcomeTable
from tests.fakes.endpoint import FakeEndpoint
from tests.fakes.plain import without_prefect

FIRST, SECOND, THIRD = "2024-09-01", "2024-09-02", "2024-09-03"
_QUICK = RetryPolicy(first_backoff_s=0.001, longest_backoff_s=0.01, first_rest_s=0.01, failures_to_open=4)
_SETTINGS = """
home = "home"
[prompts]
file = "prompts.jsonl"
map = {shares[0]}
representative = {shares[1]}
gate = {shares[2]}
hidden = {shares[3]}
[embedder]
name = "hashing-256"
[routing]
n_clusters = 2
{routing}
[night]
{night}
[budget]
{budget}
[[catalog]]
name = "ours"
kind = "toml"
location = "llms.toml"
endpoint = "fake"
[[endpoint]]
name = "fake"
base_url = "{base_url}"
max_tokens = 64
{endpoint}
{more}
"""


def right(prompt: str) -> str:
    """Return the right answer to a prompt of these nights."""
    return f"The answer is ({'ABCD'[int(prompt.split()[1]) % 4]})."


def wrong(prompt: str) -> str:
    return f"The answer is ({'ABCD'[(int(prompt.split()[1]) + 1) % 4]})."


@dataclass
class AskedNight:
    """A folder with settings, prompts and a catalog, and the nights that are run there.

    `patch` replaces Prefect's tasks with their functions, and makes retries fast.
    """

    folder: Path
    fake: FakeEndpoint
    migrated: Path
    patch: pytest.MonkeyPatch
    under_way: Night | None = field(default=None)

    def __post_init__(self) -> None:
        without_prefect(self.patch.setattr)
        self.patch.setattr("flows.endpoints.client.RetryPolicy", lambda: _QUICK)

    def prepare(
        self,
        *llms: str,
        n_prompts: int = 40,
        shares: tuple[float, ...] = (0.2, 0.4, 0.3, 0.1),
        prices: Mapping[str, str] | None = None,
        grader: str = "choice",
        **sections: str,
    ) -> "AskedNight":
        """Write the files; `sections` add lines to a section of the settings."""
        filled = {"night": "", "budget": "", "endpoint": "", "routing": "", "more": "", **sections}
        text = _SETTINGS.format(base_url=self.fake.base_url, shares=shares, **filled)
        (self.folder / "uniroute.toml").write_text(text)
        with (self.folder / "prompts.jsonl").open("w") as file:
            for number in range(n_prompts):
                text = f"Question {number} about {'rivers' if number % 3 else 'numbers'}: A, B, C or D?"
                row = {"prompt_id": f"p{number}", "text": text, "reference": "ABCD"[number % 4], "grader": grader}
                file.write(json.dumps(row) + "\n")
        usual = "input_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n"
        rows = [f'[[llm]]\nid = "{name}"\n{(prices or {}).get(name, usual)}\n' for name in llms]
        (self.folder / "llms.toml").write_text("\n".join(rows))
        home = self.folder / "home"
        if not home.exists():
            home.mkdir()
            shutil.copy(self.migrated, home / "registry.db")
        return self

    def run(
        self,
        as_of: str = FIRST,
        look: Callable[[Night], object] = lambda night: None,
        unlisted: tuple[str, ...] = (),
    ) -> NightReport:
        """Run one night until its answers are checked; `look` may inspect it before everything is closed."""
        return asyncio.run(self.run_async(as_of, look, unlisted))

    async def run_async(
        self,
        as_of: str = FIRST,
        look: Callable[[Night], object] = lambda night: None,
        unlisted: tuple[str, ...] = (),
    ) -> NightReport:
        with Workspace(load_settings(self.folder / "uniroute.toml")) as workspace:
            night = self.under_way = Night(workspace, date.fromisoformat(as_of))
            async with lease.held_lease(night), lease.kept_alive(night):
                synced = sync(night, workspace.catalogs())
                stages.regrade(night)
                plan = stages.plan(night)
                progress = Progress(plan, night.settings.budget.night_usd, sys.stderr)
                asked = await profile(night, plan, progress)
                moves = score_moves(night)
                report = NightReport(
                    run_key=night.run_key,
                    as_of=night.as_of,
                    prompt_set=night.prompt_set,
                    diffs=synced.diffs,
                    catalog_errors=synced.errors,
                    plan=plan,
                    profiles=asked.profiles,
                    canaries=asked.canaries,
                    spent_usd=asked.spent_usd,
                    absent=note_unavailable(night, asked.profiles, asked.canaries, unlisted),
                    regraded=moves,
                    readability=stages.readability_tonight(night, asked, moves),
                    decided=asked.decided,
                    decides_unreadable=night.settings.judge.unreadable,
                    unjudged=asked.unjudged,
                    quarantined=stages.check_answers(night, asked),
                    drifted=tuple(drift.llm_key for drift in night.drifts.all().values() if drift.is_open),
                    usage=stages.usage_tonight(night, asked),
                )
                report = replace(report, attention=attention.attention_lines(report))
                look(night)
                night.registry.runs.finish(night.run, "completed", verdict="", summary="{}", now=night.clock())
            return report

    def rows(self, columns: str, llm_id: str) -> list[tuple]:
        """Read the outcomes of one LLM as the database holds them."""
        with sqlite3.connect(self.folder / "home" / "registry.db") as connection:
            rows = connection.execute(
                f"SELECT {columns} FROM outcome o JOIN llm l ON l.id = o.llm_id WHERE l.llm_id = ?", (llm_id,)
            ).fetchall()
        connection.close()
        return rows


def require_answers(report: NightReport) -> None:
    """Stop as the night does when no LLM answered."""
    nightly._require_answers(report)


def scores(night: Night, *llm_ids: str) -> OutcomeTable:
    """Return what is stored of these LLMs for all profiled prompts."""
    llms = [night.registry.llms.get(f"fake:{name}") for name in llm_ids]
    sampling = {llm.key: night.counted_sampling(llm) for llm in llms}
    return night.registry.outcomes.table(list(sampling), night.profiled_prompts, night.grader_versions, sampling)


def candidate(night: Night) -> Candidate:
    """Refit, as the night does after its answers are checked."""
    embed_prompts.fn(night)
    return refit.fn(night)
