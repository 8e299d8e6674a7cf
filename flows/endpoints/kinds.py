"""The closed list of failures: what each is called, which error it raises, how often it may be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from flows.errors import EndpointError, FatalEndpointError, MalformedCompletion, RateLimited, TransientEndpointError


@dataclass(frozen=True)
class FailureRule:
    """How one kind of failure is treated.

    Parameters
    ----------
    error
        What the caller catches.
    max_retries
        How often a call may be repeated because of this kind; None leaves it to ``max_attempts`` of the endpoint.
        Kinds that cost a whole deadline or a whole answer are repeated once.
    trips
        Which circuit counts it: the one of the ``llm``, the one of the ``endpoint``, or none.
    is_endpoint_wide
        Whether the endpoint is left alone at once, because every further call would fail the same way.
    """

    error: type[EndpointError]
    max_retries: int | None = 0
    trips: Literal["llm", "endpoint"] | None = None
    is_endpoint_wide: bool = False


FAILURE_RULES: Mapping[str, FailureRule] = MappingProxyType(
    {
        "rate_limited": FailureRule(RateLimited, max_retries=None),
        "unreachable": FailureRule(TransientEndpointError, max_retries=None, trips="endpoint"),
        "transient": FailureRule(TransientEndpointError, max_retries=None, trips="llm"),
        "truncated": FailureRule(TransientEndpointError, max_retries=None, trips="llm"),
        "timeout": FailureRule(TransientEndpointError, max_retries=1, trips="llm"),
        "circuit_open": FailureRule(TransientEndpointError),
        "malformed": FailureRule(MalformedCompletion, max_retries=1),
        "too_large": FailureRule(MalformedCompletion),
        "redirect": FailureRule(FatalEndpointError),
        "refused_auth": FailureRule(FatalEndpointError, is_endpoint_wide=True),
        "quota": FailureRule(FatalEndpointError, is_endpoint_wide=True),
        "not_found": FailureRule(FatalEndpointError),
        "context": FailureRule(FatalEndpointError),
        "moderated": FailureRule(FatalEndpointError),
        "unsupported": FailureRule(FatalEndpointError),
        "bad_request": FailureRule(FatalEndpointError),
    }
)
"""Every kind an `EndpointError` of this package can carry; the registry stores the key."""
