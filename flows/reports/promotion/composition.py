"""Composes the evidence of a promotion, with what must not be concluded from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flows.gate.measure import RouterMeasure
from flows.reports.promotion.clusters import THIN_COUNT, changes_of, clusters_of, flows_of, heat_of
from flows.reports.promotion.comparison import (
    Measured,
    band,
    effects,
    headline,
    llm_points,
    measured,
    resample,
    stability,
)
from flows.reports.promotion.evidence import Evidence, Side
from flows.reports.promotion.review_inputs import Contender, ReviewInputs
from flows.text import counted
from routing.deferral import DeferralCurve, area

_SAME = 1e-9
_SMALL_CLUSTER = 5
_NOTABLE_AREA = 0.002


def evidence_of(inputs: ReviewInputs) -> Evidence:
    """Compute everything that a promotion report shows; the same inputs give the same evidence."""
    found = measured(inputs)
    clusters = clusters_of(inputs)
    champion = None
    number, difference_band, flows, changes = None, None, (), ()
    if inputs.champion is not None and found.champion is not None:
        resampled = resample(inputs, found)
        champion = _side(inputs.champion, found.champion)
        number = headline(inputs, found, resampled)
        difference_band = None if found.challenger.is_free else band(resampled)
        flows = flows_of(found.champion, found.challenger)
        changes = changes_of(inputs, found.champion, found.challenger)
    shares = dict(found.challenger.shares)
    evidence = Evidence(
        challenger=_side(inputs.challenger, found.challenger),
        champion=champion,
        passed=inputs.passed,
        checks=tuple(sorted(inputs.checks, key=lambda check: check.order)),
        worth=inputs.worth,
        headline=number,
        band=difference_band,
        effects=effects(inputs, found),
        zero_router=_zero_curve(inputs),
        llms=llm_points(inputs, found),
        heat=heat_of(inputs, clusters),
        clusters=clusters,
        flows=flows,
        changes=changes,
        n_changed=sum(flow.n for flow in flows),
        new_llms=tuple(replace(one, share=shares.get(one.key, 0.0)) for one in inputs.new_llms),
        spend=inputs.spend,
        stability=stability(inputs),
        trend=inputs.trend,
        n_gate=len(inputs.gate_prompts),
        n_dropped=inputs.outcomes.n_dropped,
        n_known=len(inputs.known_prompts),
        stale_prices=inputs.stale_prices,
        limitations=(),
        facts=inputs.facts,
        refresh=inputs.refresh,
        undecided=inputs.undecided,
    )
    return replace(evidence, limitations=tuple(_limitations(inputs, found, evidence)))


def _side(contender: Contender, found: RouterMeasure) -> Side:
    router = contender.router
    return Side(
        digest=router.digest,
        number=contender.number,
        n_llms=len(router.keys),
        cost_weight=router.cost_weight,
        made_at=contender.made_at,
        as_of=contender.as_of,
        score=found.score,
        cost_usd=found.cost_usd,
        area=found.area,
        curve=found.curve,
    )


def _zero_curve(inputs: ReviewInputs) -> DeferralCurve | None:
    if inputs.zero_router is None:
        return None
    outcomes = inputs.outcomes
    columns = outcomes.columns(inputs.challenger.router.keys)
    return inputs.zero_router.curve(
        outcomes.scores[:, columns], outcomes.costs_usd[:, columns], reference_cost_usd=outcomes.reference_cost_usd
    )


def _limitations(inputs: ReviewInputs, found: Measured, evidence: Evidence) -> Iterator[str]:
    yield (
        f"Every comparison rests on {counted(evidence.n_gate, 'gate prompt')} on which nothing was fitted. Prompts "
        "unlike this prompt set (other languages, long contexts, conversations, tools, images) are tested only if it "
        "contains some."
    )
    if inputs.is_recorded:
        yield "The answers are recorded answers of real LLMs, played by the sandbox; no LLM was called."
    graded = ", ".join(f"{label} {count / evidence.n_gate:.0%}" for label, count in inputs.graders)
    yield f"How the gate prompts are graded: {graded}. A rule misses unusual wordings; a judge can be wrong or biased."
    if evidence.headline is not None:
        equal = evidence.headline.score_at_equal_cost
        if equal.n > evidence.n_gate:
            representative = counted(equal.n - evidence.n_gate, "representative prompt")
            yield (
                f"The score at equal cost rests on {representative} as well: there the procedure that made the router "
                "is judged, with vectors that never saw the prompt, and on gate prompts the published router."
            )
        width = (equal.high - equal.low) / 2
        if width > 0 or equal.mean != 0:
            yield (
                f"With {counted(equal.n, 'prompt')} a difference in score below about {100 * width:.1f} points cannot "
                "be distinguished from chance; intervals are for this comparison alone, not for many nights in a row."
            )
        else:
            yield (
                "At the champion's cost both routers score the same on every prompt that judges, so the interval has "
                "no width; on other prompts they may differ."
            )
    if evidence.n_dropped:
        left_out = counted(evidence.n_dropped, "gate prompt is", "gate prompts are")
        yield f"{left_out} left out because some LLM has no score there."
    zero = evidence.zero_router
    if zero is not None and not zero.is_free and area(zero) > evidence.challenger.area + _NOTABLE_AREA:
        yield (
            f"Over the whole range of costs the prompt-blind ZeroRouter does better (area {area(zero):.4f}) than the "
            f"challenger ({evidence.challenger.area:.4f}): on these prompts its choices by topic do not pay everywhere."
        )
    yield from _about_costs(inputs, evidence)
    yield from _about_vectors(inputs, evidence)
    stored = inputs.metrics.get("score")
    if stored is not None and abs(stored - found.challenger.score) > _SAME:
        yield (
            f"The gate stored the score {stored:.4f}; computed again from what the registry holds it is "
            f"{found.challenger.score:.4f}. The answers behind it have changed: trust neither until you know why."
        )


def _about_costs(inputs: ReviewInputs, evidence: Evidence) -> Iterator[str]:
    yield "Costs are those of the recorded answers; caching, batch discounts and retries of callers are not in them."
    repriced = sum(point.repriced_cost_usd is not None for point in evidence.llms)
    if repriced:
        yield (
            f"{counted(repriced, 'LLM has', 'LLMs have')} changed price since the champion was made: the router "
            "decides by the new prices, while the recorded costs of older answers are at the old ones."
        )


def _about_vectors(inputs: ReviewInputs, evidence: Evidence) -> Iterator[str]:
    small = sum(cluster.size < _SMALL_CLUSTER for cluster in evidence.clusters)
    if small:
        yield f"{counted(small, 'cluster has', 'clusters have')} fewer than {_SMALL_CLUSTER} prompts."
    cells = [cell for row in evidence.heat for cell in row.cells]
    thin = sum(cell.is_thin for cell in cells)
    if thin:
        total = counted(len(cells), "expected error")
        yield f"Of {total}, {thin:,} rest on fewer than {THIN_COUNT} answers or on a patchy profile."
    unsure = evidence.stability.unsure
    if unsure:
        yield f"{unsure:.0%} of the gate prompts would go elsewhere in more than 30 % of the redrawn vectors."
    if evidence.new_llms and all(one.gap is None for one in evidence.new_llms):
        yield "No hidden prompts were asked, so it is unknown whether a new LLM knew the others beforehand."
