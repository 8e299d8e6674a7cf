"""Facts of the LLMs of an outcome folder, for what is expected of a new one before its answers.

``models.parquet`` may have the columns ``released`` (a day), ``parameters_b`` and ``kind`` (``reasoning``). What is
missing or unreadable is a missing fact; size and reasoning are then read from the name, as a night does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from routing.day_zero import LLMFacts
from routing.day_zero.names import parameters_in_name, reasons_by_name

if TYPE_CHECKING:
    import pandas as pd


def facts_of_table(llms: pd.DataFrame, names: Sequence[str]) -> tuple[LLMFacts, ...]:
    """Return the facts of LLMs in the order of their names.

    Parameters
    ----------
    llms
        The table of LLMs, with their name in ``model``.
    names
        Whose facts.
    """
    rows = {row["model"]: row for row in llms.to_dict("records")}
    return tuple(_facts(name, rows.get(name, {})) for name in names)


def _facts(name: str, row: dict[str, Any]) -> LLMFacts:
    size = _number(row.get("parameters_b"))
    return LLMFacts(
        name,
        _number(row.get("usd_per_1m_output")),
        _day(row.get("released")),
        parameters_in_name(name) if size is None else size,
        row.get("kind") == "reasoning" or reasons_by_name(name),
    )


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None
