"""The pictures of README.md and routing/README.md: ``make picture``.

They show the champion in the home folder of `make demo`, measured with the functions that the gate uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import matplotlib
import numpy as np
from matplotlib.axes import Axes

from flows.config.loading import load_settings
from flows.gate.answers import Answers
from flows.gate.evidence import gather
from flows.gate.measure import GateOutcomes, RouterMeasure, measure
from flows.gate.worth import Worth, worth_of
from flows.reports.numbers import per_1k, points, signed
from flows.text import counted, llm_name
from flows.versions.store import load_version
from flows.workspace import Workspace
from routing.deferral import DeferralCurve, deferral_curve, scores_at_costs

_BLUE, _FILL, _GREY, _INK = "#1f5fa8", "#dce8f5", "#8a8a8a", "#333333"
_LABEL = {"color": _INK, "fontsize": 9}
_LEAST_SCORE, _MOST_SCORE = 0.3, 0.8
# Of the LLMs below this score, the most expensive one carries the legend: there is room beside it.
_BELOW_THE_CURVE = 0.6


def champion_on_gate_prompts() -> tuple[GateOutcomes, RouterMeasure, Worth]:
    """Return the recorded outcomes on the gate prompts, and what the champion does and is worth there."""
    with Workspace(load_settings()) as workspace:
        registry, gate = workspace.registry, workspace.settings.gate
        digest = registry.routers.get("champion").digest
        router, answers = load_version(workspace, digest), Answers.of_version(registry, digest, None)
        on = registry.runs.latest().as_of
        outcomes = gather(answers, router, None, on=on, min_coverage=0.95).outcomes
        found = measure(router, outcomes)
        seed = workspace.settings.routing.seed
        return outcomes, found, worth_of(router, found, outcomes, resamples=gate.resamples, seed=seed)


def best_blind_curve(outcomes: GateOutcomes) -> DeferralCurve:
    """Return what single LLMs, and coins between two of them, reach: the curve of a router that sees no prompt."""
    scores, costs_usd = outcomes.scores.mean(axis=0)[None], outcomes.costs_usd.mean(axis=0)[None]
    reference = outcomes.reference_cost_usd
    return deferral_curve(1 - scores, costs_usd, scores, costs_usd, reference_cost_usd=reference)


@contextmanager
def picture(file: Path) -> Iterator[Axes]:
    """Yield axes, and write what was drawn on them into a file that is the same for the same figures."""
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "uniroute", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
        yield axes
        axes.set_ylim(_LEAST_SCORE, _MOST_SCORE)
        axes.set_ylabel("mean score on gate prompts")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


def draw_worth(axes: Axes, outcomes: GateOutcomes, found: RouterMeasure, worth: Worth) -> None:
    """Draw the router's curve against single LLMs, and what it is worth at its own cost weight."""
    costs, scores = 1000 * outcomes.costs_usd.mean(axis=0), outcomes.scores.mean(axis=0)
    most = 1000 * outcomes.reference_cost_usd
    axis = np.linspace(0, 1, 1001)
    curve, blind = (scores_at_costs(one, axis) for one in (found.curve, best_blind_curve(outcomes)))
    axes.plot(most * axis, curve, color=_BLUE, lw=2)
    axes.plot(most * axis, blind, color=_GREY, lw=1, ls="--")
    axes.plot(costs, scores, "o", ms=4.5, color=_GREY, zorder=3)
    for cost, score, key in zip(costs, scores, outcomes.keys, strict=True):
        if score >= np.interp(cost / most, axis, blind) - 1e-3:
            end = {"ha": "right", "xytext": (-4, 7)} if cost > most / 2 else {"xytext": (6, -12)}
            axes.annotate(llm_name(key, 40), (cost, score), textcoords="offset points", color=_GREY, **end)
    place = (1000 * worth.cost_usd, worth.score)
    axes.plot(*place, "o", ms=9, color=_BLUE, zorder=4)
    change = worth.cost_change(worth.best)
    words = (
        f"the router: {per_1k(worth.cost_usd)} instead of {per_1k(worth.best.cost_usd)} USD\n"
        f"cost {signed(100 * change, 1)}\N{NO-BREAK SPACE}%, score {points(worth.best.difference.mean)} points\n"
        f"against always using {llm_name(worth.best.llm_key, 40)}"
    )
    if worth.affordable is not None:
        same_money = worth.affordable.difference
        words += (
            f"\nscore {points(same_money.mean)} points ({points(same_money.low)} to {points(same_money.high)})\n"
            f"against {llm_name(worth.affordable.llm_key, 40)},\nthe best that costs no more"
        )
    axes.annotate(words, place, xytext=(14, -96), textcoords="offset points", **_LABEL)
    # In the corner where no LLM is both expensive and bad.
    legend = "blue: the router, from cheap to good\ndashed: a coin between two LLMs\neach grey dot: one LLM"
    axes.text(0.62 * most, 0.34, legend, **_LABEL)
    axes.set_xlim(0, 1.02 * most)
    axes.set_xlabel(f"USD per 1,000 prompts ({counted(worth.n, 'gate prompt')}, recorded answers)")


