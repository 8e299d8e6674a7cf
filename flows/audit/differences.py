"""The differences between two router versions, and nothing else: ``uniroute router diff A B``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.versions.store import load_version

if TYPE_CHECKING:
    from flows.workspace import Workspace
    from registry.routers import RouterRecord
    from routing.router import RoutedLLM, Router

_FLOWS_SHOWN = 10
_SMALLEST = 1e-6


def diff_versions(workspace: Workspace, before: RouterRecord, after: RouterRecord) -> dict[str, Any]:
    """Return the differences between two versions as plain data; what is equal is left out.

    Parameters
    ----------
    workspace
        The opened parts.
    before, after
        The versions.
    """
    routers = load_version(workspace, before.digest), load_version(workspace, after.digest)
    facts = {
        "llms": _llms(*routers),
        "prices": _prices(*routers),
        "vectors": _vectors(*routers),
        "routes": _routes(workspace, before, after, *routers),
        "metrics": _changed(before.metrics, after.metrics),
        "settings": _changed(_settings(workspace, before), _settings(workspace, after)),
    }
    names = ("cluster_map_digest", "embedder_key", "prompt_set_digest")
    facts["made from"] = _changed(*({name: getattr(one, name) for name in names} for one in (before, after)))
    facts["router"] = _changed(*({"cost_weight": one.cost_weight} for one in routers))
    return {name: found for name, found in facts.items() if found}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "before": before.get(name), "after": after.get(name)}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _llms(before: Router, after: Router) -> dict[str, list[str]]:
    found = {"in": sorted({*after.keys} - {*before.keys}), "out": sorted({*before.keys} - {*after.keys})}
    return {name: keys for name, keys in found.items() if keys}


def _pairs(before: Router, after: Router) -> list[tuple[RoutedLLM, RoutedLLM]]:
    known = {llm.key: llm for llm in before.llms}
    return [(known[llm.key], llm) for llm in after.llms if llm.key in known]


def _prices(before: Router, after: Router) -> list[dict[str, Any]]:
    sides = ("input_usd_per_mtok", "output_usd_per_mtok")
    return [
        {"llm": new.key, "side": side, "before": getattr(old, side), "after": getattr(new, side)}
        for old, new in _pairs(before, after)
        for side in sides
        if getattr(old, side) != getattr(new, side)
    ]


def _vectors(before: Router, after: Router) -> list[dict[str, Any]]:
    """Compare the vectors of the LLMs that both have; per cluster only when both have the same clusters."""
    is_same_map = before.cluster_map.digest == after.cluster_map.digest
    found = []
    for old, new in _pairs(before, after):
        row = {"llm": new.key, "mean_error_before": mean_error(old), "mean_error_after": mean_error(new)}
        largest = abs(row["mean_error_after"] - row["mean_error_before"])
        if is_same_map:
            changes = np.abs(new.vector.errors.astype(float) - old.vector.errors)
            largest = row["largest_change"] = float(changes.max())
            row["clusters_changed"] = int((changes > _SMALLEST).sum())
        if largest > _SMALLEST:
            found.append(row)
    return found


def mean_error(llm: RoutedLLM) -> float:
    """Return an LLM's expected error in [0, 1], averaged over clusters, weighted by the prompts scored in each."""
    return float((llm.vector.errors * llm.vector.counts).sum() / max(llm.vector.counts.sum(), 1))


def _routes(
    workspace: Workspace, before: RouterRecord, after: RouterRecord, old: Router, new: Router
) -> dict[str, Any]:
    """Compare the decisions on the gate prompts of the later version."""
    prompts = workspace.registry.prompts.get(after.prompt_set_digest).with_role("gate")
    blocks = [workspace.registry.prompts.embeddings(prompts, one.embedder_key) for one in (before, after)]
    if any(len(block.prompt_digests) < len(prompts) for block in blocks) or not prompts:
        return {"not_compared": "the gate prompts were not embedded for both versions"}
    chosen = [router.route(block.matrix).llms for router, block in zip((old, new), blocks, strict=True)]
    moved = [pair for pair in zip(*chosen, strict=True) if pair[0] != pair[1]]
    if not moved:
        return {}
    flows = Counter(moved).most_common(_FLOWS_SHOWN)
    return {
        "gate_prompts": len(prompts),
        "changed": len(moved),
        "share_changed": len(moved) / len(prompts),
        "largest_flows": [{"from": pair[0], "to": pair[1], "prompts": count} for pair, count in flows],
    }


def _settings(workspace: Workspace, record: RouterRecord) -> dict[str, Any]:
    """Return the settings of the run that made a version as one level of dotted names."""
    return dict(_flat(json.loads(workspace.registry.runs.get(record.run_id).settings_json), ""))


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else str(key))]
