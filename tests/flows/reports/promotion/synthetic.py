"""Synthetic inputs of promotion reports, without a night: two routers over made-up LLMs on prompts of a few topics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np

from flows.gate.gate import GateCheck
from flows.gate.measure import GateOutcomes, measure
from flows.gate.worth import worth_of
from flows.reports.promotion.evidence import Version
from flows.reports.promotion.particulars import Gap, NewLLM, NightSpend
from flows.reports.promotion.review_inputs import Contender, ReviewInputs
from registry.outcomes import Readability
from registry.prompts import Prompt
from routing.baselines import ZeroRouter
from routing.embedders import load_embedder
from routing.features import FeatureVector
from routing.prompt_weights import ClusterMap
from routing.router import RoutedLLM, Router

TOPICS = (
    "torque velocity friction pulley engine",
    "contract tort plaintiff statute liability",
    "enzyme protein membrane cell nucleus",
    "derivative integral matrix polynomial series",
    "empire treaty monarch revolution colony",
    "inflation demand supply tariff interest",
    "algorithm graph compiler recursion memory",
    "symptom diagnosis artery fever dosage",
)
MADE_AT = datetime(2026, 11, 22, 2, 40, tzinfo=UTC)


def review_inputs(
    n_prompts: int = 60,
    n_llms: int = 6,
    *,
    n_new: int = 2,
    n_clusters: int = 4,
    has_champion: bool = True,
    suffixes: Sequence[str] = ("",),
    answer: str = "The answer is (A).",
    seed: int = 0,
) -> ReviewInputs:
    """Make inputs of any size; the first LLMs are new, good and in the middle of the prices.

    Parameters
    ----------
    n_prompts, n_llms, n_new, n_clusters
        How much of everything.
    has_champion
        Whether somebody serves already.
    suffixes
        What names of LLMs, prompts and completions end with, in turn.
    answer
        What every completion says.
    seed
        Of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    prompts = _prompts(rng, n_prompts, n_clusters, suffixes)
    embeddings = load_embedder("hashing-256").embed([prompt.text for prompt in prompts])
    topic = np.arange(n_prompts) % n_clusters
    centres = np.stack([embeddings[topic == number].mean(axis=0) for number in range(n_clusters)])
    keys = tuple(f"east:maker/llm-{number:02d}{suffixes[number % len(suffixes)]}" for number in range(n_llms))
    right, costs_usd = _answers(rng, topic, n_llms, n_clusters, n_new)
    llms = tuple(
        _llm(key, right[:, column], costs_usd[:, column], topic, n_clusters) for column, key in enumerate(keys)
    )
    outcomes = GateOutcomes(keys, embeddings, right.astype(float), costs_usd, n_dropped=3)
    routers = [
        Router(
            ClusterMap.nearest(centres),
            chosen,
            embedder=load_embedder("hashing-256").id,
            cost_weight=60.0,
            calibration_weights=np.eye(n_clusters),
            calibration_tokens=np.full(n_clusters, 120.0),
        )
        for chosen in (llms, (*(_cheaper(llm) for llm in llms[n_new : n_new + 1]), *llms[n_new + 1 :]))
    ]
    zero = ZeroRouter.fit(outcomes.scores[::3], costs_usd[::3], keys)

    def completions(llm_key: str, asked: Sequence[Prompt]) -> Mapping[str, str]:
        return {prompt.digest: f"{llm_key} says {answer}" for prompt in asked}

    return ReviewInputs(
        challenger=Contender(routers[0], 42, MADE_AT, date(2026, 11, 22)),
        champion=Contender(routers[1], 41, MADE_AT, date(2026, 11, 20)) if has_champion else None,
        passed=True,
        checks=(
            GateCheck("LLMs to choose from", str(n_llms), "at least 2", True),
            GateCheck(
                "gate prompts with a score from every LLM", f"{n_prompts} of {n_prompts + 3}", "at least 95%", True
            ),
        ),
        metrics={},
        worth=worth_of(routers[0], measure(routers[0], outcomes), outcomes, resamples=100, seed=0),
        outcomes=outcomes,
        gate_prompts=prompts,
        known_prompts=prompts,
        known_embeddings=embeddings,
        champion_embeddings=None,
        zero_router=zero,
        completions=completions,
        new_llms=tuple(_newcomer(key) for key in keys[:n_new]) if has_champion else (),
        spend=NightSpend(
            Decimal("3.84"), 4021, (("canary", 400, Decimal("0.31")), ("profile", 3621, Decimal("3.53"))), Decimal(10)
        ),
        trend=tuple(
            Version(number, f"{number:064x}", MADE_AT, n_llms, 0.6 + number / 500, 0.0004, 0.6, number % 3 > 0)
            for number in range(33, 43)
        ),
        stale_prices=keys[-1:],
        readability={key: Readability(n_prompts, n_prompts, number, 0) for number, key in enumerate(keys[1:])},
        graders=(("choice/1", n_prompts),),
        is_recorded=False,
        facts=(("challenger", routers[0].digest), ("prompt set", f"core, {'7' * 64}")),
    )


