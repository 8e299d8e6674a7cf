"""The one place that names what went wrong: it maps an exception or a response to a kind of `FAILURE_RULES`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Literal

from flows.endpoints.error_report import ErrorReport, read_error
from flows.endpoints.usage import Usage

RefusedParameter = Literal["temperature", "max_tokens", "stream"]


@dataclass(frozen=True)
class Failure:
    """Why one attempt brought no answer.

    Parameters
    ----------
    kind
        A key of `FAILURE_RULES`.
    detail
        In our own words; never text from the endpoint.
    retry_after_s
        What the endpoint asked us to wait, in seconds.
    refused_parameters
        Which parameters the LLM may be refusing, of those that can be left out.
    usage
        The tokens that are billed although there is no answer; None when there are none.
    """

    kind: str
    detail: str = ""
    retry_after_s: float | None = None
    refused_parameters: tuple[RefusedParameter, ...] = ()
    usage: Usage | None = None


class ResponseRefused(Exception):
    """A response that one of our own limits cut off.

    Parameters
    ----------
    kind, detail
        As in `Failure`.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(kind, detail)


EXCEPTION_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "builtins.TimeoutError": "timeout",
        "anyio.EndOfStream": "transient",
        "ssl.SSLError": "unreachable",
        "httpx2.ConnectError": "unreachable",
        "httpx2.ConnectTimeout": "unreachable",
        "httpx2.ProxyError": "unreachable",
        "httpx2.ReadTimeout": "timeout",
        "httpx2.WriteTimeout": "timeout",
        "httpx2.PoolTimeout": "timeout",
        "httpx2.TimeoutException": "timeout",
        "httpx2.ReadError": "transient",
        "httpx2.WriteError": "transient",
        "httpx2.CloseError": "transient",
        "httpx2.NetworkError": "transient",
        "httpx2.RemoteProtocolError": "transient",
        "httpx2.ProtocolError": "transient",
        "httpx2.TransportError": "transient",
        "httpx2.RequestError": "transient",
        "httpx2.HTTPError": "transient",
        "httpx2.HTTPStatusError": "transient",
        "httpx2.LocalProtocolError": "bad_request",
        "httpx2.UnsupportedProtocol": "bad_request",
        "httpx2.InvalidURL": "bad_request",
        "httpx2.TooManyRedirects": "redirect",
        "httpx2.DecodingError": "malformed",
        "httpx2.CookieConflict": "malformed",
        "httpx2.SSEError": "malformed",
        "httpx2.StreamError": "malformed",
        "httpx2.StreamConsumed": "malformed",
        "httpx2.StreamClosed": "malformed",
        "httpx2.ResponseNotRead": "malformed",
        "httpx2.RequestNotRead": "bad_request",
        "openai.OpenAIError": "bad_request",
        "openai.APIError": "malformed",
        "openai.APIConnectionError": "transient",
        "openai.APITimeoutError": "timeout",
        "openai.APIResponseValidationError": "malformed",
        "openai.APIStatusError": "transient",
        "openai.BadRequestError": "bad_request",
        "openai.AuthenticationError": "refused_auth",
        "openai.OAuthError": "refused_auth",
        "openai.PermissionDeniedError": "refused_auth",
        "openai.NotFoundError": "not_found",
        "openai.ConflictError": "transient",
        "openai.UnprocessableEntityError": "bad_request",
        "openai.RateLimitError": "rate_limited",
        "openai.InternalServerError": "transient",
        "openai.LengthFinishReasonError": "malformed",
        "openai.ContentFilterFinishReasonError": "moderated",
        "openai.SubjectTokenProviderError": "refused_auth",
        "openai.InvalidWebhookSignatureError": "malformed",
        "openai.WebSocketConnectionClosedError": "transient",
        "openai.WebSocketQueueFullError": "transient",
    }
)
"""Exceptions by library and name, so that naming them here imports nothing."""

