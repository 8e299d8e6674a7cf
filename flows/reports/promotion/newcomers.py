"""What is known of an LLM that the champion does not have."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
from numpy.typing import NDArray

from flows.drift import Drifts
from flows.gate_evidence import Answers
from flows.memorised import memorising_p_value
from flows.reports.promotion.particulars import Gap, NewLLM
from registry.store import Registry
from routing.decisions import RoutedLLM

_NORMAL_95 = 1.959964
_PROFILED_ROLES = ("representative", "gate", "hidden")


def newcomer(registry: Registry, answers: Answers, llm: RoutedLLM, as_of: date) -> NewLLM:
    """Read what is known of a new LLM; its share is not known yet.

    Parameters
    ----------
    registry
        Where to read.
    answers
        Which answers count.
    llm
        As the challenger has it.
    as_of
        The day of the night; later prices do not count.
    """
    listed = registry.llms.get(llm.key)
    prompts = answers.prompt_set.with_role(*_PROFILED_ROLES)
    facts = registry.outcomes.facts(
        llm.key, prompts, answers.graders, answers.sampling.get(llm.key, ""), until=answers.until
    )
    known, hidden = (
        answers.table([llm.key], answers.prompt_set.with_role(role)).scores[:, 0]
        for role in ("representative", "hidden")
    )
    price = next((one for one in reversed(registry.llms.price_history(llm.key)) if one.since <= as_of), None)
    drift = Drifts(registry, until=answers.until).of(llm.key)
    others = tuple(name for name in facts.served_as if name not in (listed.llm_id, listed.canonical_id))
    return NewLLM(
        key=llm.key,
        name=listed.name,
        released_on=listed.released_at.date() if listed.released_at is not None else None,
        input_usd_per_mtok=llm.input_usd_per_mtok,
        output_usd_per_mtok=llm.output_usd_per_mtok,
        catalog=price.catalog if price is not None else listed.catalog,
        price_since=price.since if price is not None else None,
        n_asked=len(prompts),
        n_scored=facts.n_scored,
        failures=facts.failures,
        n_cut=facts.n_cut,
        latency_p50_s=_percentile(facts.latencies_s, 0.5),
        latency_p95_s=_percentile(facts.latencies_s, 0.95),
        served_as=others,
        gap=hidden_gap(known, hidden),
        drift=drift.reason if drift is not None and drift.is_open else "",
        share=0.0,
    )


def hidden_gap(known: NDArray[np.float64], hidden: NDArray[np.float64]) -> Gap | None:
    """Compare the scores on representative and on hidden prompts; None without any of either.

    Parameters
    ----------
    known, hidden
        Scores in [0, 1], NaN where there is none.
    """
    known, hidden = known[np.isfinite(known)], hidden[np.isfinite(hidden)]
    if not len(known) or not len(hidden):
        return None
    mean = float(known.mean() - hidden.mean())
    # One pseudo-answer of a half each keeps an LLM that is always right from a width of zero.
    variances = (
        (rate := (values.sum() + 0.5) / (len(values) + 1)) * (1 - rate) / len(values) for values in (known, hidden)
    )
    width = _NORMAL_95 * math.sqrt(sum(map(float, variances)))
    return Gap(mean, mean - width, mean + width, memorising_p_value(known, hidden), len(known), len(hidden))


def _percentile(ascending: tuple[float, ...], share: float) -> float | None:
    return float(np.quantile(ascending, share)) if ascending else None
