"""Read a folder of recorded outcomes: prompts, LLMs with prices, and the score of every answer.

The folder holds ``prompts.parquet`` (prompt_id, text, category, reference, grader, input_tokens), ``outcomes.parquet``
(prompt_id, the LLM's name, score, input_tokens, output_tokens, cost_usd) and ``models.parquet`` (the LLM's name,
usd_per_1m_input, usd_per_1m_output; released, parameters_b, kind if known); the LLM's name is in the column ``model``.

An answer costs what ``cost_usd`` says. Where that is missing, it costs the LLM's tokens times its prices; an LLM whose
recorded costs are all zero counts as one without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flows.bench.facts import facts_of_table
from flows.bench.tables import Tables, read_tables
from flows.errors import PrerequisiteError
from flows.text import counted
from registry.prompts import Prompt
from routing.day_zero import LLMFacts
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    import pandas as pd

F64 = NDArray[np.float64]

MIN_COVERAGE = 0.97


@dataclass(frozen=True, eq=False)
class OutcomeFolder:
    """Recorded outcomes as dense tables.

    Attributes
    ----------
    name
        Name of the folder.
    llms
        Names of the m LLMs that are kept, sorted.
    prompts
        The n prompts that every kept LLM answered.
    scores
        ``(n, m)`` float64 in [0, 1].
    costs_usd
        ``(n, m)`` float64, USD per prompt; see `cost_note`.
    cost_note
        What the cost is computed from, in words.
    left_out
        Name and reason of every LLM that is left out.
    n_dropped
        Prompts that some kept LLM did not answer.
    n_without_text
        Prompts without a text; they do not count against the coverage of an LLM.
    facts
        What is known of the m LLMs without their answers.
    """

    name: str
    llms: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    scores: F64
    costs_usd: F64
    cost_note: str
    left_out: tuple[tuple[str, str], ...]
    n_dropped: int
    n_without_text: int = 0
    facts: tuple[LLMFacts, ...] = ()


def read_folder(folder: Path) -> OutcomeFolder:
    """Read a folder of recorded outcomes.

    Parameters
    ----------
    folder
        A folder with the three files above.

    Raises
    ------
    PrerequisiteError
        A table cannot be used (see `read_tables`), or nothing is left to measure.
    """
    tables = read_tables(folder)
    prices, left_out = _priced(tables)
    kept = tables.outcomes[tables.outcomes["model"].isin(prices)]
    scores = kept.pivot(index="prompt_id", columns="model", values="score")
    scores = scores.reindex(index=tables.prompts["prompt_id"], columns=sorted(prices))
    complete = scores.notna().all(axis=1).to_numpy()
    if not prices or not complete.any():
        first = f"; {left_out[0][0]!r} is left out: {left_out[0][1]}" if left_out else ""
        raise PrerequisiteError(
            f"In {folder}, nothing is left to measure: {counted(len(prices), 'LLM')} with prices and coverage, and "
            f"{counted(int(complete.sum()) if prices else 0, 'prompt')} that all of them answered{first}.",
            unchanged="Nothing was measured.",
            hint=f"LLMs need a price or a recorded cost of every answer, and answers to {MIN_COVERAGE:.0%} of the "
            "prompts.",
        )
    rows = tables.prompts[complete]
    price_table = np.array([prices[name] for name in scores.columns], dtype=np.float64)
    costs_usd, note = _costs(price_table, kept, rows, scores.columns)
    return OutcomeFolder(
        name=folder.resolve().name,
        llms=tuple(scores.columns),
        prompts=tuple(_prompt(row) for row in rows.to_dict("records")),
        scores=scores.to_numpy(dtype=np.float64)[complete],
        costs_usd=costs_usd,
        cost_note=note,
        left_out=left_out,
        n_dropped=int((~complete).sum()),
        n_without_text=tables.n_without_text,
        facts=facts_of_table(tables.llms, list(scores.columns)),
    )


def _priced(tables: Tables) -> tuple[dict[str, tuple[float, float]], tuple[tuple[str, str], ...]]:
    """Return the prices of the LLMs that are kept, NaN where costs are recorded instead, and the others with why."""
    recorded = _recorded_throughout(tables.outcomes)
    listed = tables.llms.set_index("model")[["usd_per_1m_input", "usd_per_1m_output"]]
    coverage = tables.outcomes["model"].value_counts() / max(len(tables.prompts), 1)
    prices: dict[str, tuple[float, float]] = {}
    left_out: list[tuple[str, str]] = []
    for name in sorted(coverage.index):
        pair = tuple(float(price) for price in listed.loc[name]) if name in listed.index else (np.nan, np.nan)
        if coverage[name] < MIN_COVERAGE:
            left_out.append((name, f"answered {coverage[name]:.1%} of the prompts, {MIN_COVERAGE:.0%} are needed"))
        elif name in recorded:
            prices[name] = (pair[0], pair[1])
        elif not np.isfinite(pair).all():
            left_out.append((name, "no price"))
        elif max(pair) == 0:
            left_out.append((name, "both prices are zero"))
        else:
            prices[name] = (pair[0], pair[1])
    left_out += [(name, "no outcome") for name in sorted(set(listed.index) - set(coverage.index))]
    return prices, tuple(left_out)


def _recorded_throughout(outcomes: pd.DataFrame) -> frozenset[str]:
    """Return the LLMs that need no price: the cost of each of their answers is recorded, and not always zero."""
    if "cost_usd" not in outcomes:
        return frozenset()
    costs = outcomes.groupby("model")["cost_usd"].agg(["count", "size", "sum"])
    return frozenset(costs.index[(costs["count"] == costs["size"]) & (costs["sum"] > 0)])


def _costs(prices: F64, outcomes: pd.DataFrame, prompts: pd.DataFrame, llms: pd.Index) -> tuple[F64, str]:
    """Return the cost of every answer, and what it is: recorded, or computed where it is not."""
    recorded = np.full((len(prompts), len(llms)), np.nan)
    if "cost_usd" in outcomes:
        table = outcomes.pivot(index="prompt_id", columns="model", values="cost_usd").astype("float64")
        # Zeros alone are a column that nobody filled: such an LLM costs its tokens.
        table = table.loc[:, table.max() > 0]
        recorded = table.reindex(index=prompts["prompt_id"], columns=llms).to_numpy()
    n_missing = int(np.isnan(recorded).sum())
    if not n_missing:
        return recorded, "the recorded cost_usd"
    computed, note = _computed_costs(prices, outcomes, prompts, llms)
    if n_missing < recorded.size:
        note = f"the recorded cost_usd, and for {n_missing:,} of {recorded.size:,} answers {note}"
    return np.where(np.isnan(recorded), computed, recorded), note


def _computed_costs(prices: F64, outcomes: pd.DataFrame, prompts: pd.DataFrame, llms: pd.Index) -> tuple[F64, str]:
    """Return the cost of every answer by tokens and prices, and what it is computed from."""
    output_tokens = _tokens(outcomes, "output_tokens", prompts["prompt_id"], llms)
    if output_tokens is None:
        costs_usd = np.tile(prices.mean(axis=1) / 1e6, (len(prompts), 1))
        return costs_usd, "the mean of the two prices (no output tokens are recorded)"
    input_tokens, note = _tokens(outcomes, "input_tokens", prompts["prompt_id"], llms), "recorded tokens times prices"
    if input_tokens is None:
        estimates = estimated_input_tokens(list(prompts["text"])).astype(np.float64)
        own = prompts["input_tokens"].to_numpy() if "input_tokens" in prompts else np.full(len(prompts), np.nan)
        input_tokens = np.where(np.isnan(own), estimates, own)[:, None]
        if np.isnan(own).any():
            note = "recorded output tokens and input tokens estimated from the texts, times prices"
    return (input_tokens * prices[:, 0] + output_tokens * prices[:, 1]) / 1e6, note


def _tokens(outcomes: pd.DataFrame, column: str, prompt_ids: pd.Series, llms: pd.Index) -> F64 | None:
    """Return token counts as a table, missing ones replaced by the LLM's mean; None without any count."""
    if column not in outcomes:
        return None
    table = outcomes.pivot(index="prompt_id", columns="model", values=column).astype("float64")
    counts = table.reindex(index=prompt_ids, columns=llms).to_numpy()
    known = np.isfinite(counts)
    if not known.any():
        return None
    totals, numbers = np.where(known, counts, 0).sum(axis=0), known.sum(axis=0)
    means = np.where(numbers > 0, totals / np.maximum(numbers, 1), totals.sum() / numbers.sum())
    return np.where(known, counts, means)


def _prompt(row: dict[str, Any]) -> Prompt:
    return Prompt(
        prompt_id=row["prompt_id"],
        text=row["text"],
        reference=row.get("reference") or "-",
        grader=row.get("grader") or "recorded",
        category=row.get("category") or None,
    )
