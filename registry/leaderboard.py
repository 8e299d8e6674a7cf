"""The leaderboard of LLMs, read from the analyst view of that name."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import column, select, table

from registry.db.database import Database
from registry.db.tables import run
from registry.unreadable import Readability

_VIEW = table(
    "leaderboard",
    *(
        column(name)
        for name in (
            "prompt_set_digest",
            "llm_key",
            "sampling",
            "n_prompts",
            "n_scored",
            "n_failed",
            "mean_score",
            "cost_usd_per_1k_prompts",
            "mean_latency_s",
            "n_checked",
            "n_unreadable",
            "n_judged",
        )
    ),
)


@dataclass(frozen=True)
class LeaderboardRow:
    """How one LLM did on one prompt set.

    Attributes
    ----------
    prompt_set_digest, llm_key, sampling
        Which LLM was asked what, and how.
    n_prompts, n_scored, n_failed
        Prompts of the set, and how many of them are scored or failed.
    mean_score
        In [0, 1]; None without a score.
    mean_cost_usd
        Mean cost of a scored prompt in USD; None when unknown.
    mean_latency_s
        In seconds; None when unknown.
    readability
        How many of the scored answers could be read.
    """

    prompt_set_digest: str
    llm_key: str
    sampling: str
    n_prompts: int
    n_scored: int
    n_failed: int
    mean_score: float | None
    mean_cost_usd: float | None
    mean_latency_s: float | None
    readability: Readability


def leaderboard(database: Database, prompt_set_digest: str | None) -> tuple[LeaderboardRow, ...]:
    """Return one row per LLM, the best first; see `Registry.leaderboard`."""
    with database.read() as unit:
        wanted = prompt_set_digest
        if wanted is None:
            asked = select(run.c.prompt_set_digest).where(run.c.prompt_set_digest.is_not(None))
            wanted = unit.execute(asked.order_by(run.c.lease_number.desc()).limit(1)).scalar()
        rows = unit.execute(select(_VIEW).where(_VIEW.c.prompt_set_digest == wanted)).fetchall()
    best: dict[str, LeaderboardRow] = {}
    for row in sorted(rows, key=lambda each: (each.n_scored, each.sampling), reverse=True):
        cost = row.cost_usd_per_1k_prompts
        mean_cost_usd = None if cost is None else cost / 1000
        read = Readability(row.n_scored, row.n_checked, row.n_unreadable, row.n_judged)
        best.setdefault(row.llm_key, LeaderboardRow(*row[:7], mean_cost_usd, row.mean_latency_s, read))
    return tuple(sorted(best.values(), key=lambda each: (-(each.mean_score or 0.0), each.llm_key)))
