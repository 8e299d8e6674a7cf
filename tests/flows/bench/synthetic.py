"""An outcome folder whose best routing is known: two topics, and LLMs that know the first, the second, or both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

KINDS = ("first", "second", "both")
# Asking an LLM that knows both topics costs four times as much.
USD_PER_PROMPT = {"first": 1.0, "second": 1.0, "both": 4.0}


def topics(n: int) -> np.ndarray:
    return np.arange(n) % 2


def embeddings(n: int) -> np.ndarray:
    rows = np.eye(8)[topics(n)] + np.random.default_rng(0).normal(0, 0.02, (n, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def kind_of(llm: str) -> str:
    return llm.partition("-")[0]


def knows(kind: str, topic: np.ndarray) -> np.ndarray:
    return {"first": topic == 0, "second": topic == 1, "both": np.ones(len(topic), dtype=bool)}[kind]


def write_folder(folder: Path, *, n: int = 400, of_a_kind: int = 3) -> Path:
    """Write the folder; tokens and prices make the costs above, in millionths."""
    llms = sorted(f"{kind}-{number}" for kind in KINDS for number in range(of_a_kind))
    ids = [f"p{number}" for number in range(n)]
    rows = [
        {"prompt_id": prompt_id, "model": llm, "score": float(right), "input_tokens": 0, "output_tokens": 1}
        for llm in llms
        for prompt_id, right in zip(ids, knows(kind_of(llm), topics(n)), strict=True)
    ]
    prices = [
        {"model": llm, "usd_per_1m_input": 0.0, "usd_per_1m_output": USD_PER_PROMPT[kind_of(llm)]} for llm in llms
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"prompt_id": ids, "text": [f"prompt {i}" for i in ids]}).to_parquet(folder / "prompts.parquet")
    pd.DataFrame(rows).to_parquet(folder / "outcomes.parquet")
    pd.DataFrame(prices).to_parquet(folder / "models.parquet")
    return folder


def rewrite(folder: Path, name: str, change) -> Path:
    """Change one table of a folder."""
    path = folder / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)
    return folder
