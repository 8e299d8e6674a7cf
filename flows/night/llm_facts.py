"""What is known of LLMs without asking them, what level that lets one expect, and what routers know of an LLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from routing.day_zero import LevelPrior, LLMFacts
from routing.day_zero.names import parameters_in_name, reasons_by_name
from routing.decisions import RoutedLLM
from routing.estimator import PosteriorEstimator

if TYPE_CHECKING:
    from registry.llms import LLM
    from registry.store import Registry
    from routing.features import FeatureVector
    from routing.stored_estimator import Estimator


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


def routed_llm(llm: LLM, vector: FeatureVector) -> RoutedLLM:
    """Return an LLM with a price as routers know it: at the price in force, with a feature vector."""
    assert llm.price is not None, "only LLMs with a price are asked, compared and routed to"
    prices = float(llm.price.input_usd_per_mtok), float(llm.price.output_usd_per_mtok)
    return RoutedLLM(llm.key, *prices, vector)
