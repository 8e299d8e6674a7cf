"""The comparison of two routers on gate prompts: headline numbers, band, effects and stability."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flows.gate.measure import GateOutcomes, RouterMeasure, at_cost_of, measure
from flows.reports.numbers import share_interval
from flows.reports.promotion.evidence import Band, CostAtQuality, Effect, Headline, LLMPoint, Stability
from flows.reports.promotion.review_inputs import ReviewInputs
from routing.deferral import BootstrapDifference, DeferralCurve, paired_bootstrap, qnc, scores_at_costs, upper_hull
from routing.router import Router

F64 = NDArray[np.float64]
SEED = 0
N_RESAMPLES = 400
N_DRAWS = 200
_N_WEIGHTS = 120
_N_COSTS = 48
_TAILS = (0.025, 0.975)
_MOST_EFFECTS = 12


@dataclass(frozen=True, eq=False)
class Measured:
    """Both routers measured on the same prompts; no champion before the first promotion."""

    challenger: RouterMeasure
    champion: RouterMeasure | None


def measured(inputs: ReviewInputs) -> Measured:
    """Measure both routers with the functions of the gate."""
    champion, outcomes = inputs.champion, inputs.outcomes
    return Measured(
        measure(inputs.challenger.router, outcomes),
        measure(champion.router, outcomes) if champion is not None else None,
    )


def headline(inputs: ReviewInputs, found: Measured, resampled: Resampled) -> Headline:
    """Return the headline numbers; the first is the gate's own, as stored."""
    assert found.champion is not None
    n = len(found.challenger.scores)
    pairs = zip(found.challenger.chosen, found.champion.chosen, strict=True)
    changed = sum(one != other for one, other in pairs) / n
    return Headline(
        score_at_equal_cost=_stored_difference(inputs, n) or resampled.score_at(found.champion.cost_usd),
        cost_at_equal_score=_cost_at_equal_score(found, resampled),
        route_change=BootstrapDifference(changed, *share_interval(changed, n), n),
        own_score=paired_bootstrap(found.challenger.scores, found.champion.scores, seed=SEED),
        own_cost_usd=paired_bootstrap(found.challenger.costs_usd, found.champion.costs_usd, seed=SEED),
    )


def _stored_difference(inputs: ReviewInputs, n: int) -> BootstrapDifference | None:
    names = ("score_difference_at_equal_cost", "score_difference_low", "score_difference_high")
    if not all(name in inputs.metrics for name in names):
        return None
    mean, low, high = (float(inputs.metrics[name]) for name in names)
    # Earlier releases compared on gate prompts alone, and named only their number.
    judging = inputs.metrics.get("score_difference_prompts", inputs.metrics.get("gate_prompts", n))
    return BootstrapDifference(mean, low, high, int(judging))


def _cost_at_equal_score(found: Measured, resampled: Resampled) -> CostAtQuality:
    """Find the smallest cost at which the challenger is as good as the champion, and resample that."""
    assert found.champion is not None
    n, cost_usd = len(found.challenger.scores), found.champion.cost_usd
    if cost_usd == 0:
        return CostAtQuality(None, None, None, 0.0, n, is_free=True)
    whole = qnc(found.challenger.curve, found.champion.score, best_cost_usd=cost_usd)
    values = np.array(
        [
            # A draw may hold only prompts for which the champion chooses a free LLM.
            reached.value - 1 if cost and (reached := qnc(curve, score, best_cost_usd=cost)).reached else np.inf
            for curve, score, cost in zip(
                resampled.challenger, resampled.champion_scores, resampled.champion_costs_usd, strict=True
            )
        ]
    )
    # Not between neighbours: one of them may be infinite.
    low, high = (float(np.quantile(values, tail, method="nearest")) for tail in _TAILS)
    return CostAtQuality(
        whole.value - 1 if whole.reached else None,
        low if np.isfinite(low) else None,
        high if np.isfinite(high) else None,
        float(np.isfinite(values).mean()),
        n,
    )


