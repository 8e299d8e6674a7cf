"""Errors of the night and its surroundings (see the tree in routing/errors.py)."""

from __future__ import annotations

from routing.errors import UnirouteError


class RenamedSetting(FutureWarning):
    """A setting is given under a name that works in this release only."""


class FlowError(UnirouteError):
    """Base of the errors that `flows` raises."""


class PrerequisiteError(FlowError):
    """The user must change something before the night can run."""


class CredentialsMissing(PrerequisiteError):
    """A key that the settings name is missing, or every endpoint refuses it."""


class VersionUnavailable(FlowError):
    """A router version is not on this machine, and MLflow, which has it, cannot be reached."""


class PortTaken(FlowError):
    """Another process listens on the requested port."""


class ServerUnavailable(FlowError):
    """A server that the settings name does not answer."""


class CatalogError(FlowError):
    """A catalog that cannot be used tonight."""


class CatalogUnavailable(CatalogError):
    """The catalog did not answer."""


class CatalogMalformed(CatalogError):
    """The catalog answered something that is not a catalog."""


class EndpointError(FlowError):
    """A call that brought no answer, which never counts as a wrong answer of the LLM.

    Parameters
    ----------
    message, unchanged, hint
        As in `UnirouteError`; never a body or a header of the response.
    kind
        The failure as the registry stores it, for example ``rate_limited``.
    attempts
        How often the endpoint was asked.
    retry_after_s
        What the endpoint asked us to wait, in seconds.
    input_tokens, output_tokens
        What all attempts are billed for although none was answered.
    is_endpoint_wide
        Whether every further call to this endpoint would fail in the same way (key refused, quota used up).
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        attempts: int = 1,
        retry_after_s: float | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        is_endpoint_wide: bool = False,
        unchanged: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, unchanged=unchanged, hint=hint)
        self.kind = kind
        self.attempts = attempts
        self.retry_after_s = retry_after_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.is_endpoint_wide = is_endpoint_wide


class RateLimited(EndpointError):
    """The endpoint asked to wait longer than the night allows."""


class TransientEndpointError(EndpointError):
    """The endpoint failed in a way that may pass."""


class FatalEndpointError(EndpointError):
    """The endpoint refused in a way that a retry cannot change."""


class MalformedCompletion(EndpointError):
    """The endpoint answered something that is not a completion."""


class WorkersUnavailable(FlowError):
    """No worker took a profile that the night handed out, or none could make it."""


class Interrupted(FlowError):
    """A signal asked the night to stop.

    Parameters
    ----------
    message, unchanged, hint
        As in `UnirouteError`.
    signal_number
        The signal that asked.
    """

    def __init__(self, message: str, *, signal_number: int, unchanged: str = "", hint: str = "") -> None:
        super().__init__(message, unchanged=unchanged, hint=hint)
        self.signal_number = signal_number


class GradingError(FlowError):
    """A grader crashed or failed its self-check, or a judge failed its check."""


class BudgetExceeded(FlowError):
    """A ceiling in USD is reached.

    Parameters
    ----------
    message, unchanged, hint
        As in `UnirouteError`.
    scope
        Which ceiling: ``call``, ``llm`` or ``night``.
    """

    def __init__(self, message: str, *, scope: str, unchanged: str = "", hint: str = "") -> None:
        super().__init__(message, unchanged=unchanged, hint=hint)
        self.scope = scope
