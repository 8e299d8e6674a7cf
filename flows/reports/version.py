"""What is said about a router version: description, parameters, metrics, and the gate as data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.gate import GateResult, RouterMeasure
from routing.router import Router

if TYPE_CHECKING:
    from flows.night import Night
    from flows.refit import Candidate


def version_metrics(gate: GateResult) -> dict[str, float]:
    """Give the metrics of a version: its own, the champion's, and their difference where there is a champion."""
    metrics = _measures("", gate.challenger)
    if gate.champion is not None:
        metrics |= _measures("champion_", gate.champion)
    if gate.difference is not None:
        metrics |= {
            "score_difference_at_equal_cost": gate.difference.mean,
            "score_difference_low": gate.difference.low,
            "score_difference_high": gate.difference.high,
        }
    return metrics | {"gate_prompts": float(len(gate.outcomes.embeddings)), "gate_passed": float(gate.passed)}


def _measures(prefix: str, found: RouterMeasure) -> dict[str, float]:
    return {
        f"{prefix}score": found.score,
        f"{prefix}cost_usd_per_1k": found.cost_usd * 1000,
        f"{prefix}area": found.area,
        f"{prefix}qnc": found.qnc,
        f"{prefix}qnc_reached": float(found.qnc_is_reached),
        f"{prefix}peak": found.peak,
        f"{prefix}aiq": found.aiq,
    }


def version_params(night: Night, candidate: Candidate) -> dict[str, str | int | float]:
    """Give the parameters of a version: under which rules and from what it was made."""
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
    """Describe a version in a few lines of Markdown; LLM names stay out, they are foreign text."""
    found = gate.challenger
    lines = [
        f"Router over {len(router.keys)} LLMs, made in the night of {as_of.isoformat()}.",
        "",
        f"- On {len(gate.outcomes.embeddings)} gate prompts: score {found.score:.4f} at "
        f"{found.cost_usd * 1000:.4f} USD per 1 000 prompts, area {found.area:.4f}, {_qnc(found)}.",
    ]
    if gate.champion is not None and gate.difference is not None:
        lines.append(
            f"- Champion before: score {gate.champion.score:.4f} at {gate.champion.cost_usd * 1000:.4f} USD per "
            f"1 000 prompts; at equal cost the difference in score is {gate.difference.mean:+.4f} "
            f"({gate.difference.low:+.4f} to {gate.difference.high:+.4f})."
        )
    lines += [
        certainty(router),
        f"- Gate: {'passed' if gate.passed else 'failed'}.",
        f"- Digest {router.digest}, parent {parent or 'none'}.",
    ]
    return "\n".join(lines)


def certainty(router: Router) -> str:
    """Say how certain the expected errors of a router are, over all its LLMs and clusters."""
    known = np.concatenate([llm.vector.standard_errors for llm in router.llms])
    return f"- Expected errors per LLM and cluster: standard error {np.median(known):.3f}, at most {known.max():.3f}."


def _qnc(found: RouterMeasure) -> str:
    return f"QNC {found.qnc:.3f}" if found.qnc_is_reached else "QNC not reached"


def gate_as_json(gate: GateResult) -> dict[str, Any]:
    """Give the gate's checks and figures as data for the registry."""
    return {
        "passed": gate.passed,
        "checks": [
            {"name": check.name, "value": check.value, "threshold": check.threshold, "passed": check.passed}
            for check in gate.checks
        ],
        "metrics": version_metrics(gate),
        "gate_prompts": len(gate.outcomes.embeddings),
        "gate_prompts_dropped": gate.outcomes.n_dropped,
        "shares": [{"llm": key, "share": share} for key, share in gate.challenger.shares],
        "route_change": gate.route_change,
        "lower_bound": gate.lower_bound,
        "spending": None if gate.spending is None else asdict(gate.spending),
        "rules": asdict(gate.rules),
    }