@dataclass(frozen=True, eq=False)
class Resampled:
    """Deferral curves of both routers on prompts drawn again, the same draws for both."""

    challenger: tuple[DeferralCurve, ...]
    champion: tuple[DeferralCurve, ...]
    champion_scores: F64
    champion_costs_usd: F64
    whole: tuple[DeferralCurve, DeferralCurve]
    n: int

    def differences(self, costs_usd: F64) -> tuple[F64, F64, F64]:
        """Return challenger minus champion in score at these costs: on all prompts, lower end, upper end."""
        relative = self.whole[0].relative(costs_usd)
        drawn = np.array(
            [
                scores_at_costs(one, relative) - scores_at_costs(other, relative)
                for one, other in zip(self.challenger, self.champion, strict=True)
            ]
        )
        low, high = np.quantile(drawn, _TAILS, axis=0)
        return scores_at_costs(self.whole[0], relative) - scores_at_costs(self.whole[1], relative), low, high

    def score_at(self, cost_usd: float) -> BootstrapDifference:
        """Return the difference at one cost."""
        mean, low, high = (float(values[0]) for values in self.differences(np.array([cost_usd])))
        return BootstrapDifference(mean, low, high, self.n)


def resample(inputs: ReviewInputs, found: Measured) -> Resampled:
    """Resample the gate prompts and compute both curves for each draw."""
    assert inputs.champion is not None and found.champion is not None
    outcomes = inputs.outcomes
    n = len(outcomes.embeddings)
    draws = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES) / n
    curves = [
        _curves(router, measure.curve, outcomes, draws)
        for router, measure in (
            (inputs.challenger.router, found.challenger),
            (inputs.champion.router, found.champion),
        )
    ]
    return Resampled(
        curves[0],
        curves[1],
        np.clip(draws @ found.champion.scores, 0, 1),
        draws @ found.champion.costs_usd,
        (found.challenger.curve, found.champion.curve),
        n,
    )


def _curves(router: Router, curve: DeferralCurve, outcomes: GateOutcomes, draws: F64) -> tuple[DeferralCurve, ...]:
    keys = outcomes.known(router)
    columns, places = outcomes.columns(keys), [router.keys.index(key) for key in keys]
    scores, costs = outcomes.scores[:, columns], outcomes.costs_usd[:, columns]
    expected = outcomes.expected_by(router)
    errors, expected_costs = expected.errors[:, places], expected.costs_usd[:, places]
    at = np.unique(np.linspace(0, len(curve.cost_weights) - 1, _N_WEIGHTS).astype(int))
    weights, rows = curve.cost_weights[at], np.arange(len(scores))
    chosen = [np.argmin(errors + weight * expected_costs, axis=1) for weight in weights]
    drawn_scores = np.clip(draws @ np.stack([scores[rows, one] for one in chosen], axis=1), 0, 1)
    drawn_costs = draws @ np.stack([costs[rows, one] for one in chosen], axis=1)
    return tuple(
        DeferralCurve(weights, cost, score, curve.reference_cost_usd)
        for cost, score in zip(drawn_costs, drawn_scores, strict=True)
    )


def band(resampled: Resampled) -> Band:
    """Return the difference over the costs that both routers reach."""
    reached = [curve.costs_usd[curve.costs_usd > 0] for curve in resampled.whole]
    low = max(float(costs.min(initial=np.inf)) for costs in reached)
    high = min(float(costs.max(initial=0.0)) for costs in reached)
    costs_usd = np.geomspace(low, high, _N_COSTS) if 0 < low < high else np.array([max(high, 0.0)])
    return Band(costs_usd, *resampled.differences(costs_usd), resampled.n, N_RESAMPLES)


def effects(inputs: ReviewInputs, found: Measured) -> tuple[Effect, ...]:
    """Return the effect of each new LLM, left out in turn without refitting; the strongest first."""
    if found.champion is None or len(inputs.challenger.router.keys) < 2:
        return ()
    shares = dict(found.challenger.shares)
    busiest = sorted(inputs.new_keys, key=lambda key: (-shares[key], key))[:_MOST_EFFECTS]
    given = [_effect(inputs, found, found.champion, key, shares[key]) for key in busiest]
    return tuple(sorted(given, key=lambda one: (-one.score.mean, one.key)))


