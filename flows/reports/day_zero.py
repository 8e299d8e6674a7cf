"""Where LLMs without answers are expected to stand beside the champion: which are worth profiling, which one first.

What is expected of an LLM's level comes from its price, release date and id (`routing.day_zero`), with the estimator
behind the champion. Its tokens are unknown; those of the champion's LLMs that are most like it stand in for them. What
catalogs say of reasoning is not asked for that: they list whether an LLM can reason, and many that can do not by
default; the id says that it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routing.day_zero import LevelPrior
from routing.day_zero.names import alike_by_name, reasons_by_name
from routing.errors import UnirouteError
from routing.features import FeatureVector
from routing.router import RoutedLLM, Router

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.llms import LLM
    from routing.estimator import PosteriorEstimator

F64 = NDArray[np.float64]

# Half the width of a 95 % interval, in standard deviations.
_Z = 1.96
# Tokens of an LLM that reasons, relative to those of LLMs that do not, while no known one reasons: the mean over 77
# LLMs on three benchmarks (Epoch AI, 17 April 2025, https://epoch.ai/data-insights/output-length).
_TOKENS_OF_REASONING = 8.0


@dataclass(frozen=True)
class Standing:
    """Where an LLM is expected to stand before its first answer.

    Attributes
    ----------
    score, low, high
        Expected mean score in [0, 1], with its 95 % interval.
    share
        Share of the representative prompts in [0, 1] on which the champion with this LLM would be expected to choose it
        at the champion's cost weight.
    gain
        Expected gain per prompt, in errors after cost: what the decisions improve by once its level is known. It is
        what profiling may earn, not what routing to it unprofiled would.
    """

    score: float
    low: float
    high: float
    share: float
    gain: float


@dataclass(frozen=True)
class Standings:
    """Where LLMs are expected to stand, or why nothing is expected.

    Attributes
    ----------
    by_key
        By LLM key; LLMs of which nothing is expected are absent.
    why_off
        Why nothing is expected of any LLM, as a clause; empty when something is.
    """

    by_key: Mapping[str, Standing] = field(default_factory=dict)
    why_off: str = ""

    @property
    def worth(self) -> dict[str, float]:
        """The expected gains, by LLM key."""
        return {key: standing.gain for key, standing in self.by_key.items()}


def standings(workspace: Workspace, llms: Sequence[LLM]) -> Standings:
    """Return where LLMs without answers are expected to stand beside the champion; nothing is called.

    Parameters
    ----------
    workspace
        The opened parts.
    llms
        LLMs without a profile; those without a price are left out.
    """
    # An LLM that has a vector is shown without what fits and reads estimators, which takes seconds to load.
    from flows.night.llm_facts import facts_of
    from flows.versions.store import load_version
    from routing.estimator import PosteriorEstimator
    from routing.stored_estimator import read_estimator

    registry = workspace.registry
    digest = registry.routers.aliases().champion
    if digest is None:
        return Standings(why_off="no router serves yet")
    try:
        champion = load_version(workspace, digest)
        stored = registry.routers.cluster_map(str(champion.provenance.get("cluster_map", "")))
    except UnirouteError:
        # Neither a night nor `llm show` ends for want of an expectation; other commands say what is wrong with it.
        return Standings(why_off="the champion cannot be read here")
    estimator = read_estimator(stored.kind, stored.arrays)
    if not isinstance(estimator, PosteriorEstimator):
        return Standings(why_off=f"the champion's vectors are of the method {stored.kind}")
    if estimator.day_zero_ is None:
        return Standings(why_off="the champion's map was fitted before facts of LLMs were kept with it")
    if not estimator.day_zero_.says_something:
        return Standings(why_off=estimator.day_zero_.why_off)
    levels = {
        llm.key: level
        for llm, facts in zip(llms, facts_of(registry, llms), strict=True)
        if llm.price is not None and (level := estimator.level_prior(facts)) is not None
    }
    return Standings(beside(champion, estimator, [llm for llm in llms if llm.key in levels], levels))


@dataclass(frozen=True)
class LLMPrior:
    """How much of what the champion's map says of one LLM is prior, or where the LLM would stand on day 0.

    Attributes
    ----------
    share
        Share of its vector's level that is prior, in [0, 1]; None without a vector, or with one of before.
    standing
        Where it is expected to stand; None once it has a vector, or when nothing is expected.
    why_off
        Why nothing is expected, as a clause; empty otherwise.
    overall, overall_standard_error
        Its level, the expected overall error, with a standard error; None without a vector, or with one of before.
    """

    share: float | None
    standing: Standing | None
    why_off: str = ""
    overall: float | None = None
    overall_standard_error: float | None = None


def prior_of_llm(workspace: Workspace, llm: LLM) -> LLMPrior:
    """Return what is prior in the vector of an LLM or, when it has none, where it would stand on day 0."""
    routers = workspace.registry.routers
    digest = routers.aliases().champion
    if digest is not None:
        history = routers.vector_history(routers.get(digest).cluster_map_digest, llm.key)
        if history:
            last = history[-1]
            return LLMPrior(last.prior_share, None, "", last.overall, last.overall_standard_error)
    found = standings(workspace, [llm])
    why_off = found.why_off or ("" if llm.key in found.by_key else "it has no price, or no other fact is known")
    return LLMPrior(None, found.by_key.get(llm.key), why_off)


def day_zero_data(prior: LLMPrior) -> dict[str, Any]:
    """Return the prior of an LLM as ``llm show --json`` has it."""
    return {
        "level": prior.overall,
        "level_standard_error": prior.overall_standard_error,
        "prior_share": prior.share,
        "day_zero": None if prior.standing is None else asdict(prior.standing),
        "day_zero_off": prior.why_off or None,
    }


def day_zero_sentences(prior: LLMPrior) -> dict[str, str | None]:
    """Return the prior of an LLM in words, by the word before them; None where there is nothing to say."""
    day_zero = f"nothing is expected: {prior.why_off}" if prior.why_off else None
    if prior.standing is not None:
        day_zero = _standing_sentence(prior.standing)
    level = None
    if prior.overall is not None and prior.overall_standard_error is not None:
        low, high = (min(max(1 - prior.overall + side * prior.overall_standard_error, 0), 1) for side in (-1.96, 1.96))
        level = f"score {1 - prior.overall:.3f} over all prompts (95 %: {low:.3f} to {high:.3f})"
    return {
        "level": level,
        "prior": None if prior.share is None else f"{prior.share:.0%} of its level is prior, the rest its own answers",
        "day_0": day_zero,
    }


def _standing_sentence(found: Standing) -> str:
    return (
        f"score {found.score:.2f} is expected (95 %: {found.low:.2f} to {found.high:.2f}); beside the champion it "
        f"would be chosen for {found.share:.0%} of the representative prompts and gain "
        f"{found.gain:.4f} errors per prompt after cost"
    )


def beside(
    champion: Router, estimator: PosteriorEstimator, llms: Sequence[LLM], levels: Mapping[str, LevelPrior]
) -> dict[str, Standing]:
    """Compare each LLM with the champion's best choice on the representative prompts.

    Parameters
    ----------
    champion
        The router; an LLM that it has already is compared with its other LLMs.
    estimator
        The estimator of its vectors.
    llms
        LLMs with a price.
    levels
        By LLM key, what is expected of its level.
    """
    if not llms or not len(champion.calibration_weights):
        return {}
    newcomers = tuple(_newcomer(llm, estimator.prior_vector(levels[llm.key]), champion.llms) for llm in llms)
    kept = tuple(llm for llm in champion.llms if llm.key not in levels)
    both = replace(champion, llms=(*kept, *newcomers))
    errors, costs_usd = both.expected_on_calibration()
    total = errors + champion.cost_weight * costs_usd
    places = {key: place for place, key in enumerate(both.keys)}
    best = total[:, [places[llm.key] for llm in kept]].min(axis=1)
    return {llm.key: _standing(levels[llm.key], best - total[:, places[llm.key]]) for llm in llms}


def _newcomer(llm: LLM, expected: FeatureVector, known: Sequence[RoutedLLM]) -> RoutedLLM:
    from flows.night.llm_facts import routed_llm

    alike = [known[place].vector for place in alike_by_name(llm.llm_id, [one.key.partition(":")[2] for one in known])]
    factor = 1.0
    if not alike:
        alike = [one.vector for one in known]
        factor = _TOKENS_OF_REASONING if reasons_by_name(llm.llm_id) else 1.0
    vector = replace(
        expected,
        input_tokens=np.mean([one.input_tokens for one in alike], axis=0),
        output_tokens=factor * np.mean([one.output_tokens for one in alike], axis=0),
        input_token_ratio=float(np.mean([one.input_token_ratio for one in alike])),
    )
    return routed_llm(llm, vector)


def _standing(level: LevelPrior, advantage: F64) -> Standing:
    """Average over the LLM's unknown level, which shifts its advantage on all prompts alike."""
    from scipy.special import ndtr

    deviation = float(np.sqrt(level.variance))
    z = advantage / deviation
    chosen = ndtr(z)
    gains = advantage * chosen + deviation * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    score = 1 - level.mean
    return Standing(
        score=score,
        low=max(score - _Z * deviation, 0.0),
        high=min(score + _Z * deviation, 1.0),
        share=float(chosen.mean()),
        gain=float(gains.mean()),
    )
