"""Read a folder of recorded outcomes: prompts, LLMs with prices, and who answered what how well.

The folder holds ``prompts.parquet`` (prompt_id, text, category, reference, grader), ``outcomes.parquet`` (prompt_id,
the LLM's name, score, input_tokens, output_tokens) and ``models.parquet`` (the LLM's name, usd_per_1m_input,
usd_per_1m_output); the LLM's name stands in the column ``model``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.errors import PrerequisiteError
from registry.prompts import Prompt

if TYPE_CHECKING:
    import pandas as pd

MIN_COVERAGE = 0.97
_COLUMNS = {
    "prompts": ("prompt_id", "text"),
    "outcomes": ("prompt_id", "model", "score"),
    "models": ("model", "usd_per_1m_input", "usd_per_1m_output"),
}


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
    input_tokens, output_tokens
        ``(n, m)`` float64; ``None`` where the folder has none.
    prices_usd_per_mtok
        ``(m, 2)`` float64, input and output.
    cost_note
        What the cost is made of, in words.
    left_out
        Name and reason of every LLM that is left out.
    n_dropped
        Prompts that some kept LLM did not answer.
    """

    name: str
    llms: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    scores: NDArray[np.float64]
    costs_usd: NDArray[np.float64]
    input_tokens: NDArray[np.float64] | None
    output_tokens: NDArray[np.float64] | None
    prices_usd_per_mtok: NDArray[np.float64]
    cost_note: str
    left_out: tuple[tuple[str, str], ...]
    n_dropped: int


def read_folder(folder: Path) -> OutcomeFolder:
    """Read a folder of recorded outcomes.

    Parameters
    ----------
    folder
        The folder, in the form above.

    Raises
    ------
    PrerequisiteError
        A file or column is missing, a score is not a number in [0, 1], an outcome is of an unknown prompt or stands
        twice, or nothing is left to measure.
    """
    prompts, outcomes, llms = (_table(folder, name) for name in _COLUMNS)
    _check_outcomes(folder, prompts, outcomes)
    prices, left_out = _priced(llms, outcomes, len(prompts))
    kept = outcomes[outcomes["model"].isin(prices)]
    scores = kept.pivot(index="prompt_id", columns="model", values="score").reindex(prompts["prompt_id"])
    scores = scores.reindex(columns=sorted(prices))
    complete = scores.notna().all(axis=1).to_numpy()
    if not prices or not complete.any():
        raise PrerequisiteError(
            f"In {folder}, nothing is left to measure: {len(prices)} LLMs have prices and coverage, and "
            f"{int(complete.sum())} prompts were answered by all of them.",
            hint=f"LLMs need a price and answers to {MIN_COVERAGE:.0%} of the prompts.",
        )
    rows = prompts[complete]
    price_table = np.array([prices[name] for name in scores.columns], dtype=np.float64)
    tokens = [_tokens(kept, column, rows["prompt_id"], scores.columns) for column in ("input_tokens", "output_tokens")]
    costs_usd, note = _costs(price_table, *tokens, int(complete.sum()))
    return OutcomeFolder(
        name=folder.resolve().name,
        llms=tuple(scores.columns),
        prompts=tuple(_prompt(row) for row in rows.to_dict("records")),
        scores=scores.to_numpy(dtype=np.float64)[complete],
        costs_usd=costs_usd,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        prices_usd_per_mtok=price_table,
        cost_note=note,
        left_out=left_out,
        n_dropped=int((~complete).sum()),
    )


def _table(folder: Path, name: str) -> pd.DataFrame:
    import pandas as pd

    path = folder / f"{name}.parquet"
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise PrerequisiteError(
            f"{path} cannot be read: {error}.", hint="Give a folder with prompts, outcomes and models as Parquet files."
        ) from None
    missing = [column for column in _COLUMNS[name] if column not in table]
    if missing or not len(table):
        lack = f"the columns {', '.join(missing)}" if missing else "any row"
        raise PrerequisiteError(f"{path} is without {lack}.", hint="The README names the columns of an outcome folder.")
    return table


