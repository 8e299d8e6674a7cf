"""What a router knows about every LLM, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import finite_number
from .errors import InvalidInput
from .features import FeatureVector

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

# Types of provenance values: the scalars of JSON.
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class RoutedLLM:
    """What a router needs to know about one LLM: its key, its prices and its feature vector.

    Attributes
    ----------
    key
        Identity, "endpoint:llm_id".
    input_usd_per_mtok, output_usd_per_mtok
        Prices in USD per million tokens, finite and not negative.
    vector
        Expected errors and tokens per cluster.
    """

    key: str
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    vector: FeatureVector

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise InvalidInput(f"the key of an LLM must be a non-empty string, got {self.key!r}")
        for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
            price = finite_number(getattr(self, name), f"{name} of {self.key}", minimum=0)
            object.__setattr__(self, name, price)


@dataclass(frozen=True, slots=True)
class Decision:
    """Which LLM a prompt goes to, and why.

    Attributes
    ----------
    llm
        Key of the chosen LLM.
    expected_score
        Its expected score on this prompt, in [0, 1].
    standard_error
        Upper bound of the standard error of `expected_score`: the clusters' errors may move together.
    expected_cost_usd
        Expected USD of asking it this prompt.
    cluster
        Number of the prompt's cluster.
    runner_up, runner_up_score, runner_up_cost_usd
        The second choice under the same rule, or None when only one LLM was eligible.
    cost_weight
        Errors that one USD is worth: the rule minimises expected error + cost_weight * expected cost.
    router_digest
        Identity of the router that decided.
    """

    llm: str
    expected_score: float
    standard_error: float
    expected_cost_usd: float
    cluster: int
    runner_up: str | None
    runner_up_score: float | None
    runner_up_cost_usd: float | None
    cost_weight: float
    router_digest: str
