"""Clusters as people can read them, the heat map of expected errors, and the prompts whose route changes."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.gate.measure import RouterMeasure
from flows.reports.promotion.particulars import Cluster, Example, Flow, HeatCell, HeatRow, RouteChange
from flows.reports.promotion.review_inputs import ReviewInputs
from registry.prompts import Prompt
from routing.router import Router
from routing.tokens import estimated_input_tokens

THIN_COUNT = 3
THIN_COVERAGE = 0.8
N_WORST = 5
N_SHOWN = 20
_N_WORDS = 4
_N_EXAMPLES = 3
_FEWEST_PROMPTS = 2
_LEAST_WORTH = 0.05
_WORD = re.compile(r"\b[^\W\d_]{3,20}\b")


def clusters_of(inputs: ReviewInputs) -> tuple[Cluster, ...]:
    """Describe every cluster with at least one prompt, the largest first."""
    router, embeddings = inputs.challenger.router, inputs.known_embeddings
    tokens = estimated_input_tokens([prompt.text for prompt in inputs.known_prompts])
    decisions = router.route(embeddings, input_tokens=tokens)
    assigned, after = decisions.cluster, decisions.llms
    before = None
    if inputs.champion is not None:
        others = inputs.champion_embeddings
        before = inputs.champion.router.route(embeddings if others is None else others, input_tokens=tokens).llms
    words = _distinguishing_words([prompt.text for prompt in inputs.known_prompts], assigned)
    found = []
    for number in np.unique(assigned).tolist():
        rows = np.flatnonzero(assigned == number)
        new = _most_frequent([after[row] for row in rows])
        old = _most_frequent([before[row] for row in rows]) if before is not None else None
        found.append(
            Cluster(
                number=number,
                words=words.get(number, ()),
                size=len(rows),
                share=len(rows) / len(assigned),
                examples=_examples(inputs.known_prompts, embeddings, rows),
                before=old,
                after=new,
                error_before=_error(router, old, number) if old is not None else None,
                error_after=_error(router, new, number),
                changed=float(np.mean([before[row] != after[row] for row in rows])) if before is not None else 0.0,
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.size, one.number)))


def heat_of(inputs: ReviewInputs, clusters: Sequence[Cluster]) -> tuple[HeatRow, ...]:
    """Return the expected errors of every LLM of the challenger, the best first."""
    new = set(inputs.new_keys)
    rows = []
    for llm in inputs.challenger.router.llms:
        vector = llm.vector
        cells = tuple(
            HeatCell(
                error=float(vector.errors[one.number]),
                standard_error=float(vector.standard_errors[one.number]),
                n=int(vector.counts[one.number]),
                is_thin=bool(vector.counts[one.number] < THIN_COUNT or vector.coverage < THIN_COVERAGE),
                is_chosen=one.after == llm.key,
                was_chosen=one.before == llm.key,
            )
            for one in clusters
        )
        sizes = np.array([one.size for one in clusters], float)
        mean = float(np.average([cell.error for cell in cells], weights=sizes))
        rows.append(HeatRow(llm.key, mean, vector.coverage, llm.key in new, cells))
    return tuple(sorted(rows, key=lambda row: (row.mean_error, row.key)))


def _most_frequent(keys: Sequence[str]) -> str:
    return min(Counter(keys).items(), key=lambda item: (-item[1], item[0]))[0]


def _error(router: Router, key: str, number: int) -> float | None:
    """Return the challenger's expected error of an LLM in a cluster; None when it does not have the LLM."""
    return next((float(llm.vector.errors[number]) for llm in router.llms if llm.key == key), None)


def _examples(
    prompts: Sequence[Prompt], embeddings: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[Example, ...]:
    """Return the prompts nearest to the mean of their cluster."""
    near = embeddings[rows] @ embeddings[rows].mean(axis=0)
    order = sorted(range(len(rows)), key=lambda at: (-round(float(near[at]), 6), prompts[rows[at]].digest))
    return tuple(
        Example(prompts[row].digest, len(prompts[row].text), prompts[row].text)
        for row in (rows[at] for at in order[:_N_EXAMPLES])
    )


def _distinguishing_words(texts: Sequence[str], assigned: NDArray[np.int64]) -> dict[int, tuple[str, ...]]:
    """Return the words that are much more frequent in a cluster than elsewhere, by cluster.

    A word is worth its share of the cluster's prompts times the squared logarithm of that share over its share of all
    prompts: words that are frequent everywhere are worth nothing.
    """
    present = [frozenset(_WORD.findall(text.lower())) for text in texts]
    overall = Counter(word for words in present for word in words)
    found: dict[int, tuple[str, ...]] = {}
    for number in np.unique(assigned).tolist():
        rows = np.flatnonzero(assigned == number).tolist()
        inside = Counter(word for row in rows for word in present[row])
        worth = {
            word: count / len(rows) * math.log(more) ** 2
            for word, count in inside.items()
            if count >= _FEWEST_PROMPTS and (more := count / len(rows) / (overall[word] / len(texts))) > 1
        }
        best = sorted(worth, key=lambda word: (-round(worth[word], 9), word))[:_N_WORDS]
        found[number] = tuple(word for word in best if worth[word] > _LEAST_WORTH)
    return found


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


def changes_of(inputs: ReviewInputs, before: RouterMeasure, after: RouterMeasure) -> tuple[RouteChange, ...]:
    """Return the worst regressions and a sample of the other changes, stratified by flow; the worst come first."""
    rows = [row for row in range(len(before.chosen)) if before.chosen[row] != after.chosen[row]]
    rows.sort(
        key=lambda row: (
            after.scores[row] - before.scores[row],
            before.costs_usd[row] - after.costs_usd[row],
            inputs.gate_prompts[row].digest,
        )
    )
    worst = [row for row in rows[:N_WORST] if after.scores[row] < before.scores[row]]
    sample = _stratified(inputs, before, after, [row for row in rows if row not in worst], N_SHOWN - len(worst))
    shown = worst + sorted(sample, key=rows.index)
    answers = {
        key: inputs.completions(
            key, [inputs.gate_prompts[row] for row in shown if key in (before.chosen[row], after.chosen[row])]
        )
        for key in sorted({routed.chosen[row] for routed in (before, after) for row in shown})
    }
    clusters = inputs.challenger.router.route(inputs.outcomes.embeddings).cluster
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
        for prompt in (inputs.gate_prompts[row],)
    )


def _stratified(
    inputs: ReviewInputs, before: RouterMeasure, after: RouterMeasure, rows: Sequence[int], n: int
) -> list[int]:
    """Take one prompt of each flow in turn, the largest flow first; within a flow, in order of the digests."""
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda each: inputs.gate_prompts[each].digest):
        strata[before.chosen[row], after.chosen[row]].append(row)
    queues = sorted(strata.items(), key=lambda item: (-len(item[1]), item[0]))
    depth = int(np.max([len(queue) for _, queue in queues], initial=0))
    in_turn = [queue[place] for place in range(depth) for _, queue in queues if place < len(queue)]
    return in_turn[:n]
