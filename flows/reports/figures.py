"""Figures of a router version, drawn from numbers that the gate measured."""

from __future__ import annotations

from pathlib import Path

from flows.gate import GateResult

_GREY = "#8a8a8a"
_CHALLENGER = "#1f5fa8"


def deferral_figure(gate: GateResult, path: Path) -> Path:
    """Draw the deferral curves of challenger, champion, single LLMs and ZeroRouter on the gate prompts.

    Parameters
    ----------
    gate
        What the gate measured.
    path
        Where the figure goes; its ending (``.png``, ``.svg``) says the form.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    outcomes = gate.outcomes
    per_1k = 1000.0
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    try:
        costs, scores = outcomes.costs_usd.mean(axis=0) * per_1k, outcomes.scores.mean(axis=0)
        axes.scatter(
            costs, scores, s=18, color=_GREY, zorder=2, label="single LLMs (named: none is better and cheaper)"
        )
        for key, cost, score in zip(outcomes.keys, costs, scores, strict=True):
            if any((costs <= cost) & (scores > score)) or any((costs < cost) & (scores >= score)):
                continue
            is_leftmost = cost == costs.min()
            note = axes.annotate(
                key.partition(":")[2][:28],
                (cost, score),
                xytext=(6, -10) if is_leftmost else (-5, 5),
                textcoords="offset points",
                ha="left" if is_leftmost else "right",
                fontsize=7.5,
                color=_GREY,
            )
            note.set_parse_math(False)
        zero = gate.zero_router
        if zero is not None:
            axes.plot(zero.costs_usd * per_1k, zero.scores, ":", color=_GREY, lw=1.3, label="ZeroRouter (prompt-blind)")
        drawn = [("challenger", gate.challenger, _CHALLENGER, "-")]
        if gate.champion is not None:
            drawn.insert(0, ("champion", gate.champion, "#444444", "--"))
        for name, found, colour, style in drawn:
            curve = found.curve
            axes.plot(curve.costs_usd * per_1k, curve.scores, style, color=colour, lw=1.8, label=name)
            axes.plot(found.cost_usd * per_1k, found.score, "o", color=colour, ms=7)
        axes.set_xscale("log")
        axes.set_xlabel("mean cost, USD per 1 000 prompts (log scale)")
        axes.set_ylabel("mean score on gate prompts")
        axes.set_title(f"Deferral curves on {len(outcomes.embeddings)} gate prompts (dots: operating points)")
        axes.grid(alpha=0.25, lw=0.5)
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    finally:
        pyplot.close(figure)
    return path
