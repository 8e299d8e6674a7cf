"""Bounded, OpenAI-compatible endpoints and the budget their calls are booked on."""

from __future__ import annotations

from .budget import Budget, Reservation, worst_case_usd
from .client import BoundedEndpoint
from .completion import Completion
from .kinds import FAILURE_RULES, FailureRule
from .patience import Patience

__all__ = [
    "FAILURE_RULES",
    "BoundedEndpoint",
    "Budget",
    "Completion",
    "FailureRule",
    "Patience",
    "Reservation",
    "worst_case_usd",
]
