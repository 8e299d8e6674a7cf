"""What an estimator is fitted with besides answers: facts of LLMs, what new ones are asked, and the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.night.llm_facts import facts_of
from routing.day_zero import KnownFacts
from routing.posterior.choice import CURRENT, WITHOUT_DIFFICULTY, Form

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM


_ASKED_BY_DEFAULT = 100
"""About how many representative prompts a new LLM is asked unless the settings say otherwise."""


@dataclass(frozen=True, eq=False)
class Making:
    """How a posterior estimator is fitted.

    Attributes
    ----------
    facts
        Facts of the LLMs in the tables; without them nothing is expected of an LLM before its answers.
    asked
        Places of the representative prompts that a new LLM is going to be asked; None for all.
    form
        Which settings are tried.
    """

    facts: KnownFacts | None = None
    asked: NDArray[np.int64] | None = None
    form: Form = CURRENT


def made_as(arrays: Mapping[str, np.ndarray]) -> Making:
    """Return how a stored estimator was made.

    Catalogs may have corrected facts of LLMs since, and releases fit in other ways: what is kept with the estimator is
    what it was fitted with.
    """
    form = CURRENT if "items" in arrays else WITHOUT_DIFFICULTY
    return Making(KnownFacts.from_arrays(arrays), arrays.get("asked"), form)


def making_of(night: Night, llms: Sequence[LLM]) -> Making:
    """Return how an estimator is fitted tonight, on these LLMs' answers."""
    n, wanted = len(night.prompt_set.with_role("representative")), night.settings.prompts.ask
    n_asked = min(_ASKED_BY_DEFAULT if wanted == "auto" else wanted, n)
    # Which ones a new LLM is asked is chosen later, and matters less than how many.
    drawn = np.random.default_rng(night.settings.routing.seed).permutation(n)[:n_asked]
    return Making(KnownFacts.of(facts_of(night.registry, llms)), np.sort(drawn) if n_asked < n else None)
