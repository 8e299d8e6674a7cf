"""Which prompts change their route: how many go where, and a sample of them with what both LLMs answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from flows.measuring import RouterMeasure
from flows.reports.promotion.material import Material
from flows.reports.promotion.particulars import Flow, RouteChange

N_WORST = 5
N_SHOWN = 20


def flows_of(before: RouterMeasure, after: RouterMeasure) -> tuple[Flow, ...]:
    """Count the prompts that go from one LLM to another, the largest flow first."""
    grouped: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, pair in enumerate(zip(before.chosen, after.chosen, strict=True)):
        if pair[0] != pair[1]:
            grouped[pair].append(row)
    found = [
        Flow(
            *pair,
            len(rows),
            float((after.scores[rows] - before.scores[rows]).mean()),
            float((after.costs_usd[rows] - before.costs_usd[rows]).mean()),
        )
        for pair, rows in grouped.items()
    ]
    return tuple(sorted(found, key=lambda flow: (-flow.n, flow.before, flow.after)))


def changes_of(material: Material, before: RouterMeasure, after: RouterMeasure) -> tuple[RouteChange, ...]:
    """Show the worst regressions and a sample of the others, stratified by flow; what does worst comes first."""
    rows = [row for row in range(len(before.chosen)) if before.chosen[row] != after.chosen[row]]
    rows.sort(
        key=lambda row: (
            after.scores[row] - before.scores[row],
            before.costs_usd[row] - after.costs_usd[row],
            material.gate_prompts[row].digest,
        )
    )
    worst = [row for row in rows[:N_WORST] if after.scores[row] < before.scores[row]]
    sample = _stratified(material, before, after, [row for row in rows if row not in worst], N_SHOWN - len(worst))
    shown = worst + sorted(sample, key=rows.index)
    answers = {
        key: material.completions(
            key, [material.gate_prompts[row] for row in shown if key in (before.chosen[row], after.chosen[row])]
        )
        for key in sorted({routed.chosen[row] for routed in (before, after) for row in shown})
    }
    clusters = material.challenger.router.route(material.outcomes.embeddings).cluster
    return tuple(
        RouteChange(
            digest=prompt.digest,
            text=prompt.text,
            category=prompt.category,
            cluster=int(clusters[row]),
            before=before.chosen[row],
            after=after.chosen[row],
            score_before=float(before.scores[row]),
            score_after=float(after.scores[row]),
            cost_before_usd=float(before.costs_usd[row]),
            cost_after_usd=float(after.costs_usd[row]),
            completion_before=answers[before.chosen[row]].get(prompt.digest),
            completion_after=answers[after.chosen[row]].get(prompt.digest),
            is_worst=row in worst,
        )
        for row in shown
        for prompt in (material.gate_prompts[row],)
    )


def _stratified(
    material: Material, before: RouterMeasure, after: RouterMeasure, rows: Sequence[int], n: int
) -> list[int]:
    """Take one prompt of each flow in turn, the largest flow first; within a flow, in an order that says nothing."""
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda each: material.gate_prompts[each].digest):
        strata[before.chosen[row], after.chosen[row]].append(row)
    queues = sorted(strata.items(), key=lambda item: (-len(item[1]), item[0]))
    depth = int(np.max([len(queue) for _, queue in queues], initial=0))
    in_turn = [queue[place] for place in range(depth) for _, queue in queues if place < len(queue)]
    return in_turn[:n]