def draw_measures(axes: Axes, outcomes: GateOutcomes, found: RouterMeasure) -> None:
    """Draw what area, QNC and peak are."""
    reference, best = outcomes.reference_cost_usd, outcomes.best_score
    costs, scores = outcomes.costs_usd.mean(axis=0) / reference, outcomes.scores.mean(axis=0)
    axis = np.linspace(0, 1, 1001)
    reached = scores_at_costs(found.curve, axis)
    axes.fill_between(axis, _LEAST_SCORE, reached, color=_FILL, lw=0)
    axes.plot(axis, reached, color=_BLUE, lw=2)
    axes.plot(costs, scores, "o", ms=4.5, color=_GREY, zorder=3)
    axes.plot(found.cost_usd / reference, found.score, "o", ms=9, color=_BLUE, zorder=4)
    axes.axhline(best, color=_GREY, lw=1, ls="--")
    axes.axhline(found.peak, color=_BLUE, lw=1, ls=":")
    axes.text(0.4, 0.56, f"AREA {found.area:.4f}\n(down to score 0, below this picture)", **_LABEL)
    axes.text(0.3, found.peak + 0.006, f"PEAK {found.peak:.4f}", **_LABEL)
    axes.text(0.99, best + 0.006, f"best single LLM {best:.4f}", ha="right", **_LABEL)
    if found.qnc_is_reached:
        axes.plot([found.qnc, found.qnc], [_LEAST_SCORE, best], color=_BLUE, lw=1, ls="--")
        axes.text(found.qnc - 0.01, 0.4, f"QNC {found.qnc:.3f}", ha="right", **_LABEL)
    place = (found.cost_usd / reference, found.score)
    words = f"operating point:\nSCORE {found.score:.4f}, USD/1000 {1000 * found.cost_usd:.4f}"
    axes.annotate(words, place, xytext=(16, -34), textcoords="offset points", **_LABEL)
    place = max((cost, score) for cost, score in zip(costs, scores, strict=True) if score < _BELOW_THE_CURVE)
    axes.annotate("each grey dot: one LLM", place, xytext=(8, -3), textcoords="offset points", color=_GREY)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(f"mean cost relative to the most expensive LLM (1 = {1000 * reference:.2f} USD per 1,000 prompts)")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, exists=True, path_type=Path))
def main(folder: Path) -> None:
    """Draw the demo's champion into FOLDER, and print the figures in the pictures."""
    matplotlib.use("Agg")
    outcomes, found, worth = champion_on_gate_prompts()
    with picture(folder / "worth.svg") as axes:
        draw_worth(axes, outcomes, found, worth)
    with picture(folder / "deferral_curve.svg") as axes:
        draw_measures(axes, outcomes, found)
    click.echo(f"{folder}: area {found.area:.4f}, QNC {found.qnc:.3f}, peak {found.peak:.4f}")


if __name__ == "__main__":
    main()
