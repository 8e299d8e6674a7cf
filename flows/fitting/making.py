"""What an estimator is fitted with besides answers: facts of LLMs, what new ones are asked, and the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from routing.day_zero import KnownFacts, LevelPrior, LLMFacts
from routing.day_zero.names import parameters_in_name, reasons_by_name
from routing.estimator import PosteriorEstimator
from routing.posterior_choice import CURRENT, WITHOUT_DIFFICULTY, Form

if TYPE_CHECKING:
    from flows.night.context import Night
    from registry.llms import LLM
    from registry.store import Registry
    from routing.stored_estimator import Estimator


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


def facts_of(registry: Registry, llms: Sequence[LLM]) -> tuple[LLMFacts, ...]:
    """Return what is known of LLMs without asking them, in their order: the price at first sight, date, id."""
    prices = registry.llms.first_prices()
    return tuple(
        LLMFacts(
            llm.key,
            float(prices[llm.key].output_usd_per_mtok) if llm.key in prices else None,
            None if llm.released_at is None else llm.released_at.date(),
            parameters_in_name(llm.llm_id),
            reasons_by_name(llm.llm_id),
        )
        for llm in llms
    )


def levels_of(
    registry: Registry, map_digest: str, estimator: Estimator, facts: Sequence[LLMFacts]
) -> dict[str, LevelPrior | None]:
    """Return what is expected of the level of LLMs before their answers, by key.

    It is computed once, for an LLM's first vector on a map: a later price or date changes no vector.
    """
    if not isinstance(estimator, PosteriorEstimator):
        return {}
    stored = registry.routers.levels(map_digest)
    return {llm.key: stored[llm.key] if llm.key in stored else estimator.level_prior(llm) for llm in facts}
