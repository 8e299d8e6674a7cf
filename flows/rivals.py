"""Another deployment that runs nights on the same registry under other rules: each undoes what the other promotes."""

from __future__ import annotations

import json
from typing import Any

from registry.runs import Run
from registry.store import Registry

_LOOKED_BACK = 30
# What is asked, of whom, and what comes of it; budgets and paces are often given by hand for one night.
_RULES = ("prompts", "embedder", "routing", "judge", "catalog", "endpoint", "gate")


def rival_of(registry: Registry, run: Run) -> str:
    """Say which night ran under other rules since one ran under those of a run; empty when none did.

    Rules that were changed once, and stay, are no rival: the ones before come no more.

    Parameters
    ----------
    registry
        The registry that all nights share.
    run
        The night that is looked at.

    Returns
    -------
    str
        The other night's key, host, and the sections of the settings that differ.
    """
    ours = _rules(run)
    others: list[tuple[Run, list[str]]] = []
    for before in registry.runs.list(limit=_LOOKED_BACK):
        if before.lease_number >= run.lease_number:
            continue
        theirs = _rules(before)
        differing = sorted(name for name in _RULES if ours.get(name) != theirs.get(name))
        if differing:
            others.append((before, differing))
        elif others:
            other, sections = others[0]
            return f"{other.key} on {other.host} ran under another {' and '.join(f'[{name}]' for name in sections)}"
    return ""


def _rules(run: Run) -> dict[str, Any]:
    content = json.loads(run.settings_json)
    return {name: content.get(name) for name in _RULES}
