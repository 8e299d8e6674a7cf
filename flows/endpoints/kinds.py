"""The closed list of failures: what each is called, which error it raises, and how often a call is repeated."""

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
    means
        The kind in words, for messages.
    max_retries
        How often a call may be repeated because of this kind; None leaves it to ``max_attempts`` of the endpoint.
        Kinds that cost a whole deadline or a whole answer are repeated once.
    counts_against
        Whose circuit opens after several of them in a row: that of the LLM, that of the endpoint, or neither.
    stops
        What is not called again for the rest of the night after a single one, because a repeat cannot succeed.
    hint
        What the user can do.
    """

    error: type[EndpointError]
    means: str
    max_retries: int | None = 0
    counts_against: Literal["llm", "endpoint"] | None = None
    stops: Literal["llm", "endpoint"] | None = None
    hint: str = ""


FAILURE_RULES: Mapping[str, FailureRule] = MappingProxyType(
    {
        "rate_limited": FailureRule(RateLimited, "limits the rate of calls", max_retries=None),
        "unreachable": FailureRule(
            TransientEndpointError,
            "could not be reached",
            max_retries=None,
            counts_against="endpoint",
            hint="check base_url and the network",
        ),
        "transient": FailureRule(
            TransientEndpointError, "failed for the moment", max_retries=None, counts_against="llm"
        ),
        "truncated": FailureRule(
            TransientEndpointError, "broke off its answer", max_retries=None, counts_against="llm"
        ),
        "interrupted": FailureRule(TransientEndpointError, "did not let the LLM finish its answer", max_retries=1),
        "timeout": FailureRule(TransientEndpointError, "took too long", max_retries=1, counts_against="llm"),
        "circuit_open": FailureRule(TransientEndpointError, "failed too often in a row and is paused"),
        "malformed": FailureRule(
            MalformedCompletion, "answered something that is not a completion", max_retries=1, counts_against="llm"
        ),
        "empty": FailureRule(MalformedCompletion, "returned an answer without text", max_retries=1),
        "too_large": FailureRule(MalformedCompletion, "answered more than is read", counts_against="llm"),
        "redirect": FailureRule(
            FatalEndpointError,
            "redirected the call elsewhere",
            counts_against="endpoint",
            hint="set base_url to where the endpoint really is",
        ),
        "refused_auth": FailureRule(
            FatalEndpointError,
            "refused the key",
            stops="endpoint",
            hint="check api_key_env or api_key_file of the endpoint",
        ),
        "forbidden": FailureRule(
            FatalEndpointError,
            "does not let this key use the LLM",
            stops="llm",
            hint="exclude the LLM, or ask the provider to permit it for this key, project or region",
        ),
        "quota": FailureRule(
            FatalEndpointError,
            "has no credit left for this key",
            stops="endpoint",
            hint="top up the account; the next night continues",
        ),
        "not_found": FailureRule(
            FatalEndpointError,
            "does not know the LLM",
            stops="llm",
            hint="exclude the LLM if it stays missing, or check base_url",
        ),
        "context": FailureRule(FatalEndpointError, "refused the prompt as too long"),
        "moderated": FailureRule(FatalEndpointError, "refused the prompt by its policy"),
        "unsupported": FailureRule(FatalEndpointError, "refused a parameter of the request"),
        "bad_request": FailureRule(FatalEndpointError, "refused the request"),
    }
)
"""Every kind an `EndpointError` of this package can carry; the registry stores the key."""

EMPTY = "empty"
"""The failure of a call that brought no text, and why an LLM is stopped that answers nothing many times in a row."""
SUBSTITUTED = "substituted"
"""The failure of an outcome whose answer came from another LLM; the endpoint itself answered."""


def is_futile(error: EndpointError) -> bool:
    """Whether the endpoint would fail further calls to the same LLM tonight in the same way."""
    return error.is_endpoint_wide or not error.attempts or FAILURE_RULES[error.kind].stops is not None
