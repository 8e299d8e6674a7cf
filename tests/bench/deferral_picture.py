"""The picture that explains area, QNC and peak in routing/README.md: ``python -m tests.bench.deferral_picture FILE``.

It reads the home folder of `make demo` and draws its champion with the functions that the gate uses.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from flows.config.loading import load_settings
from flows.gate.answers import Answers
from flows.gate.evidence import gather
from flows.gate.measure import GateOutcomes, RouterMeasure, measure
from flows.versions.store import load_version
from flows.workspace import Workspace
from routing.deferral import scores_at_costs

_BLUE, _FILL, _GREY, _INK = "#1f5fa8", "#dce8f5", "#8a8a8a", "#333333"
_LEAST_SCORE = 0.3
# Of the LLMs below this score, the most expensive one carries the legend: there is room beside it.
_BELOW_THE_CURVE = 0.6


def champion_on_gate_prompts() -> tuple[GateOutcomes, RouterMeasure]:
    """Return the recorded outcomes on the gate prompts, and the measurements of the champion there."""
    with Workspace(load_settings()) as workspace:
        registry = workspace.registry
        digest = registry.routers.get("champion").digest
        router, answers = load_version(workspace, digest), Answers.of_version(registry, digest, None)
        on = registry.runs.latest().as_of
        outcomes = gather(answers, router, None, on=on, min_coverage=0.95).outcomes
        return outcomes, measure(router, outcomes)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Draw the deferral curve of the demo's champion into FILE, and print the figures in it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    outcomes, found = champion_on_gate_prompts()
    reference, best = outcomes.reference_cost_usd, outcomes.best_score
    costs, scores = outcomes.costs_usd.mean(axis=0) / reference, outcomes.scores.mean(axis=0)
    axis = np.linspace(0, 1, 1001)
    reached = scores_at_costs(found.curve, axis)
    with matplotlib.rc_context({"svg.hashsalt": "uniroute", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
        axes.fill_between(axis, _LEAST_SCORE, reached, color=_FILL, lw=0)
        axes.plot(axis, reached, color=_BLUE, lw=2)
        axes.plot(costs, scores, "o", ms=4.5, color=_GREY, zorder=3)
        axes.plot(found.cost_usd / reference, found.score, "o", ms=9, color=_BLUE, zorder=4)
        axes.axhline(best, color=_GREY, lw=1, ls="--")
        axes.axhline(found.peak, color=_BLUE, lw=1, ls=":")
        label = {"color": _INK, "fontsize": 9}
        axes.text(0.4, 0.56, f"AREA {found.area:.4f}\n(down to score 0, below this picture)", **label)
        axes.text(0.3, found.peak + 0.006, f"PEAK {found.peak:.4f}", **label)
        axes.text(0.99, best - 0.022, f"best single LLM {best:.4f}", ha="right", **label)
        if found.qnc_is_reached:
            axes.plot([found.qnc, found.qnc], [_LEAST_SCORE, best], color=_BLUE, lw=1, ls="--")
            axes.text(found.qnc + 0.01, 0.4, f"QNC {found.qnc:.3f}", **label)
        place = (found.cost_usd / reference, found.score)
        words = f"operating point:\nSCORE {found.score:.4f}, USD/1000 {1000 * found.cost_usd:.4f}"
        axes.annotate(words, place, xytext=(16, -34), textcoords="offset points", **label)
        place = max((cost, score) for cost, score in zip(costs, scores, strict=True) if score < _BELOW_THE_CURVE)
        axes.annotate("each grey dot: one LLM", place, xytext=(8, -3), textcoords="offset points", color=_GREY)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(_LEAST_SCORE, 0.8)
        axes.set_xlabel(
            f"mean cost relative to the most expensive LLM (1 = {1000 * reference:.2f} USD per 1,000 prompts)"
        )
        axes.set_ylabel("mean score on gate prompts")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)
    click.echo(f"{file}: area {found.area:.4f}, QNC {found.qnc:.3f}, peak {found.peak:.4f}, best {best:.4f}")


if __name__ == "__main__":
    main()