_CODE_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "insufficient_quota": "quota",
        "insufficient_credits": "quota",
        "billing_hard_limit_reached": "quota",
        "billing_not_active": "quota",
        "payment_required": "quota",
        "budget_exceeded": "quota",
        "invalid_api_key": "refused_auth",
        "api_key_invalid": "refused_auth",
        "authentication_error": "refused_auth",
        # LiteLLM's proxy without a database, of any key but its master key.
        "no_db_connection": "refused_auth",
        "model_not_found": "not_found",
        "model_decommissioned": "not_found",
        "invalid_model": "not_found",
        "unsupported_country_region_territory": "forbidden",
        "context_length_exceeded": "context",
        "unsupported_parameter": "unsupported",
        "unsupported_value": "unsupported",
        "content_filter": "moderated",
        "content_policy_violation": "moderated",
        "data_inspection_failed": "moderated",
        "rate_limit_exceeded": "rate_limited",
        "rate_limit_error": "rate_limited",
        "overloaded_error": "transient",
        "server_error": "transient",
        "timeout": "transient",
    }
)
_STATUS_KINDS: Mapping[int, str] = MappingProxyType(
    {
        401: "refused_auth",
        402: "quota",
        403: "forbidden",
        404: "not_found",
        408: "transient",
        409: "transient",
        410: "not_found",
        413: "context",
        425: "transient",
        429: "rate_limited",
        451: "forbidden",
    }
)
# What servers without error codes say in words, where it decides who or what is not asked again.
_SAYS_TOO_LONG = re.compile(r"context (?:length|window|size)|maximum context|prompt is too long|too many tokens")
_SAYS_BAD_KEY = re.compile(
    r"api[ _-]?key (?:provided )?(?:(?:is|was|has|has been) )?"
    r"(?:not (?:valid|found|provided)|invalid|incorrect|missing|required|expired|revoked|disabled|wrong)"
    r"|(?:invalid|incorrect|wrong|missing|expired|revoked|malformed|no|provide an|provide a valid) "
    r"(?:x-|auth |authentication |bearer |valid )?(?:api[ _-]?key|access token|credentials?\b|authorization)"
    r"|authentication (?:failed|error|required)|unauthenticated|(?:check|make sure|verify) (?:that )?your api[ _-]?key"
)
# A 403 may mean the key or the LLM; one that speaks of the header means the key.
_SAYS_HEADER = re.compile(r"\bbearer\b|\bauthorization header\b")
_SAYS_NO_CREDIT = re.compile(
    r"(?:insufficient|out of|not enough|no|any|negative) (?:credit|balance|fund|quota)|key limit exceeded"
    r"|payment required|(?:credit|balance) (?:balance )?is (?:too low|not enough|insufficient)"
)
_SAYS_UNKNOWN_LLM = re.compile(
    r"(?:invalid|unknown) model(?: name| id\b|:)|not a valid model\b|no such model"
    r"|model(?: \S{1,200})? (?:(?:does |was |is )?not|doesn't|wasn't|isn't) (?:exist|found)\b"
    r"|model (?:\S{1,100} )?(?:has been|was|is) (?:decommissioned|retired)"
)
# LiteLLM's proxy passes on what the provider of one LLM said with the status it had, also of a key that is not ours.
_SAYS_ONE_LLM = re.compile(
    r"^litellm\.\w+(?:error|exception):|not allowed to (?:access|call|use) (?:this |the )?model"
    r"|not available for this api key|not in the allowed models|exceeded budget for model",
    re.MULTILINE,
)
_SAYS_REGION = re.compile(
    r"not (?:available|supported|allowed|accessible) (?:in|from) (?:your|this) (?:country|region|location|territory)"
    r"|(?:country|region|location|territory) (?:is )?not (?:supported|allowed|available)"
)
_SAYS_MODERATED = re.compile(
    r"content ?(?:filter|policy|management)|contentpolicyviolation|safety system|moderation|inappropriate content"
    r"|(?:input|prompt|request) (?:is )?flagged"
    r"|sensitive (?:content|word|information)|(?:in|out)put (?:new_)?sensitive|敏感|不安全"
)
_SAYS_SLOW_DOWN = re.compile(r"rate[ _-]?limit|too many requests")
_SAYS_BUSY = re.compile(
    r"overloaded|temporarily unavailable|(?:server|service|system) (?:is )?(?:too )?busy|try again later"
)
_OF_A_BAD_REQUEST = (
    ("context", _SAYS_TOO_LONG),
    ("refused_auth", _SAYS_BAD_KEY),
    ("quota", _SAYS_NO_CREDIT),
    ("forbidden", _SAYS_REGION),
    ("moderated", _SAYS_MODERATED),
    ("not_found", _SAYS_UNKNOWN_LLM),
)
_OF_A_REFUSAL = (
    ("refused_auth", _SAYS_BAD_KEY),
    ("quota", _SAYS_NO_CREDIT),
    ("forbidden", _SAYS_REGION),
    ("moderated", _SAYS_MODERATED),
    ("rate_limited", _SAYS_SLOW_DOWN),
)
# By status, None where there is none; the first pattern that is found decides.
_KINDS_IN_WORDS: Mapping[int | None, tuple[tuple[str, re.Pattern[str]], ...]] = MappingProxyType(
    {
        400: _OF_A_BAD_REQUEST,
        422: _OF_A_BAD_REQUEST,
        403: (*_OF_A_REFUSAL, ("refused_auth", _SAYS_HEADER)),
        404: (("forbidden", _SAYS_REGION),),
        None: (*_OF_A_REFUSAL, ("transient", _SAYS_BUSY)),
    }
)
_PARAMETERS: Mapping[RefusedParameter, re.Pattern[str]] = MappingProxyType(
    {
        "temperature": re.compile(r"(?<![a-z0-9_])temperature(?![a-z0-9_])"),
        "max_tokens": re.compile(r"(?<![a-z0-9])max_?(?:completion_?|output_?|new_?)?tokens(?![a-z0-9])"),
        "stream": re.compile(r"(?<![a-z0-9_])stream(?![a-z0-9_])"),
    }
)


