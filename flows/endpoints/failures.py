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

RefusedParameter = Literal["temperature", "max_tokens"]


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
    refused_parameter
        Which parameter to drop, when the LLM refuses one that can be dropped.
    """

    kind: str
    detail: str = ""
    retry_after_s: float | None = None
    refused_parameter: RefusedParameter | None = None


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
        "invalid_api_key": "refused_auth",
        "authentication_error": "refused_auth",
        "model_not_found": "not_found",
        "context_length_exceeded": "context",
        "unsupported_parameter": "unsupported",
        "unsupported_value": "unsupported",
        "content_filter": "moderated",
        "content_policy_violation": "moderated",
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
        403: "refused_auth",
        404: "not_found",
        408: "transient",
        409: "transient",
        410: "not_found",
        413: "context",
        425: "transient",
        429: "rate_limited",
    }
)
# Servers without error codes say these in words, and they matter: one skips the prompt, the other drops a parameter.
_SAYS_TOO_LONG = re.compile(r"context (length|window|size)|maximum context|prompt is too long|too many tokens", re.I)
_SAYS_UNSUPPORTED = re.compile(r"unsupported|not support|only the default|not permitted|unrecognized", re.I)


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
    error = _error_object(document)
    if status < 400 and error is None:
        return None
    inner_status = _inner_status(error)
    effective = status if status >= 400 else inner_status
    detail = f"HTTP {status}" if status >= 400 else f"HTTP 200 with an error of code {inner_status or 'unknown'}"
    kind = _kind_of(effective, error)
    return Failure(
        kind,
        detail,
        retry_after_s=parse_retry_after(retry_after, now) if kind in ("rate_limited", "transient") else None,
        refused_parameter=_refused_parameter(error) if kind == "unsupported" else None,
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


def _kind_of(status: int | None, error: Mapping[str, Any] | None) -> str:
    words = [str(error.get(key) or "").lower() for key in ("code", "type")] if error is not None else []
    for word in words:
        if word in _CODE_KINDS:
            return _CODE_KINDS[word]
    if error is not None and _is_flagged(error):
        return "moderated"
    if status is None:
        return "malformed"
    if status >= 500:
        return "transient"
    said = str(error.get("message") or "")[:2000] if error is not None else ""
    if status in (400, 422):
        if _SAYS_TOO_LONG.search(said):
            return "context"
        if error is not None and _SAYS_UNSUPPORTED.search(said) and _refused_parameter(error) is not None:
            return "unsupported"
    return _STATUS_KINDS.get(status, "bad_request")


def _error_object(document: Any) -> Mapping[str, Any] | None:
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str) and error:
        return {"message": error}
    if document.get("object") == "error":
        return document
    choices = document.get("choices")
    if (
        isinstance(choices, list)
        and choices
        and isinstance(choices[0], dict)
        and isinstance(choices[0].get("error"), dict)
    ):
        return choices[0]["error"]
    return None


def _inner_status(error: Mapping[str, Any] | None) -> int | None:
    code = error.get("code") if error is not None else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599 else None


def _is_flagged(error: Mapping[str, Any]) -> bool:
    metadata = error.get("metadata")
    return isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata)


def _refused_parameter(error: Mapping[str, Any] | None) -> RefusedParameter | None:
    if error is None:
        return None
    named = f"{error.get('param') or ''} {str(error.get('message') or '')[:2000]}"
    if "max_tokens" in named:
        return "max_tokens"
    return "temperature" if "temperature" in named else None
