"""Read and check the three tables of an outcome folder; an error names what cannot be measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from flows.errors import PrerequisiteError
from flows.text import counted

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = {
    "prompts": ("prompt_id", "text"),
    "outcomes": ("prompt_id", "model", "score"),
    "models": ("model", "usd_per_1m_input", "usd_per_1m_output"),
}
# Columns that may be missing or lack values; a blank counts as missing.
_WORDS = ("text", "reference", "grader", "category")
_COUNTS = ("input_tokens", "output_tokens")
_PRICES = ("usd_per_1m_input", "usd_per_1m_output")
_MOST_TOKENS, _MOST_USD_PER_MTOK, _MOST_USD = 1e12, 1e9, 1e6
_NOT_MEASURED = "Nothing was measured."


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a folder with ids and names as text, scores and counts as numbers.

    Attributes
    ----------
    prompts
        One row per prompt that has a text; `prompt_id` is unique. Missing references, graders and categories are None.
    outcomes
        One row per LLM and prompt; scores in [0, 1], counts and recorded costs not negative or NaN.
    llms
        One row per LLM; prices as numbers, NaN where there is none.
    n_without_text
        Prompts left out because they have no text.
    """

    prompts: pd.DataFrame
    outcomes: pd.DataFrame
    llms: pd.DataFrame
    n_without_text: int


def read_tables(folder: Path) -> Tables:
    """Read the tables of an outcome folder.

    Parameters
    ----------
    folder
        Holds ``prompts.parquet``, ``outcomes.parquet`` and ``models.parquet``.

    Raises
    ------
    PrerequisiteError
        A file or column is missing, an id or a name is missing or duplicated, a score is not a number in [0, 1], a
        count, cost or price is not a number, or an outcome belongs to an unknown prompt.
    """
    if not folder.is_dir():
        raise PrerequisiteError(
            f"{folder} is not a folder.",
            unchanged=_NOT_MEASURED,
            hint="Name a folder with prompts.parquet, outcomes.parquet and models.parquet.",
        )
    prompts, outcomes, llms = (_table(folder, name) for name in _COLUMNS)
    _once(folder, "prompts", prompts, ["prompt_id"])
    _once(folder, "models", llms, ["model"])
    _once(folder, "outcomes", outcomes, ["prompt_id", "model"])
    unknown = outcomes["prompt_id"][~outcomes["prompt_id"].isin(prompts["prompt_id"])]
    if len(unknown):
        verb = "refers" if len(unknown) == 1 else "refer"
        _refuse(
            folder,
            f"{counted(len(unknown), 'outcome')} {verb} to prompts missing from prompts.parquet; "
            f"the first is {unknown.iloc[0]!r}",
        )
    outcomes["score"] = _scores(folder, outcomes)
    for name in _COUNTS:
        for title, table in (("outcomes", outcomes), ("prompts", prompts)):
            if name in table:
                table[name] = _numbers(folder, title, table, name, _MOST_TOKENS)
    if "cost_usd" in outcomes:
        outcomes["cost_usd"] = _numbers(folder, "outcomes", outcomes, "cost_usd", _MOST_USD)
    for name in _PRICES:
        llms[name] = _numbers(folder, "models", llms, name, _MOST_USD_PER_MTOK)
    for name in _WORDS:
        if name in prompts:
            prompts[name] = _words(prompts[name])
    has_text = prompts["text"].notna().to_numpy()
    kept = prompts[has_text].reset_index(drop=True)
    return Tables(kept, outcomes[outcomes["prompt_id"].isin(kept["prompt_id"])], llms, int((~has_text).sum()))


def _table(folder: Path, name: str) -> pd.DataFrame:
    import pandas as pd
    from pyarrow import ArrowException

    path = folder / f"{name}.parquet"
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, TypeError, ArrowException) as error:
        cause = "there is no such file" if isinstance(error, FileNotFoundError) else str(error).partition("\n")[0]
        raise PrerequisiteError(
            f"{path} cannot be read: {cause.rstrip('.')}.",
            unchanged=_NOT_MEASURED,
            hint="Name a folder with prompts, outcomes and models as Parquet files.",
        ) from None
    if any(table.index.names):
        table = table.reset_index()
    missing = [column for column in _COLUMNS[name] if column not in table]
    if missing or not len(table):
        lack = f"{'column' if len(missing) == 1 else 'columns'} {', '.join(missing)}" if missing else "rows"
        raise PrerequisiteError(
            f"{path} has no {lack}.",
            unchanged=_NOT_MEASURED,
            hint=f"It needs the columns {', '.join(_COLUMNS[name])}.",
        )
    for column in ("prompt_id", "model"):
        if column in table:
            if table[column].isna().any():
                n_lacking = int(table[column].isna().sum())
                verb = "names" if n_lacking == 1 else "name"
                _refuse(folder, f"{counted(n_lacking, 'row')} of {path.name} {verb} no {column}")
            # Numbers, categories and texts all become texts: one table may have 7 where another has "7".
            table[column] = table[column].map(str).astype(object)
    return table


def _once(folder: Path, name: str, table: pd.DataFrame, key: list[str]) -> None:
    twice = table.duplicated(key)
    if twice.any():
        what = " on ".join(repr(table[twice].iloc[0][column]) for column in reversed(key))
        _refuse(folder, f"{what} appears more than once in {name}.parquet")


def _scores(folder: Path, outcomes: pd.DataFrame) -> NDArray[np.float64]:
    scores = _as_numbers(outcomes["score"])
    bad = ~(np.isfinite(scores) & (scores >= 0) & (scores <= 1))
    if bad.any():
        row, n_more = outcomes[bad].iloc[0], int(bad.sum()) - 1
        _refuse(
            folder,
            f"the score {_shown(row['score'])} of {row['model']!r} on {row['prompt_id']!r} is not a number in [0, 1]"
            + (f"; nor {'is' if n_more == 1 else 'are'} {n_more:,} more" if n_more else ""),
        )
    return scores


def _numbers(folder: Path, title: str, table: pd.DataFrame, name: str, most: float) -> NDArray[np.float64]:
    """Return a column that may lack values as numbers; refuse a text, an infinity or a negative number."""
    numbers = _as_numbers(table[name])
    bad = (np.isnan(numbers) & table[name].notna().to_numpy()) | (numbers < 0) | (numbers > most)
    if bad.any():
        row = table[bad].iloc[0]
        whose = " on ".join(repr(row[column]) for column in ("model", "prompt_id") if column in table)
        _refuse(folder, f"{name} of {whose} in {title}.parquet is {_shown(row[name])}, not a number in [0, {most:g}]")
    return numbers


def _words(column: pd.Series) -> pd.Series:
    """Return a column as texts, None where a cell is blank."""
    import pandas as pd

    words = [
        None if missing or not str(cell).strip() else str(cell)
        for cell, missing in zip(column, column.isna(), strict=True)
    ]
    return pd.Series(words, index=column.index, dtype=object)


def _as_numbers(column: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(column.astype(object) if column.dtype.kind not in "biuf" else column, errors="coerce")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _shown(value: object) -> str:
    """Return a cell as people read it: texts in quotes, numbers without their type."""
    return repr(value) if isinstance(value, str) else str(value)


def _refuse(folder: Path, problem: str) -> NoReturn:
    raise PrerequisiteError(
        f"In {folder}, {problem}.", unchanged=_NOT_MEASURED, hint="Fix the folder and run the command again."
    )
