"""The stored answers that vectors, cluster maps and priors are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from registry.outcomes import OutcomeTable
from registry.prompts import Prompt
from routing.tokens import estimated_input_tokens

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM


@dataclass(frozen=True, eq=False)
class Labels:
    """Answers of LLMs to the prompts that vectors are estimated from.

    Attributes
    ----------
    embeddings
        ``(n, dim)`` float32.
    estimated_tokens
        ``(n,)`` float32, input tokens estimated from the texts.
    table
        Scores and tokens, ``(n, m)``; NaN where there is no answer.
    """

    embeddings: NDArray[np.float32]
    estimated_tokens: NDArray[np.float32]
    table: OutcomeTable

    def coverage(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the share of the prompts, or of some rows of them, that each LLM has a score for, ``(m,)``."""
        scores = self.table.scores if rows is None else self.table.scores[rows]
        return np.isfinite(scores).mean(axis=0)


def labels_of(night: Night, llms: list[LLM], prompts: tuple[Prompt, ...]) -> Labels:
    """Return what the registry knows about these LLMs on these prompts."""
    estimated_tokens = estimated_input_tokens([prompt.text for prompt in prompts])
    return Labels(night.embeddings_of(prompts), estimated_tokens, night.outcome_table(llms, prompts))


def labels_by_role(night: Night, llms: list[LLM]) -> tuple[Labels, Labels]:
    """Return the answers to the representative and to the map prompts."""
    representative, of_map = (
        labels_of(night, llms, night.prompt_set.with_role(role)) for role in ("representative", "map")
    )
    return representative, of_map