def classify_exception(error: BaseException) -> Failure | None:
    """Name the failure behind an exception of the transport or the SDK.

    Parameters
    ----------
    error
        What was raised; the cause of an SDK exception is preferred to the exception itself.

    Returns
    -------
    Failure or None
        None for an exception that is not an endpoint's failure but a bug, which must not be swallowed.
    """
    if isinstance(error, ResponseRefused):
        return error.failure
    if error.__cause__ is not None and (of_cause := classify_exception(error.__cause__)) is not None:
        return of_cause
    for ancestor in type(error).__mro__:
        kind = EXCEPTION_KINDS.get(f"{ancestor.__module__.partition('.')[0]}.{ancestor.__name__}")
        if kind is not None:
            return Failure(kind, type(error).__name__)
    return None


def classify_reply(status: int, document: Any, retry_after: str | None, now: datetime) -> Failure | None:
    """Name the failure that a response reports, by its status or by an error object inside a 200.

    Parameters
    ----------
    status
        HTTP status.
    document
        The parsed body; None when it is not JSON.
    retry_after
        The header, as sent.
    now
        For a ``Retry-After`` given as a date.

    Returns
    -------
    Failure or None
        None when the response reports no failure; whether it is a completion is checked later.
    """
    error = read_error(document, is_refused=status >= 400)
    if error is None:
        return None
    effective = status if status >= 400 else error.status
    detail = f"HTTP {status}" if status >= 400 else f"HTTP 200 with an error of code {error.status or 'unknown'}"
    refused = _refused_parameters(error) if effective in (400, 422, None) else ()
    kind = _kind_of(effective, error, refused)
    return Failure(
        kind,
        detail,
        retry_after_s=parse_retry_after(retry_after, now) if kind in ("rate_limited", "transient") else None,
        refused_parameters=refused if kind == "unsupported" else (),
    )


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Read a ``Retry-After`` header.

    Parameters
    ----------
    value
        Seconds or an HTTP date.
    now
        The present, for dates.

    Returns
    -------
    float or None
        Seconds, finite and at least 0; None when the header is missing or makes no sense.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds())
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _kind_of(status: int | None, error: ErrorReport, refused: tuple[RefusedParameter, ...]) -> str:
    kind = _kind_of_code(error.codes) or ("moderated" if error.is_flagged else None) or _kind_of_status(status, error)
    if kind == "bad_request" or (kind == "malformed" and status is None):
        # Whatever the words, a parameter that is named is worth one call without it.
        kind = "unsupported" if refused else kind
    # A gateway passes on what the provider behind it refuses: its own key works for other LLMs.
    is_of_one_llm = error.names_provider or _SAYS_ONE_LLM.search(error.text)
    return "forbidden" if is_of_one_llm and kind in ("refused_auth", "quota") else kind


def _kind_of_code(codes: tuple[str, ...]) -> str | None:
    return next((_CODE_KINDS[code] for code in codes if code in _CODE_KINDS), None)


def _kind_of_status(status: int | None, error: ErrorReport) -> str:
    """Return the kind of a status; words decide where the status may mean the key, the LLM or the prompt."""
    for kind, said in _KINDS_IN_WORDS.get(status, ()):
        if said.search(error.text):
            return kind
    if status is None:
        return "malformed"
    return "transient" if status >= 500 else _STATUS_KINDS.get(status, "bad_request")


def _refused_parameters(error: ErrorReport) -> tuple[RefusedParameter, ...]:
    """Return which of the parameters that can be left out an error names; what it names expressly decides."""
    said = "\n".join(error.parameters) or error.text
    return tuple(name for name, pattern in _PARAMETERS.items() if pattern.search(said))
