"""Bounded, OpenAI-compatible endpoints, and the budget that their calls are charged to."""

from __future__ import annotations

from flows.endpoints.budget import Budget, Reservation, worst_case_usd
from flows.endpoints.client import BoundedEndpoint
from flows.endpoints.completion import Completion
from flows.endpoints.kinds import FAILURE_RULES, FailureRule
from flows.endpoints.retry_policy import RetryPolicy

__all__ = [
    "FAILURE_RULES",
    "BoundedEndpoint",
    "Budget",
    "Completion",
    "FailureRule",
    "Reservation",
    "RetryPolicy",
    "worst_case_usd",
]
