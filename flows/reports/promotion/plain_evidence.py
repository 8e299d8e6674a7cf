"""The evidence as plain data for machines."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from flows.reports.promotion.evidence import Evidence


def evidence_data(evidence: Evidence) -> dict[str, Any]:
    """Give the evidence as nested dictionaries and lists; times and amounts stay what they are."""
    return _plain(evidence)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