def _check_outcomes(folder: Path, prompts: pd.DataFrame, outcomes: pd.DataFrame) -> None:
    scores = outcomes["score"].to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(scores) | (scores < 0) | (scores > 1)
    problem = ""
    if prompts["prompt_id"].duplicated().any():
        problem = f"the prompt {prompts['prompt_id'][prompts['prompt_id'].duplicated()].iloc[0]!r} stands twice"
    elif bad.any():
        row = outcomes[bad].iloc[0]
        problem = f"the score {row['score']} of {row['model']} on {row['prompt_id']} is not a number in [0, 1]"
    elif outcomes.duplicated(["prompt_id", "model"]).any():
        row = outcomes[outcomes.duplicated(["prompt_id", "model"])].iloc[0]
        problem = f"the outcome of {row['model']} on {row['prompt_id']} stands twice"
    elif not outcomes["prompt_id"].isin(prompts["prompt_id"]).all():
        unknown = outcomes["prompt_id"][~outcomes["prompt_id"].isin(prompts["prompt_id"])].iloc[0]
        problem = f"there is an outcome of the prompt {unknown!r}, which prompts.parquet does not have"
    if problem:
        raise PrerequisiteError(f"In {folder}, {problem}.", hint="Mend the outcomes and run again.")


def _priced(
    llms: pd.DataFrame, outcomes: pd.DataFrame, n_prompts: int
) -> tuple[dict[str, tuple[float, float]], tuple[tuple[str, str], ...]]:
    """Give the prices of the LLMs that are kept, and the others with the reason."""
    listed = llms.drop_duplicates("model").set_index("model")[["usd_per_1m_input", "usd_per_1m_output"]]
    coverage = outcomes["model"].value_counts() / n_prompts
    prices: dict[str, tuple[float, float]] = {}
    left_out: list[tuple[str, str]] = []
    for name in sorted(coverage.index):
        pair = tuple(float(price) for price in listed.loc[name]) if name in listed.index else (np.nan, np.nan)
        if coverage[name] < MIN_COVERAGE:
            left_out.append((name, f"answered {coverage[name]:.1%} of the prompts, {MIN_COVERAGE:.0%} are needed"))
        elif not (np.isfinite(pair).all() and min(pair) >= 0 and max(pair) > 0):
            left_out.append((name, "no price"))
        else:
            prices[name] = (pair[0], pair[1])
    left_out += [(name, "no outcome") for name in sorted(set(listed.index) - set(coverage.index))]
    return prices, tuple(left_out)


def _tokens(outcomes: pd.DataFrame, column: str, prompt_ids: pd.Series, llms: pd.Index) -> NDArray[np.float64] | None:
    """Give token counts as a table; a single missing one becomes the LLM's mean, no count at all gives None."""
    if column not in outcomes or not outcomes[column].notna().any():
        return None
    table = outcomes.pivot(index="prompt_id", columns="model", values=column).astype("float64")
    table = table.reindex(index=prompt_ids, columns=llms)
    return table.fillna(table.mean()).fillna(float(table.stack().mean())).to_numpy(dtype=np.float64)


def _costs(
    prices: NDArray[np.float64],
    input_tokens: NDArray[np.float64] | None,
    output_tokens: NDArray[np.float64] | None,
    n: int,
) -> tuple[NDArray[np.float64], str]:
    if input_tokens is None or output_tokens is None:
        return np.tile(prices.mean(axis=1) / 1e6, (n, 1)), "the mean of the two prices (no output tokens are recorded)"
    return (input_tokens * prices[:, 0] + output_tokens * prices[:, 1]) / 1e6, "recorded tokens times prices"


def _prompt(row: dict[str, object]) -> Prompt:
    category = row.get("category")
    return Prompt(
        prompt_id=str(row["prompt_id"]),
        text=str(row["text"]),
        reference=str(row.get("reference") or "-"),
        grader=str(row.get("grader") or "recorded"),
        category=str(category) if category else None,
    )