def failing(given: ReviewInputs) -> ReviewInputs:
    """Return the same inputs, refused by the gate."""
    refusal = GateCheck("score at the champion's cost, against the champion", "-0.0410", "at least -0.0200", False)
    return replace(given, passed=False, checks=(*given.checks, refusal))


def _prompts(rng: np.random.Generator, n: int, n_clusters: int, suffixes: Sequence[str]) -> tuple[Prompt, ...]:
    made = []
    for number in range(n):
        words = TOPICS[number % n_clusters % len(TOPICS)].split() + [f"detail{number % n_clusters // len(TOPICS)}"] * 2
        question = f"Question {number}: how does {' and '.join(rng.choice(words, 4))} matter? "
        question += suffixes[number % len(suffixes)]
        made.append(Prompt(f"p{number}", question, "ABCD"[number % 4], "choice", f"topic {number % n_clusters}"))
    return tuple(made)


def _answers(rng, topic, n_llms: int, n_clusters: int, n_new: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores and costs: more expensive LLMs are better, new ones better still, each with a strong topic."""
    place = np.linspace(0, 1, n_llms)
    ability = 0.35 + 0.45 * place + np.where(np.arange(n_llms) < n_new, 0.35, 0)
    skill = np.clip(ability + rng.normal(0, 0.12, (n_clusters, n_llms)), 0.05, 0.98)
    right = rng.random((len(topic), n_llms)) < skill[topic]
    price = 2e-5 * 200**place
    return right, price * rng.uniform(0.6, 1.4, (len(topic), n_llms))


def _llm(key: str, right: np.ndarray, costs_usd: np.ndarray, topic: np.ndarray, n_clusters: int) -> RoutedLLM:
    counts = np.bincount(topic, minlength=n_clusters)
    errors = 1 - np.bincount(topic, weights=right, minlength=n_clusters) / counts
    vector = FeatureVector(
        errors=errors,
        standard_errors=np.sqrt(np.maximum(errors * (1 - errors), 0.02) / counts),
        counts=np.where(np.arange(n_clusters) == n_clusters - 1, 2, counts),
        input_tokens=np.full(n_clusters, 120.0),
        output_tokens=np.full(n_clusters, 80.0),
        n_prompts=len(topic),
        n_scored=len(topic),
    )
    usd_per_mtok = float(costs_usd.mean()) / 200 * 1e6
    return RoutedLLM(key, usd_per_mtok, usd_per_mtok, vector)


def _cheaper(llm: RoutedLLM) -> RoutedLLM:
    return replace(llm, input_usd_per_mtok=llm.input_usd_per_mtok / 3, output_usd_per_mtok=llm.output_usd_per_mtok / 3)


def _newcomer(key: str) -> NewLLM:
    return NewLLM(
        key=key,
        name=key.partition(":")[2],
        released_on=date(2026, 11, 21),
        input_usd_per_mtok=0.5,
        output_usd_per_mtok=1.5,
        catalog="openrouter",
        price_since=date(2026, 11, 21),
        n_asked=412,
        n_scored=405,
        failures=(("timeout", 5), ("refused_content", 2)),
        n_cut=3,
        unreadable="8 of 405 answers (2.0%)",
        latency_p50_s=1.24,
        latency_p95_s=6.9,
        served_as=(),
        gap=Gap(0.03, -0.05, 0.11, 0.31, 150, 60),
        drift="",
        share=0.0,
    )
