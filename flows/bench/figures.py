"""Figures of a benchmark: deferral curves of all methods, and area against the number of representative prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.bench.report import BASE, CEILING, COST_GRID, OURS, BenchResult
from flows.text import counted

_NOT_DRAWN = ("oracle", "random")
_STYLES: dict[str, dict[str, Any]] = {
    OURS: {"color": "#1f5fa8", "lw": 2.4, "zorder": 5},
    BASE: {"color": "#444444", "ls": ":", "lw": 1.6},
    CEILING: {"color": "#888888", "ls": "--", "lw": 1.6},
}


def deferral_figure(result: BenchResult, folder: Path) -> Path:
    """Draw the mean deferral curve of every method and return the file."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for method in result.methods:
        if method.name not in _NOT_DRAWN:
            axes.plot(
                COST_GRID, method.curve, label=f"{method.name} (area {np.mean(method.area):.4f})", **_style(method.name)
            )
    axes.set_xlabel("cost relative to the most expensive LLM")
    axes.set_ylabel("best reachable score on gate prompts")
    axes.set_title(
        f"{result.data}: mean of {counted(result.trials, 'trial')}, {counted(result.n_val, 'representative prompt')}"
    ).set_parse_math(False)
    return _save(pyplot, figure, axes, folder / "deferral_curves.png")


def n_val_figure(results: Sequence[BenchResult], folder: Path) -> Path:
    """Draw area against the number of representative prompts, with standard errors, and return the file."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name in (method.name for method in results[0].methods if method.name not in _NOT_DRAWN):
        areas = [np.array(found.area) for result in results if (found := result.method(name)) is not None]
        means = [area.mean() for area in areas]
        errors = [area.std() / np.sqrt(len(area)) for area in areas]
        axes.errorbar([result.n_val for result in results], means, yerr=errors, label=name, capsize=2, **_style(name))
    axes.set_xscale("log")
    axes.set_xlabel("representative prompts (labels of a new LLM)")
    axes.set_ylabel("area under the deferral curve")
    trials = counted(results[0].trials, "trial")
    axes.set_title(f"{results[0].data}: mean and standard error of {trials}").set_parse_math(False)
    return _save(pyplot, figure, axes, folder / "area_against_n_val.png")


def _style(name: str) -> dict[str, Any]:
    return _STYLES.get(name, {"lw": 1.3})


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, axes: Any, path: Path) -> Path:
    axes.grid(alpha=0.25, lw=0.5)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return path
