"""Read the recorded answers: from Parquet straight into Python, without pandas, so that the server starts quickly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class RecordedPrompt:
    """One recorded question.

    Parameters
    ----------
    prompt_id, text, category, reference
        Identifier, exact user message, subject and correct letter.
    """

    prompt_id: str
    text: str
    category: str
    reference: str


@dataclass(frozen=True)
class RecordedLLM:
    """One LLM whose answers are recorded.

    Parameters
    ----------
    llm_id, canonical_id, provider
        Identifiers and maker.
    released_at
        Its real release date.
    input_usd_per_mtok, output_usd_per_mtok
        List prices in USD per million tokens.
    """

    llm_id: str
    canonical_id: str
    provider: str
    released_at: datetime
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal


@dataclass(frozen=True)
class RecordedAnswer:
    """What one LLM answered to one prompt.

    Parameters
    ----------
    text
        The answer; empty where the LLM said nothing.
    input_tokens, output_tokens
        As recorded with it.
    """

    text: str
    input_tokens: int
    output_tokens: int


def _columns(name: str, columns: list[str]) -> list[list[Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(FOLDER / f"{name}.parquet", columns=columns)
    return [table.column(column).to_pylist() for column in columns]


def read_prompts() -> tuple[RecordedPrompt, ...]:
    """Read the recorded prompts, in the order of the file."""
    rows = zip(*_columns("prompts", ["prompt_id", "text", "category", "reference"]), strict=True)
    return tuple(RecordedPrompt(*row) for row in rows)


def read_llms() -> tuple[RecordedLLM, ...]:
    """Read the recorded LLMs with release dates and exact prices."""
    wanted = ["model", "canonical", "provider", "released", "usd_per_1m_input", "usd_per_1m_output"]
    return tuple(
        RecordedLLM(
            llm_id=llm_id,
            canonical_id=canonical_id,
            provider=provider,
            released_at=datetime.fromisoformat(released).replace(tzinfo=UTC),
            input_usd_per_mtok=Decimal(repr(usd_in)),
            output_usd_per_mtok=Decimal(repr(usd_out)),
        )
        for llm_id, canonical_id, provider, released, usd_in, usd_out in zip(*_columns("models", wanted), strict=True)
    )


def read_answers() -> dict[str, dict[str, RecordedAnswer]]:
    """Read the recorded answers by LLM and prompt id."""
    keys = ["model", "prompt_id"]
    tokens = {
        (llm_id, prompt_id): (n_in, n_out)
        for llm_id, prompt_id, n_in, n_out in zip(
            *_columns("outcomes", [*keys, "input_tokens", "output_tokens"]), strict=True
        )
    }
    answers: dict[str, dict[str, RecordedAnswer]] = {}
    for llm_id, prompt_id, text in zip(*_columns("responses", [*keys, "response"]), strict=True):
        answers.setdefault(llm_id, {})[prompt_id] = RecordedAnswer(text, *tokens[llm_id, prompt_id])
    return answers
