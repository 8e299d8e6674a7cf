"""What MLflow shows of a router version, written beside it until published: description, parameters, figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.gate.gate import GateResult
from flows.gate.measure import RouterMeasure
from flows.gate.verdict import check_text
from flows.reports.worth import worth_lines
from flows.text import counted, sanitize
from flows.versions.store import CONTENT_FILE, FIGURE_FILE, Publication, publication_folder
from flows.workspace import Workspace
from registry.errors import NotFound
from registry.promotion_records import PROMOTE, REJECT, UNDECIDED
from routing.router import Router

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from flows.fitting.refit import Candidate
    from flows.night.context import Night

GATE_WORDS: Final = {PROMOTE: "passed", REJECT: "failed", UNDECIDED: "undecided"}
"""How MLflow's tag and description of a version name the gate's verdict."""

_GREY = "#8a8a8a"
_CHAMPION = "#444444"
_CHALLENGER = "#1f5fa8"


def version_params(night: Night, candidate: Candidate) -> dict[str, str | int | float]:
    """Return the parameters of a version: the rules and inputs it was made from."""
    router = candidate.router
    return {
        "as_of": night.as_of.isoformat(),
        "run_key": night.run_key,
        "settings": night.settings.digest,
        "prompt_set": night.prompt_set.digest,
        "embedder": router.embedder.key,
        "cluster_map": candidate.cluster_map_digest,
        "n_clusters": router.cluster_map.n_clusters,
        "n_llms": len(router.keys),
        "cost_weight": router.cost_weight,
        "representative_prompts": len(night.prompt_set.with_role("representative")),
    }


def version_description(router: Router, gate: GateResult, parent: str | None, as_of: date) -> str:
    """Describe a version in a few lines; the names of LLMs are one-line text, which MLflow's pages show as it is."""
    found = gate.challenger
    lines = [
        f"Router over {counted(len(router.keys), 'LLM')}, made in the night of {as_of.isoformat()}.",
        "",
        f"- On {counted(len(gate.outcomes.embeddings), 'gate prompt')}: score {found.score:.4f} at "
        f"{found.cost_usd * 1000:.4f} USD per 1,000 prompts{_against_cost(found)}.",
    ]
    if gate.champion is not None and gate.difference is not None:
        judged_where = "" if gate.judged is None else gate.judged.sentence
        lines.append(
            f"- Champion before: score {gate.champion.score:.4f} at {gate.champion.cost_usd * 1000:.4f} USD per "
            f"1,000 prompts; at equal cost the difference in score is {gate.difference.mean:+.4f} "
            f"({gate.difference.low:+.4f} to {gate.difference.high:+.4f}){judged_where}."
        )
    lines += [f"- {line}" for line in worth_lines(gate.worth)]
    lines += [
        certainty(router),
        f"- Gate: {GATE_WORDS[gate.verdict]}.",
        *(f"- {one.outcome}: {sanitize(check_text(one), width=700)}." for one in gate.checks if not one.passed),
        f"- Digest {router.digest}, parent {parent or 'none'}.",
    ]
    return "\n".join(lines)


def certainty(router: Router) -> str:
    """Return a Markdown line on how certain a router's expected errors are, over all its LLMs and clusters."""
    known = np.concatenate([llm.vector.standard_errors for llm in router.llms])
    return f"- Expected errors per LLM and cluster: standard error {np.median(known):.3f}, at most {known.max():.3f}."


def _against_cost(found: RouterMeasure) -> str:
    if found.is_free:
        return ": every LLM is free"
    return f", area {found.area:.4f}, " + (f"QNC {found.qnc:.3f}" if found.qnc_is_reached else "QNC not reached")


def _cost_axis(axes: Axes, costs: NDArray[np.float64]) -> None:
    """Scale the cost axis: a logarithmic one has no place for what is free, and without any cost there is none."""
    paid = costs[costs > 0]
    if not paid.size:
        axes.set_xticks([])
        axes.set_xlabel("every LLM is free")
        return
    if paid.size == len(costs):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=paid.min())
    axes.set_xlabel("mean cost, USD per 1,000 prompts (log scale)")


def deferral_figure(gate: GateResult, path: Path) -> Path:
    """Draw the deferral curves of challenger, champion, single LLMs and ZeroRouter on the gate prompts.

    Parameters
    ----------
    gate
        What the gate measured.
    path
        Path of the figure; its suffix (``.png``, ``.svg``) determines the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    outcomes = gate.outcomes
    per_1k = 1000.0
    figure, axes = pyplot.subplots(figsize=(8, 5))
    figure.subplots_adjust(left=0.09, right=0.98, top=0.93, bottom=0.11)
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
            drawn.insert(0, ("champion", gate.champion, _CHAMPION, "--"))
        for name, found, colour, style in drawn:
            curve = found.curve
            axes.plot(curve.costs_usd * per_1k, curve.scores, style, color=colour, lw=1.8, label=name)
            axes.plot(found.cost_usd * per_1k, found.score, "o", color=colour, ms=7)
        _cost_axis(axes, costs)
        axes.set_ylabel("mean score on gate prompts")
        axes.set_title(
            f"Deferral curves on {counted(len(outcomes.embeddings), 'gate prompt')} (dots: operating points)"
        )
        axes.grid(alpha=0.25, lw=0.5)
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    finally:
        pyplot.close(figure)
    return path


def keep_publication(workspace: Workspace, digest: str, publication: Publication, gate: GateResult | None) -> None:
    """Write the publication of a version, unless it is a version that is known already.

    A night or a refresh may make a router that was made before. Its row and the digests in the ledger stay those of the
    first time, and so must what they are digests of: otherwise an audit finds it changed.

    Parameters
    ----------
    workspace
        The opened parts.
    digest
        The router's.
    publication
        The content.
    gate
        What is drawn; None when nothing was measured.
    """
    folder = publication_folder(workspace, digest)
    try:
        is_published = workspace.registry.routers.get(digest).mlflow_version is not None
    except NotFound:
        write_publication(folder, publication, gate)
        return
    # What was made on another machine and is not published yet can only be published from here.
    if not is_published and not (folder / CONTENT_FILE).exists():
        write_publication(folder, publication, gate)


def write_publication(folder: Path, publication: Publication, gate: GateResult | None) -> None:
    """Write a publication; the content last and atomically, so that a half-written folder has none.

    Parameters
    ----------
    folder
        Where to.
    publication
        The content.
    gate
        What is drawn; None when nothing was measured: then there is no figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if gate is not None:
        deferral_figure(gate, folder / FIGURE_FILE)
    draft = folder / f"{CONTENT_FILE}.draft"
    draft.write_text(json.dumps(asdict(publication), indent=2, sort_keys=True, allow_nan=False), encoding="utf-8")
    draft.replace(folder / CONTENT_FILE)
