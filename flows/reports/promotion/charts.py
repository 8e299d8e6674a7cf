"""The figures of a promotion report, each with how to read it, what it rests on, and a caution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flows.reports.promotion.drawing import (
    BAND,
    CHALLENGER,
    CHAMPION,
    GRID,
    INK,
    MUTED,
    NEW,
    PAPER,
    WORSE,
    Drawing,
    Figure,
    along,
    as_svg,
    cost_axis,
    drawing,
    label_points,
    spread,
)
from flows.reports.promotion.evidence import Band, Evidence, LLMPoint, Side
from flows.reports.readability import share_cell
from flows.text import counted, llm_name
from routing.deferral import scores_at_costs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PER_1K = 1000.0
_TABLE_ROWS = 12
_LEAST_SHARE = 0.005
_MOST_LINES = 18
_FEWEST_VERSIONS = 3
_COST_AXIS = "mean cost, USD per 1,000 prompts (logarithmic)"
_NO_COSTS = "every LLM is free"


def figures_of(evidence: Evidence) -> dict[str, Figure]:
    """Draw every figure that the evidence allows, by name."""
    drawn = [deferral(evidence), frontier(evidence.llms, _basis(evidence)), agreement(evidence)]
    if evidence.champion is not None:
        drawn.append(shift(evidence))
    if sum(one.score is not None for one in evidence.trend) >= _FEWEST_VERSIONS:
        drawn.append(trend(evidence))
    return {figure.name: figure for figure in drawn}


def deferral(evidence: Evidence) -> Figure:
    """Draw the deferral curves over the band of their difference."""
    name, title, band = "deferral", "Score against cost, as the cost weight sweeps", evidence.band
    with drawing(name, 6.2 if band is not None else 4.6) as drawn:
        ratios = [3.0, 1.3] if band is not None else [1.0]
        grid = drawn.canvas.add_gridspec(len(ratios), 1, height_ratios=ratios)
        axes = drawn.canvas.add_subplot(grid[0])
        _draw_curves(drawn, axes, evidence)
        if band is None:
            axes.set_xlabel(_NO_COSTS if evidence.challenger.curve.is_free else _COST_AXIS)
        else:
            axes.tick_params(labelbottom=False)
            _draw_band(drawn.canvas.add_subplot(grid[1], sharex=axes), band)
        svg = as_svg(drawn, name, title, _deferral_words(evidence))
    return Figure(
        name,
        title,
        svg,
        "Higher is better and further left is cheaper; each curve shows what a router can do as saving becomes more "
        "important, the rings show where the two stand now, and below is challenger minus champion at equal cost.",
        _basis(evidence),
        "The band holds at each cost by itself, not along the whole curve at once; nothing was fitted on the gate "
        "prompts that the curves are computed on.",
        *_curve_table(evidence),
    )


def _draw_curves(drawn: Drawing, axes: Axes, evidence: Evidence) -> None:
    sides = [("challenger", evidence.challenger, CHALLENGER, "-", 2.4)]
    if evidence.champion is not None:
        sides.insert(0, ("champion", evidence.champion, CHAMPION, "--", 1.8))
    for point in evidence.llms:
        colour, opacity = (NEW, 0.9) if point.is_new else (MUTED, 0.45)
        axes.plot(*_place(point), "o", color=colour, alpha=opacity, ms=5.5, mew=0, gid=drawn.tip(_point_words(point)))
    if evidence.zero_router is not None:
        zero = evidence.zero_router
        axes.plot(zero.costs_usd * _PER_1K, zero.scores, ":", color=MUTED, lw=1.6, label="ZeroRouter, prompt-blind")
    for label, side, colour, style, width in sides:
        axes.plot(side.curve.costs_usd * _PER_1K, side.curve.scores, style, color=colour, lw=width, label=label)
    for label, side, colour, _, _ in sides:
        tip = f"{label}, operating point: score {side.score:.4f}, {side.cost_usd * _PER_1K:.4f} USD per 1,000 prompts"
        axes.plot(side.cost_usd * _PER_1K, side.score, "o", ms=11, mfc=PAPER, mec=colour, mew=2.6, gid=drawn.tip(tip))
    cost_axis(axes, is_free=evidence.challenger.curve.is_free)
    axes.set_ylabel("mean score")
    axes.grid(axis="y")
    axes.legend(loc="lower right", labelcolor=INK)


def _draw_band(axes: Axes, band: Band) -> None:
    costs = band.costs_usd * _PER_1K
    axes.axhline(0, color=CHAMPION, lw=1.4, ls="--")
    axes.fill_between(costs, 100 * band.low, 100 * band.high, color=BAND, lw=0)
    axes.plot(costs, 100 * band.difference, color=CHALLENGER, lw=2)
    axes.set_ylabel("difference, points")
    axes.set_xlabel(_COST_AXIS)
    axes.grid(axis="y")


def frontier(points: Sequence[LLMPoint], basis: str) -> Figure:
    """Draw LLMs as points, and the line that no LLM is above.

    Parameters
    ----------
    points
        The LLMs, the best first.
    basis
        What the numbers rest on.
    """
    name, title = "frontier", "What single LLMs cost and score"
    best = sorted((point for point in points if point.is_on_frontier), key=lambda point: point.cost_usd)
    with drawing(name, 5.0) as drawn:
        axes = drawn.canvas.add_subplot()
        line = [_place(point) for point in best]
        axes.plot(*zip(*line, strict=True), color=MUTED, lw=1.2)
        for point in points:
            _draw_point(drawn, axes, point)
        is_free = not any(point.cost_usd for point in points)
        cost_axis(axes, is_free=is_free)
        axes.set_xlabel(_NO_COSTS if is_free else _COST_AXIS)
        axes.set_ylabel("mean score")
        axes.grid(axis="y")
        axes.margins(x=0.08, y=0.1)
        named = [point for point in points if point.is_new] + best
        labels = {_place(p): (llm_name(p.key), NEW if p.is_new else MUTED) for p in named[:_MOST_LINES]}
        label_points(axes, labels, [_place(point) for point in points] + along(line))
        words = f"{counted(len(points), 'LLM')}, {sum(p.is_new for p in points)} of them new; on the frontier: "
        svg = as_svg(drawn, name, title, words + ", ".join(llm_name(point.key) for point in best))
    return Figure(
        name,
        title,
        svg,
        "Each mark is one LLM answering every prompt; the line joins the best for their cost, diamonds are new, hollow "
        "marks are dominated, crosses are gone, and an arrow leads to the cost at a changed price.",
        basis,
        "An LLM below the line can still be the best one for some prompts; that is what a router is for.",
        ("LLM", "score", "unreadable", "USD per 1,000", "state", "share before", "share after"),
        tuple(
            (
                point.key,
                f"{point.score:.4f}",
                share_cell(point.unreadable_share),
                f"{point.cost_usd * _PER_1K:.4f}",
                _state(point),
                _percent(point.share_before),
                _percent(point.share_after),
            )
            for point in points
        ),
    )


def _draw_point(drawn: Drawing, axes: Axes, point: LLMPoint) -> None:
    x, y = _place(point)
    colour = NEW if point.is_new else (CHAMPION if point.is_dominated or point.is_gone else INK)
    shape = "D" if point.is_new else ("X" if point.is_gone else "o")
    filling = PAPER if point.is_dominated else colour
    tip = drawn.tip(_point_words(point))
    axes.plot(x, y, shape, mfc=filling, mec=colour, mew=1.6, ms=8 if point.is_new else 6.5, gid=tip)
    if point.repriced_cost_usd is not None:
        is_more_expensive = point.repriced_cost_usd > point.cost_usd
        arrow = {"arrowstyle": "->", "color": WORSE if is_more_expensive else INK}
        axes.annotate("", (point.repriced_cost_usd * _PER_1K, y), (x, y), arrowprops=arrow)


def _place(point: LLMPoint) -> tuple[float, float]:
    """Return where an LLM is drawn; a free one has no place on a logarithmic axis and is drawn at its far left."""
    return max(point.cost_usd * _PER_1K, 1e-6), point.score


def shift(evidence: Evidence) -> Figure:
    """Draw the share of every LLM under both routers as slopes."""
    name, title = "shift", "Where the prompts go"
    shares = [(p, p.share_before or 0.0, p.share_after or 0.0) for p in evidence.llms]
    shown = sorted((one for one in shares if max(one[1:]) >= _LEAST_SHARE), key=lambda one: -max(one[1:]))[:_MOST_LINES]
    top = max((max(one[1:]) for one in shown), default=1.0)
    with drawing(name, max(3.2, 1.4 + 0.36 * len(shown))) as drawn:
        axes = drawn.canvas.add_subplot()
        gap = top / max(2.3 * drawn.canvas.get_figheight(), 1)
        for side, x, ha in ((1, -0.14, "right"), (2, 1.14, "left")):
            order = sorted(shown, key=lambda one, side=side: (one[side], one[0].key))
            places = spread([one[side] for one in order], gap, 0.0, top)
            for one, place in zip(order, places, strict=True):
                colour = NEW if one[0].is_new else (MUTED if one[side] == 0 else INK)
                text = f"{llm_name(one[0].key)}  {one[side]:.1%}"
                axes.plot([side - 1, x * 0.82 + (side - 1) * 0.18], [one[side], place], color=GRID, lw=0.8)
                axes.text(x, place, text, ha=ha, va="center", color=colour, parse_math=False)
        for point, before, after in shown:
            colour = NEW if point.is_new else (CHALLENGER if after > before else CHAMPION)
            tip = drawn.tip(f"{point.key}: {before:.1%} before, {after:.1%} after")
            axes.plot([0, 1], [before, after], "-o", color=colour, lw=2.2 if after >= before else 1.4, ms=5, gid=tip)
        axes.set_xlim(-0.85, 1.85)
        axes.set_ylim(-0.04 * top, 1.06 * top)
        axes.set_axis_off()
        for x, label in ((0, "champion"), (1, "challenger")):
            axes.plot([x, x], [0, top], color=GRID, lw=1, zorder=0)
            axes.text(x, 1.05 * top, label, ha="center", va="bottom", color=MUTED)
        words = "; ".join(f"{llm_name(p.key)} from {before:.1%} to {after:.1%}" for p, before, after in shown)
        svg = as_svg(drawn, name, title, words)
    return Figure(
        name,
        title,
        svg,
        "Each line is one LLM: its share of the prompts under the champion on the left, under the challenger on the "
        "right.",
        _basis(evidence),
        "Shares are those of the gate prompts; your traffic has its own mix of topics.",
        ("LLM", "champion", "challenger"),
        tuple((p.key, _percent(p.share_before), _percent(p.share_after)) for p, *_ in shares),
    )


def agreement(evidence: Evidence) -> Figure:
    """Draw in how many draws of the vectors how many prompts keep their LLM."""
    name, title = "agreement", "How certain the decisions are"
    found = evidence.stability
    edges = np.linspace(0, 1, 11)
    counts, _ = np.histogram(found.agreement, edges)
    shares = counts / max(len(found.agreement), 1)
    with drawing(name, 3.0) as drawn:
        axes = drawn.canvas.add_subplot()
        for left, share in zip(edges[:-1], shares, strict=True):
            tip = drawn.tip(f"{share:.1%} of the prompts keep their LLM in {left:.0%} to {left + 0.1:.0%} of the draws")
            colour = WORSE if left < 0.7 - 1e-9 else CHALLENGER
            axes.bar(100 * left, 100 * share, width=9.2, align="edge", color=colour, gid=tip)
        axes.set_xlabel("draws in which the same LLM is chosen, %")
        axes.set_ylabel("prompts, %")
        axes.set_xticks(range(0, 101, 10))
        axes.grid(axis="y")
        words = f"Mean agreement {found.mean:.1%}; {found.unsure:.1%} of the prompts below 70 %."
        svg = as_svg(drawn, name, title, words)
    return Figure(
        name,
        title,
        svg,
        "The further right, the more certain: each bar counts prompts by how often they keep their LLM when all "
        "vectors are drawn again from their standard errors.",
        f"n = {counted(evidence.n_gate, 'gate prompt')}, {counted(found.n_draws, 'draw')}.",
        "An LLM's errors are drawn up or down together in all clusters, which is the cautious reading; uncertainty "
        "between two equally good LLMs does no harm.",
        ("draws that agree", "prompts"),
        tuple(
            (f"{left:.0%} to {left + 0.1:.0%}", str(int(count))) for left, count in zip(edges[:-1], counts, strict=True)
        ),
    )


def trend(evidence: Evidence) -> Figure:
    """Draw the scores of the last routers."""
    name, title = "trend", "The last routers"
    known = [one for one in evidence.trend if one.score is not None]
    numbers = [one.number for one in known]
    with drawing(name, 2.8) as drawn:
        axes = drawn.canvas.add_subplot()
        axes.plot(numbers, [one.score for one in known], color=MUTED, lw=1.2)
        for one in known:
            tip = f"router {one.number}: score {one.score:.4f}, {'served' if one.served else 'did not serve'}"
            axes.plot(
                one.number,
                one.score,
                "o",
                ms=8,
                mfc=CHALLENGER if one.served else PAPER,
                mec=CHALLENGER,
                mew=1.8,
                gid=drawn.tip(tip),
            )
        axes.set_xticks(numbers)
        axes.set_xlabel("router")
        axes.set_ylabel("mean score")
        axes.grid(axis="y")
        svg = as_svg(drawn, name, title, "; ".join(f"router {one.number} {one.score:.4f}" for one in known))
    return Figure(
        name,
        title,
        svg,
        "Filled marks have been champion; the last mark is the challenger of this report.",
        f"n = {counted(len(known), 'router')}, each on the gate prompts of its own night.",
        "Scores of different prompt sets are not comparable.",
        ("router", "made", "LLMs", "score", "USD per 1,000", "area", "served"),
        tuple(
            (
                str(one.number),
                one.made_at.date().isoformat(),
                str(one.n_llms),
                f"{one.score:.4f}",
                "" if one.cost_usd is None else f"{one.cost_usd * _PER_1K:.4f}",
                "" if one.area is None else f"{one.area:.4f}",
                "yes" if one.served else "no",
            )
            for one in known
        ),
    )


def _basis(evidence: Evidence) -> str:
    return f"n = {counted(evidence.n_gate, 'gate prompt')}, {counted(len(evidence.llms), 'LLM')}."


def _deferral_words(evidence: Evidence) -> str:
    sides: Sequence[tuple[str, Side | None]] = (("Challenger", evidence.challenger), ("champion", evidence.champion))
    return "; ".join(
        f"{label}: score {side.score:.4f} at {side.cost_usd * _PER_1K:.4f} USD per 1,000 prompts"
        + ("" if side.curve.is_free else f", area {side.area:.4f}")
        for label, side in sides
        if side is not None
    )


def _curve_table(evidence: Evidence) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    band, curve = evidence.band, evidence.challenger.curve
    if band is None or evidence.champion is None:
        at = np.unique(np.linspace(0, len(curve.scores) - 1, _TABLE_ROWS).astype(int))[::-1]
        rows = [(f"{curve.costs_usd[i] * _PER_1K:.4f}", f"{curve.scores[i]:.4f}") for i in at]
        return ("USD per 1,000", "challenger"), tuple(rows)
    at = np.unique(np.linspace(0, len(band.costs_usd) - 1, _TABLE_ROWS).astype(int))
    relative = curve.relative(band.costs_usd[at])
    scores = [scores_at_costs(side.curve, relative) for side in (evidence.champion, evidence.challenger)]
    return ("USD per 1,000", "champion", "challenger", "difference", "95 % interval"), tuple(
        (
            f"{band.costs_usd[i] * _PER_1K:.4f}",
            f"{before:.4f}",
            f"{after:.4f}",
            f"{band.difference[i]:+.4f}",
            f"{band.low[i]:+.4f} to {band.high[i]:+.4f}",
        )
        for i, before, after in zip(at, *scores, strict=True)
    )


def _point_words(point: LLMPoint) -> str:
    words = f"{point.key} ({_state(point)}): score {point.score:.4f}, {point.cost_usd * _PER_1K:.4f} USD per 1,000"
    if point.repriced_cost_usd is not None:
        words += f", at today's price {point.repriced_cost_usd * _PER_1K:.4f}"
    return words


def _state(point: LLMPoint) -> str:
    words = ["new"] * point.is_new + ["gone"] * point.is_gone + ["repriced"] * (point.repriced_cost_usd is not None)
    words += ["on the frontier"] * point.is_on_frontier + ["dominated"] * point.is_dominated
    return ", ".join(words) or "known"


def _percent(share: float | None) -> str:
    return "not in it" if share is None else f"{share:.1%}"