def _effect(inputs: ReviewInputs, found: Measured, champion: RouterMeasure, key: str, share: float) -> Effect:
    router, outcomes = inputs.challenger.router, inputs.outcomes
    rest = replace(router, llms=tuple(llm for llm in router.llms if llm.key != key))
    measured_rest = measure(rest, outcomes)
    with_it, without = (at_cost_of(champion, one, outcomes).scores for one in (router, rest))
    return Effect(
        key,
        paired_bootstrap(with_it, without, seed=SEED),
        paired_bootstrap(found.challenger.scores, measured_rest.scores, seed=SEED),
        found.challenger.cost_usd - measured_rest.cost_usd,
        share,
    )


def llm_points(inputs: ReviewInputs, found: Measured) -> tuple[LLMPoint, ...]:
    """Place every LLM of both routers on the gate prompts, the best first."""
    outcomes = inputs.outcomes
    costs, scores = outcomes.costs_usd.mean(axis=0), outcomes.scores.mean(axis=0)
    after = set(inputs.challenger.router.keys)
    eligible = np.array([key in after for key in outcomes.keys])
    columns = np.flatnonzero(eligible)
    frontier = {int(columns[index]) for index in upper_hull(costs[columns], scores[columns])}
    share_after = dict(found.challenger.shares)
    share_before = dict(found.champion.shares) if found.champion is not None else {}
    factors, new = _price_factors(inputs), set(inputs.new_keys)
    points = [
        LLMPoint(
            key=key,
            score=float(scores[at]),
            cost_usd=float(costs[at]),
            repriced_cost_usd=float(costs[at]) * factors[key] if key in factors else None,
            is_new=key in new,
            is_gone=not eligible[at],
            is_dominated=bool(
                (eligible & ((costs <= costs[at]) & (scores > scores[at]))).any()
                or (eligible & ((costs < costs[at]) & (scores >= scores[at]))).any()
            ),
            is_on_frontier=at in frontier,
            share_before=share_before.get(key),
            share_after=share_after.get(key),
            unreadable_share=inputs.readability[key].share if key in inputs.readability else None,
        )
        for at, key in enumerate(outcomes.keys)
    ]
    return tuple(sorted(points, key=lambda point: (-point.score, point.cost_usd, point.key)))


def _price_factors(inputs: ReviewInputs) -> dict[str, float]:
    """Return new cost over old cost of an expected prompt, for LLMs whose price changed between the two routers."""
    if inputs.champion is None:
        return {}
    before = {llm.key: llm for llm in inputs.champion.router.llms}
    factors = {}
    for llm in inputs.challenger.router.llms:
        old = before.get(llm.key)
        tokens = llm.vector.input_tokens.mean(dtype=float), llm.vector.output_tokens.mean(dtype=float)
        if old is None:
            continue
        old_usd, new_usd = (
            tokens[0] * one.input_usd_per_mtok + tokens[1] * one.output_usd_per_mtok for one in (old, llm)
        )
        if old_usd > 0 and abs(new_usd / old_usd - 1) > 1e-9:
            factors[llm.key] = float(new_usd / old_usd)
    return factors


def stability(inputs: ReviewInputs) -> Stability:
    """Draw the challenger's vectors again from their standard errors and count how often decisions stay the same.

    The errors of one LLM move together in all clusters, which is the cautious reading of their standard errors
    (`Decision.standard_error` reads them the same way).
    """
    router, embeddings = inputs.challenger.router, inputs.outcomes.embeddings
    expected = inputs.outcomes.expected_by(router)
    objective = expected.errors + router.cost_weight * expected.costs_usd
    chosen = objective.argmin(axis=1)
    weights = router.cluster_map.weights(embeddings)[:, : router.cluster_map.n_clusters]
    spread = weights @ np.stack([llm.vector.standard_errors for llm in router.llms], axis=1)
    rng = np.random.default_rng(SEED)
    same = np.zeros(len(embeddings))
    for _ in range(N_DRAWS):
        same += (objective + spread * rng.standard_normal(spread.shape[1])).argmin(axis=1) == chosen
    return Stability(same / N_DRAWS, N_DRAWS)
